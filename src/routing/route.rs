//! One route: what it matches, who may pass, and how its requests are sent on.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::host::HostPattern;

/// A (host, path prefix, methods) match with an access rule and an upstream.
#[derive(Clone, Debug)]
pub struct Route {
    /// Counts the routes of one table from 0; the table gives it.
    pub number: usize,
    /// Bounded and stable: names the route in logs and metrics, for example `wiki.example.com/api`.
    pub id: String,
    pub host: HostPattern,
    /// A path prefix in normal form: starts with `/`, no trailing `/` unless it is all there is.
    pub path: String,
    /// Empty: every method.
    pub methods: Vec<Method>,
    pub access: Access,
    /// The one way to log in that counts here; `None`: any.
    pub provider: Option<String>,
    /// Of one of which kinds (`acr`) the login there has to have been; empty: of any.
    pub acr_values: Vec<String>,
    /// The external provider whose users the app may log in with an answer; `None`: it may not.
    pub may_log_in: Option<String>,
    /// Who may come with a credential in place of a session; `None`: nobody.
    pub clients: Option<Clients>,
    /// Origins whose scripts may read the answers, as browsers name them; empty: what the app says.
    pub cors_origins: Vec<HeaderValue>,
    pub caching: Caching,
    /// The namespace of what the app keeps in sessions; `None`: it keeps nothing.
    pub session_data: Option<String>,
    /// The app's cookies are kept in the session; `None`: the browser has them.
    pub cookie_jar: Option<CookieJar>,
    /// The largest form, in bytes, that is kept when its session has ended; `None`: none is.
    pub keep_posts: Option<usize>,
    /// Where people log out at the app; `None`: that is nothing to us.
    pub logout: Option<AppLogout>,
    /// How the app is told of the end of a session; `None`: it is not.
    pub on_end: Option<OnEnd>,
    /// For whom the signed statements of who the user is are meant that the app gets; `None`: it gets none.
    pub assertion: Option<String>,
    /// Index into the upstreams of the same configuration; `None`: other proxies send requests on, and ask here.
    pub upstream: Option<usize>,
    /// What the normaliser would refuse elsewhere and this route's app is known to read as written.
    pub allow: BTreeSet<Oddity>,
    /// Narrower than the session's own; never wider.
    pub idle_timeout: Option<Duration>,
    /// A login that is older has to be repeated; `None`: any will do.
    pub max_auth_age: Option<Duration>,
    /// `false`: requests here (polling) do not keep a session alive.
    pub activity: bool,
    /// Taken off the path before it is sent on. Always a prefix of `path`, at a segment boundary.
    pub strip_prefix: Option<String>,
    /// Put before the path, after `strip_prefix` was taken off.
    pub add_prefix: Option<String>,
    /// The Host that the upstream is sent; `None`: the one the client asked for.
    pub send_host: Option<HeaderValue>,
    pub timeouts: Timeouts,
    /// The largest request body in bytes; `None`: no limit.
    pub max_body: Option<u64>,
    pub request_headers: Edits,
    pub response_headers: Edits,
}

impl Route {
    /// Whether its app is not itself without what is kept in sessions.
    pub fn keeps_things(&self) -> bool {
        self.session_data.is_some() || self.cookie_jar.is_some()
    }

    /// Whether what becomes of a request depends on the store's own word on its session, also where anybody may pass.
    pub fn needs_record(&self) -> bool {
        self.keeps_things() || self.may_log_in.is_some() || self.keep_posts.is_some()
    }

    /// Whether some of its requests are looked at again once our own cookies have been taken out of them.
    pub fn looks_back(&self) -> bool {
        self.may_log_in.is_some() || self.logout.is_some() || self.keep_posts.is_some()
    }

    /// Whether some method is served by both.
    pub fn shares_methods(&self, other: &Self) -> bool {
        match (self.methods.is_empty(), other.methods.is_empty()) {
            (true, true) => true,
            (false, false) => self.methods.iter().any(|m| other.methods.contains(m)),
            // The one that names its methods comes first, and the other takes what is left.
            _ => false,
        }
    }
}

/// Who may pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Access {
    /// Anybody; who has no session gets one once the app wants something kept.
    Anonymous,
    /// Anybody. Who happens to have a session is made known to the app all the same.
    Public,
    /// Anybody who is logged in.
    User,
    /// These users, and the members of these groups.
    Only {
        users: BTreeSet<String>,
        groups: BTreeSet<String>,
    },
}

/// Programs, which come with a token.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of the configuration"
)]
pub struct Clients {
    /// Whoever has a session may use the route too.
    pub with_sessions: bool,
    /// With an API token.
    pub tokens: bool,
    /// With an API token as the password of HTTP Basic.
    pub basic: bool,
    /// With a token of these issuers, by id.
    pub issuers: BTreeSet<String>,
    /// All of these must be among those of the token.
    pub scopes: BTreeSet<String>,
    /// The app gets the `Authorization` field too.
    pub pass_authorization: bool,
}

/// Where people log out at an app, which ends their session here too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AppLogout {
    /// As requests have them, with or without a `/` at the end.
    pub paths: Vec<String>,
    pub methods: Vec<Method>,
}

impl AppLogout {
    pub fn is_asked(&self, method: &Method, path: &str) -> bool {
        let bare = path.strip_suffix('/').filter(|bare| !bare.is_empty());
        let path = bare.unwrap_or(path);
        self.methods.contains(method) && self.paths.iter().any(|known| known == path)
    }
}

/// What an app is asked when a session ends that has its cookies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OnEnd {
    pub method: Method,
    /// As the app sees it, with its query.
    pub path: String,
}

/// Where an app's cookies are kept that browsers are to know nothing of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CookieJar {
    /// Routes with jars of one name share them.
    pub name: String,
    /// Cookies that the browser has all the same, since scripts read them.
    pub pass: Vec<String>,
    pub max_cookies: usize,
    pub max_bytes: usize,
}

/// What caches may keep of the answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caching {
    /// What the app says.
    App,
    /// No pages; all else in the user's own browser, where the app says so.
    Assets,
    /// Pages too, in the user's own browser.
    Private,
}

impl Caching {
    pub const ALL: [Self; 3] = [Self::App, Self::Assets, Self::Private];

    /// The word for it in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Assets => "assets",
            Self::Private => "private",
        }
    }

    /// Where the route says nothing: what everybody may see, the app may have kept.
    pub fn default_for(access: &Access) -> Self {
        if *access == Access::Public {
            Self::App
        } else {
            Self::Assets
        }
    }
}

impl Access {
    /// Whether it asks nobody who they are.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Anonymous | Self::Public)
    }
}

/// How long an upstream may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// Until the connection stands, TLS included.
    pub connect: Duration,
    /// From the request's last byte to the response's first.
    pub first_byte: Duration,
    /// Between two parts of a response; event streams and `WebSockets` too.
    pub idle: Duration,
}

/// Header fields to take away, then to set.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderValue)>,
}

/// What different programs read differently in a path (R15).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Oddity {
    /// `\` or `%5C`.
    Backslash,
    /// `%25` before two hex digits: two rounds of decoding see another path.
    DoubleEncoding,
    /// `//`.
    EmptySegment,
    /// `%2F`.
    EncodedSlash,
    /// `;` or `%3B`, which some servers cut off.
    Semicolon,
}

impl Oddity {
    pub const ALL: [Self; 5] = [
        Self::Backslash,
        Self::DoubleEncoding,
        Self::EmptySegment,
        Self::EncodedSlash,
        Self::Semicolon,
    ];

    /// The word for it in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backslash => "backslash",
            Self::DoubleEncoding => "double-encoding",
            Self::EmptySegment => "empty-segment",
            Self::EncodedSlash => "encoded-slash",
            Self::Semicolon => "semicolon",
        }
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
