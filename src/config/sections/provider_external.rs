//! `[[provider]]` of type `external`: the login page of an app of ours.

use std::ops::Range;

use url::Url;

use crate::config::reader::{Section, Value, quoted};
use crate::login::ExternalSettings;

const HELP: &str = "a path of a route of ours, like \"/login\", or with its host: \"https://wiki.example.com/login\"";

/// Where the page is said to be, for when the routes are known.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) at: Range<usize>,
    /// The path, without a query.
    pub(super) path: String,
    pub(super) host: Option<String>,
}

pub(super) fn read(section: &Section<'_>) -> Option<(ExternalSettings, Place)> {
    let value = section.required("login_url", "login_url = \"/login\"");
    let page = value.as_ref().and_then(page);
    let parameter = section.value("return_parameter");
    let return_parameter = parameter.as_ref().and_then(parameter_name);
    let (host, page) = page?;
    let path = page.split('?').next().unwrap_or_default().to_owned();
    let place = Place {
        at: value?.place(),
        path,
        host: host.as_ref().map(|(host, _)| host.clone()),
    };
    let settings = ExternalSettings {
        host,
        page,
        return_parameter,
    };
    Some((settings, place))
}

type Page = (Option<(String, Option<u16>)>, String);

/// The page's host, and its path with its query.
fn page(value: &Value<'_>) -> Option<Page> {
    let text = value.text()?;
    // Only to find out what a path alone means.
    let base = Url::parse("https://host.invalid/").ok()?;
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let url = if is_path {
        base.join(text).ok()
    } else {
        Url::parse(text).ok()
    };
    let is_plain = |url: &Url| {
        url.scheme() == "https" && url.username().is_empty() && url.fragment().is_none()
    };
    let page = url.filter(is_plain).and_then(|url| {
        let path = url.path();
        let page = url
            .query()
            .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        // As it is written, so that what is looked for is what is asked for.
        let written = if is_path { text } else { path_of(text)? };
        (written == page).then_some(())?;
        let host = url.host_str()?.to_owned();
        Some(((!is_path).then(|| (host, url.port())), page))
    });
    if page.is_none() {
        value
            .wrong(format!(
                "{} is not the address of a login page",
                quoted(text)
            ))
            .help(HELP)
            .push();
    }
    page
}

/// What follows the host.
fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.get(rest.find('/')?..)
}

fn parameter_name(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        value
            .wrong(format!("{} is not the name of a parameter", quoted(text)))
            .help("as the app's login page reads it, like \"next\"")
            .push();
        return None;
    }
    Some(text.to_owned())
}
