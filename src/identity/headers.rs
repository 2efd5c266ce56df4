//! How upstreams are told who the user is: what clients sent in those fields' names is taken away, then ours is put in
//! (R13). It knows which names mean what, not whether there is a session.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::Identity;

/// Field names that apps commonly read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Preset {
    /// `Remote-User`, `-Name`, `-Email`, `-Groups`.
    Remote,
    /// `X-Auth-Request-User`, …
    XAuthRequest,
    /// `X-Forwarded-User`, …
    XForwarded,
}

impl Preset {
    pub const ALL: [Self; 3] = [Self::Remote, Self::XAuthRequest, Self::XForwarded];

    /// The word for it in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::XAuthRequest => "x-auth-request",
            Self::XForwarded => "x-forwarded",
        }
    }

    const fn fields(self) -> [&'static str; 4] {
        match self {
            Self::Remote => [
                "remote-user",
                "remote-name",
                "remote-email",
                "remote-groups",
            ],
            Self::XAuthRequest => [
                "x-auth-request-user",
                "x-auth-request-name",
                "x-auth-request-email",
                "x-auth-request-groups",
            ],
            Self::XForwarded => [
                "x-forwarded-user",
                "x-forwarded-name",
                "x-forwarded-email",
                "x-forwarded-groups",
            ],
        }
    }
}

/// Which field carries what; `None`: not sent. No two should be the same.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderLayout {
    pub user: Option<HeaderName>,
    pub name: Option<HeaderName>,
    pub email: Option<HeaderName>,
    pub groups: Option<HeaderName>,
}

impl HeaderLayout {
    pub fn preset(preset: Preset) -> Self {
        let [user, name, email, groups] = preset.fields().map(HeaderName::from_static);
        Self {
            user: Some(user),
            name: Some(name),
            email: Some(email),
            groups: Some(groups),
        }
    }

    /// Tells upstreams nothing.
    pub fn none() -> Self {
        Self::default()
    }

    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        [&self.user, &self.name, &self.email, &self.groups]
            .into_iter()
            .flatten()
    }
}

/// A set of field names and beginnings of names. Names are compared as the least careful reader does: in lower case
/// and by letters and digits alone, so `X_Forwarded_User`, `-x-forwarded-user` and the CGI spelling
/// `HTTP_X_FORWARDED_USER` are one name.
#[derive(Clone, Debug)]
pub struct FoldedNames {
    whole: Vec<String>,
    beginnings: Vec<String>,
    /// A bit for each beginning of three symbols that occurs: tells nearly every ordinary field apart.
    starts: Vec<u64>,
}

/// 26 letters, 10 digits, and nothing.
const SYMBOLS: usize = 37;

/// Words of 64 bits, one bit for each three symbols.
const STARTS: usize = (SYMBOLS * SYMBOLS * SYMBOLS).div_ceil(64);

/// Identity fields of the presets' families and of the servers that they come from.
const IDENTITY: [&str; 20] = [
    "authenticated-user",
    "x-authenticated-user",
    "x-authenticated-email",
    "x-authenticated-groups",
    "x-forwarded-access-token",
    "x-forwarded-group",
    "x-forwarded-preferred-username",
    "remote-group",
    "remote-preferred-username",
    "x-remote-user",
    "x-remote-name",
    "x-remote-email",
    "x-remote-group",
    "x-remote-groups",
    "x-webauth-user",
    "x-webauth-name",
    "x-webauth-email",
    "x-webauth-groups",
    "auth-user",
    "x-auth-user",
];

/// Families of which every member is ours to set.
const IDENTITY_BEGINNINGS: [&str; 3] = ["doorward-", "x-auth-request-", "x-doorward-"];

const FORWARDING: [&str; 15] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "cluster-client-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-host-override",
    "x-original-host",
    "x-real-ip",
];

const FORWARDING_BEGINNINGS: [&str; 7] = [
    "x-forwarded-",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-ssl-client-",
    "ssl-client-",
    "x-client-cert",
];

impl FoldedNames {
    /// Every field that could carry identity: all presets', the configured ones, and our own.
    pub fn identity(layout: &HeaderLayout) -> Self {
        let mut whole: Vec<&str> = IDENTITY.to_vec();
        for preset in Preset::ALL {
            whole.extend(preset.fields());
        }
        whole.extend(layout.names().map(HeaderName::as_str));
        Self::new(&whole, &IDENTITY_BEGINNINGS)
    }

    /// Every field that says on whose behalf, from where or by which address a request came.
    pub fn forwarding() -> Self {
        Self::new(&FORWARDING, &FORWARDING_BEGINNINGS)
    }

    fn new(whole: &[&str], beginnings: &[&str]) -> Self {
        let folded = |name: &&str| folded(name).map(char::from).collect::<String>();
        let mut names = Self {
            whole: whole
                .iter()
                .map(folded)
                .filter(|name| !name.is_empty())
                .collect(),
            beginnings: beginnings.iter().map(folded).collect(),
            starts: vec![0; STARTS],
        };
        names.whole.sort_unstable();
        names.whole.dedup();
        for name in names.whole.iter().chain(&names.beginnings) {
            let (word, bit) = start(name.bytes());
            if let Some(starts) = names.starts.get_mut(word) {
                *starts |= 1 << bit;
            }
        }
        names
    }

    /// The names of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let texts = |one: &[String], other: &[String]| {
            let both = one.iter().chain(other);
            both.cloned().collect::<Vec<String>>()
        };
        let words = self.starts.iter().zip(&other.starts);
        let starts = words.map(|(one, other)| one | other).collect();
        Self {
            whole: texts(&self.whole, &other.whole),
            beginnings: texts(&self.beginnings, &other.beginnings),
            starts,
        }
    }

    /// Cheap for what browsers send: three symbols decide nearly always. Never allocates.
    pub fn matches(&self, name: &str) -> bool {
        let name = folded(name);
        let mut rest = name.clone();
        let is_cgi = rest.by_ref().take(4).eq(*b"http");
        self.holds(&name) || (is_cgi && self.holds(&rest))
    }

    fn holds(&self, name: &(impl Iterator<Item = u8> + Clone)) -> bool {
        let (word, bit) = start(name.clone());
        let starts = self.starts.get(word);
        let is_candidate = starts.is_some_and(|starts| starts & (1 << bit) != 0);
        is_candidate
            && (self
                .whole
                .iter()
                .any(|whole| name.clone().eq(whole.bytes()))
                || self
                    .beginnings
                    .iter()
                    .any(|start| name.clone().take(start.len()).eq(start.bytes())))
    }
}

/// Removes every field whose name is in one of the sets, and says which came first.
pub fn strip(headers: &mut HeaderMap, names: &[&FoldedNames]) -> Option<HeaderName> {
    let is_named = |name: &&HeaderName| names.iter().any(|names| names.matches(name.as_str()));
    let first = headers.keys().find(is_named)?.clone();
    let all: Vec<HeaderName> = headers.keys().filter(is_named).cloned().collect();
    for name in all {
        headers.remove(name);
    }
    Some(first)
}

/// Whether two names are one to the least careful reader.
pub fn fold_eq(one: &str, other: &str) -> bool {
    folded(one).eq(folded(other))
}

fn folded(name: &str) -> impl Iterator<Item = u8> + Clone {
    name.bytes()
        .filter(u8::is_ascii_alphanumeric)
        .map(|byte| byte.to_ascii_lowercase())
}

/// Where the bit for a folded name's first three symbols is.
fn start(mut name: impl Iterator<Item = u8>) -> (usize, usize) {
    let mut symbol = || match name.next() {
        Some(byte @ b'a'..=b'z') => usize::from(byte - b'a'),
        Some(byte @ b'0'..=b'9') => usize::from(byte - b'0') + 26,
        _ => SYMBOLS - 1,
    };
    let number = (symbol() * SYMBOLS + symbol()) * SYMBOLS + symbol();
    (number / 64, number % 64)
}

/// The fields that tell an upstream about one user, ready to be put into any number of requests.
///
/// Values are text in visible ASCII and single spaces inside. Everything else is percent-encoded as UTF-8, and so is
/// `%` itself, so one round of percent-decoding gives the text back. Groups are joined by `,`; one inside a group's
/// name is encoded.
#[derive(Clone, Debug, Default)]
pub struct IdentityHeaders(Vec<(HeaderName, HeaderValue)>);

impl IdentityHeaders {
    /// Every configured field is there once; what is not known is empty.
    pub fn new(layout: &HeaderLayout, identity: &Identity) -> Self {
        let groups: Vec<String> = identity
            .groups
            .iter()
            .filter(|group| !group.is_empty())
            .map(|group| encode(group, GROUP))
            .collect();
        let text = |text: &Option<String>| encode(text.as_deref().unwrap_or_default(), TEXT);
        let fields = [
            (&layout.user, encode(&identity.user, TEXT)),
            (&layout.name, text(&identity.name)),
            (&layout.email, text(&identity.email)),
            (&layout.groups, groups.join(",")),
        ];
        let ready = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.clone()?, ready(value))));
        Self(ready.collect())
    }

    /// Puts the fields in, in the place of any of the same names.
    pub fn insert(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.insert(name, value.clone());
        }
    }
}

const TEXT: &AsciiSet = &CONTROLS.add(b'%');
const GROUP: &AsciiSet = &TEXT.add(b',');

fn encode(text: &str, set: &'static AsciiSet) -> String {
    // Space at an end would be lost on the way.
    let inner = text.trim_matches(' ');
    let start = text.len() - text.trim_start_matches(' ').len();
    let end = text.len() - start - inner.len();
    let mut encoded = "%20".repeat(start);
    encoded.extend(utf8_percent_encode(inner, set));
    encoded.push_str(&"%20".repeat(end));
    encoded
}

fn ready(value: String) -> HeaderValue {
    // Only visible ASCII is left, so the empty value is never needed; it would grant nothing.
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::super::Subject;
    use super::*;

    fn identity() -> FoldedNames {
        let own = HeaderLayout {
            user: Some(HeaderName::from_static("x-my-user")),
            email: Some(HeaderName::from_static("u")),
            ..HeaderLayout::none()
        };
        FoldedNames::identity(&own)
    }

    fn alice() -> Identity {
        Identity {
            subject: Subject {
                provider: "local".into(),
                id: "1".into(),
            },
            user: "alice".into(),
            name: Some("Alice Liddell".into()),
            email: Some("alice@example.com".into()),
            groups: vec!["staff".into(), "wiki admins".into()],
        }
    }

    fn sent(layout: &HeaderLayout, identity: &Identity) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        IdentityHeaders::new(layout, identity).insert(&mut headers);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect()
    }

    #[test]
    fn every_spelling_of_an_identity_field_is_known() {
        for name in [
            "remote-user",
            "Remote-User",
            "Remote_User",
            "REMOTE_USER",
            "HTTP_REMOTE_USER",
            "http-remote-user",
            "-remote-user",
            "remote-user-",
            "remote--user",
            "remote.user",
            "remoteuser",
            "re-mote-us-er",
            "remote-name",
            "remote-email",
            "remote-groups",
            "X_Forwarded_User",
            "x-forwarded_user",
            "x-forwarded-groups",
            "x-auth-request-user",
            "x-auth-request-preferred-username",
            "X-Auth-Request_Email",
            "x-auth-request-access-token",
            "x-my-user",
            "X_My-User",
            "u",
            "_u",
            "x-doorward-jwt-assertion",
            "X_Doorward_Jwt_Assertion",
            "doorward-session",
            "doorward-session-data",
            "doorward_session_set",
            "doorward-session-unset",
            "doorward-login",
            "http_doorward_login",
            "x-webauth-user",
            "x-remote-user",
        ] {
            assert!(identity().matches(name), "{name}");
        }
    }

    #[test]
    fn every_field_that_proxies_believe_is_known() {
        for name in [
            "forwarded",
            "x-forwarded-for",
            "X_Forwarded_For",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-anything",
            "xforwardedfor",
            "x-real-ip",
            "x_real-ip",
            "x-client-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "x-original-url",
            "x-rewrite-url",
            "x-original-host",
            "x-host",
            "x-http-host-override",
            "client-cert",
            "client_cert",
            "client-cert-chain",
            "x-ssl-client-cert",
            "ssl-client-verify",
            "SSL_CLIENT_S_DN",
            "HTTP_X_FORWARDED_FOR",
            "http_forwarded",
        ] {
            assert!(FoldedNames::forwarding().matches(name), "{name}");
        }
    }

    #[test]
    fn what_browsers_and_apps_send_passes() {
        let (identity, forwarding) = (identity(), FoldedNames::forwarding());
        for name in [
            "host",
            "user-agent",
            "accept",
            "accept-encoding",
            "accept-language",
            "authorization",
            "cookie",
            "referer",
            "origin",
            "connection",
            "content-type",
            "content-length",
            "cache-control",
            "range",
            "if-none-match",
            "upgrade-insecure-requests",
            "sec-fetch-mode",
            "sec-ch-ua",
            "sec-websocket-key",
            "x-requested-with",
            "x-csrf-token",
            "x-http-method-override",
            "x-request-id",
            "dnt",
            "te",
            "priority",
            "http2-settings",
            "remote",
            "x",
            "-",
            "",
        ] {
            assert!(!identity.matches(name), "{name}");
            assert!(!forwarding.matches(name), "{name}");
        }
    }

    #[test]
    fn three_symbols_tell_what_browsers_send_apart() {
        let either = identity().union(&FoldedNames::forwarding());
        for name in [
            "host",
            "user-agent",
            "accept",
            "accept-language",
            "cookie",
            "referer",
            "sec-fetch-mode",
            "origin",
            "priority",
            "if-none-match",
        ] {
            let (word, bit) = start(folded(name));
            assert_eq!(either.starts[word] >> bit & 1, 0, "{name}");
        }
    }

    #[test]
    fn a_union_matches_what_either_does_and_nothing_else() {
        let either = identity().union(&FoldedNames::forwarding());
        for name in [
            "Remote_User",
            "x-forwarded-for",
            "X-Real-IP",
            "doorward-login",
        ] {
            assert!(either.matches(name), "{name}");
        }
        assert!(!either.matches("referer"));
    }

    #[test]
    fn stripping_takes_every_value_of_every_spelling_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "a"),
            ("x_remote_user", "eve"),
            ("remote-user", "eve"),
            ("remote-user", "mallory"),
            ("remote_user", "eve"),
            ("x-forwarded-for", "1.2.3.4"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let first = strip(&mut headers, &[&identity(), &FoldedNames::forwarding()]);
        assert_eq!(first.unwrap(), "x_remote_user");
        let left: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(
            left,
            [
                ("host", b"a".as_slice()),
                ("cookie", b"a=1"),
                ("cookie", b"b=2")
            ]
        );
        assert_eq!(strip(&mut headers, &[&identity()]), None);
    }

    #[test]
    fn a_user_is_told_in_every_configured_field() {
        let expected = [
            ("remote-user", "alice"),
            ("remote-name", "Alice Liddell"),
            ("remote-email", "alice@example.com"),
            ("remote-groups", "staff,wiki admins"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            sent(&HeaderLayout::preset(Preset::Remote), &alice()),
            expected
        );
        assert_eq!(sent(&HeaderLayout::none(), &alice()), []);
    }

    #[test]
    fn what_is_not_known_is_empty_not_absent() {
        let nobody = Identity {
            name: None,
            email: None,
            groups: vec![],
            ..alice()
        };
        let values = sent(&HeaderLayout::preset(Preset::XForwarded), &nobody);
        let expected = [
            ("x-forwarded-user", "alice"),
            ("x-forwarded-name", ""),
            ("x-forwarded-email", ""),
            ("x-forwarded-groups", ""),
        ];
        assert_eq!(
            values,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_was_there_before_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.append("remote-user", HeaderValue::from_static("eve"));
        headers.append("remote-user", HeaderValue::from_static("mallory"));
        IdentityHeaders::new(&HeaderLayout::preset(Preset::Remote), &alice()).insert(&mut headers);
        assert_eq!(
            headers.get_all("remote-user").iter().collect::<Vec<_>>(),
            ["alice"]
        );
    }

    #[test]
    fn a_value_stays_one_line_of_visible_text() {
        for (name, expected) in [
            ("Zo\u{eb}", "Zo%C3%AB"),
            ("\u{5f20}\u{4f1f}", "%E5%BC%A0%E4%BC%9F"),
            ("50%", "50%25"),
            ("%0d%0a", "%250d%250a"),
            ("a\r\nRemote-User: root", "a%0D%0ARemote-User: root"),
            (" a b ", "%20a b%20"),
            ("  ", "%20%20"),
            ("a\tb\0\x7f", "a%09b%00%7F"),
            ("a,b", "a,b"),
        ] {
            let identity = Identity {
                name: Some(name.into()),
                ..alice()
            };
            let values = sent(&HeaderLayout::preset(Preset::Remote), &identity);
            assert_eq!(values[1].1, expected, "{name:?}");
        }
    }

    #[test]
    fn a_group_cannot_pass_for_two() {
        let groups = vec![
            "users,admins".into(),
            String::new(),
            " admins".into(),
            "a%2Cb".into(),
        ];
        let values = sent(
            &HeaderLayout::preset(Preset::Remote),
            &Identity { groups, ..alice() },
        );
        assert_eq!(values[3].1, "users%2Cadmins,%20admins,a%252Cb");
    }

    proptest! {
        #[test]
        fn a_name_is_known_in_any_spelling(
            index in 0..4_usize,
            preset in prop::sample::select(&Preset::ALL[..]),
            upper in prop::collection::vec(any::<bool>(), 32),
            fillers in prop::collection::vec("[-_.~!]{0,2}", 32),
        ) {
            let letters = preset.fields()[index].replace('-', "");
            let mut spelt = String::new();
            for ((letter, upper), filler) in letters.chars().zip(upper).zip(fillers) {
                spelt.push_str(&filler);
                spelt.push(if upper { letter.to_ascii_uppercase() } else { letter });
            }
            prop_assert!(identity().matches(&spelt), "{spelt}");
            let cgi = format!("HTTP_{spelt}");
            prop_assert!(identity().matches(&cgi), "{cgi}");
        }

        #[test]
        fn the_quick_look_never_misses_what_folding_finds(name in "(http[-_])?[a-z][-_a-z0-9]{0,3}(remote|real|user|name|ip){0,3}") {
            let names = [identity(), FoldedNames::forwarding()];
            for names in &names {
                let plain: String = folded(&name).map(char::from).collect();
                let spellings: HashSet<&str> = [Some(plain.as_str()), plain.strip_prefix("http")].into_iter().flatten().collect();
                let slow = spellings.iter().any(|plain| {
                    names.whole.iter().any(|whole| whole == plain)
                        || names.beginnings.iter().any(|start| plain.starts_with(start.as_str()))
                });
                prop_assert_eq!(names.matches(&name), slow);
            }
        }

        #[test]
        fn one_decoding_gives_the_text_back(name in "\\PC*|[ -~]*|[\0-\u{7f}]*", groups in prop::collection::vec(".+", 0..4)) {
            let identity = Identity { name: Some(name.clone()), groups: groups.clone(), ..alice() };
            let values = sent(&HeaderLayout::preset(Preset::Remote), &identity);
            let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
            prop_assert!(values[1].1.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            prop_assert_eq!(values[1].1.trim(), values[1].1.as_str());
            prop_assert_eq!(decode(&values[1].1), name);
            let told: Vec<String> = values[3].1.split(',').filter(|group| !group.is_empty()).map(decode).collect();
            prop_assert_eq!(told, groups);
        }
    }
}
