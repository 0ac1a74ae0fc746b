//! The files: read anew at each use, checked as `ssh` checks them, with what they include.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Local, Places,
    error::SshConfigError,
    glob::{self, Budget},
    line::Line,
    tokens::expand_tilde,
};

/// The largest file, in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// The largest configuration with all that it includes, in bytes; a file counts each time.
pub const MAX_TOTAL_BYTES: usize = 16 * 1024 * 1024;

/// How many files are read; a file counts each time.
pub const MAX_FILES: usize = 1024;

/// How deep files include files, as in OpenSSH (`READCONF_MAX_DEPTH`).
pub const MAX_DEPTH: usize = 16;

/// A file in lines.
pub(super) struct ConfigFile {
    pub(super) path: Arc<Path>,
    /// Whether it is the user's, not the system's.
    pub(super) user_file: bool,
    pub(super) entries: Vec<Entry>,
}

/// A line, and the files that it includes.
pub(super) struct Entry {
    pub(super) line: Line,
    pub(super) included: Vec<ConfigFile>,
}

/// Reads files and counts what was read.
pub(super) struct Reader<'a> {
    places: &'a Places,
    local: &'a Local,
    files: usize,
    bytes: usize,
    budget: Budget,
}

impl<'a> Reader<'a> {
    pub(super) fn new(places: &'a Places, local: &'a Local) -> Self {
        Self { places, local, files: 0, bytes: 0, budget: Budget::new() }
    }

    /// The user's file and the system's, as far as they exist.
    pub(super) fn read_all(&mut self) -> Result<Vec<ConfigFile>, SshConfigError> {
        let mut files = Vec::new();
        if let Some(path) = &self.places.user_file {
            let file = self.read(path, true, !self.places.exact, 0)?;
            if file.is_none() && self.places.exact {
                return Err(unreadable(path, "it does not exist"));
            }
            files.extend(file);
        }
        if let Some(path) = &self.places.system_file {
            files.extend(self.read(path, false, false, 0)?);
        }
        Ok(files)
    }

    /// `None` when it does not exist.
    fn read(
        &mut self,
        path: &Path,
        user: bool,
        check: bool,
        depth: usize,
    ) -> Result<Option<ConfigFile>, SshConfigError> {
        if depth > MAX_DEPTH {
            return Err(too_much("files that include files", MAX_DEPTH, path));
        }
        self.files += 1;
        if self.files > MAX_FILES {
            return Err(too_much("files", MAX_FILES, path));
        }
        let Some(text) = self.text(path, check)? else { return Ok(None) };
        let path: Arc<Path> = path.into();
        let mut entries = Vec::new();
        for (at, line) in text.split('\n').enumerate() {
            let Some(line) = Line::parse(at + 1, line) else { continue };
            let included =
                if line.keyword == "include" { self.include(&line, &path, user, depth)? } else { Vec::new() };
            entries.push(Entry { line, included });
        }
        Ok(Some(ConfigFile { path, user_file: user, entries }))
    }

    /// What an `Include` line names. Values that are wrong are left to the evaluation, which reports them.
    fn include(
        &mut self,
        line: &Line,
        path: &Path,
        user: bool,
        depth: usize,
    ) -> Result<Vec<ConfigFile>, SshConfigError> {
        let mut files = Vec::new();
        for word in line.words.iter().flatten().filter(|word| !word.is_empty() && (user || !word.starts_with('~'))) {
            let Some(pattern) = self.anchored(word, user) else { continue };
            let found = glob::expand(&pattern, &mut self.budget);
            for found in found.ok_or_else(|| too_much("directory entries looked at", Budget::LIMIT, path))? {
                files.extend(self.read(&found, user, true, depth + 1)?);
            }
        }
        Ok(files)
    }

    /// A relative path is one below `~/.ssh` or `/etc/ssh`.
    fn anchored(&self, word: &str, user: bool) -> Option<String> {
        if word.starts_with('/') {
            return Some(word.to_owned());
        }
        if word.starts_with('~') {
            return expand_tilde(word, self.local).ok();
        }
        let folder = if user { &self.places.user_dir } else { &self.places.system_dir };
        Some(format!("{}/{word}", folder.to_str()?))
    }

    fn text(&mut self, path: &Path, check: bool) -> Result<Option<String>, SshConfigError> {
        let failed = |error: io::Error| unreadable(path, &error.to_string());
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        // A directory reads as empty, as with fopen; a pipe could block for ever.
        if meta.is_dir() || path == Path::new("/dev/null") {
            return Ok(Some(String::new()));
        }
        if !meta.is_file() {
            return Err(unreadable(path, "it is no ordinary file"));
        }
        let file = File::open(path).map_err(failed)?;
        if check && !is_safe(&file.metadata().map_err(failed)?, self.local.uid) {
            return Err(SshConfigError::Permissions { path: path.into() });
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(too_much("bytes", MAX_FILE_BYTES, path));
        }
        self.bytes += bytes.len();
        if self.bytes > MAX_TOTAL_BYTES {
            return Err(too_much("bytes in all files", MAX_TOTAL_BYTES, path));
        }
        // A comment in another encoding must not cost the connection.
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// A text as the user's file, whose `Include` lines are not followed.
pub(super) fn from_text(text: &str) -> Result<ConfigFile, SshConfigError> {
    let path = Path::new("-");
    if text.len() > MAX_FILE_BYTES {
        return Err(too_much("bytes", MAX_FILE_BYTES, path));
    }
    let lines = text.split('\n').enumerate().filter_map(|(at, line)| Line::parse(at + 1, line));
    let entries = lines.map(|line| Entry { line, included: Vec::new() }).collect();
    Ok(ConfigFile { path: path.into(), user_file: true, entries })
}

fn unreadable(path: &Path, why: &str) -> SshConfigError {
    SshConfigError::Unreadable { path: path.into(), why: why.into() }
}

fn too_much(what: &'static str, limit: usize, path: &Path) -> SshConfigError {
    SshConfigError::TooMuch { what, limit, path: PathBuf::from(path) }
}

/// The user's or root's, and nobody else may write. A group of the user alone may, as Debian's `ssh` has it: its
/// default umask makes such files.
#[cfg(unix)]
fn is_safe(meta: &Metadata, uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owned = meta.uid() == 0 || meta.uid() == uid;
    let by_group = meta.mode() & 0o020 != 0;
    owned && meta.mode() & 0o002 == 0 && (!by_group || super::accounts::is_private_group(meta.gid(), uid))
}

#[cfg(not(unix))]
fn is_safe(_: &Metadata, _: u32) -> bool {
    true
}
