//! Opens what `key_path` names, if it lies below an allowed directory: without links, without blocking.

use std::{
    fs::File,
    path::{Component, Path, PathBuf},
};

/// Why nothing was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not below an allowed directory. Said without a look at the file system: it tells nothing about what exists.
    Outside,
    /// Below one, but only by a link.
    Link,
    /// Below one, and no file.
    NotRegular,
    /// Below one, and not there.
    Missing,
    /// The system refuses.
    Denied,
}

/// `~/` stands for `home`.
pub(super) fn expand(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// Opens a path below one of `roots`.
///
/// A root itself may be or have links: whoever configured it chose it. From there each part is opened by itself and
/// never through a link, so that nothing that is changed meanwhile leads elsewhere.
pub(super) fn open(path: &Path, roots: &[PathBuf]) -> Result<File, Refusal> {
    let below = |root: &PathBuf| Some((root.clone(), plain_parts(path.strip_prefix(root).ok()?)?));
    // The innermost: that it is reached through a link from another one is chosen too.
    let innermost = roots.iter().filter_map(below).min_by_key(|(_, parts)| parts.len());
    let (root, parts) = innermost.ok_or(Refusal::Outside)?;
    walk(&root, &parts)
}

/// The parts of a path that only leads down.
fn plain_parts(path: &Path) -> Option<Vec<&Path>> {
    let part = |component| match component {
        Component::Normal(name) => Some(Path::new(name)),
        _ => None,
    };
    path.components().map(part).collect()
}

#[cfg(unix)]
fn walk(root: &Path, parts: &[&Path]) -> Result<File, Refusal> {
    use rustix::{
        fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat},
        io::Errno,
    };
    let refused = |error: Errno| match error {
        Errno::LOOP => Refusal::Link,
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => Refusal::Missing,
        // A socket, or a device without its driver.
        Errno::NXIO | Errno::NODEV => Refusal::NotRegular,
        _ => Refusal::Denied,
    };
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut at = openat(CWD, root, directory, Mode::empty()).map_err(refused)?;
    let Some((last, above)) = parts.split_last() else {
        return Err(Refusal::NotRegular);
    };
    // To open a device may do something: looked at first. What is then opened is looked at again.
    let kind = |at: &_, part: &Path| {
        let found = statat(at, part, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)?;
        Ok(FileType::from_raw_mode(found.st_mode))
    };
    for part in above {
        match kind(&at, part)? {
            FileType::Symlink => return Err(Refusal::Link),
            FileType::Directory => {}
            _ => return Err(Refusal::Missing),
        }
        at = openat(&at, *part, directory | OFlags::NOFOLLOW, Mode::empty()).map_err(refused)?;
    }
    match kind(&at, last)? {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(Refusal::Link),
        _ => return Err(Refusal::NotRegular),
    }
    Ok(openat(&at, *last, file, Mode::empty()).map_err(refused)?.into())
}

/// Where there is no `openat`: the place is checked after all links.
#[cfg(not(unix))]
fn walk(root: &Path, parts: &[&Path]) -> Result<File, Refusal> {
    let missing = |_| Refusal::Missing;
    let path = parts.iter().fold(root.to_path_buf(), |path, part| path.join(part));
    let (root, path) = (root.canonicalize().map_err(missing)?, path.canonicalize().map_err(missing)?);
    if !path.starts_with(root) {
        return Err(Refusal::Link);
    }
    if !path.is_file() {
        return Err(Refusal::NotRegular);
    }
    File::open(path).map_err(|_| Refusal::Denied)
}
