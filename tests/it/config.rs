//! Configuration files, right and wrong: what loads, and what an operator is told about what does not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use doorward::config::{
    self, CertificateSource, ConfigErrors, MINIMAL, Missing, Settings, StoreSettings,
};
use doorward::login::{ClaimPath, ClientAuthentication, Kind, OAuth2Settings, SubjectKind};
use doorward::routing::Access;
use http::Method;
use insta::assert_snapshot;
use proptest::prelude::*;

/// A folder with made-up certificate files; the configuration lies in it as `doorward.toml`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("certs/site.pem", "not read here");
        place.write("certs/site.key", "not read here");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn load(&self, text: &str) -> Result<Settings, ConfigErrors> {
        self.write("doorward.toml", text);
        config::load(&self.path("doorward.toml"), Missing::Refused)
    }

    /// What is said about a bad file, with the folder left out of it.
    fn complaints(&self, text: &str) -> String {
        let errors = self.load(text).unwrap_err().to_string();
        errors.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn complaints(text: &str) -> String {
    Place::new().complaints(text)
}

/// The minimal file with one part of it replaced.
fn minimal_with(part: &str, replacement: &str) -> String {
    assert!(MINIMAL.contains(part), "{part}");
    MINIMAL.replace(part, replacement)
}

/// The minimal file with keys added to its last section, the route.
fn route_with(keys: &str) -> String {
    format!("{MINIMAL}\n{keys}\n")
}

const REPOSITORY: &str = include_str!("../../config.toml");

#[test]
fn the_minimal_file_loads_with_every_default() {
    let place = Place::new();
    assert!(MINIMAL.lines().count() <= 16);
    let settings = place.load(MINIMAL).unwrap();
    assert_eq!(settings.listen, ["127.0.0.1:8443".parse().unwrap()]);
    assert!(settings.http_listen.is_empty() && settings.admin_listen.is_none());
    assert!(settings.workers >= 1);
    assert_eq!(settings.limits, doorward::edge::Limits::default());
    assert_eq!(settings.session.idle_timeout, Duration::from_mins(30));
    assert_eq!(
        settings.store,
        StoreSettings::Embedded {
            path: place.path("data/sessions.db")
        }
    );
    assert_eq!(settings.routes[0].access, Access::User);
    assert_eq!(settings.routes[0].path, "/");
    assert_eq!(
        settings.upstreams[settings.routes[0].upstream.unwrap()].url,
        "http://127.0.0.1:3000"
    );
    assert!(matches!(&settings.tls.source, CertificateSource::Files(files) if files.len() == 1));
}

#[test]
fn the_default_secret_is_made_once_and_kept_private() {
    let place = Place::new();
    let first = place.load(MINIMAL).unwrap();
    let mode = fs::metadata(place.path("data/session.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(place.load(MINIMAL).unwrap().secrets, first.secrets);
    assert!(first.secrets[0].expose().len() >= 32);
}

#[test]
fn nothing_is_written_for_a_file_with_errors() {
    let place = Place::new();
    place.load(&route_with("nonsense = 1")).unwrap_err();
    assert!(!place.path("data").exists());
}

#[test]
fn the_repositorys_own_file_loads() {
    let place = Place::new();
    let settings = place.load(REPOSITORY).unwrap();
    assert_eq!(settings.routes.len(), 2);
    assert_eq!(settings.upstreams.len(), 1, "equal upstreams are one");
    assert_eq!(
        settings.admin_listen,
        Some("127.0.0.1:9090".parse().unwrap())
    );
}

#[test]
fn the_repositorys_own_file_names_every_key_and_no_other() {
    let known = config::known_keys();
    let (free, fixed): (BTreeSet<_>, BTreeSet<_>) =
        known.into_iter().partition(|key| key.ends_with(".*"));
    let is_free = |key: &String| {
        free.iter()
            .any(|free| key.starts_with(free.trim_end_matches('*')))
    };
    let named: BTreeSet<_> = keys_named(REPOSITORY)
        .into_iter()
        .filter(|key| !is_free(key))
        .collect();
    let missing: Vec<_> = fixed.difference(&named).collect();
    let strange: Vec<_> = named.difference(&fixed).collect();
    assert!(
        missing.is_empty(),
        "config.toml says nothing about {missing:?}"
    );
    assert!(
        strange.is_empty(),
        "config.toml names what nobody reads: {strange:?}"
    );
}

/// Every commented line that shows a default says the truth: with all of them made active, nothing changes.
#[test]
fn the_defaults_that_the_file_tells_of_are_the_defaults() {
    let place = Place::new();
    let plain = place.load(REPOSITORY).unwrap();
    let told = [
        "trusted_proxies",
        "workers",
        "forwarding",
        "cookie_name",
        "touch_interval",
    ];
    let more = [
        "rotate_interval",
        "rotate_grace",
        "cache_ttl",
        "outage_grace",
        "cache_size",
        "timeout",
        "max_attempts",
    ];
    let rest = ["attempt_window", "access_format", "audit", "level"];
    let limits = REPOSITORY
        .split_once("[limits]")
        .unwrap()
        .1
        .split_once("[log]")
        .unwrap()
        .0;
    let limits = limits
        .lines()
        .filter_map(|line| line.strip_prefix("# ")?.split_once(" = "))
        .map(|(key, _)| key);
    let keys: BTreeSet<_> = told
        .into_iter()
        .chain(more)
        .chain(rest)
        .chain(limits)
        .collect();
    assert_eq!(keys.len(), 26);
    let activate = |line: &str| match line.strip_prefix("# ").filter(|rest| {
        rest.split(" = ")
            .next()
            .is_some_and(|key| keys.contains(key))
    }) {
        Some(active) => format!("{active}\n"),
        None => format!("{line}\n"),
    };
    let active: String = REPOSITORY.lines().map(activate).collect();
    let active = place.load(&active).unwrap();
    assert_ne!(plain.fingerprint, active.fingerprint);
    let active = Settings {
        fingerprint: plain.fingerprint.clone(),
        ..active
    };
    assert_eq!(format!("{plain:?}"), format!("{active:?}"));
}

#[test]
fn every_key_of_a_route_is_understood() {
    let place = Place::new();
    let all = REPOSITORY
        .split_once("# [[route]]\n")
        .unwrap()
        .1
        .split_once("\n\n")
        .unwrap()
        .0;
    let is_key = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let keys: String = all
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| is_key(line))
        .fold(String::new(), |keys, line| keys + line + "\n");
    let authority = rcgen::generate_simple_self_signed(["app.internal".to_owned()]).unwrap();
    place.write("certs/ca.pem", &authority.cert.pem());
    let settings = place
        .load(&format!("{REPOSITORY}\n[[route]]\n{keys}"))
        .unwrap();
    let route = settings.routes.last().unwrap();
    assert_eq!(route.id, "wiki.example.com/app GET,POST");
    assert_eq!(route.idle_timeout, Some(Duration::from_mins(10)));
    assert_eq!(route.max_body, Some(10_000_000));
    assert_eq!(route.request_headers.set.len(), 1);
    assert_eq!(route.response_headers.remove.len(), 2);
    assert_eq!(
        settings.upstreams[route.upstream.unwrap()].authority,
        "app.internal:8443"
    );
    assert!(settings.upstreams[route.upstream.unwrap()].tls.is_some());
}

/// Active or commented, with the section they stand in; keys within tables too.
fn keys_named(text: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    let mut section = String::new();
    for line in text.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(header) = line.strip_prefix('[') {
            let name = header.trim_start_matches('[').split(']').next();
            name.unwrap().clone_into(&mut section);
            named.insert(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            let value: toml::Table = toml::from_str(line).unwrap();
            collect(&section, &value, &mut named);
        }
    }
    named
}

fn collect(section: &str, table: &toml::Table, named: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = format!("{section}.{key}");
        named.insert(path.clone());
        let items = value
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![value.clone()]);
        items
            .iter()
            .filter_map(toml::Value::as_table)
            .for_each(|table| collect(&path, table, named));
    }
}

#[test]
fn a_misspelled_key_is_told_the_right_one_and_is_not_missing_too() {
    let text = minimal_with("host =", "hots =")
        .replace("[tls]", "[session]\nidle_timout = \"20m\"\n\n[tls]");
    assert_snapshot!(complaints(&text), @r#"
    doorward.toml:5:1: session.idle_timout: unknown key
        5 | idle_timout = "20m"
          | ^^^^^^^^^^^
      help: did you mean `idle_timeout`?

    doorward.toml:16:1: route.hots: unknown key
       16 | hots = "localhost"
          | ^^^^
      help: did you mean `host`?

    2 errors in doorward.toml
    "#);
}

#[test]
fn a_wrong_type_is_told_what_is_expected() {
    let text = route_with(
        "activity = \"no\"\nmax_body = 1048576\nstrip_prefix = 3\nidle_timeout = 30\nmethods = \"GET\"",
    );
    assert_snapshot!(complaints(&text), @r#"
    doorward.toml:16:12: route.activity: expected true or false, found the text "no"
       16 | activity = "no"
          |            ^^^^

    doorward.toml:17:12: route.max_body: expected a size with its unit, found the number 1048576
       17 | max_body = 1048576
          |            ^^^^^^^
      help: write "1MiB" for 1048576 bytes

    doorward.toml:18:16: route.strip_prefix: expected true or false, found the number 3
       18 | strip_prefix = 3
          |                ^

    doorward.toml:19:16: route.idle_timeout: expected a duration, found the number 30
       19 | idle_timeout = 30
          |                ^^
      help: write "30s" for seconds, "30m" for minutes

    doorward.toml:20:11: route.methods: expected a list, found the text "GET"
       20 | methods = "GET"
          |           ^^^^^
      help: write ["GET"]

    5 errors in doorward.toml
    "#);
}

#[test]
fn a_duration_that_is_none_is_shown_how_they_are_written() {
    let text = minimal_with(
        "[tls]",
        "[limits]\nheader_timeout = \"30 minuts\"\ndrain_timeout = \"0s\"\n\n[tls]",
    );
    assert_snapshot!(complaints(&text), @r#"
    doorward.toml:5:18: limits.header_timeout: "30 minuts" is not a duration
        5 | header_timeout = "30 minuts"
          |                  ^^^^^^^^^^^
      help: durations are written like "250ms", "30m", "1h 30m" or "7d"

    doorward.toml:6:17: limits.drain_timeout: "0s" is not between 1ms and 366d
        6 | drain_timeout = "0s"
          |                 ^^^^

    2 errors in doorward.toml
    "#);
}

#[test]
fn several_errors_come_at_once_in_the_order_of_the_file() {
    let text = "[server]\nlisten = \":8443\"\nworkers = -1\n\n[tls]\n\n[[route]]\nhost = \"https://wiki.example.com/\"\n\
                path = \"/a/../b/\"\naccess = \"everybody\"\nupstream = \"127.0.0.1:3000\"\n";
    assert_snapshot!(complaints(text), @r#"
    doorward.toml:2:10: server.listen: ":8443" is not an address to listen on
        2 | listen = ":8443"
          |          ^^^^^^^
      help: for every address of this machine: "0.0.0.0:8443" or "[::]:8443"

    doorward.toml:3:11: server.workers: -1 is not between 0 and 1024
        3 | workers = -1
          |           ^^

    doorward.toml:5:1: tls.certificates: no certificate is given
        5 | [tls]
          | ^^^^^
      help: write `certificates = [{ cert = "certs/site.pem", key = "certs/site.key" }]`, or `self_signed = true` for development

    doorward.toml:8:8: route.host: "https://wiki.example.com/" is not a host
        8 | host = "https://wiki.example.com/"
          |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: write "wiki.example.com", without scheme, port or path

    doorward.toml:9:8: route.path: "/a/../b/" has a segment of dots
        9 | path = "/a/../b/"
          |        ^^^^^^^^^^
      help: write the path that it leads to

    doorward.toml:10:10: route.access: "everybody" is not a rule of access
       10 | access = "everybody"
          |          ^^^^^^^^^^^
      help: known are "public" (anybody), "anonymous" (anybody, with a session where the app wants one), "user" (anybody who is logged in) or { users = ["alice"], groups = ["staff"] }

    doorward.toml:11:12: route.upstream: "127.0.0.1:3000" is not the address of an app
       11 | upstream = "127.0.0.1:3000"
          |            ^^^^^^^^^^^^^^^^
      help: write "http://127.0.0.1:3000"

    7 errors in doorward.toml
    "#);
}

#[test]
fn broken_syntax_is_placed_and_the_rest_is_read_all_the_same() {
    let text = minimal_with(
        "users = \"users.toml\"",
        "users = \"users.toml\nmax_attempts = many",
    )
    .replace("\"user\"", "\"usr\"");
    assert_snapshot!(complaints(&text), @r#"
    doorward.toml:10:20: the quote is not closed
       10 | users = "users.toml
          |                    ^
      help: end the text with "

    doorward.toml:11:16: text must be in quotes
       11 | max_attempts = many
          |                ^^^^
      help: write "many"

    doorward.toml:15:10: route.access: "usr" is not a rule of access
       15 | access = "usr"
          |          ^^^^^
      help: did you mean "user"? Known are "public" (anybody), "anonymous" (anybody, with a session where the app wants one), "user" (anybody who is logged in) or { users = ["alice"], groups = ["staff"] }

    3 errors in doorward.toml
    "#);
}

#[test]
fn a_line_that_is_no_setting_hides_nothing_below_it() {
    let text = minimal_with("listen =", "listen").replace("\"user\"", "\"usr\"");
    assert_snapshot!(complaints(&text), @r#"
    doorward.toml:2:8: key with no value, expected `=`
        2 | listen "127.0.0.1:8443"
          |        ^
      help: a setting is written `key = value`

    doorward.toml:14:10: route.access: "usr" is not a rule of access
       14 | access = "usr"
          |          ^^^^^
      help: did you mean "user"? Known are "public" (anybody), "anonymous" (anybody, with a session where the app wants one), "user" (anybody who is logged in) or { users = ["alice"], groups = ["staff"] }

    2 errors in doorward.toml
    "#);
}

#[test]
fn what_is_never_closed_is_not_followed_by_a_flood() {
    for (part, broken) in [("[tls]", "tls]"), ("[tls]", "[tls"), ("}]", "}")] {
        let shown = complaints(&route_with("bogus = 1").replace(part, broken));
        assert!(shown.ends_with("1 error in doorward.toml"), "{shown}");
        assert!(shown.contains("nothing below could be judged"), "{shown}");
    }
}

#[test]
fn files_that_a_command_is_about_to_make_may_be_missing() {
    let place = Place::new();
    place.write("doorward.toml", &MINIMAL.replace("certs/", "none/"));
    let file = place.path("doorward.toml");
    assert!(config::load(&file, Missing::Refused).is_err());
    let settings = config::load(&file, Missing::Tolerated).unwrap();
    assert_eq!(settings.hosts(), ["localhost"]);
}

#[test]
fn a_key_or_section_given_twice_names_both_places() {
    let text = format!("{MINIMAL}\nhost = \"other\"\n[server]\nworkers = 2\n");
    assert_snapshot!(complaints(&text), @r#"
    doorward.toml:16:1: host: is given twice
       16 | host = "other"
          | ^^^^
       13 | host = "localhost"
          | ---- first here
      help: keep one of them

    doorward.toml:17:2: server: is given twice
       17 | [server]
          |  ^^^^^^
        1 | [server]
          | -------- first here
      help: keep one of them

    2 errors in doorward.toml
    "#);
}

#[test]
fn what_is_required_is_asked_for_with_an_example() {
    let text = "[server]\nworkers = 0\n[tls]\ncertificates = [{ cert = \"certs/site.pem\" }]\n[[provider]]\n[[route]]\n";
    assert_snapshot!(complaints(text), @r#"
    doorward.toml:1:1: server.listen: is missing
        1 | [server]
          | ^^^^^^^^
      help: for example `listen = "0.0.0.0:8443"`

    doorward.toml:4:17: tls.certificates.key: is missing
        4 | certificates = [{ cert = "certs/site.pem" }]
          |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: for example `key = "certs/site.key"`

    doorward.toml:5:1: provider.id: is missing
        5 | [[provider]]
          | ^^^^^^^^^^^^
      help: for example `id = "local"`

    doorward.toml:5:1: provider.type: is missing
        5 | [[provider]]
          | ^^^^^^^^^^^^
      help: for example `type = "local"`

    doorward.toml:5:1: provider.users: is missing
        5 | [[provider]]
          | ^^^^^^^^^^^^
      help: for example `users = "users.toml"`

    doorward.toml:6:1: route.access: is missing
        6 | [[route]]
          | ^^^^^^^^^
      help: for example `access = "user"`

    doorward.toml:6:1: route.host: is missing
        6 | [[route]]
          | ^^^^^^^^^
      help: for example `host = "wiki.example.com"`

    doorward.toml:6:1: route.upstream: is missing
        6 | [[route]]
          | ^^^^^^^^^
      help: for example `upstream = "http://127.0.0.1:3000"`

    8 errors in doorward.toml
    "#);
    assert_snapshot!(complaints(""), @r#"
    doorward.toml:1:1: route: no route is given, so nothing would be served
        1 |
          | ^
      help: add one: `[[route]]` with `host`, `access` and `upstream`

    doorward.toml:1:1: server.listen: is missing, there is no section [server]
        1 |
          | ^
      help: for example `listen = "0.0.0.0:8443"`

    doorward.toml:1:1: tls.certificates: no certificate is given, there is no section [tls]
        1 |
          | ^
      help: write `certificates = [{ cert = "certs/site.pem", key = "certs/site.key" }]`, or `self_signed = true` for development

    3 errors in doorward.toml
    "#);
}

#[test]
fn networks_and_addresses_are_checked() {
    let trusted = "trusted_proxies = [\"10.0.0.0/33\", \"10.1.2.3/8\", \"proxy.internal\"]";
    let text = minimal_with(
        "[tls]",
        &format!("http_listen = [\"127.0.0.1\", \"127.0.0.1:8443\"]\n{trusted}\n\n[tls]"),
    );
    assert_snapshot!(complaints(&text), @r#"
    doorward.toml:4:16: server.http_listen: "127.0.0.1" is not an address to listen on
        4 | http_listen = ["127.0.0.1", "127.0.0.1:8443"]
          |                ^^^^^^^^^^^
      help: add a port: "127.0.0.1:8443"

    doorward.toml:4:29: server.http_listen: 127.0.0.1:8443 is taken already, on line 2
        4 | http_listen = ["127.0.0.1", "127.0.0.1:8443"]
          |                             ^^^^^^^^^^^^^^^^
        2 | listen = "127.0.0.1:8443"
          |          ---------------- first here
      help: give each listener its own port

    doorward.toml:5:20: server.trusted_proxies: "10.0.0.0/33" is not a network
        5 | trusted_proxies = ["10.0.0.0/33", "10.1.2.3/8", "proxy.internal"]
          |                    ^^^^^^^^^^^^^
      help: write an address ("10.0.0.7") or a network ("10.0.0.0/8", "fd00::/8")

    doorward.toml:5:35: server.trusted_proxies: "10.1.2.3/8" names one address inside a network
        5 | trusted_proxies = ["10.0.0.0/33", "10.1.2.3/8", "proxy.internal"]
          |                                   ^^^^^^^^^^^^
      help: write "10.0.0.0/8", or "10.1.2.3" for the one address

    doorward.toml:5:49: server.trusted_proxies: "proxy.internal" is not a network
        5 | trusted_proxies = ["10.0.0.0/33", "10.1.2.3/8", "proxy.internal"]
          |                                                 ^^^^^^^^^^^^^^^^
      help: write an address ("10.0.0.7") or a network ("10.0.0.0/8", "fd00::/8")

    5 errors in doorward.toml
    "#);
}

#[test]
fn two_routes_that_nothing_tells_apart_name_each_other() {
    let again =
        "[[route]]\nhost = \"LOCALHOST\"\naccess = \"public\"\nupstream = \"unix:/run/app.sock\"\n";
    assert_snapshot!(complaints(&route_with(again)), @r#"
    doorward.toml:16:1: route: nothing tells it apart from the route on line 12: both are localhost/
       16 | [[route]]
          | ^^^^^^^^^
       12 | [[route]]
          | --------- the same host and path
      help: change host or path, or give each its `methods`

    1 error in doorward.toml
    "#);
    let apart = route_with(&format!("methods = [\"GET\"]\n{again}methods = [\"POST\"]"));
    assert_eq!(Place::new().load(&apart).unwrap().routes.len(), 2);
}

#[test]
fn a_secret_in_the_file_is_refused_and_never_repeated() {
    let text = minimal_with(
        "[tls]",
        "[session]\nsecrets = [\"correct-horse-battery-staple\", { env = \"not/a/name\" }]\n\n[tls]",
    );
    let shown = complaints(&text);
    assert_snapshot!(shown, @r#"
    doorward.toml:5:12: session.secrets: a secret cannot stand in this file, which people copy, commit and show
        5 | secrets = [******************************, { env = ************ }]
          |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: keep it in a file that only doorward can read, `{ file = "secrets/session.key" }`, or in the environment, `{ env = "DOORWARD_SESSION_SECRET" }`; take a new one, this one was written down

    doorward.toml:5:52: session.secrets.env: is not the name of an environment variable
        5 | secrets = [******************************, { env = ************ }]
          |                                                    ^^^^^^^^^^^^
      help: like "DOORWARD_SESSION_SECRET"

    2 errors in doorward.toml
    "#);
    let broken = minimal_with(
        "[tls]",
        "[session]\nsecrets = [\"correct-horse-battery-staple]\n\n[tls]",
    );
    let styled = Place::new().load(&broken).unwrap_err();
    let lone = complaints(&minimal_with(
        "[tls]",
        "[session]\nsecrets = \"correct-horse-battery-staple\"\n\n[tls]",
    ));
    for text in [shown, styled.to_string(), styled.styled(), lone] {
        assert!(!text.contains("horse"), "{text}");
    }
}

#[test]
fn a_secret_that_others_can_read_or_that_is_short_is_refused() {
    let place = Place::new();
    place.write("open.key", &"k".repeat(40));
    place.write("short.key", "too short\n");
    fs::set_permissions(place.path("open.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(place.path("short.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let files =
        "secrets = [{ file = \"open.key\" }, { file = \"short.key\" }, { file = \"no.key\" }]";
    let text = minimal_with("[tls]", &format!("[session]\n{files}\n\n[tls]"));
    assert_snapshot!(place.complaints(&text), @r#"
    doorward.toml:5:21: session.secrets.file: everybody on this machine can get at open.key (mode 644)
        5 | secrets = [{ file = "open.key" }, { file = "short.key" }, { file = "no.key" }]
          |                     ^^^^^^^^^^
      help: `chmod 600 open.key`

    doorward.toml:5:44: session.secrets.file: short.key is too short for a secret: 9 bytes
        5 | secrets = [{ file = "open.key" }, { file = "short.key" }, { file = "no.key" }]
          |                                            ^^^^^^^^^^^
      help: at least 32 random bytes, for example from `openssl rand -hex 32`

    doorward.toml:5:68: session.secrets.file: no.key cannot be read: No such file or directory (os error 2)
        5 | secrets = [{ file = "open.key" }, { file = "short.key" }, { file = "no.key" }]
          |                                                                    ^^^^^^^^
      help: make one: `(umask 077; openssl rand -hex 32 > no.key)`

    3 errors in doorward.toml
    "#);
    fs::set_permissions(place.path("open.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = minimal_with(
        "[tls]",
        "[session]\nsecrets = [{ file = \"open.key\" }]\n[tls]",
    );
    assert_eq!(
        place.load(&text).unwrap().secrets[0].expose(),
        "k".repeat(40).as_bytes()
    );
}

#[test]
fn unknown_sections_and_keys_in_the_wrong_place_find_their_way() {
    let text = minimal_with("[[provider]]", "[[providers]]").replace(
        "[tls]",
        "idle_timeout = \"5m\"\n[loging]\nlevel = \"info\"\n[frobnicate]\n[tls]",
    );
    assert_snapshot!(complaints(&format!("access_format = \"json\"\n{text}")), @r#"
    doorward.toml:1:1: access_format: unknown key
        1 | access_format = "json"
          | ^^^^^^^^^^^^^
      help: it belongs in [log]

    doorward.toml:5:1: server.idle_timeout: unknown key
        5 | idle_timeout = "5m"
          | ^^^^^^^^^^^^
      help: it belongs in [[route]] or [session]

    doorward.toml:6:2: loging: unknown section
        6 | [loging]
          |  ^^^^^^
      help: did you mean `log`?

    doorward.toml:8:2: frobnicate: unknown section
        8 | [frobnicate]
          |  ^^^^^^^^^^
      help: known here: `clients`, `identity`, `limits`, `log`, `provider`, `route`, `server`, `session`, `store` or `tls`

    doorward.toml:12:3: providers: unknown section
       12 | [[providers]]
          |   ^^^^^^^^^
      help: did you mean `provider`?

    5 errors in doorward.toml
    "#);
}

#[test]
fn access_has_few_words_and_never_names_nobody() {
    let more = "[[route]]\nhost = \"b\"\naccess = {}\nupstream = \"http://b\"\n[[route]]\nhost = \"c\"\naccess = { group = [\"x\"] }\nupstream = \"http://c\"";
    let text = minimal_with("access = \"user\"", "access = \"users\"");
    assert_snapshot!(complaints(&format!("{text}\n{more}")), @r#"
    doorward.toml:14:10: route.access: "users" is not a rule of access
       14 | access = "users"
          |          ^^^^^^^
      help: did you mean "user"? Known are "public" (anybody), "anonymous" (anybody, with a session where the app wants one), "user" (anybody who is logged in) or { users = ["alice"], groups = ["staff"] }

    doorward.toml:18:10: route.access: names nobody, so nobody could pass
       18 | access = {}
          |          ^^
      help: "public" (anybody), "anonymous" (anybody, with a session where the app wants one), "user" (anybody who is logged in) or { users = ["alice"], groups = ["staff"] }

    doorward.toml:22:12: route.access.group: unknown key
       22 | access = { group = ["x"] }
          |            ^^^^^
      help: did you mean `groups`?

    3 errors in doorward.toml
    "#);
}

#[test]
fn a_session_cannot_idle_longer_than_it_lives() {
    let text = minimal_with(
        "[tls]",
        "[session]\nidle_timeout = \"2h\"\nabsolute_timeout = \"1h\"\ntouch_interval = \"3h\"\n\n[tls]",
    );
    assert_snapshot!(complaints(&format!("{text}\nidle_timeout = \"4h\"")), @r#"
    doorward.toml:5:16: session.idle_timeout: 2h is longer than `absolute_timeout` on line 6 (1h)
        5 | idle_timeout = "2h"
          |                ^^^^
        6 | absolute_timeout = "1h"
          |                    ---- the whole life of a session
      help: a session that may idle longer than it lives never idles out; make it the shorter one

    doorward.toml:7:18: session.touch_interval: activity must be saved more often than `idle_timeout` (2h)
        7 | touch_interval = "3h"
          |                  ^^^^
      help: sessions in use would idle out; make it shorter

    doorward.toml:21:16: route.idle_timeout: 4h is longer than the session's own on line 5 (2h)
       21 | idle_timeout = "4h"
          |                ^^^^
        5 | idle_timeout = "2h"
          |                ---- for every route
      help: a route can end sessions earlier, never later

    3 errors in doorward.toml
    "#);
    assert_snapshot!(complaints(&minimal_with("[tls]", "[session]\nabsolute_timeout = \"60d\"\n\n[tls]")), @r#"
    doorward.toml:5:20: session.absolute_timeout: 60d is too long for a session
        5 | absolute_timeout = "60d"
          |                    ^^^^^
      help: at most "30d"; `remember_me` gives more to who asks for it

    1 error in doorward.toml
    "#);
}

#[test]
fn a_missing_certificate_leads_to_the_command_that_makes_one() {
    let text = minimal_with("certs/site.key", "certs/other.key");
    assert_snapshot!(complaints(&text), @r#"
    doorward.toml:5:50: tls.certificates.key: certs/other.key cannot be read: No such file or directory (os error 2)
        5 | certificates = [{ cert = "certs/site.pem", key = "certs/other.key" }]
          |                                                  ^^^^^^^^^^^^^^^^^
      help: `doorward cert` makes a certificate and its key for a start

    1 error in doorward.toml
    "#);
}

#[test]
fn what_cannot_go_together_names_both_places() {
    let text = minimal_with(
        "[tls]",
        "[store]\nbackend = \"memory\"\npath = \"x.db\"\n[identity]\npreset = \"none\"\nheaders = { user = \"Cookie\", name = \"X-A\", email = \"X_A\" }\n[tls]\nself_signed = true\nauthority = \"a\"",
    );
    assert_snapshot!(complaints(&text), @r#"
    doorward.toml:6:1: store.path: memory has no path (`backend` on line 5)
        6 | path = "x.db"
          | ^^^^
        5 | backend = "memory"
          |           -------- no file is written
      help: remove it, or use `backend = "embedded"`

    doorward.toml:9:1: identity.headers: cannot be together with `preset` on line 8
        9 | headers = { user = "Cookie", name = "X-A", email = "X_A" }
          | ^^^^^^^
        8 | preset = "none"
          |          ------ names of a preset
      help: keep one of the two

    doorward.toml:9:20: identity.headers.user: "Cookie" has a meaning already
        9 | headers = { user = "Cookie", name = "X-A", email = "X_A" }
          |                    ^^^^^^^^
      help: take a name of its own, like "X-Auth-User"

    doorward.toml:9:52: identity.headers.email: "X_A" is used twice
        9 | headers = { user = "Cookie", name = "X-A", email = "X_A" }
          |                                                    ^^^^^
      help: each needs a name of its own

    doorward.toml:11:15: tls.self_signed: cannot be together with `certificates` on line 13
       11 | self_signed = true
          |               ^^^^
       13 | certificates = [{ cert = "certs/site.pem", key = "certs/site.key" }]
          |                ----------------------------------------------------- certificates from files
      help: keep one of the two

    5 errors in doorward.toml
    "#);
    let domain = minimal_with("[tls]", "[session]\ndomain = \"example.com\"\n[tls]");
    assert_snapshot!(complaints(&domain), @r#"
    doorward.toml:15:8: route.host: is not below the cookie's `domain` on line 5, "example.com"
       15 | host = "localhost"
          |        ^^^^^^^^^^^
        5 | domain = "example.com"
          |          ------------- where the session cookie goes
      help: browsers would not send the session here; use a host below it, or leave `domain` out

    1 error in doorward.toml
    "#);
}

#[test]
fn headers_that_doorward_answers_for_are_not_a_routes_to_change() {
    let text = route_with(
        "request_headers = { set = { Remote_User = \"root\", Host = \"x\", \"a b\" = \"c\" }, remove = [\"Content-Length\"] }\nresponse_headers = { set = { Set-Cookie = \"sid=1\" } }",
    );
    assert_snapshot!(complaints(&text), @r#"
    doorward.toml:16:29: route.request_headers.set.Remote_User: "Remote_User" tells apps who the user is
       16 | request_headers = { set = { Remote_User = "root", Host = "x", "a b" = "c" }, remove = ["Content-Length"] }
          |                             ^^^^^^^^^^^
      help: a route cannot change this one

    doorward.toml:16:51: route.request_headers.set.Host: "Host" comes from `send_host`
       16 | request_headers = { set = { Remote_User = "root", Host = "x", "a b" = "c" }, remove = ["Content-Length"] }
          |                                                   ^^^^
      help: a route cannot change this one

    doorward.toml:16:63: route.request_headers.set.a b: "a b" is not the name of a header field
       16 | request_headers = { set = { Remote_User = "root", Host = "x", "a b" = "c" }, remove = ["Content-Length"] }
          |                                                               ^^^^^
      help: letters, digits and hyphens, like "X-App-Name"

    doorward.toml:16:88: route.request_headers.remove: "Content-Length" belongs to the connection, not to the message
       16 | request_headers = { set = { Remote_User = "root", Host = "x", "a b" = "c" }, remove = ["Content-Length"] }
          |                                                                                        ^^^^^^^^^^^^^^^^
      help: a route cannot change this one

    doorward.toml:17:30: route.response_headers.set.Set-Cookie: "Set-Cookie" belongs to the app and the session
       17 | response_headers = { set = { Set-Cookie = "sid=1" } }
          |                              ^^^^^^^^^^
      help: a route cannot change this one

    5 errors in doorward.toml
    "#);
}

#[test]
fn upstreams_are_addresses_without_paths_or_passwords() {
    let routes = [
        "http://app/wiki",
        "http://admin:hunter2@app",
        "ftp://app",
        "unix:",
        "https://app:99999",
    ]
    .iter()
    .enumerate();
    let route =
        |(n, url)| format!("[[route]]\nhost = \"h{n}\"\naccess = \"user\"\nupstream = \"{url}\"");
    let routes = routes.map(route).collect::<Vec<_>>().join("\n");
    let shown = complaints(&route_with(&routes));
    assert!(!shown.contains("hunter2"));
    assert_snapshot!(shown, @r#"
    doorward.toml:19:12: route.upstream: an app is addressed by scheme, host and port alone
       19 | upstream = "http://app/wiki"
          |            ^^^^^^^^^^^^^^^^^
      help: for a path in front of the request's: `add_prefix = "/wiki"`

    doorward.toml:23:12: route.upstream: a user and password cannot stand in this file
       23 | upstream = **************************
          |            ^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: let the app trust doorward's header fields instead, or its network

    doorward.toml:27:12: route.upstream: "ftp://app" is not the address of an app
       27 | upstream = "ftp://app"
          |            ^^^^^^^^^^^
      help: like "http://127.0.0.1:3000", "https://app.internal:8443" or "unix:/run/app.sock"

    doorward.toml:31:12: route.upstream: names no socket
       31 | upstream = "unix:"
          |            ^^^^^^^
      help: like "unix:/run/app.sock"

    doorward.toml:35:12: route.upstream: "https://app:99999" is not the address of an app
       35 | upstream = "https://app:99999"
          |            ^^^^^^^^^^^^^^^^^^^
      help: like "http://127.0.0.1:3000", "https://app.internal:8443" or "unix:/run/app.sock"

    5 errors in doorward.toml
    "#);
}

/// The minimal file with an app's login page; `keys` are those of its provider, `route` those of its route.
fn external_with(keys: &str, route: &str) -> String {
    let provider = format!("[[provider]]\nid = \"wiki\"\ntype = \"external\"\n{keys}\n");
    let route = format!(
        "\n[[route]]\nhost = \"localhost\"\npath = \"/in\"\nupstream = \"http://127.0.0.1:3000\"\n{route}\n"
    );
    MINIMAL.replace("[[route]]", &format!("{provider}\n[[route]]")) + &route
}

#[test]
fn a_domain_of_passkeys_covers_every_host_or_is_refused_with_its_place() {
    let place = Place::new();
    let with = |rp_id: &str| {
        let keys = format!("type = \"local\"\nrp_id = {rp_id}");
        MINIMAL.replace("type = \"local\"", &keys)
    };
    let settings = place.load(&with("\"localhost\"")).unwrap();
    let Kind::Local(local) = &settings.providers[0].kind else {
        panic!("{:?}", settings.providers);
    };
    assert_eq!(local.rp_id.as_deref(), Some("localhost"));
    for (rp_id, expected) in [
        (
            "\"example.com\"",
            "\"example.com\" is not the end of the host \"localhost\"",
        ),
        (
            "\"host\"",
            "\"host\" is not the end of the host \"localhost\"",
        ),
        ("\"\"", "provider.rp_id: must not be empty"),
        ("\"Localhost\"", "\"Localhost\" is not a domain"),
        ("\"https://localhost\"", "is not a domain"),
        ("\"127.0.0.1\"", "\"127.0.0.1\" is not a domain"),
        ("\".localhost\"", "is not a domain"),
        ("7", "provider.rp_id"),
    ] {
        let errors = place.load(&with(rp_id)).unwrap_err().to_string();
        assert!(errors.contains(expected), "{rp_id}: {errors}");
    }
}

#[test]
fn the_login_page_of_an_app_is_read() {
    let place = Place::new();
    let page = "login_url = \"https://localhost/in?a=1\"\nreturn_parameter = \"next\"";
    let open = "access = \"public\"\nmay_log_in = \"wiki\"";
    let settings = place.load(&external_with(page, open)).unwrap();
    let Kind::External(external) = &settings.providers[1].kind else {
        panic!("{:?}", settings.providers);
    };
    assert_eq!(external.host, Some(("localhost".to_owned(), None)));
    assert_eq!(external.page_for("/"), "/in?a=1&next=%2F");
    assert_eq!(settings.providers[1].name, "localhost");
    let of_route = settings.routes.iter().find(|route| route.path == "/in");
    assert_eq!(of_route.unwrap().may_log_in.as_deref(), Some("wiki"));
    assert_eq!(settings.routes[0].may_log_in, None);
}

#[test]
fn a_login_page_that_would_log_nobody_in_is_refused() {
    let (page, open) = (
        "login_url = \"/in\"",
        "access = \"public\"\nmay_log_in = \"wiki\"",
    );
    let refusals = [
        ("", open, "provider.login_url: "),
        (
            "login_url = \"in\"",
            open,
            "\"in\" is not the address of a login page",
        ),
        (
            "login_url = \"//evil/in\"",
            open,
            "is not the address of a login page",
        ),
        (
            "login_url = \"http://localhost/in\"",
            open,
            "is not the address of a login page",
        ),
        (
            "login_url = \"/in#x\"",
            open,
            "is not the address of a login page",
        ),
        (
            "login_url = \"/x/../in\"",
            open,
            "is not the address of a login page",
        ),
        (
            "login_url = \"/elsewhere\"",
            open,
            "\"/elsewhere\" is not open to who has not logged in",
        ),
        (
            "login_url = \"https://other.example/in\"",
            open,
            "\"/in\" is not open to who has not logged in",
        ),
        (
            page,
            "access = \"public\"",
            "no route's app may log in users of \"wiki\"",
        ),
        (
            page,
            "access = \"user\"\nmay_log_in = \"wiki\"",
            "lets the app log people in, and the route's `access` lets nobody through who is not",
        ),
        (
            page,
            "access = \"public\"\nmay_log_in = \"wki\"",
            "did you mean \"wiki\"?",
        ),
        (
            page,
            "access = \"public\"\nmay_log_in = \"local\"",
            "there is no provider \"local\" of type \"external\"",
        ),
        (
            "login_url = \"/in\"\nreturn_parameter = \"a&b\"",
            open,
            "\"a&b\" is not the name of a parameter",
        ),
        (
            "login_url = \"/in\"\nusers = \"users.toml\"",
            open,
            "provider.users: ",
        ),
    ];
    for (keys, route, expected) in refusals {
        let told = complaints(&external_with(keys, route));
        assert!(told.contains(expected), "{keys} {route}\n{told}");
    }
}

#[test]
fn logouts_of_apps_are_read() {
    let place = Place::new();
    let keys =
        "cookie_jar = true\nlogout = { paths = \"/logout\" }\non_end = { path = \"/out?a=1\" }";
    let settings = place.load(&route_with(keys)).unwrap();
    let logout = settings.routes[0].logout.clone().unwrap();
    for (method, path, expected) in [
        (Method::GET, "/logout", true),
        (Method::POST, "/logout/", true),
        (Method::PUT, "/logout", false),
        (Method::GET, "/logout//", false),
        (Method::GET, "/", false),
    ] {
        assert_eq!(logout.is_asked(&method, path), expected, "{method} {path}");
    }
    let on_end = settings.routes[0].on_end.clone().unwrap();
    assert_eq!(
        (on_end.method, on_end.path.as_str()),
        (Method::POST, "/out?a=1")
    );
}

#[test]
fn logouts_that_would_never_be_are_refused() {
    for (keys, expected) in [
        ("logout = true", "route.logout: "),
        ("logout = {}", "route.logout"),
        (
            "logout = { paths = [\"logout\"] }",
            "does not begin with \"/\"",
        ),
        ("logout = { paths = [\"/logout/\"] }", "ends with \"/\""),
        (
            "logout = { paths = [\"/logout\"], methods = [\"HEAD\"] }",
            "\"HEAD\" does not log anybody out",
        ),
        (
            "path = \"/app\"\nlogout = { paths = [\"/logout\"] }",
            "\"/logout\" is not on this route",
        ),
        (
            "on_end = { path = \"/logout\" }",
            "add `cookie_jar = true`, or remove it",
        ),
        ("cookie_jar = true\non_end = {}", "route.on_end"),
        (
            "cookie_jar = true\non_end = { path = \"logout\" }",
            "\"logout\" is not a path of an app",
        ),
        (
            "cookie_jar = true\non_end = { path = \"/a b\" }",
            "\"/a b\" is not a path of an app",
        ),
        (
            "cookie_jar = true\non_end = { path = \"/\", method = \"HEAD\" }",
            "route.on_end.method: ",
        ),
    ] {
        let told = complaints(&route_with(keys));
        assert!(told.contains(expected), "{keys}\n{told}");
    }
    let anywhere = route_with("cookie_jar = true\non_end = { path = \"/out\" }");
    let anywhere = anywhere.replace("host = \"localhost\"", "host = \"*.example.com\"");
    let told = complaints(&anywhere);
    assert!(told.contains("say which one it is"), "{told}");
    let named = format!("{anywhere}\nsend_host = \"wiki.example.com\"\n");
    assert!(Place::new().load(&named).is_ok());
    let nobody = route_with("logout = { paths = [\"/logout\"] }");
    let nobody = nobody.replace("\"http://127.0.0.1:3000\"", "\"none\"");
    assert!(complaints(&nobody).contains("there is none behind the route"));
}

/// The minimal file with a provider of type `oidc` beside the local users; `keys` come over what is good.
fn oidc_with(keys: &[(&str, &str)]) -> String {
    let mut good = vec![
        ("id", "\"corp\""),
        ("type", "\"oidc\""),
        ("issuer", "\"https://login.example.com\""),
        ("client_id", "\"doorward\""),
        ("client_auth", "\"none\""),
    ];
    good.retain(|(key, _)| !keys.iter().any(|(other, _)| other == key));
    let all = good
        .iter()
        .chain(keys)
        .filter(|(_, value)| !value.is_empty());
    let lines: Vec<_> = all.map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{MINIMAL}\n[[provider]]\n{}\n", lines.join("\n"))
}

#[test]
fn a_provider_that_is_told_little_of_gets_safe_defaults() {
    let place = Place::new();
    let settings = place.load(&oidc_with(&[])).unwrap();
    let ids: Vec<_> = settings
        .providers
        .iter()
        .map(|provider| &provider.id)
        .collect();
    assert_eq!(ids, ["local", "corp"]);
    assert_eq!(settings.providers[0].name, "User name and password");
    assert_eq!(settings.providers[1].name, "login.example.com");
    let Kind::Oidc(oidc) = &settings.providers[1].kind else {
        panic!("{:?}", settings.providers[1])
    };
    assert_eq!(oidc.scopes, ["openid", "profile", "email"]);
    assert_eq!(oidc.mapping.user, ClaimPath::parse("sub"));
    assert!(oidc.mapping.verified_email && oidc.mapping.groups.is_none());
    assert_eq!(format!("{:?}", oidc.algorithms), "[RS256]");
    assert_eq!(oidc.max_clock_skew, Duration::from_mins(1));
    assert!(matches!(oidc.authentication, ClientAuthentication::None));
}

/// Keys of a provider that cannot be right, and what is said about them.
const IMPOSSIBLE: &[(&[(&str, &str)], &str)] = &[
    (
        &[("issuer", "\"http://login.example.com\"")],
        "is not https",
    ),
    (
        &[("issuer", "\"https://login.example.com?a=b\"")],
        "holds more than a host and a path",
    ),
    (
        &[("issuer", "\"login.example.com\"")],
        "is not the address of a provider",
    ),
    (&[("issuer", "")], "provider.issuer: is missing"),
    (&[("client_id", "")], "provider.client_id: is missing"),
    (
        &[("client_auth", "\"client_secret_basic\"")],
        "provider.client_secret: is missing",
    ),
    (
        &[("client_secret", "{ file = \"secret\" }")],
        "is shown to nobody",
    ),
    (
        &[
            ("client_auth", "\"client_secret_post\""),
            ("client_secret", "\"hunter2\""),
        ],
        "a client secret cannot stand in this file",
    ),
    (&[("client_auth", "\"tls_client_auth\"")], "is not one of"),
    (
        &[("client_auth", "\"private_key_jwt\"")],
        "provider.client_key: is missing",
    ),
    (&[("algorithms", "[\"HS256\"]")], "\"HS256\" is not one of"),
    (&[("algorithms", "[\"none\"]")], "\"none\" is not one of"),
    (&[("scopes", "[\"profile email\"]")], "is not a scope"),
    (
        &[("claims", "{ user = \"a..b\" }")],
        "is not the name of a claim",
    ),
    (
        &[("claims", "{ users = \"sub\" }")],
        "provider.claims.users: unknown key",
    ),
    (&[("max_clock_skew", "\"1h\"")], "is not between"),
    (
        &[("ca_file", "\"nowhere.pem\"")],
        "nowhere.pem cannot be used",
    ),
    (
        &[("users", "\"users.toml\"")],
        "provider.users: unknown key",
    ),
    (
        &[("id", "\"local\"")],
        "is the id of the provider on line 8",
    ),
    (&[("id", "\"../x\"")], "is not an id"),
    (&[("name", "\"a\\nb\"")], "is not a name for a button"),
    (&[("type", "\"oidk\"")], "did you mean \"oidc\"?"),
];

#[test]
fn a_provider_that_cannot_be_right_is_refused_with_the_reason() {
    let place = Place::new();
    place.write("secret", "a secret\n");
    fs::set_permissions(place.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    for (keys, told) in IMPOSSIBLE {
        let text = oidc_with(keys);
        let complaints = place.complaints(&text);
        assert!(complaints.contains(told), "{told}: {complaints}");
        assert!(!complaints.contains("hunter2"), "{complaints}");
    }
    let keys = [
        ("client_auth", "\"client_secret_basic\""),
        ("client_secret", "{ file = \"secret\" }"),
    ];
    assert!(place.load(&oidc_with(&keys)).is_ok());
    assert!(
        place
            .load(&oidc_with(&[("issuer", "\"http://127.0.0.1:8080\"")]))
            .is_ok()
    );
}

type Keys = &'static [(&'static str, &'static str)];

/// Keys of a provider with a preset that cannot work there, and what is said about them.
const IMPOSSIBLE_THERE: &[(&str, Keys, &str)] = &[
    ("gogle", &[], "did you mean \"google\"?"),
    (
        "google",
        &[("issuer", "\"https://accounts.google.com/\"")],
        "is not Google's issuer",
    ),
    (
        "google",
        &[("issuer", ""), ("refresh", "true")],
        "provider.refresh: Google gives refresh tokens",
    ),
    (
        "google",
        &[("issuer", ""), ("logout", "\"provider\"")],
        "provider.logout: Google has no address",
    ),
    (
        "google",
        &[("issuer", ""), ("hosted_domain", "\"Example.com\"")],
        "is not a domain",
    ),
    (
        "google",
        &[("issuer", ""), ("hosted_domain", "\"a@example.com\"")],
        "is not a domain",
    ),
    (
        "google",
        &[("issuer", ""), ("hosted_domain", "[]")],
        "names no domain, so nobody could log in",
    ),
    (
        "google",
        &[("issuer", ""), ("hosted_domain", "7")],
        "expected text in quotes",
    ),
    (
        "okta",
        &[("hosted_domain", "\"example.com\"")],
        "write `preset = \"google\"`",
    ),
    (
        "entra",
        &[("issuer", "")],
        "72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
    ),
    ("entra", &[], "does not name a tenant by its ID"),
    (
        "entra",
        &[(
            "issuer",
            "\"https://login.microsoftonline.com/common/v2.0\"",
        )],
        "is no tenant: every organization's users would log in",
    ),
    (
        "entra",
        &[(
            "issuer",
            "\"https://login.microsoftonline.com/organizations/v2.0\"",
        )],
        "is no tenant",
    ),
    (
        "entra",
        &[(
            "issuer",
            "\"https://login.microsoftonline.com/consumers/v2.0\"",
        )],
        "is no tenant",
    ),
    (
        "entra",
        &[(
            "issuer",
            "\"https://login.microsoftonline.com/example.com/v2.0\"",
        )],
        "does not name a tenant by its ID",
    ),
    (
        "entra",
        &[(
            "issuer",
            "\"https://sts.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47/\"",
        )],
        "does not name a tenant by its ID, and version 2.0",
    ),
    ("keycloak", &[], "names no realm"),
    (
        "keycloak",
        &[("issuer", "\"https://login.example.com/realms/\"")],
        "names no realm",
    ),
    (
        "okta",
        &[("issuer", "\"https://example-admin.okta.com\"")],
        "is where Okta is administered",
    ),
    ("auth0", &[], "in a `/` after the host"),
    (
        "auth0",
        &[("issuer", "\"https://example.eu.auth0.com/oauth2/\"")],
        "in a `/` after the host",
    ),
    (
        "gitlab",
        &[("issuer", "\"https://gitlab.example.com/\"")],
        "without a `/`",
    ),
];

#[test]
fn what_cannot_work_at_a_provider_that_is_known_is_refused_with_the_reason() {
    let place = Place::new();
    for (preset, keys, told) in IMPOSSIBLE_THERE {
        let preset = format!("\"{preset}\"");
        let keys: Vec<_> = [("preset", preset.as_str())]
            .into_iter()
            .chain(keys.iter().copied())
            .collect();
        let complaints = place.complaints(&oidc_with(&keys));
        assert!(complaints.contains(told), "{told}: {complaints}");
        assert!(complaints.contains("doorward.toml:"), "{complaints}");
    }
    let local = MINIMAL.replace("type = \"local\"", "type = \"local\"\npreset = \"google\"");
    assert!(
        place
            .complaints(&local)
            .contains("provider.preset: unknown key")
    );
}

#[test]
fn a_provider_that_is_known_needs_little_more_than_its_name() {
    let place = Place::new();
    for (preset, issuer, name) in [
        ("google", "", "Google"),
        ("gitlab", "", "GitLab"),
        ("gitlab", "https://gitlab.example.com", "GitLab"),
        (
            "entra",
            "https://login.microsoftonline.us/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
            "Microsoft",
        ),
        (
            "keycloak",
            "https://sso.example.com/auth/realms/corp",
            "sso.example.com",
        ),
        ("okta", "https://example.okta.com", "example.okta.com"),
        (
            "auth0",
            "https://example.eu.auth0.com/",
            "example.eu.auth0.com",
        ),
    ] {
        let (preset, quoted) = (format!("\"{preset}\""), format!("\"{issuer}\""));
        let given = if issuer.is_empty() { "" } else { &quoted };
        let text = oidc_with(&[("preset", &preset), ("issuer", given)]);
        let settings = place.load(&text).unwrap();
        let provider = &settings.providers[1];
        assert_eq!(provider.name, name);
        let Kind::Oidc(oidc) = &provider.kind else {
            panic!("{provider:?}")
        };
        assert_eq!(oidc.mapping.user, ClaimPath::parse("sub"), "{preset}");
        assert!(oidc.mapping.verified_email, "{preset}");
        assert!(issuer.is_empty() || oidc.issuer == issuer);
    }
}

/// The minimal file with a provider of type `oauth2` beside the local users; `keys` come over what is good.
fn oauth2_with(keys: &[(&str, &str)]) -> String {
    let mut good = vec![
        ("id", "\"hub\""),
        ("type", "\"oauth2\""),
        ("authorization_url", "\"https://hub.example.com/authorize\""),
        ("token_url", "\"https://hub.example.com/token\""),
        ("userinfo_url", "\"https://hub.example.com/user\""),
        ("client_id", "\"doorward\""),
        ("client_auth", "\"none\""),
        ("claims", "{ subject = \"id\" }"),
    ];
    good.retain(|(key, _)| !keys.iter().any(|(other, _)| other == key));
    let all = good
        .iter()
        .chain(keys)
        .filter(|(_, value)| !value.is_empty());
    let lines: Vec<_> = all.map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{MINIMAL}\n[[provider]]\n{}\n", lines.join("\n"))
}

fn oauth2(text: &str) -> OAuth2Settings {
    let settings = Place::new().load(text).unwrap();
    match &settings.providers[1].kind {
        Kind::OAuth2(site) => (**site).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_site_with_oauth_is_told_where_to_be_asked() {
    let little = oauth2(&oauth2_with(&[]));
    assert_eq!(little.mapping.user, ClaimPath::parse("sub"));
    assert_eq!(little.subject, (ClaimPath::parse("id"), SubjectKind::Text));
    assert!(little.mapping.verified_email && little.scopes.is_empty() && little.issuer.is_none());
    assert!(little.mapping.groups.is_none() && little.group_parts.is_empty());
    let own = oauth2(&oauth2_with(&[(
        "claims",
        "{ subject = \"id\", groups = \"a.b\" }",
    )]));
    assert_eq!(own.mapping.groups, Some(ClaimPath::parse("a.b")));
    assert!(own.group_parts.is_empty());

    let nowhere = ["authorization_url", "token_url", "userinfo_url", "claims"].map(|key| (key, ""));
    let github = [
        &nowhere[..],
        &[("preset", "\"github\""), ("type", "\"oauth2\"")],
    ]
    .concat();
    let text = oauth2_with(&github);
    let known = oauth2(&text);
    let places: Vec<_> = known.places.all().map(url::Url::as_str).collect();
    assert_eq!(
        places,
        [
            "https://github.com/login/oauth/authorize",
            "https://github.com/login/oauth/access_token",
            "https://api.github.com/user",
            "https://api.github.com/user/emails?per_page=100",
            "https://api.github.com/user/orgs?per_page=100",
        ]
    );
    assert_eq!(known.scopes, ["user:email", "read:org"]);
    assert_eq!(
        known.subject,
        (ClaimPath::parse("id"), SubjectKind::Integer)
    );
    assert_eq!(known.mapping.user, ClaimPath::parse("sub"));
    assert_eq!(known.group_parts, [ClaimPath::parse("login")]);
    assert_eq!(
        Place::new().load(&text).unwrap().providers[1].name,
        "GitHub"
    );
    // Of another server nothing is known: a token of it is no business of GitHub's.
    let server = oauth2(&oauth2_with(&[
        ("preset", "\"github\""),
        ("scopes", "[]"),
        ("claims", "{ user = \"login\" }"),
    ]));
    assert_eq!(server.places.all().count(), 3);
    assert!(server.scopes.is_empty() && server.group_parts.is_empty());
    assert_eq!(server.mapping.user, ClaimPath::parse("login"));
}

/// Keys of such a site that cannot be right, and what is said about them.
const IMPOSSIBLE_SITES: &[(Keys, &str)] = &[
    (
        &[("authorization_url", "")],
        "provider.authorization_url: is missing",
    ),
    (&[("token_url", "")], "provider.token_url: is missing"),
    (&[("userinfo_url", "")], "provider.userinfo_url: is missing"),
    (
        &[("preset", "\"github\""), ("token_url", "")],
        "provider.token_url: is missing",
    ),
    (
        &[("token_url", "\"http://hub.example.com/token\"")],
        "is not an https address",
    ),
    (
        &[("userinfo_url", "\"https://u:p@hub.example.com/user\"")],
        "is not an https address",
    ),
    (
        &[("emails_url", "\"http://10.0.0.1/\"")],
        "is not an https address",
    ),
    (
        &[("groups_url", "\"ftp://hub.example.com/\"")],
        "is not an https address",
    ),
    (
        &[("authorization_url", "\"https://hub.example.com/#x\"")],
        "is not an https address",
    ),
    (&[("claims", "")], "provider.claims.subject: is missing"),
    (&[("claims", "{ subject = \"\" }")], "must not be empty"),
    (
        &[("claims", "{ subject = \"id\", subject_type = \"number\" }")],
        "is not one of",
    ),
    (
        &[("claims", "{ subject = \"id\", user = \"a..b\" }")],
        "is not the name of a claim",
    ),
    (
        &[("claims", "{ subject = \"id\", groups = [\"a\", \"b\"] }")],
        "names the parts of a name in the answer of `groups_url`",
    ),
    (
        &[
            ("emails_url", "\"https://hub.example.com/m\""),
            ("claims", "{ subject = \"id\", email = \"mail\" }"),
        ],
        "says where the address is, and so does `emails_url`",
    ),
    (&[("preset", "\"githup\"")], "did you mean \"github\"?"),
    (&[("preset", "\"google\"")], "is not one of \"github\""),
    (
        &[("max_auth_age", "\"1h\"")],
        "provider.max_auth_age: unknown key",
    ),
    (
        &[("acr_values", "[\"phr\"]")],
        "provider.acr_values: unknown key",
    ),
    (&[("refresh", "true")], "provider.refresh: unknown key"),
    (
        &[("client_auth", "\"client_secret_basic\"")],
        "provider.client_secret: is missing",
    ),
    (&[("issuer", "\"hub\"")], "is not the address of a provider"),
];

#[test]
fn a_site_that_cannot_be_right_is_refused_with_the_reason() {
    let place = Place::new();
    for (keys, told) in IMPOSSIBLE_SITES {
        let complaints = place.complaints(&oauth2_with(keys));
        assert!(complaints.contains(told), "{told}: {complaints}");
    }
    let here = ["authorization_url", "token_url", "userinfo_url"]
        .map(|key| (key, "\"http://127.0.0.1:8080/x\""));
    assert!(place.load(&oauth2_with(&here)).is_ok());
}

#[test]
fn a_route_does_not_ask_for_what_no_provider_tells() {
    let place = Place::new();
    let route = |rest: &str| {
        let text = oauth2_with(&[]);
        format!(
            "{text}\n[[route]]\nhost = \"vault.example\"\naccess = \"user\"\nupstream = \"http://127.0.0.1:1\"\nmax_auth_age = \"10m\"\n{rest}\n"
        )
    };
    assert!(place.load(&route("")).is_ok(), "local users can");
    assert!(place.load(&route("provider = \"local\"")).is_ok());
    let complaints = place.complaints(&route("provider = \"hub\""));
    assert!(
        complaints.contains("nobody could show a login as young"),
        "{complaints}"
    );
    let local = "[[provider]]\nid = \"local\"\ntype = \"local\"\nusers = \"users.toml\"\n";
    let alone = route("").replace(local, "");
    assert!(
        place
            .complaints(&alone)
            .contains("nobody could show a login as young")
    );
}

#[test]
fn a_route_asks_for_a_kind_of_login_where_somebody_tells_it() {
    let route = |rest: &str| {
        let route = "[[route]]\nhost = \"b\"\nupstream = \"http://127.0.0.1:1\"";
        let route = format!("{route}\naccess = \"user\"\nacr_values = [\"phr\", \"mfa\"]");
        format!("{}{route}\n{rest}\n", oidc_with(&[]))
    };
    let place = Place::new();
    let settings = place.load(&route("provider = \"corp\"")).unwrap();
    assert_eq!(settings.routes[1].acr_values, ["phr", "mfa"]);
    for (rest, expected) in [
        ("", "says of which kind a login has to be, and not where"),
        (
            "provider = \"local\"",
            "\"local\" does not tell of which kind a login was",
        ),
        (
            "access_by = [\"token\"]",
            "route.acr_values: needs a session",
        ),
    ] {
        let told = complaints(&route(rest));
        assert!(told.contains(expected), "{rest}\n{told}");
        assert!(
            !told.contains("2 errors") || rest.contains("token"),
            "{told}"
        );
    }
    let odd = route("provider = \"corp\"").replace("\"phr\"", "\"p h\"");
    assert!(complaints(&odd).contains("\"p h\" is not a kind of login"));
    let long = format!("\"{}\"", "a".repeat(510));
    let long = route("provider = \"corp\"").replace("\"phr\"", &long);
    assert!(complaints(&long).contains("has more than 512 characters in all"));
    let open =
        route("provider = \"corp\"").replace("access = \"user\"\nacr", "access = \"public\"\nacr");
    assert!(complaints(&open).contains("asks nobody to"));
}

#[test]
fn a_route_names_a_provider_that_is_there() {
    let route = |rest: &str| {
        let route = "[[route]]\nhost = \"b\"\nupstream = \"http://127.0.0.1:1\"";
        format!("{}{route}\n{rest}\n", oidc_with(&[]))
    };
    let place = Place::new();
    let settings = place
        .load(&route("access = \"user\"\nprovider = \"corp\""))
        .unwrap();
    assert_eq!(settings.routes[1].provider.as_deref(), Some("corp"));
    assert_snapshot!(complaints(&route("access = \"user\"\nprovider = \"crop\"")), @r#"
    doorward.toml:26:12: route.provider: there is no provider "crop"
       26 | provider = "crop"
          |            ^^^^^^
      help: did you mean "corp"?

    1 error in doorward.toml
    "#);
    assert_snapshot!(complaints(&route("access = \"public\"\nprovider = \"corp\"")), @r#"
    doorward.toml:26:1: route.provider: says where to log in, and the route's `access` asks nobody to
       26 | provider = "corp"
          | ^^^^^^^^
      help: remove it, or use `access = "user"`

    1 error in doorward.toml
    "#);
    let second = "[[provider]]\nid = \"Second One\"\ntype = \"local\"\nusers = \"more.toml\"\n";
    assert_snapshot!(complaints(&format!("{MINIMAL}\n{second}")), @r#"
    doorward.toml:16:1: provider: a second provider of local users; the first one is on line 7
       16 | [[provider]]
          | ^^^^^^^^^^^^
        7 | [[provider]]
          | ------------ first here
      help: there can be one, beside any number of other types; remove one of them

    doorward.toml:17:6: provider.id: "Second One" is not an id
       17 | id = "Second One"
          |      ^^^^^^^^^^^^
      help: lower-case letters, digits and hyphens, at most 32, like "local"

    2 errors in doorward.toml
    "#);
}

/// The minimal file with Redis; `keys` follow `backend`.
#[cfg(feature = "redis")]
fn redis_with(keys: &str) -> String {
    let session = "[session]\nsecrets = [{ file = \"long.key\" }]";
    let store = format!("[store]\nbackend = \"redis\"\n{keys}");
    minimal_with("[tls]", &format!("{session}\n\n{store}\n\n[tls]"))
}

#[cfg(any(feature = "postgres", feature = "redis"))]
fn place_for_servers() -> Place {
    let place = Place::new();
    for (name, text) in [
        ("long.key", "k".repeat(32)),
        ("store.password", "p\n".to_owned()),
        ("open.password", "p".to_owned()),
        ("empty.pem", String::new()),
    ] {
        fs::write(place.path(name), text).unwrap();
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(
        place.path("open.password"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    place
}

#[cfg(feature = "redis")]
#[test]
fn redis_is_named_by_its_url_and_its_password_by_a_file() {
    use doorward::session::store::{RedisServers, RedisTls};
    let place = place_for_servers();
    let read = |keys: &str| match place.load(&redis_with(keys)).unwrap().store {
        StoreSettings::Redis(settings) => settings,
        other => panic!("{other:?}"),
    };
    let one = |host: &str, port| RedisServers::One {
        host: host.to_owned(),
        port,
    };
    let far = read(
        "url = \"rediss://door%40ward@redis.internal/2\"\npassword = { file = \"store.password\" }\ntimeout = \"3s\"",
    );
    assert_eq!(far.servers, one("redis.internal", 6379));
    assert_eq!((far.user.as_deref(), far.database), (Some("door@ward"), 2));
    assert_eq!(far.password.as_ref().unwrap().expose(), b"p");
    assert_eq!(
        (far.timeout, far.prefix.as_str()),
        (Duration::from_secs(3), "doorward:")
    );
    assert_eq!(far.tls, Some(RedisTls { authorities: None }));

    let near = read("url = \"redis://[::1]:1234\"\nprefix = \"a:\"");
    assert_eq!(near.servers, one("::1", 1234));
    assert_eq!((near.user, near.password, near.tls), (None, None, None));
    assert_eq!((near.database, near.prefix.as_str()), (0, "a:"));

    let socket = read("url = \"unix:/run/redis.sock\"").servers;
    assert_eq!(socket, RedisServers::Socket("/run/redis.sock".into()));

    let nodes = vec![("a".to_owned(), 1), ("b".to_owned(), 6379)];
    let cluster = read("url = [\"redis://a:1\", \"redis://b\"]\ncluster = true").servers;
    assert_eq!(cluster, RedisServers::Cluster(nodes.clone()));
    let watched = read(
        "url = [\"redis://a:1\", \"redis://b\"]\nsentinel = \"main\"\nsentinel_password = { file = \"store.password\" }",
    );
    let RedisServers::Sentinel {
        sentinels,
        name,
        password,
    } = watched.servers
    else {
        panic!("no sentinels");
    };
    assert_eq!((sentinels, name.as_str()), (nodes, "main"));
    assert_eq!(password.unwrap().expose(), b"p");
}

#[cfg(feature = "redis")]
#[test]
fn a_password_of_redis_that_is_written_down_is_refused_and_not_repeated() {
    let place = place_for_servers();
    for keys in [
        "url = \"redis://d:swordfish@db\"",
        "url = \"redis://:swordfish@db\"",
        "url = [\"redis://a\", \"redis://:swordfish@b\"]\ncluster = true",
        "url = \"swordfish@db\"",
        "url = \"redis://db\"\npassword = \"swordfish\"",
        "url = \"redis://db\"\nsentinel = \"a\"\nsentinel_password = \"swordfish\"",
        "url = \"redis://db\"\npassword = { env = \"sword-fish\" }",
    ] {
        let said = place.complaints(&redis_with(keys));
        assert!(!said.replace('-', "").contains("swordfish"), "{said}");
        assert!(said.contains("help:"), "{said}");
    }
    let said = place.complaints(&redis_with("url = \"redis://d:swordfish@db\""));
    assert!(said.contains("people copy, commit and show"), "{said}");
    assert!(said.contains("`password = { file = "), "{said}");
}

#[cfg(feature = "redis")]
const MISTAKES_ABOUT_REDIS: &[(&str, &str)] = &[
    ("", "is missing: which server?"),
    ("url = []", "names no server"),
    (
        "url = \"http://db\"",
        "is not the address of a Redis server",
    ),
    ("url = \"redis:///1\"", "names no server"),
    ("url = \"redis://db/one\"", "is not a database"),
    (
        "url = \"rediss://db#insecure\"",
        "user, host, port and database alone",
    ),
    (
        "url = \"redis://db?protocol=2\"",
        "user, host, port and database alone",
    ),
    ("url = \"unix:\"", "names no socket"),
    (
        "url = [\"redis://a\", \"redis://b\"]",
        "names several servers",
    ),
    (
        "url = [\"redis://a\", \"rediss://b\"]\ncluster = true",
        "another scheme, user or database",
    ),
    (
        "url = \"redis://a/1\"\ncluster = true",
        "a Cluster has one database",
    ),
    (
        "url = \"unix:/a\"\ncluster = true",
        "a socket leads to one server",
    ),
    (
        "url = \"redis://a\"\ncluster = true\nsentinel = \"m\"",
        "a Cluster has no sentinels",
    ),
    (
        "url = \"redis://a\"\nsentinel_password = { file = \"store.password\" }",
        "there is no sentinel",
    ),
    (
        "url = \"redis://a\"\nca = \"empty.pem\"",
        "is not encrypted",
    ),
    (
        "url = \"rediss://a\"\nca = \"empty.pem\"",
        "it holds no certificate",
    ),
    (
        "url = \"redis://a\"\nprefix = \"{a}\"",
        "cannot begin every key",
    ),
    ("url = \"redis://a\"\npath = \"x.db\"", "redis has no path"),
    (
        "url = \"redis://a\"\npassword = {}",
        "does not say where the password is",
    ),
    (
        "url = \"redis://a\"\npassword = { file = \"open.password\" }",
        "chmod 600",
    ),
    (
        "url = \"redis://a\"\npassword = { file = \"a\", env = \"B\" }",
        "keep one of the two",
    ),
    (
        "url = \"redis://a\"\npassword = { file = \"empty.pem\" }",
        "is not a password",
    ),
    ("url = \"redis://a\"\nprefixx = \"a\"", "prefix"),
    (
        "url = \"redis://a\"\nconnections = 3",
        "store.connections: redis has no such thing",
    ),
];

#[cfg(feature = "redis")]
#[test]
fn mistakes_about_redis_are_told_with_a_way_out() {
    let place = place_for_servers();
    for (keys, told) in MISTAKES_ABOUT_REDIS {
        let said = place.complaints(&redis_with(keys));
        assert!(said.contains(told), "{keys}: {said}");
        assert!(said.contains("store") && said.contains("help:"), "{said}");
    }
}

#[cfg(feature = "redis")]
#[test]
fn nodes_that_share_redis_are_given_their_secret() {
    let text = minimal_with(
        "[tls]",
        "[store]\nbackend = \"redis\"\nurl = \"redis://localhost\"\n\n[tls]",
    );
    let said = complaints(&text);
    assert!(
        said.contains("session.secrets: is missing: nodes that share a store"),
        "{said}"
    );
}

/// The minimal file with PostgreSQL; `keys` follow `backend`.
#[cfg(feature = "postgres")]
fn postgres_with(keys: &str) -> String {
    let session = "[session]\nsecrets = [{ file = \"long.key\" }]";
    let store = format!("[store]\nbackend = \"postgres\"\n{keys}");
    minimal_with("[tls]", &format!("{session}\n\n{store}\n\n[tls]"))
}

#[cfg(feature = "postgres")]
#[test]
fn a_database_is_named_by_its_url_and_its_password_by_a_file() {
    use doorward::session::store::{PostgresServer, PostgresTls};
    let place = place_for_servers();
    let read = |keys: &str| match place.load(&postgres_with(keys)).unwrap().store {
        StoreSettings::Postgres(settings) => settings,
        other => panic!("{other:?}"),
    };
    let far = read(
        "url = \"postgres://door%40ward@db.internal/d\"\npassword = { file = \"store.password\" }\ntimeout = \"3s\"",
    );
    let (host, port) = ("db.internal".to_owned(), 5432);
    assert_eq!(far.server, PostgresServer::Tcp { host, port });
    assert_eq!(
        (far.user.as_str(), far.database.as_str()),
        ("door@ward", "d")
    );
    assert_eq!(far.password.as_ref().unwrap().expose(), b"p");
    assert_eq!(far.timeout, Duration::from_secs(3));
    assert_eq!((far.max_connections, far.statement_cache), (16, 100));

    let verified = Some(PostgresTls { authorities: None });
    assert_eq!(far.tls, verified);
    for (url, tls) in [
        ("postgres://d@127.0.0.1:1/d", None),
        ("postgresql://d@localhost/d", None),
        ("postgres://d@[::1]/d", None),
        ("postgres://d@10.0.0.7/d?sslmode=disable", None),
        ("postgres://d@10.0.0.7/d", verified.clone()),
        ("postgres://d@localhost.example/d", verified.clone()),
        ("postgres://d@localhost/d?sslmode=verify-full", verified),
    ] {
        assert_eq!(read(&format!("url = \"{url}\"")).tls, tls, "{url}");
    }
    let near = read("url = \"postgres://d@localhost/d?host=/run/postgresql\"");
    let (folder, port) = ("/run/postgresql".into(), 5432);
    assert_eq!(near.server, PostgresServer::Socket { folder, port });
    assert_eq!(near.password, None);
}

#[cfg(feature = "postgres")]
#[test]
fn a_password_of_a_database_that_is_written_down_is_refused_and_not_repeated() {
    let place = place_for_servers();
    for keys in [
        "url = \"postgres://d:swordfish@db/d\"",
        "url = \"swordfish@db/d\"",
        "url = \"postgres://d@db/d\"\npassword = \"swordfish\"",
        "url = \"postgres://d@db/d?password=swordfish\"",
        "url = \"postgres://d@db/d#swordfish\"",
        "url = \"postgres://d@db/d\"\npassword = { env = \"sword-fish\" }",
    ] {
        let said = place.complaints(&postgres_with(keys));
        assert!(!said.replace('-', "").contains("swordfish"), "{said}");
        assert!(said.contains("help:"), "{said}");
    }
    let said = place.complaints(&postgres_with("url = \"postgres://d:swordfish@db/d\""));
    assert!(said.contains("people copy, commit and show"), "{said}");
    assert!(said.contains("`password = { file = "), "{said}");
}

#[cfg(feature = "postgres")]
#[test]
fn mistakes_about_a_database_are_told_with_a_way_out() {
    let place = place_for_servers();
    for (keys, told) in [
        ("", "is missing: which database?"),
        (
            "url = \"mysql://d@db/d\"",
            "is not the address of a PostgreSQL database",
        ),
        ("url = \"postgres://db/d\"", "names no user"),
        ("url = \"postgres://d@db\"", "or no database"),
        (
            "url = \"postgres://d@db/d?host=/run/postgresql\"",
            "names no server, or two of them",
        ),
        (
            "url = \"postgres://d@db/d?options=x\"",
            "cannot be given here",
        ),
        (
            "url = \"postgres://d@db/d?sslmode=require\"",
            "does not tell the server from an impostor",
        ),
        (
            "url = \"postgres://d@db/d?sslmode=disable\"\nca = \"site.pem\"",
            "judges nobody",
        ),
        (
            "url = \"postgres://d@db/d\"\nca = \"empty.pem\"",
            "it holds no certificate",
        ),
        (
            "url = \"postgres://d@db/d\"\npath = \"x.db\"",
            "postgres has no path",
        ),
        (
            "url = \"postgres://d@db/d\"\nprefix = \"a:\"",
            "store.prefix: postgres has no such thing",
        ),
        (
            "url = \"postgres://d@db/d\"\npassword = { file = \"open.password\" }",
            "chmod 600",
        ),
    ] {
        let said = place.complaints(&postgres_with(keys));
        assert!(said.contains(told), "{keys}: {said}");
        assert!(said.contains("store") && said.contains("help:"), "{said}");
    }
    for (key, told) in [
        ("connections = 0", "0 is not between 1 and 1000"),
        ("statement_cache = -1", "-1 is not between 0 and 10000"),
    ] {
        let said = place.complaints(&postgres_with(&format!(
            "url = \"postgres://d@db/d\"\n{key}"
        )));
        assert!(said.contains(told), "{said}");
    }
}

#[cfg(feature = "postgres")]
#[test]
fn nodes_that_share_a_database_are_given_their_secret() {
    let text = minimal_with(
        "[tls]",
        "[store]\nbackend = \"postgres\"\nurl = \"postgres://d@localhost/d\"\n\n[tls]",
    );
    let said = complaints(&text);
    assert!(
        said.contains("session.secrets: is missing: nodes that share a store"),
        "{said}"
    );
}

#[test]
fn a_server_is_named_for_a_backend_that_has_none() {
    let store = "[store]\nurl = \"redis://d:swordfish@db\"\nprefix = \"a:\"\n\n[tls]";
    let said = complaints(&minimal_with("[tls]", store));
    assert!(said.contains("store.url: embedded has no server"), "{said}");
    assert!(
        said.contains("store.prefix: embedded has no server"),
        "{said}"
    );
    assert!(!said.contains("swordfish"), "{said}");
}

#[cfg(not(feature = "redis"))]
#[test]
fn a_build_without_redis_says_so() {
    let store = "[store]\nbackend = \"redis\"\nurl = \"redis://db\"\n\n[tls]";
    let said = complaints(&minimal_with("[tls]", store));
    assert!(said.contains("this build has no redis"), "{said}");
}

#[cfg(not(feature = "postgres"))]
#[test]
fn a_build_without_postgres_says_so() {
    let store = "[store]\nbackend = \"postgres\"\nurl = \"postgres://d@db/d\"\n\n[tls]";
    let said = complaints(&minimal_with("[tls]", store));
    assert!(said.contains("this build has no postgres"), "{said}");
}

#[test]
fn public_routes_need_no_way_to_log_in() {
    let provider = "[[provider]]\nid = \"local\"\ntype = \"local\"\nusers = \"users.toml\"\n";
    let without = minimal_with(provider, "");
    assert!(
        Place::new()
            .load(&without.replace("\"user\"", "\"public\""))
            .is_ok()
    );
    assert_snapshot!(complaints(&without), @r#"
    doorward.toml:1:1: provider: the route on line 10 needs a user, and there is no way to log in
        1 | [server]
          | ^
       10 | access = "user"
          |          ------ nobody could pass
      help: add `[[provider]]` with `id = "local"`, `type = "local"` and `users = "users.toml"`

    1 error in doorward.toml
    "#);
}

#[test]
fn each_error_begins_with_its_file_line_and_column() {
    let place = Place::new();
    let errors = place.load("[server]\nlisten = 1\n[x]\n").unwrap_err();
    let shown = errors.to_string();
    let file = place.path("doorward.toml");
    for error in errors.errors() {
        let head = format!("{}:{}:{}: ", file.display(), error.line, error.column);
        assert!(shown.lines().any(|line| line.starts_with(&head)), "{head}");
        assert!(errors.styled().contains(&format!(
            "{}:{}:{}",
            file.display(),
            error.line,
            error.column
        )));
    }
    assert!(errors.errors().len() >= 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_is_too_odd_to_be_refused_in_words(text in any::<String>()) {
        let file = PathBuf::from("/nonexistent/doorward.toml");
        let errors = config::parse(&file, &text, Missing::Refused).unwrap_err();
        prop_assert!(!errors.errors().is_empty());
        prop_assert!(!errors.to_string().is_empty() && !errors.styled().is_empty());
    }

    /// Lines of a real file, cut and mixed: far more of the reader is reached than by arbitrary text.
    #[test]
    fn no_mixture_of_lines_is_too_odd_either(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), ".{0,3}"), 0..40)
    ) {
        let lines: Vec<_> = REPOSITORY.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
        let cut = |(line, end, tail): &(prop::sample::Index, prop::sample::Index, String)| {
            let line = line.get(&lines);
            let kept = if tail.is_empty() { line.len() } else { end.index(line.len() + 1) };
            let start: String = line.chars().take(kept).collect();
            format!("{start}{tail}\n")
        };
        let text: String = picks.iter().map(cut).collect();
        let file = PathBuf::from("/nonexistent/doorward.toml");
        if let Err(errors) = config::parse(&file, &text, Missing::Refused) {
            prop_assert!(!errors.to_string().is_empty() && !errors.styled().is_empty());
        }
    }
}

#[test]
fn the_admin_api_has_a_token_from_elsewhere_and_a_socket_beside_the_sessions() {
    let place = Place::new();
    let with = |keys: &str| MINIMAL.replace("[server]\n", &format!("[server]\n{keys}\n"));
    let settings = place.load(MINIMAL).unwrap();
    let socket = settings.admin_socket.unwrap();
    assert_eq!(socket.path, place.path("data/doorward.sock"));
    assert!(!socket.is_named && settings.admin_token.is_none());
    let settings = place.load(&with("admin_socket = \"run/admin\"")).unwrap();
    let socket = settings.admin_socket.unwrap();
    assert_eq!(
        (socket.path, socket.is_named),
        (place.path("run/admin"), true)
    );
    let memory = format!(
        "{}\n[store]\nbackend = \"memory\"\n",
        with("admin_socket = \"off\"")
    );
    assert!(place.load(&memory).unwrap().admin_socket.is_none());
    let memory = format!("{MINIMAL}\n[store]\nbackend = \"memory\"\n");
    let socket = place.load(&memory).unwrap().admin_socket.unwrap();
    assert_eq!(socket.path, place.path("doorward.sock"), "beside the file");

    let token = "t0ken-".repeat(6);
    place.write("admin.token", &format!("{token}\n"));
    fs::set_permissions(place.path("admin.token"), fs::Permissions::from_mode(0o600)).unwrap();
    let listen = "admin_listen = \"127.0.0.1:0\"\n";
    let file = "admin_token = { file = \"admin.token\" }";
    let settings = place.load(&with(&format!("{listen}{file}"))).unwrap();
    assert_eq!(settings.admin_token.unwrap().expose(), token.as_bytes());
    let both = "admin_token = { file = \"admin.token\", env = \"PATH\" }";
    for (keys, told) in [
        (
            file.to_owned(),
            "asked for at `admin_listen`, which is not there",
        ),
        (format!("{listen}{both}"), "not from both"),
        (
            format!("{listen}admin_token = {{}}"),
            "does not say where the token is",
        ),
        (
            format!("{listen}admin_token = {{ file = \"none\" }}"),
            "none cannot be read",
        ),
        (
            format!("{listen}admin_token = \"{token}\""),
            "cannot stand in this file",
        ),
        (
            format!("{listen}admin_socket = 7"),
            "expected text in quotes",
        ),
    ] {
        let complaints = place.complaints(&with(&keys));
        assert!(complaints.contains(told), "{keys}: {complaints}");
        assert!(!complaints.contains("t0ken-"), "{complaints}");
    }
}

#[test]
fn browsers_are_told_to_stay_with_https_but_not_where_people_develop() {
    const YEAR: u64 = 365 * 24 * 60 * 60;
    let place = Place::new();
    let age = |text: &str| place.load(text).unwrap().hsts_max_age();
    let files = "certificates = [{ cert = \"certs/site.pem\", key = \"certs/site.key\" }]";
    let host = |name: &str| minimal_with("host = \"localhost\"", &format!("host = \"{name}\""));
    assert_eq!(age(&host("app.example.com")), YEAR);
    assert_eq!(age(MINIMAL), 0, "it is for localhost");
    assert_eq!(age(&host("wiki.localhost")), 0);
    assert_eq!(age(&host("notlocalhost")), YEAR);
    let other =
        "[[route]]\nhost = \"example.com\"\nupstream = \"http://127.0.0.1:1\"\naccess = \"public\"";
    assert_eq!(age(&format!("{MINIMAL}\n{other}")), YEAR);
    assert_eq!(
        age(&host("app.example.com").replace(files, "self_signed = true")),
        0
    );
    let said = |age: &str| minimal_with(files, &format!("{files}\nhsts_max_age = \"{age}\""));
    assert_eq!(age(&said("0s")), 0);
    assert_eq!(age(&said("1h")), 3600);
}

#[test]
fn session_data_has_names_limits_and_keys_that_fit_each_other() {
    let text = minimal_with(
        "[tls]",
        "[session]\n\
         data = { max_keys = 0, max_header_bytes = \"1MiB\" }\n\
         anonymous = { idle_timeout = \"8d\", max_per_address = 0 }\n\
         [[session.namespace]]\nname = \"My Shop\"\nkeys = \"s3cr3t s3cr3t s3cr3t s3cr3t s3cr3t\"\n\
         [[session.namespace]]\nname = \"shop\"\n\n[tls]",
    );
    let text = text.replace(
        "access = \"user\"",
        "access = \"anonymous\"\nmax_auth_age = \"5m\"",
    );
    let told = complaints(&text);
    assert!(!told.contains("s3cr3t"), "{told}");
    assert_snapshot!(told, @r#"
    doorward.toml:5:21: session.data.max_keys: 0 is not between 1 and 1000
        5 | data = { max_keys = 0, max_header_bytes = "1MiB" }
          |                     ^

    doorward.toml:5:43: session.data.max_header_bytes: "1MiB" is not between 64B and 16KiB
        5 | data = { max_keys = 0, max_header_bytes = "1MiB" }
          |                                           ^^^^^^

    doorward.toml:6:30: session.anonymous.idle_timeout: 8d is longer than the `absolute_timeout` beside it (7d)
        6 | anonymous = { idle_timeout = "8d", max_per_address = 0 }
          |                              ^^^^
      help: a session that may idle longer than it lives never idles out; make it the shorter one

    doorward.toml:6:54: session.anonymous.max_per_address: 0 is not between 1 and 4294967295
        6 | anonymous = { idle_timeout = "8d", max_per_address = 0 }
          |                                                      ^

    doorward.toml:8:8: session.namespace.name: "My Shop" is no name for a namespace
        8 | name = "My Shop"
          |        ^^^^^^^^^
      help: lower-case letters, digits and `-_.`, at most 64, like "shop"

    doorward.toml:9:8: session.namespace.keys: a secret cannot stand in this file, which people copy, commit and show
        9 | keys = ************************************
          |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: keep it in a file that only doorward can read, `{ file = "secrets/session.key" }`, or in the environment, `{ env = "DOORWARD_SESSION_SECRET" }`; take a new one, this one was written down

    doorward.toml:10:1: session.namespace.keys: is missing
       10 | [[session.namespace]]
          | ^^^^^^^^^^^^^^^^^^^^^
      help: for example `keys = [{ file = "secrets/shop.key" }]`

    doorward.toml:23:10: route.access: gives visitors a session for what the app keeps, and it keeps nothing
       23 | access = "anonymous"
          |          ^^^^^^^^^^^
      help: add `session_data = "shop"`, or use `access = "public"`

    doorward.toml:24:1: route.max_auth_age: says how old a login may be, where `access = "anonymous"` asks for none
       24 | max_auth_age = "5m"
          | ^^^^^^^^^^^^
      help: remove it, or use `access = "user"`

    9 errors in doorward.toml
    "#);
}

#[test]
fn origins_are_written_as_browsers_write_them() {
    let route = |origins: &str| {
        route_with(&format!(
            "[[route]]\nhost = \"h\"\naccess = \"user\"\nupstream = \"http://a\"\ncors_origins = {origins}"
        ))
    };
    let good = "[\"https://ok.example.com\", \"http://localhost:5173\"]";
    let settings = Place::new().load(&route(good)).unwrap();
    let origins = &settings.routes.last().unwrap().cors_origins;
    assert_eq!(
        origins,
        &["https://ok.example.com", "http://localhost:5173"]
    );
    let bad = "[\n\"*\",\n\"null\",\n\"app.example.com\",\n\"HTTPS://App.example.com:443/\",\n\"ftp://a\"]";
    assert_snapshot!(complaints(&route(bad)), @r#"
    doorward.toml:21:1: route.cors_origins: "*" is every origin, and with cookies browsers want each by its name
       21 | "*",
          | ^^^
      help: scheme and host, and the port where it is not the scheme's own: "https://app.example.com"

    doorward.toml:22:1: route.cors_origins: "null" is no origin, and with cookies browsers want each by its name
       22 | "null",
          | ^^^^^^
      help: scheme and host, and the port where it is not the scheme's own: "https://app.example.com"

    doorward.toml:23:1: route.cors_origins: "app.example.com" is not an origin
       23 | "app.example.com",
          | ^^^^^^^^^^^^^^^^^
      help: scheme and host, and the port where it is not the scheme's own: "https://app.example.com"

    doorward.toml:24:1: route.cors_origins: "HTTPS://App.example.com:443/" is not as browsers write an origin
       24 | "HTTPS://App.example.com:443/",
          | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: write "https://app.example.com"

    doorward.toml:25:1: route.cors_origins: "ftp://a" is not an origin
       25 | "ftp://a"]
          | ^^^^^^^^^
      help: scheme and host, and the port where it is not the scheme's own: "https://app.example.com"

    5 errors in doorward.toml
    "#);
}

#[test]
fn a_route_that_other_proxies_ask_about_needs_one_that_is_trusted() {
    let route = "[[route]]\nhost = \"h\"\naccess = \"user\"\nupstream = \"none\"";
    let trusting =
        route_with(route).replace("[server]", "[server]\ntrusted_proxies = [\"127.0.0.1\"]");
    let settings = Place::new().load(&trusting).unwrap();
    assert_eq!(settings.routes.last().unwrap().upstream, None);
    assert_snapshot!(complaints(&route_with(route)), @r#"
    doorward.toml:1:1: server.trusted_proxies: the route on line 16 is for other proxies to ask about, and none of them is trusted
        1 | [server]
          | ^
      help: name their addresses: `trusted_proxies = ["127.0.0.1"]`

    1 error in doorward.toml
    "#);
}

#[test]
fn an_assertion_has_a_name_for_whom_it_is_and_a_short_life() {
    let place = Place::new();
    let text = minimal_with(
        "[tls]",
        "[identity.assertion]\nall_routes = true\nlifetime = \"1m\"\nalgorithm = \"EdDSA\"\n\n[tls]",
    );
    let settings = place.load(&text).unwrap();
    assert_eq!(settings.assertion.lifetime, Duration::from_mins(1));
    assert_eq!(settings.assertion.algorithm.name(), "EdDSA");
    let route = &settings.routes[0];
    let audience = format!("{}{}", route.host, route.path);
    assert_eq!(route.assertion.as_ref(), Some(&audience));

    let text = text
        .replace("\"1m\"", "\"6m\"")
        .replace("EdDSA", "RS256\"\nissuer = \"two words");
    let told = complaints(&format!("{text}\nassertion = \"true\"\n"));
    for expected in [
        "identity.assertion.lifetime: \"6m\" is not between 30s and 5m",
        "identity.assertion.algorithm: \"RS256\" is not one of",
        "identity.assertion.issuer: \"two words\" is no name that apps could compare",
        "route.assertion: \"true\" in quotes is an audience",
        "help: write true without quotes",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    let told = complaints(&route_with("path = \"/.well-known/doorward/x\""));
    assert!(
        told.contains("everything below \"/.well-known/doorward\" is doorward's own"),
        "{told}"
    );
}

#[test]
fn api_tokens_are_taken_where_a_route_says_so_and_need_no_way_to_log_in() {
    let place = Place::new();
    let by_both = "access_by = [\"session\", \"token\"]\nscopes = [\"reports:read\"]";
    let settings = place.load(&route_with(by_both)).unwrap();
    let clients = settings.routes[0].clients.clone().unwrap();
    assert!(clients.with_sessions && !clients.pass_authorization);
    assert_eq!(clients.scopes, BTreeSet::from(["reports:read".to_owned()]));
    assert_eq!(settings.tokens, place.path("tokens.toml"));

    let (providers, routes) = (
        MINIMAL.find("[[provider]]").unwrap(),
        MINIMAL.find("[[route]]").unwrap(),
    );
    let nobody_logs_in = format!("{}{}", &MINIMAL[..providers], &MINIMAL[routes..]);
    let programs = format!("{nobody_logs_in}\naccess_by = [\"token\"]\n");
    assert!(place.load(&programs).is_ok());
    assert!(
        place
            .load(&programs.replace("[\"token\"]", "[\"session\"]"))
            .is_err()
    );

    for (keys, expected) in [
        ("access_by = []", "names nothing, so nobody could pass"),
        ("access_by = [\"cookie\"]", "\"cookie\" is not one of"),
        (
            "scopes = [\"a\"]",
            "is about tokens, and the route takes none",
        ),
        (
            "pass_authorization = true",
            "is about tokens, and the route takes none",
        ),
        (
            "access_by = [\"token\"]\nscopes = [\"a b\"]",
            "\"a b\" is no scope",
        ),
        (
            "access_by = [\"token\"]\nmax_auth_age = \"5m\"",
            "route.max_auth_age: needs a session",
        ),
        (
            "access_by = [\"token\"]\nsession_data = \"x\"",
            "route.session_data: needs a session",
        ),
        (
            "access_by = [\"token\"]\ncookie_jar = true",
            "route.cookie_jar: needs a session",
        ),
    ] {
        let told = complaints(&route_with(keys));
        assert!(told.contains(expected), "{keys}\n{told}");
    }
    let open = route_with("access_by = [\"token\"]").replace("\"user\"", "\"public\"");
    let told = complaints(&open);
    assert!(told.contains("where `access` asks nobody"), "{told}");
    let taken = MINIMAL.replace("id = \"local\"", "id = \"api-token\"");
    assert!(complaints(&taken).contains("is what users of API tokens are known by"));
}

/// A `[[clients.issuer]]` with more keys.
fn issuer(keys: &str) -> String {
    format!(
        "[[clients.issuer]]\nid = \"ci\"\nissuer = \"https://ci.example\"\naudience = \"us\"\n{keys}\n"
    )
}

/// The minimal file with issuers, and keys for its route.
fn with_issuers(issuers: &str, keys: &str) -> String {
    let (before, routes) = MINIMAL.split_at(MINIMAL.find("[[route]]").unwrap());
    format!("{before}{issuers}{routes}\n{keys}\n")
}

#[test]
fn tokens_of_issuers_are_taken_where_a_route_says_so() {
    let place = Place::new();
    let settings = place
        .load(&with_issuers(&issuer(""), "access_by = [\"jwt\"]"))
        .unwrap();
    let clients = settings.routes[0].clients.clone().unwrap();
    assert!(!clients.with_sessions && !clients.tokens && !clients.basic);
    assert_eq!(clients.issuers, BTreeSet::from(["ci".to_owned()]));
    assert_eq!(settings.issuers[0].keys, None);
    let second = issuer("").replace("ci", "other");
    let two = format!("{}{second}", issuer("jwks = \"https://ci.example/keys\""));
    let narrow = with_issuers(
        &two,
        "access_by = [\"jwt\", \"basic\"]\nissuers = [\"other\"]",
    );
    let clients = place.load(&narrow).unwrap().routes[0]
        .clients
        .clone()
        .unwrap();
    assert!(clients.basic && !clients.tokens);
    assert_eq!(clients.issuers, BTreeSet::from(["other".to_owned()]));
}

#[test]
fn issuers_of_tokens_are_named_whole() {
    let two = format!(
        "{}{}",
        issuer("jwks = \"https://ci.example/keys\""),
        issuer("").replace("ci", "other")
    );
    for (text, expected) in [
        (
            with_issuers("", "access_by = [\"jwt\"]"),
            "takes tokens of other issuers, and there is none",
        ),
        (
            with_issuers(&issuer(""), "access_by = [\"jwt\"]\nissuers = []"),
            "names nobody, so no token would count",
        ),
        (
            with_issuers(&issuer(""), "issuers = [\"ci\"]"),
            "the route takes none of other issuers",
        ),
        (
            with_issuers(&two, "access_by = [\"jwt\"]\nissuers = [\"othre\"]"),
            "did you mean \"other\"?",
        ),
        (
            with_issuers(&issuer("jwks = \"http://ci.example/keys\""), ""),
            "is not an https address",
        ),
        (
            with_issuers(&issuer("").replace("https", "http"), ""),
            "is not https",
        ),
        (
            with_issuers(&issuer("algorithms = [\"HS256\"]"), ""),
            "\"HS256\" is not one of",
        ),
        (
            with_issuers(&issuer("algorithms = [\"none\"]"), ""),
            "\"none\" is not one of",
        ),
        (
            with_issuers(&issuer("").replace("audience", "# "), ""),
            "clients.issuer.audience",
        ),
        (
            with_issuers(&issuer("").replace("\"ci\"", "\"local\""), ""),
            "is the id of the provider",
        ),
        (
            with_issuers(&issuer("").replace("\"ci\"", "\"api-token\""), ""),
            "is what users of API tokens",
        ),
        (
            with_issuers(
                &format!("{0}{0}", issuer("")).replacen("\"ci\"", "\"c2\"", 1),
                "",
            ),
            "is the issuer \"c2\" already",
        ),
    ] {
        let told = complaints(&text);
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}
