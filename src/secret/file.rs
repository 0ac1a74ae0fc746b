//! Files that hold a secret: regular, ours, closed to others, small. Judged by what was opened, never by the path.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    path::Path,
};

use secrecy::zeroize::Zeroizing;

/// Why such a file is not used. Tells nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("does not exist")]
    Missing,
    #[error("is a symbolic link")]
    Link,
    #[error("is not a regular file")]
    NotRegular,
    #[error("is larger than 64 KiB")]
    TooLarge,
    #[error("belongs to another user")]
    Foreign,
    #[error("can be read by other users")]
    OpenToOthers,
    #[error("is not text")]
    NotText,
    #[error("cannot be read ({0})")]
    Unreadable(io::ErrorKind),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::Missing,
            kind => Fault::Unreadable(kind),
        }
    }
}

/// Opens a file whose last part is not a link. What lies above was chosen by whoever configured the path.
pub(crate) fn open(path: &Path) -> Result<File, Fault> {
    let kind = path.symlink_metadata()?.file_type();
    if kind.is_symlink() {
        return Err(Fault::Link);
    }
    if !kind.is_file() {
        return Err(Fault::NotRegular);
    }
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Should it have been replaced meanwhile: a link fails, a FIFO does not block.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    Ok(options.open(path)?)
}

/// Reads an open file, if it is one that may hold a secret.
pub(crate) fn read(file: File) -> Result<Zeroizing<String>, Fault> {
    let metadata = file.metadata()?;
    check(&metadata)?;
    let limit = super::MAX_SECRET_BYTES;
    // One allocation: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(Fault::TooLarge);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Fault::NotText)?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn check(metadata: &Metadata) -> Result<(), Fault> {
    if !metadata.is_file() {
        return Err(Fault::NotRegular);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let owner = metadata.uid();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(Fault::Foreign);
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(Fault::OpenToOthers);
        }
    }
    if metadata.len() > super::MAX_SECRET_BYTES as u64 {
        return Err(Fault::TooLarge);
    }
    Ok(())
}
