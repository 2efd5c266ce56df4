//! The file: opening it, what its failures are called, opening it again after one. It knows no rows.
//!
//! After an I/O error redb refuses everything until its file is opened anew, and damage may make it panic. Both
//! end here as an error of the operations concerned; the next operation finds a fresh handle.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableError, TableHandle,
};

use super::StoreError;
use super::tables::{Definition, EPOCHS_UNTIL, META, create_tables};

/// Pages kept in memory, in bytes.
const CACHE_SIZE: usize = 64 * 1024 * 1024;

/// What the tables hold and how; others are not read.
const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"format";

/// Why work on the file failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// This operation alone, and before it wrote anything.
    Refused(StoreError),
    /// The file: everything in the same transaction fails with it.
    Disk(redb::Error),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Disk(error.into())
    }
}

impl From<TableError> for Fault {
    fn from(error: TableError) -> Self {
        Self::Disk(error.into())
    }
}

impl From<redb::TransactionError> for Fault {
    fn from(error: redb::TransactionError) -> Self {
        Self::Disk(error.into())
    }
}

impl From<redb::CommitError> for Fault {
    fn from(error: redb::CommitError) -> Self {
        Self::Disk(error.into())
    }
}

impl From<redb::SetDurabilityError> for Fault {
    fn from(error: redb::SetDurabilityError) -> Self {
        Self::Disk(error.into())
    }
}

#[derive(Debug)]
pub(super) struct DataFile {
    path: PathBuf,
    /// `None` after a failure, until it could be opened again.
    handle: RwLock<Option<Database>>,
}

impl DataFile {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            handle: RwLock::new(Some(database)),
        })
    }

    /// Runs `work`. Where the file fails it, or panics, the file is opened again for whoever comes next.
    pub(super) fn run<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.ensure_open()?;
        let outcome = {
            let handle = self.handle.read();
            let Some(database) = &*handle else {
                return Err(StoreError::Unavailable(
                    "it is being opened again".to_owned(),
                ));
            };
            catch_unwind(AssertUnwindSafe(|| work(database)))
        };
        let error = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(Fault::Refused(error))) => return Err(error),
            Ok(Err(Fault::Disk(error))) => describe(&self.path, &error),
            Err(_) => panicked(&self.path),
        };
        tracing::error!(%error, "the session file failed and is opened again");
        self.close();
        if let Err(error) = self.ensure_open() {
            tracing::error!(%error, "the session file stays closed until it can be opened again");
        }
        Err(error)
    }

    fn ensure_open(&self) -> Result<(), StoreError> {
        if self.handle.read().is_some() {
            return Ok(());
        }
        let mut handle = self.handle.write();
        if handle.is_none() {
            *handle = Some(open(&self.path)?);
        }
        Ok(())
    }

    fn close(&self) {
        let database = self.handle.write().take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::error!("the session file could not be closed in order");
        }
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        self.close();
    }
}

/// Trusts the file, as the rows have checks of their own: walking all of it first takes seconds per gigabyte.
fn open(path: &Path) -> Result<Database, StoreError> {
    let failed = |error: io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    let file = private_file(path).map_err(failed)?;
    let opened = catch_unwind(|| {
        let database = Builder::new()
            .set_cache_size(CACHE_SIZE)
            .create_with_backend(FileBackend::new(file)?)?;
        check_format(&database)?;
        Ok(database)
    });
    match opened {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(OpenError::Database(error))) => Err(describe_open(path, error)),
        Ok(Err(OpenError::Fault(Fault::Disk(error)))) => Err(describe(path, &error)),
        Ok(Err(OpenError::Fault(Fault::Refused(error)))) => Err(match error {
            StoreError::Damaged(why) => StoreError::Damaged(format!("{}: {why}", path.display())),
            StoreError::Unavailable(why) => {
                StoreError::Unavailable(format!("{}: {why}", path.display()))
            }
            other => other,
        }),
        Err(_) => Err(panicked(path)),
    }
}

/// Opens or makes the file so that nobody but this user reads it, whatever the umask.
fn private_file(path: &Path) -> io::Result<File> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    // A file whose name is not on the disk yet is lost with the power, however well its content is kept.
    File::open(folder)?.sync_all()?;
    Ok(file)
}

enum OpenError {
    Database(DatabaseError),
    Fault(Fault),
}

impl From<DatabaseError> for OpenError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl<E: Into<Fault>> From<E> for OpenError {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

fn check_format(database: &Database) -> Result<(), Fault> {
    let reading = database.begin_read()?;
    let names: Vec<String> = reading
        .list_tables()?
        .map(|table| table.name().to_owned())
        .collect();
    if names.is_empty() {
        drop(reading);
        let mut writing = database.begin_write()?;
        writing.set_quick_repair(true);
        create_tables(&writing)?;
        writing
            .open_table(META)?
            .insert(FORMAT_KEY, FORMAT.to_be_bytes().as_slice())?;
        writing.commit()?;
        return Ok(());
    }
    let holds = |table: Definition| names.iter().any(|name| name == table.name());
    if !holds(META) {
        return Err(StoreError::Damaged("this is not a session file".to_owned()).into());
    }
    let found = reading.open_table(META)?.get(FORMAT_KEY)?;
    match found.and_then(|value| value.value().try_into().ok()).map(u32::from_be_bytes) {
        Some(FORMAT) if holds(EPOCHS_UNTIL) => Ok(()),
        // From before there were epochs: nothing else is different.
        Some(FORMAT) => {
            let writing = database.begin_write()?;
            create_tables(&writing)?;
            Ok(writing.commit()?)
        }
        Some(newer) if newer > FORMAT => Err(StoreError::Unavailable(format!(
            "the file has format {newer}, this program reads up to {FORMAT}: use the newer program that wrote it"
        ))
        .into()),
        _ => Err(StoreError::Damaged("the format of the file cannot be read".to_owned()).into()),
    }
}

fn describe_open(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Unavailable(format!(
            "{}: another process has the file open; one process at a time may use it",
            path.display()
        )),
        // What redb says of a file that is another program's, or too short to be its own.
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            StoreError::Damaged(format!("{}: this is not a session file", path.display()))
        }
        error => describe(path, &error.into()),
    }
}

fn describe(path: &Path, error: &redb::Error) -> StoreError {
    let text = format!("{}: {error}", path.display());
    match error {
        redb::Error::Corrupted(_) => StoreError::Damaged(text),
        _ => StoreError::Unavailable(text),
    }
}

fn panicked(path: &Path) -> StoreError {
    StoreError::Damaged(format!(
        "{}: the file cannot be read, it is damaged",
        path.display()
    ))
}
