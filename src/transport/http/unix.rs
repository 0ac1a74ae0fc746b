//! The Unix socket: made so that nobody else can ever connect, and removed at the end.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

use super::{super::Error, caller::own_uid};

/// A listening socket. Dropped, its file is removed.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file that is ours.
    file: (u64, u64),
}

impl Socket {
    /// Makes the socket with mode 0600. It appears at `path` when it is complete: it is bound in a directory that nobody
    /// else can enter, and renamed.
    pub(super) async fn bind(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Socket { path: path.to_owned(), source };
        make_way(path).await.map_err(failed)?;
        Self::make(path).map_err(failed)
    }

    fn make(path: &Path) -> io::Result<Self> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // A path of a socket has 108 bytes at most: the name is short.
        let room = tempfile::Builder::new().prefix(".m").rand_bytes(6).tempdir_in(parent).map_err(|error| {
            // Its own words name a directory that nobody asked for.
            let kind = error.kind();
            io::Error::new(kind, format!("nothing can be made in {} ({kind})", parent.display()))
        })?;
        let made = room.path().join("s");
        let listener = UnixListener::bind(&made)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
        let metadata = fs::symlink_metadata(&made)?;
        fs::rename(&made, path)?;
        Ok(Self { listener, path: path.to_owned(), file: (metadata.dev(), metadata.ino()) })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

/// Only a socket of this user on which nobody listens may be replaced.
async fn make_way(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"));
    }
    if metadata.uid() != own_uid() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a socket of another user is there"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another server may have taken the path meanwhile.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}
