//! Reading a form that one of our pages sent: small, in time, and each field once.

use std::collections::HashMap;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use zeroize::Zeroizing;

use super::PortalError;
use crate::wire::ClientBody;

const MAX_BYTES: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// Fields by name. Values are wiped when dropped: one of them may be a password.
pub(super) type Form = HashMap<String, Zeroizing<String>>;

pub(super) async fn read(body: ClientBody) -> Result<Form, PortalError> {
    let whole = Limited::new(body, MAX_BYTES).collect();
    let whole = tokio::time::timeout(PATIENCE, whole).await;
    let whole = whole.map_err(|_| PortalError::Body("it did not come in time".to_owned()))?;
    let bytes = whole.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => PortalError::BodyTooLarge,
        None => PortalError::Body(error.to_string()),
    })?;
    parse(&bytes.to_bytes())
}

/// A field that comes twice means two different things to two readers.
fn parse(bytes: &[u8]) -> Result<Form, PortalError> {
    let mut form = Form::new();
    for (name, value) in url::form_urlencoded::parse(bytes) {
        let value = Zeroizing::new(value.into_owned());
        if form.insert(name.into_owned(), value).is_some() {
            return Err(PortalError::Body("a field comes twice".to_owned()));
        }
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_comes_twice_is_refused() {
        let form = parse(b"user=a+b%21&password=x").unwrap();
        assert_eq!(form["user"].as_str(), "a b!");
        assert!(parse(b"user=a&user=b").is_err());
    }
}
