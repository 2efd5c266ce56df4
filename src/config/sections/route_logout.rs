//! `logout` and `on_end` of a route: where people log out at the app, and how the app is told of an end here.

use http::Method;
use http::uri::PathAndQuery;

use super::route_path::normal_path;
use crate::config::reader::{Section, Value, quoted};
use crate::routing::{AppLogout, HostPattern, OnEnd};

/// What a route is about, as far as it is known.
struct About<'a> {
    host: Option<&'a HostPattern>,
    path: &'a str,
    has_jar: bool,
}

pub(super) fn read(
    section: &Section<'_>,
    (host, path): (Option<&HostPattern>, Option<&str>),
    has_jar: bool,
) -> (Option<AppLogout>, Option<OnEnd>) {
    let about = About {
        host,
        path: path.unwrap_or("/"),
        has_jar,
    };
    (logout(section, &about), on_end(section, &about))
}

/// `{ paths = ["/logout"], methods = ["POST"] }`.
fn logout(section: &Section<'_>, about: &About<'_>) -> Option<AppLogout> {
    let value = section.value("logout")?;
    refuse_without_app(section, &value);
    let own = value.section()?;
    let paths = own.required("paths", "paths = [\"/logout\"]");
    let paths = paths.map(|value| value.one_or_list()).unwrap_or_default();
    let paths = paths.iter().filter_map(|value| logout_path(value, about));
    let paths: Vec<String> = paths.collect();
    let methods = own.strings("methods").into_iter();
    let methods = methods.filter_map(|(text, value)| method(text, &value));
    let mut methods: Vec<Method> = methods.collect();
    if methods.is_empty() {
        methods = vec![Method::GET, Method::POST];
    }
    own.finish();
    (!paths.is_empty()).then_some(AppLogout { paths, methods })
}

/// `{ method = "POST", path = "/logout" }`.
fn on_end(section: &Section<'_>, about: &About<'_>) -> Option<OnEnd> {
    let value = section.value("on_end")?;
    refuse_without_app(section, &value);
    if !about.has_jar {
        value
            .wrong("asks the app to log somebody out, and only with `cookie_jar` are its cookies here to say whom")
            .at_key()
            .help("add `cookie_jar = true`, or remove it")
            .push();
    }
    let is_named = matches!(about.host, None | Some(HostPattern::Exact(_)));
    let host = section.value("send_host");
    if !is_named && host.is_none_or(|host| host.as_text() == Some("client")) {
        value
            .wrong("asks the app when nobody is there who has asked for one of its hosts")
            .at_key()
            .help("say which one it is: `send_host = \"wiki.example.com\"`")
            .push();
    }
    let own = value.section()?;
    let method = own.choice("method", &[("GET", true), ("POST", false)]);
    let path = own.required("path", "path = \"/logout\"");
    let path = path.and_then(|value| app_path(&value));
    own.finish();
    Some(OnEnd {
        method: if method == Some(true) {
            Method::GET
        } else {
            Method::POST
        },
        path: path?,
    })
}

fn refuse_without_app(section: &Section<'_>, value: &Value<'_>) {
    let upstream = section.value("upstream");
    if upstream.is_some_and(|upstream| upstream.as_text() == Some("none")) {
        value
            .wrong("is about an app, and there is none behind the route")
            .at_key()
            .help("remove it")
            .push();
    }
}

fn logout_path(value: &Value<'_>, about: &About<'_>) -> Option<String> {
    let path = normal_path(value)?;
    let rest = path.strip_prefix(about.path);
    let is_below =
        about.path == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !is_below {
        value
            .wrong(format!("{} is not on this route", quoted(&path)))
            .help(format!(
                "a path below {}, as browsers ask for it",
                quoted(about.path)
            ))
            .push();
    }
    Some(path)
}

/// As it stands in a request's first line.
fn app_path(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let is_path = text.starts_with('/')
        && !text.starts_with("//")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        && text.parse::<PathAndQuery>().is_ok();
    if !is_path {
        value
            .wrong(format!("{} is not a path of an app", quoted(text)))
            .help("as the app sees it, like \"/logout\"")
            .push();
        return None;
    }
    Some(text.to_owned())
}

fn method(text: &str, value: &Value<'_>) -> Option<Method> {
    let known = [Method::DELETE, Method::GET, Method::POST, Method::PUT];
    let method = known.into_iter().find(|method| method.as_str() == text);
    if method.is_none() {
        let complaint = value.wrong(format!("{} does not log anybody out", quoted(text)));
        complaint
            .help("\"GET\", \"POST\", \"PUT\" or \"DELETE\"")
            .push();
    }
    method
}
