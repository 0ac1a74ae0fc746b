//! Where the middle of long output goes: private files without a name, bounded per command and in total.
//!
//! A file vanishes with the last handle to it, so with its command, on exit and on a crash. Nothing here waits for a
//! disk except [`SpillStore::write`], which waits in a thread for blocking work and with a bound.

use std::{
    fs::{self, DirBuilder, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ended::Ended, file};

/// Bytes that are written at once.
pub const PIECE_BYTES: usize = 256 << 10;
/// Files that are open at once: each costs a descriptor, which connections need too.
pub const MAX_FILES: usize = 256;
/// How long the disk may take for one piece.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Why a part of the output is not kept.
#[derive(Clone, Debug, Error)]
pub enum NotKept {
    /// Spilling is turned off, or there is no directory for it.
    #[error("spill files are turned off")]
    Off,
    /// The command has written as much as one may.
    #[error("the command has reached the limit of spilled output for one command")]
    CommandLimit,
    /// All commands together have.
    #[error("the spilled output of all commands has reached its limit")]
    TotalLimit,
    /// Too many files are open.
    #[error("there are too many spill files")]
    TooManyFiles,
    /// The command has ended, and its file made room.
    #[error("its place was needed for newer output")]
    MadeRoom,
    /// The directory is open to others.
    #[error("the spill directory is accessible to other users; it needs mode 0700")]
    Directory,
    /// The disk is full, or fails.
    #[error("the spill file failed: {0}")]
    Disk(Arc<io::Error>),
    /// The disk did not take a piece in time.
    #[error("the disk of the spill file is too slow")]
    Slow,
}

impl NotKept {
    /// Whether it would be kept if others kept less.
    pub(super) const fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::TotalLimit | Self::TooManyFiles)
    }
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> Self {
        Self::Disk(Arc::new(error))
    }
}

/// The room for spilled output that all commands of a process share.
#[derive(Debug)]
pub struct SpillStore {
    directory: Option<PathBuf>,
    pieces_per_command: u64,
    /// One permit for each piece of the total.
    pieces: Arc<Semaphore>,
    files: Arc<Semaphore>,
    /// Who makes room.
    pub(super) ended: Ended,
}

impl SpillStore {
    /// Room for so many bytes of each command and of all together. The directory is made when it is needed.
    #[must_use]
    pub fn new(directory: Option<PathBuf>, command_bytes: u64, total_bytes: u64) -> Arc<Self> {
        let total = usize::try_from(pieces(total_bytes)).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            directory,
            pieces_per_command: pieces(command_bytes),
            pieces: Arc::new(Semaphore::new(total)),
            files: Arc::new(Semaphore::new(MAX_FILES)),
            ended: Ended::default(),
        })
    }

    /// No room at all.
    #[must_use]
    pub fn off() -> Arc<Self> {
        Self::new(None, 0, 0)
    }

    /// Whether anything can be spilled.
    pub(super) fn is_on(&self) -> bool {
        self.directory.is_some() && self.pieces_per_command > 0
    }

    /// Room for one more piece of a command that has `used` pieces.
    pub(super) fn reserve(&self, used: u64) -> Result<OwnedSemaphorePermit, NotKept> {
        if used >= self.pieces_per_command {
            return Err(NotKept::CommandLimit);
        }
        self.pieces.clone().try_acquire_owned().map_err(|_| NotKept::TotalLimit)
    }

    /// Writes a piece, into a new file if there is none yet.
    ///
    /// Dropped, it leaves the disk to finish alone: writing the same piece to the same place again does no harm.
    pub(super) async fn write(self: Arc<Self>, piece: Piece) -> Result<Arc<SpillFile>, NotKept> {
        let writing = tokio::task::spawn_blocking(move || {
            let file = piece.file.map_or_else(|| self.create(), Ok)?;
            file::write_all_at(&file.file, &piece.bytes, piece.position)?;
            Ok(file)
        });
        match tokio::time::timeout(WRITE_LIMIT, writing).await {
            Ok(written) => written.unwrap_or_else(|error| Err(io::Error::other(error).into())),
            Err(_) => Err(NotKept::Slow),
        }
    }

    fn create(&self) -> Result<Arc<SpillFile>, NotKept> {
        let place = self.files.clone().try_acquire_owned().map_err(|_| NotKept::TooManyFiles)?;
        let directory = self.directory.as_deref().ok_or(NotKept::Off)?;
        make_private(directory)?;
        Ok(Arc::new(SpillFile { file: tempfile::tempfile_in(directory)?, _place: place }))
    }
}

const fn pieces(bytes: u64) -> u64 {
    bytes / PIECE_BYTES as u64
}

/// A piece on its way to the disk.
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// Where it goes in the file.
    pub(super) position: u64,
    pub(super) file: Option<Arc<SpillFile>>,
}

/// A file without a name that only its owner can read.
#[derive(Debug)]
pub(super) struct SpillFile {
    file: File,
    _place: OwnedSemaphorePermit,
}

impl SpillFile {
    /// One that cannot be read.
    #[cfg(test)]
    pub(super) fn broken(store: &SpillStore) -> Result<Self, NotKept> {
        let place = store.files.clone().try_acquire_owned().map_err(|_| NotKept::TooManyFiles)?;
        Ok(Self { file: tempfile::tempfile()?, _place: place })
    }

    /// Reads exactly `length` bytes, in a thread for blocking work.
    pub(super) async fn read(self: Arc<Self>, position: u64, length: usize) -> Result<Vec<u8>, NotKept> {
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            file::read_exact_at(&self.file, &mut bytes, position)?;
            Ok::<_, io::Error>(bytes)
        });
        Ok(reading.await.map_err(io::Error::other)??)
    }
}

/// Makes the directory, or checks that one that is there is nobody else's business.
fn make_private(directory: &Path) -> Result<(), NotKept> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)?;
    let found = fs::metadata(directory)?;
    if is_private(&found) { Ok(()) } else { Err(NotKept::Directory) }
}

#[cfg(unix)]
fn is_private(directory: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    directory.mode() & 0o077 == 0
}

/// A profile directory of Windows is its user's by inheritance.
#[cfg(not(unix))]
const fn is_private(_: &fs::Metadata) -> bool {
    true
}
