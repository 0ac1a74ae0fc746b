//! Files that hold a secret, or settings that decide about them: regular, ours, closed to others, small. Judged by what
//! was opened, never by the path.

use std::{
    fs::{File, FileType, Metadata},
    io::{self, Read},
    path::Path,
};

use secrecy::zeroize::Zeroizing;

/// Why such a file is not used. Tells nothing of its content.
#[cfg_attr(not(unix), expect(dead_code, reason = "there is no mode to find fault with"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("does not exist")]
    Missing,
    #[error("is a symbolic link")]
    Link,
    #[error("is not a regular file")]
    NotRegular,
    #[error("is larger than {0} bytes")]
    TooLarge(usize),
    #[error("belongs to another user")]
    Foreign,
    #[error("can be read by other users")]
    OpenToOthers,
    #[error("can be changed by other users")]
    Changeable,
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

/// What a file is opened for, which says what others may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It holds a secret: they have no access at all.
    Secret,
    /// It decides what is done here: they may read it.
    Trusted,
    /// Whoever made it, and whoever can change it.
    Any,
}

/// Opens a file whose last part is not a link. What lies above was chosen by whoever configured the path.
pub(crate) fn open(path: &Path) -> Result<File, Fault> {
    let kind = path.symlink_metadata()?.file_type();
    if kind.is_symlink() {
        return Err(Fault::Link);
    }
    open_kind(path, kind, false)
}

/// Opens a file, also through a link: an administrator's tools keep certificates and settings behind links.
pub(crate) fn open_through_links(path: &Path) -> Result<File, Fault> {
    open_kind(path, path.metadata()?.file_type(), true)
}

/// To open a device may do something: what it is was looked at before, and [`check`] looks again at what was opened.
#[cfg_attr(not(unix), expect(unused_variables, reason = "there are no such flags"))]
fn open_kind(path: &Path, kind: FileType, through_links: bool) -> Result<File, Fault> {
    if !kind.is_file() {
        return Err(Fault::NotRegular);
    }
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // Should it have been replaced meanwhile: a link fails, a FIFO does not block.
        let links = if through_links { OFlags::empty() } else { OFlags::NOFOLLOW };
        options.custom_flags((links | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    }
    Ok(options.open(path)?)
}

/// Reads an open file, if it is one that may hold a secret.
pub(crate) fn read(file: File) -> Result<Zeroizing<String>, Fault> {
    check(&file.metadata()?, Access::Secret)?;
    read_text(&file, super::MAX_SECRET_BYTES)
}

/// Reads an open file of at most `limit` bytes.
pub(crate) fn read_text(file: &File, limit: usize) -> Result<Zeroizing<String>, Fault> {
    if file.metadata()?.len() > limit as u64 {
        return Err(Fault::TooLarge(limit));
    }
    // One allocation: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(Fault::TooLarge(limit));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Fault::NotText)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Whether what was opened may be read for this. Outside of Unix access lists decide, and they are not read here.
#[cfg_attr(not(unix), expect(unused_variables, reason = "it says what a mode must be"))]
pub(crate) fn check(metadata: &Metadata, access: Access) -> Result<(), Fault> {
    if !metadata.is_file() {
        return Err(Fault::NotRegular);
    }
    #[cfg(unix)]
    if access != Access::Any {
        use std::os::unix::fs::MetadataExt;
        let owner = metadata.uid();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(Fault::Foreign);
        }
        if access == Access::Secret && metadata.mode() & 0o077 != 0 {
            return Err(Fault::OpenToOthers);
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(Fault::Changeable);
        }
    }
    Ok(())
}
