//! Key files and certificates: read once, before anything is dialled.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use russh::keys::{Certificate, HashAlg, PrivateKey, PublicKey};

use super::{Answered, Asked, Given, Identity};
use crate::ssh::{
    client::{
        ClientError,
        key_file::{KeyFile, KeyFileError},
    },
    error::shown_path,
};

/// Key files that are read. ssh takes as many `IdentityFile`.
const MAX_FILES: usize = 100;
/// The largest public key or certificate that is read, in bytes.
const MAX_PUBLIC_BYTES: u64 = 64 << 10;

/// One key of a file.
pub(super) struct FileKey {
    pub(super) public: PublicKey,
    pub(super) private: Private,
}

/// The half that signs.
#[derive(Clone)]
pub(super) enum Private {
    /// It is here.
    Here(Arc<PrivateKey>),
    /// It is in this file, encrypted.
    Locked(PathBuf),
    /// It is elsewhere: with the agent, if anywhere.
    Elsewhere,
}

/// What the files gave.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) keys: Vec<FileKey>,
    pub(super) certificates: Vec<Certificate>,
    /// What could not be used, and is not fatal.
    pub(super) notes: Vec<String>,
}

/// Reads all. Blocks; a file system may be slow.
pub(super) fn load(
    identities: &[Identity],
    certificates: &[PathBuf],
    answers: &[Answered],
) -> Result<Loaded, ClientError> {
    let mut loaded = Loaded::default();
    for identity in identities.iter().take(MAX_FILES) {
        let before = loaded.keys.len();
        loaded.identity(identity, answers)?;
        if certificates.is_empty() && loaded.keys.len() > before {
            loaded.certificate(&beside(&identity.file.whole_path(), "-cert.pub"), false);
        }
    }
    for path in certificates.iter().take(MAX_FILES) {
        loaded.certificate(path, true);
    }
    Ok(loaded)
}

impl Loaded {
    fn identity(&mut self, identity: &Identity, answers: &[Answered]) -> Result<(), ClientError> {
        let path = identity.file.whole_path();
        let mut file =
            if identity.given == Given::ByConfig { chosen_by_the_user(&path) } else { identity.file.clone() };
        let asked = Asked::Passphrase(path.clone());
        let typed = answers.iter().find(|answered| answered.asked == asked).map(|answered| answered.answer.clone());
        file.passphrase = typed.or_else(|| identity.file.passphrase.clone());
        let error = match file.load() {
            Ok(key) => {
                self.keys.push(FileKey { public: key.public_key().clone(), private: Private::Here(key) });
                return Ok(());
            }
            Err(error) => error,
        };
        // A key that the caller named, or that a person gave a passphrase for, is meant.
        if identity.given == Given::ByCall || matches!(error, KeyFileError::WrongPassphrase { .. }) {
            return Err(ClientError::Key(at_path(error, path)));
        }
        let public = match (&error, identity.given) {
            (KeyFileError::Encrypted { .. }, _) => public_half(&path).map(|public| (public, Private::Locked(path))),
            (KeyFileError::NotFound { .. }, Given::ByDefault) => None,
            (_, Given::ByConfig) => public_half(&path).map(|public| (public, Private::Elsewhere)),
            _ => None,
        };
        match public {
            Some((public, private)) => self.keys.push(FileKey { public, private }),
            None if matches!(error, KeyFileError::NotFound { .. }) && identity.given == Given::ByDefault => {}
            None => self.notes.push(error.to_string()),
        }
        Ok(())
    }

    fn certificate(&mut self, path: &Path, named: bool) {
        let read = read_public(path).and_then(|text| Certificate::from_openssh(text.trim()).ok());
        match read {
            Some(certificate) => self.certificates.push(certificate),
            None if named => self.notes.push(format!("{} is no certificate that can be read", shown_path(path))),
            None => {}
        }
    }
}

/// A file that the user's configuration names may be anywhere, and behind a link.
fn chosen_by_the_user(path: &Path) -> KeyFile {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let roots = real.parent().map(Path::to_path_buf).into_iter().collect();
    KeyFile { path: real.to_string_lossy().into_owned(), passphrase: None, home: None, roots }
}

/// The error of what a link led to, for the path that was given.
fn at_path(error: KeyFileError, path: PathBuf) -> KeyFileError {
    match error {
        KeyFileError::WrongPassphrase { .. } => KeyFileError::WrongPassphrase { path },
        KeyFileError::Encrypted { .. } => KeyFileError::Encrypted { path },
        other => other,
    }
}

/// The public half of a key whose private half cannot be read: the file itself may be it, or have it in the open; else
/// the one beside it.
fn public_half(path: &Path) -> Option<PublicKey> {
    let own = read_public(path).and_then(|text| {
        let in_the_open = PrivateKey::from_openssh(text.as_bytes()).ok().map(|key| key.public_key().clone());
        in_the_open.or_else(|| PublicKey::from_openssh(text.trim()).ok())
    });
    own.or_else(|| PublicKey::from_openssh(read_public(&beside(path, ".pub"))?.trim()).ok())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn read_public(path: &Path) -> Option<String> {
    // Looked at first: to open a pipe would block.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_PUBLIC_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// As it is listed among what was tried.
pub(super) fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}
