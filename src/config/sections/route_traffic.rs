//! How a route's requests are sent on: path, host and waits.

use std::time::Duration;

use http::HeaderValue;

use super::route_path::normal_path;
use crate::config::reader::{Section, quoted};
use crate::routing::{Timeouts, split_authority};
use crate::upstream::Target;

/// `true` for the route's whole path, or the part of it to take off.
pub(super) fn strip_prefix(section: &Section<'_>, path: &str) -> Option<String> {
    let value = section.value("strip_prefix")?;
    let prefix = if value.as_text().is_some() {
        let prefix = normal_path(&value)?;
        let rest = path.strip_prefix(prefix.as_str());
        if prefix != "/" && !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            let complaint = value.wrong(format!(
                "is not the beginning of the route's path, {}",
                quoted(path)
            ));
            complaint.help("true takes the whole of it off").push();
        }
        prefix
    } else {
        value.boolean()?.then(|| path.to_owned())?
    };
    Some(prefix).filter(|prefix| prefix != "/")
}

/// `None`: the host that the client asked for.
pub(super) fn send_host(section: &Section<'_>, target: Option<&Target>) -> Option<HeaderValue> {
    let value = section.value("send_host")?;
    let host = match value.text()? {
        "client" => return None,
        "upstream" => target?.authority.as_str(),
        host => host,
    };
    if split_authority(host).is_none() {
        let complaint = value.wrong(format!("{} is not a host", quoted(host)));
        complaint.help("\"client\" (as asked for), \"upstream\" (as in its URL) or a name like \"wiki.internal\"").push();
    }
    HeaderValue::try_from(host).ok()
}

pub(super) fn timeouts(section: Section<'_>) -> Timeouts {
    let timeouts = Timeouts {
        connect: section.duration("connect", Duration::from_secs(5)),
        first_byte: section.duration("first_byte", Duration::from_mins(1)),
        idle: section.duration("idle", Duration::from_mins(5)),
    };
    section.finish();
    timeouts
}
