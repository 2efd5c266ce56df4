//! What the client and the server complain of, in words that hold no password, no key and no row.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::session::store::StoreError;

/// Why a command has no answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It was not sent, or nobody waited for the answer.
    Store(StoreError),
    Redis(RedisError),
}

impl Fault {
    pub(super) fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Store(_) => None,
            Self::Redis(error) => Some(error.kind()),
        }
    }

    /// Whether another connection may do better: this one is broken, silent, or leads to a server that does not write.
    pub(super) fn condemns(&self) -> bool {
        match self {
            Self::Store(error) => *error == StoreError::Timeout,
            Self::Redis(error) => {
                error.is_unrecoverable_error()
                    || error.is_timeout()
                    || error.is_io_error()
                    || matches!(
                        error.kind(),
                        ErrorKind::Server(
                            ServerErrorKind::ReadOnly
                                | ServerErrorKind::MasterDown
                                | ServerErrorKind::BusyLoading
                        )
                    )
            }
        }
    }

    /// Whether the connection broke. What only reads may be asked again then.
    pub(super) fn is_broken_connection(&self) -> bool {
        match self {
            Self::Store(_) => false,
            Self::Redis(error) => error.is_io_error() && !error.is_timeout(),
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) => error,
            Fault::Redis(error) => told(&error),
        }
    }
}

pub(super) fn told(error: &RedisError) -> StoreError {
    if error.is_timeout() {
        return StoreError::Timeout;
    }
    let text = match error.kind() {
        ErrorKind::AuthenticationFailed => {
            "Redis does not accept the user and password (`store.password`)".to_owned()
        }
        ErrorKind::RESP3NotSupported => "this Redis is too old: 6.2 is the oldest".to_owned(),
        ErrorKind::MasterNameNotFoundBySentinel => {
            "the sentinels do not know the name in `store.sentinel`".to_owned()
        }
        ErrorKind::Io => io(error),
        ErrorKind::Server(ServerErrorKind::NoPerm) => format!(
            "Redis does not allow this user what the store needs: {}",
            cut(error.detail().unwrap_or_default())
        ),
        ErrorKind::Server(kind) => server(kind, error),
        ErrorKind::Extension => return foreign(error),
        _ => error.category().to_owned(),
    };
    StoreError::Unavailable(text)
}

/// What the operating system and TLS say; both speak of addresses and certificates only.
fn io(error: &RedisError) -> String {
    format!("no connection to Redis: {}", cut(&error.to_string()))
}

fn server(kind: ServerErrorKind, error: &RedisError) -> String {
    let said = spoken(error.detail());
    match kind {
        ServerErrorKind::ReadOnly => "this Redis only reads: it is a replica".to_owned(),
        ServerErrorKind::BusyLoading => "Redis is still loading its data".to_owned(),
        ServerErrorKind::MasterDown | ServerErrorKind::ClusterDown => {
            format!("Redis is partly down: {said}")
        }
        _ => format!("Redis: {} {said}", error.code().unwrap_or("ERR")),
    }
}

/// Codes that the client does not know by name.
fn foreign(error: &RedisError) -> StoreError {
    let code = error.code().unwrap_or("ERR");
    StoreError::Unavailable(match code {
        "WRONGTYPE" => {
            return StoreError::Damaged("a key of another type, set by somebody else".to_owned());
        }
        "OOM" => "Redis has no memory left (`maxmemory`)".to_owned(),
        "NOAUTH" | "WRONGPASS" => {
            "Redis does not accept the user and password (`store.password`)".to_owned()
        }
        _ => format!("Redis: {code} {}", spoken(error.detail())),
    })
}

/// A server repeats the arguments of a command that it does not know, a password among them: they are left out.
fn spoken(detail: Option<&str>) -> String {
    let detail = detail.unwrap_or_default();
    let end = ["with args", "Script:", "script:", "`", "'"]
        .iter()
        .filter_map(|mark| detail.find(mark))
        .min();
    let told = detail
        .get(..end.unwrap_or(detail.len()))
        .unwrap_or_default();
    cut(told.trim_end_matches([' ', ',']))
}

/// One line of readable text, never long.
fn cut(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(160).collect()
}
