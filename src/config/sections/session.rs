//! `[session]`: how long sessions live, their cookie, and the secrets that seal them.

use std::time::Duration;

use http::HeaderValue;

use super::session_data::{data, visitors};
use super::session_edge;
use super::session_key::{secret_from_environment, secret_from_file};
use super::session_rules::{Assurance, bind, groups, judge_longest, per_user, remember_me};
use super::session_tickets::{self, Mode, TicketSection};
use crate::config::EdgeSettings;
use crate::config::reader::{Section, Value, show_duration};
use crate::secret::{Secret, random};
use crate::session::{CookieName, Limits, Settings};

/// Longer than any session should live without a new login.
pub(super) const LONGEST: Duration = Duration::from_hours(30 * 24);
/// A session that was ended on another node is believed no longer than this.
const LONGEST_CACHE: Duration = Duration::from_mins(1);
/// Nor is one while the store is away, which nobody can end from elsewhere.
const LONGEST_GRACE: Duration = Duration::from_hours(24);

#[derive(Debug)]
pub(super) struct Session<'a> {
    /// `store_timeout` is still the default.
    pub(super) settings: Settings,
    pub(super) tickets: TicketSection<'a>,
    pub(super) mode: Mode,
    /// Where the mode is `edge`.
    pub(super) edge: Option<EdgeSettings>,
    /// `None`: the default key.
    pub(super) secrets: Option<Vec<Secret>>,
    pub(super) idle_timeout: Option<Value<'a>>,
    pub(super) clear_site_data: Option<HeaderValue>,
    pub(super) domain: Option<(&'a str, Value<'a>)>,
    pub(super) section: KeyPlace<'a>,
}

/// Where an error about the default key is reported.
#[derive(Debug)]
pub(super) struct KeyPlace<'a>(Section<'a>);

impl KeyPlace<'_> {
    /// Whether the configuration is about to be served.
    pub(super) fn serves(&self) -> bool {
        self.0.report().serves()
    }

    pub(super) fn report(&self, message: &str, help: &str) {
        self.0
            .about("secrets", message.to_owned())
            .help(help)
            .push();
    }
}

pub(super) fn read(section: Section<'_>) -> Session<'_> {
    let assurance = Assurance::read(&section);
    let defaults = Assurance::defaults(assurance.as_ref());
    let (idle, absolute) = (
        section.placed_duration("idle_timeout"),
        section.placed_duration("absolute_timeout"),
    );
    let domain = section
        .value("domain")
        .and_then(|value| Some((value.text()?, value)));
    let cookie = cookie(&section, domain.as_ref());
    let (idle_timeout, absolute_timeout) = timeouts(idle.as_ref(), absolute.as_ref(), &defaults);
    if let Some(assurance) = &assurance {
        assurance.judge(idle.as_ref(), absolute.as_ref());
    }
    let whole = Limits {
        idle: idle_timeout,
        absolute: absolute_timeout,
    };
    let settings = Settings {
        cookie,
        idle_timeout,
        absolute_timeout,
        touch_interval: touch_interval(&section, idle_timeout, defaults.touch_interval),
        rotate_interval: section.duration("rotate_interval", defaults.rotate_interval),
        rotate_grace: rotate_grace(&section, defaults.rotate_grace),
        cache_ttl: cache_ttl(&section).unwrap_or(defaults.cache_ttl),
        outage_grace: outage_grace(&section).unwrap_or(defaults.outage_grace),
        cache_size: section
            .size_in("cache_size", 1024 * 1024..=1 << 40)
            .unwrap_or(defaults.cache_size),
        store_timeout: defaults.store_timeout,
        per_user: per_user(&section),
        remember_me: remember_me(&section, assurance.as_ref()),
        groups: groups(&section, whole),
        bind: bind(&section),
        data: data(&section),
        visitors: visitors(&section),
    };
    let mode = session_tickets::mode(&section);
    let tickets = session_tickets::read(&section, (mode, &settings), domain.as_ref());
    let edge = session_edge::read(&section, mode == Mode::Edge);
    let clear_site_data = clear_on_logout(&section);
    let secrets = match mode {
        Mode::Edge => Some(no_secrets(&section)),
        Mode::Jwt | Mode::Opaque => secrets(&section),
    };
    let place = KeyPlace(section.for_later());
    section.finish();
    Session {
        settings,
        tickets,
        mode,
        edge,
        secrets,
        idle_timeout: idle.map(|(_, value)| value),
        clear_site_data,
        domain,
        section: place,
    }
}

fn cookie(section: &Section<'_>, domain: Option<&(&str, Value<'_>)>) -> CookieName {
    let name = section.value("cookie_name");
    let base = name.as_ref().and_then(Value::text).unwrap_or("sid");
    if CookieName::new(base, None).is_none() {
        if let Some(name) = &name {
            let help =
                "letters, digits, `-` and `_`; the prefix `__Host-` is put before it by itself";
            name.wrong(format!(
                "\"{}\" is no name for a cookie",
                base.escape_debug()
            ))
            .help(help)
            .push();
        }
        return CookieName::default();
    }
    let cookie = CookieName::new(base, domain.map(|(domain, _)| *domain));
    if let (None, Some((text, value))) = (&cookie, domain) {
        no_domain(text, value);
    }
    cookie.unwrap_or_default()
}

pub(super) fn no_domain(text: &str, value: &Value<'_>) {
    let help = match text.strip_prefix('.') {
        Some(rest) => format!("write \"{}\", without the dot", rest.escape_debug()),
        None => "the domain that all hosts end in, like \"example.com\"".to_owned(),
    };
    value
        .wrong(format!(
            "\"{}\" is no domain for a cookie",
            text.escape_debug()
        ))
        .help(help)
        .push();
}

/// `Clear-Site-Data` with a logout. Not the cookies, unless asked for: browsers clear those of every host of the
/// registrable domain, other sites' logins too.
fn clear_on_logout(section: &Section<'_>) -> Option<HeaderValue> {
    const ALL: [&str; 3] = ["cache", "cookies", "storage"];
    let named: Vec<&str> = if section.value("clear_on_logout").is_some() {
        let given = section.strings("clear_on_logout");
        let kinds = given.iter().map(|(_, value)| value);
        kinds
            .filter_map(|value| value.choice(&ALL.map(|kind| (kind, kind))))
            .collect()
    } else {
        vec!["cache", "storage"]
    };
    let quoted: Vec<_> = named.iter().map(|kind| format!("\"{kind}\"")).collect();
    let value = HeaderValue::try_from(quoted.join(", ")).ok();
    value.filter(|value| !value.is_empty())
}

pub(super) type Placed<'p, 'a> = Option<&'p (Duration, Value<'a>)>;

/// Where one of the two is not given, it is its default, or less where the other one asks for it.
fn timeouts(
    idle: Placed<'_, '_>,
    absolute: Placed<'_, '_>,
    defaults: &Settings,
) -> (Duration, Duration) {
    judge_longest(absolute);
    let longest = absolute.map_or(defaults.absolute_timeout, |(length, _)| *length);
    let idle_timeout = idle.map_or(defaults.idle_timeout.min(longest), |(length, _)| *length);
    if let Some((length, value)) = idle.filter(|(length, _)| *length > longest) {
        let (long, short) = (show_duration(*length), show_duration(longest));
        let help =
            "a session that may idle longer than it lives never idles out; make it the shorter one";
        if let Some((_, other)) = absolute {
            let line = value.report().line(&other.place());
            let complaint = value.wrong(format!(
                "{long} is longer than `absolute_timeout` on line {line} ({short})"
            ));
            complaint
                .other(other.place(), "the whole life of a session")
                .help(help)
                .push();
        } else {
            let complaint = value.wrong(format!(
                "{long} is longer than `absolute_timeout`, {short} by default"
            ));
            let help = format!("{help}, or give `absolute_timeout` too");
            complaint.help(help).push();
        }
    }
    (idle_timeout, longest)
}

fn touch_interval(section: &Section<'_>, idle_timeout: Duration, default: Duration) -> Duration {
    let Some((length, value)) = section.placed_duration("touch_interval") else {
        return default.min(idle_timeout / 2);
    };
    if length >= idle_timeout {
        let idle = show_duration(idle_timeout);
        let complaint = value.wrong(format!(
            "activity must be saved more often than `idle_timeout` ({idle})"
        ));
        complaint
            .help("sessions in use would idle out; make it shorter")
            .push();
    }
    length
}

fn rotate_grace(section: &Section<'_>, default: Duration) -> Duration {
    let range = Duration::from_secs(1)..=Duration::from_mins(5);
    section
        .value("rotate_grace")
        .and_then(|value| value.duration_in(range))
        .unwrap_or(default)
}

fn cache_ttl(section: &Section<'_>) -> Option<Duration> {
    let range = Duration::from_millis(1)..=LONGEST_CACHE;
    section.value("cache_ttl")?.duration_in(range)
}

fn outage_grace(section: &Section<'_>) -> Option<Duration> {
    let range = Duration::ZERO..=LONGEST_GRACE;
    section.value("outage_grace")?.duration_in(range)
}

/// `None` where none are given; what is wrong with those that are has been reported.
fn secrets(section: &Section<'_>) -> Option<Vec<Secret>> {
    Some(secret_list(&section.value("secrets")?))
}

/// Of a node that signs and seals nothing that anybody else reads: its own, until it stops.
fn no_secrets(section: &Section<'_>) -> Vec<Secret> {
    if let Some(given) = section.value("secrets") {
        let complaint =
            given.wrong("is not for a node with `mode = \"edge\"`, which is to have no secret");
        complaint.at_key().help("remove it").push();
    }
    vec![Secret::new(random::<32>())]
}

/// `[{ file = … }, { env = … }]`.
pub(super) fn secret_list(value: &Value<'_>) -> Vec<Secret> {
    if value.as_text().is_some() {
        refuse_inline(value);
        return Vec::new();
    }
    let items = value.list();
    if items.is_empty() && value.is_list() {
        let complaint = value.wrong("names no secret");
        complaint
            .help("remove the key, or name one: `[{ file = \"secrets/session.key\" }]`")
            .push();
    }
    items.iter().filter_map(secret).collect()
}

/// One `{ file = … }` or `{ env = … }`.
fn secret(item: &Value<'_>) -> Option<Secret> {
    if item.as_table().is_none() {
        refuse_inline(item);
        return None;
    }
    let section = item.section()?;
    let (file, env) = (section.value("file"), section.value("env"));
    section.finish();
    match (file, env) {
        (Some(file), None) => secret_from_file(&file),
        (None, Some(env)) => secret_from_environment(&env),
        (Some(_), Some(env)) => {
            env.wrong("a secret comes from a file or from the environment")
                .at_key()
                .help("keep one of the two")
                .push();
            None
        }
        (None, None) => {
            let complaint = item.wrong("does not say where the secret is");
            complaint.help("`{ file = \"secrets/session.key\" }` or `{ env = \"DOORWARD_SESSION_SECRET\" }`").push();
            None
        }
    }
}

/// The value is never quoted: it may well be a real one.
fn refuse_inline(value: &Value<'_>) {
    value.report().blot_out(value.place());
    let complaint =
        value.wrong("a secret cannot stand in this file, which people copy, commit and show");
    let help = "keep it in a file that only doorward can read, `{ file = \"secrets/session.key\" }`, or in the \
                environment, `{ env = \"DOORWARD_SESSION_SECRET\" }`; take a new one, this one was written down";
    complaint.help(help).push();
}
