//! The unix socket that commands on the same machine use. Its mode lets in who runs Doorward, and root; it is there with
//! that mode from its first moment, or not at all.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::secret::random;

/// A socket that listens; its file goes when this does.
#[derive(Debug)]
pub struct LocalSocket {
    pub listener: UnixListener,
    pub file: SocketFile,
}

/// The file of a socket.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: Option<u64>,
}

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Not one that somebody else has put there since.
        if self.inode.is_some() && inode(&self.path) == self.inode {
            let _gone = fs::remove_file(&self.path).is_ok();
        }
    }
}

/// Listens at `path`, in place of a socket that a process left behind. One that answers, and what is no socket, stay.
pub fn bind_local(path: &Path) -> io::Result<LocalSocket> {
    refuse_to_displace(path)?;
    // In a folder that nobody else can enter until the mode is right.
    let draft = path.with_file_name(format!(".{:08x}", u32::from_le_bytes(random())));
    DirBuilder::new().mode(0o700).create(&draft)?;
    let listener = listen(&draft.join("s"), path);
    let cleared = fs::remove_dir_all(&draft);
    let listener = listener?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: inode(path),
    };
    cleared?;
    Ok(LocalSocket { listener, file })
}

fn listen(draft: &Path, path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(draft)?;
    fs::set_permissions(draft, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    fs::rename(draft, path)?;
    Ok(listener)
}

fn refuse_to_displace(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.file_type().is_socket() {
        let kind = io::ErrorKind::AlreadyExists;
        return Err(io::Error::new(kind, "something is there that is no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            let kind = io::ErrorKind::AddrInUse;
            Err(io::Error::new(kind, "another process listens there"))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|file| file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_private_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doorward.sock");
        let socket = bind_local(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_process_left_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doorward.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = bind_local(&path).unwrap();
        let refused = bind_local(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();

        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(socket);
        assert!(bind_local(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_used_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("a".repeat(120));
        fs::create_dir(&long).unwrap();
        assert!(bind_local(&long.join("doorward.sock")).is_err());
        assert_eq!(fs::read_dir(&long).unwrap().count(), 0);
        assert!(bind_local(&folder.path().join("nowhere/doorward.sock")).is_err());
    }
}
