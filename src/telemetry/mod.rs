//! What is seen from outside: diagnostics, the access log, the audit log, metrics. None of them ever holds a token,
//! a password, a code or a key.

mod access_log;
mod audit;
mod diagnostics;
mod flood;
mod labels;
mod metrics;
mod output;
mod repeats;
mod requests;
mod writer;

pub use access_log::{AccessFormat, AccessLine, AccessLog};
pub use audit::{Audit, AuditEvent};
pub use diagnostics::{Diagnostics, DiagnosticsError, init};
pub use labels::{
    AppLogout, CacheLookup, DataChange, LoginOutcome, SessionEvent, StoreOp, StoreSide,
    UpstreamFailure,
};
pub use metrics::{Metrics, OpenConnection};
pub use repeats::tell_left_out;
pub use requests::RouteMetrics;
pub use writer::{LineWriter, Sink};

/// `[log]`: where each kind of line goes.
#[derive(Clone, Debug)]
pub struct Settings {
    pub access: Sink,
    pub access_format: AccessFormat,
    pub audit: Sink,
    /// A filter as `RUST_LOG` knows it: `info`, `doorward=debug`.
    pub level: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            access: Sink::Off,
            access_format: AccessFormat::Text,
            audit: Sink::Stderr,
            level: "info".to_owned(),
        }
    }
}
