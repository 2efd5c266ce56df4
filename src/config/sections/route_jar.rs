//! `cookie_jar` of a route: whether the session keeps the app's cookies in the browser's place.

use super::session_data::name;
use crate::config::reader::{Section, Value, quoted};
use crate::routing::CookieJar;
use crate::upstream::Target;

/// What browsers keep for one domain, at least.
const MAX_COOKIES: usize = 50;
/// Apps read about as much in a request.
const MAX_BYTES: usize = 8 * 1024;
/// Every session may hold as much, in memory too.
const MOST: u64 = 64 * 1024;

/// `true`, or a table. Routes to one app share a jar where they do not name others.
pub(super) fn jar(section: &Section<'_>, target: Option<&Target>) -> Option<CookieJar> {
    let value = section.value("cookie_jar")?;
    let mut jar = if value.as_table().is_some() {
        table(value.section()?)
    } else {
        value.boolean()?.then(plain)?
    };
    let upstream = section.value("upstream");
    if upstream.is_some_and(|upstream| upstream.as_text() == Some("none")) {
        value
            .wrong("keeps an app's cookies, and there is no app behind the route")
            .at_key()
            .help("remove it: the proxy in front passes the app's cookies on")
            .push();
    }
    if jar.name.is_empty() {
        jar.name.clone_from(&target?.url);
    }
    Some(jar)
}

/// One that has no name yet.
fn plain() -> CookieJar {
    CookieJar {
        name: String::new(),
        pass: Vec::new(),
        max_cookies: MAX_COOKIES,
        max_bytes: MAX_BYTES,
    }
}

fn table(own: Section<'_>) -> CookieJar {
    let name = own.value("name").as_ref().and_then(name);
    let pass = own.strings("pass").into_iter();
    let pass = pass.filter(|(text, value)| is_name(text, value));
    let max_bytes = own.size_in("max_bytes", 64..=MOST);
    let jar = CookieJar {
        name: name.unwrap_or_default(),
        pass: pass.map(|(text, _)| text.to_owned()).collect(),
        max_cookies: own
            .integer_in("max_cookies", 1..=1000)
            .unwrap_or(MAX_COOKIES),
        max_bytes: max_bytes
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(MAX_BYTES),
    };
    own.finish();
    jar
}

/// Of a cookie: a token (RFC 9110 section 5.6.2).
fn is_name(text: &str, value: &Value<'_>) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = !text.is_empty() && text.bytes().all(plain);
    if !is_name {
        value
            .wrong(format!("{} is no name of a cookie", quoted(text)))
            .help("as the app sets it, like \"XSRF-TOKEN\"")
            .push();
    }
    is_name
}
