//! The tables, made and brought up to date by whichever node comes first. It knows no row.

use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, SqlSafeStr, query_scalar};

use super::fault::{Fault, told};
use crate::session::store::StoreError;

/// Other nodes may be at it: this one waits its turn.
const LONGEST: Duration = Duration::from_mins(1);

/// Each is applied once, in a transaction of its own, and is never changed again.
const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "sessions", include_str!("migrations/0001_sessions.sql")),
    (2, "claims", include_str!("migrations/0002_claims.sql")),
];

/// Takes the connection: it closes with it, and so gives the lock back whatever happens.
pub(super) async fn prepare(db: PgConnection) -> Result<(), Fault> {
    let prepared = tokio::time::timeout(LONGEST, apply(db)).await;
    prepared.unwrap_or(Err(Fault::Refused(StoreError::Timeout)))
}

async fn apply(mut db: PgConnection) -> Result<(), Fault> {
    db.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        .await?;
    // An advisory lock of this database, the one that sqlx's own tools take.
    db.lock().await.map_err(refused)?;
    let there: bool = query_scalar("SELECT to_regnamespace('doorward') IS NOT NULL")
        .fetch_one(&mut db)
        .await?;
    if !there {
        // Not IF NOT EXISTS, which asks for a privilege even where there is nothing to do.
        let made = db.execute("CREATE SCHEMA doorward").await;
        made.map_err(|error| refused(MigrateError::Execute(error)))?;
    }
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.into());
    migrator.dangerous_set_table_name("doorward.migrations");
    migrator.set_locking(false);
    let migrated = migrator.run_direct(None, &mut db, false).await;
    migrated.map_err(refused)?;
    db.close().await?;
    Ok(())
}

fn refused(error: MigrateError) -> Fault {
    let reason = match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            return match error {
                sqlx::Error::Database(_) => {
                    let error = told(&error);
                    let reason = format!("its tables cannot be made: {error}");
                    StoreError::Unavailable(reason).into()
                }
                error => error.into(),
            };
        }
        MigrateError::VersionMissing(_) => "its tables are those of a newer doorward".to_owned(),
        MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) => {
            format!("its tables are not as doorward made them (migration {version})")
        }
        error => error.to_string(),
    };
    StoreError::Unavailable(reason).into()
}
