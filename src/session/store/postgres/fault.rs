//! From what the driver says to [`StoreError`]. Neither a password nor the content of a row gets into a message.

use sqlx::error::DatabaseError;

use crate::session::store::StoreError;

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The rows say no; the connection is as good as before.
    Refused(StoreError),
    Driver(sqlx::Error),
}

impl Fault {
    /// Whether the connection is not to be used again.
    pub(super) fn spoils_connection(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Driver(sqlx::Error::Database(error)) => {
                // Of a server that has become a standby, or is about to stop.
                matches!(error.code().as_deref(), Some("25006" | "57P01" | "57P02"))
            }
            Self::Driver(_) => true,
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<&Fault> for StoreError {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Refused(error) => error.clone(),
            Fault::Driver(error) => told(error),
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        Self::from(&fault)
    }
}

/// Whether it says that there is no server to talk to, rather than that it does not like us.
pub(super) fn is_absence(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        // It starts or stops.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

pub(super) fn told(error: &sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::PoolTimedOut => StoreError::Timeout,
        sqlx::Error::Database(error) => told_by_server(error.as_ref()),
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
            StoreError::Damaged("a column cannot be read".to_owned())
        }
        sqlx::Error::Io(error) => StoreError::Unavailable(format!("no connection: {error}")),
        sqlx::Error::Tls(error) => StoreError::Unavailable(format!("no TLS: {error}")),
        error => StoreError::Unavailable(error.to_string()),
    }
}

/// The server's detail and hint are left out: they quote values.
fn told_by_server(error: &dyn DatabaseError) -> StoreError {
    match error.code().as_deref() {
        // A statement, or the wait for a lock, took too long.
        Some("57014" | "55P03") => StoreError::Timeout,
        Some("53300") => StoreError::Busy,
        _ => StoreError::Unavailable(error.message().to_owned()),
    }
}
