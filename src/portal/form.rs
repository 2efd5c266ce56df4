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
    use std::convert::Infallible;

    use http_body_util::Empty;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncWriteExt;
    use tokio::sync::mpsc;

    use super::*;

    /// What becomes of a form whose client stays, and sends nothing but this.
    async fn read_from(raw: Vec<u8>) -> Result<Form, PortalError> {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        client.write_all(&raw).await.unwrap();
        let (done, mut forms) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            let done = done.clone();
            async move {
                done.send(read(ClientBody::new(request.into_body())).await)
                    .unwrap();
                Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
            }
        });
        let serve = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        let serving = tokio::spawn(async move { serve.await.is_ok() });
        let form = forms.recv().await.unwrap();
        serving.abort();
        form
    }

    fn posted(len: usize, body: &str) -> Vec<u8> {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {len}\r\n\r\n");
        [head.as_bytes(), body.as_bytes()].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn a_form_has_a_bound() {
        let fits = format!("a={}", "x".repeat(MAX_BYTES - 2));
        let form = read_from(posted(fits.len(), &fits)).await.unwrap();
        assert_eq!(form["a"].len(), MAX_BYTES - 2);
        let beyond = fits + "x";
        let refused = read_from(posted(beyond.len(), &beyond)).await;
        assert_eq!(refused.unwrap_err(), PortalError::BodyTooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_form_that_does_not_come_whole_is_not_waited_for() {
        let begun = tokio::time::Instant::now();
        let refused = read_from(posted(10, "user=a")).await;
        assert!(matches!(refused, Err(PortalError::Body(_))), "{refused:?}");
        assert_eq!(begun.elapsed(), PATIENCE);
    }

    #[test]
    fn a_field_that_comes_twice_is_refused() {
        let form = parse(b"user=a+b%21&password=x").unwrap();
        assert_eq!(form["user"].as_str(), "a b!");
        assert!(parse(b"user=a&user=b").is_err());
    }
}
