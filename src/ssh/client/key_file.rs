//! Private key files: OpenSSH, PKCS#1, PKCS#8 and SEC1, plain or encrypted.

mod place;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use russh::keys::PrivateKey;

use self::place::Refusal;
use crate::{
    error::{Code, Explain},
    secret::{
        Secret,
        file::{self, Fault},
    },
    ssh::error::shown_path,
};

/// A key file, and what may be needed to read it.
#[derive(Clone)]
pub struct KeyFile {
    /// As the caller gave it; `~/` stands for `home`.
    pub path: String,
    /// For a key that is encrypted.
    pub passphrase: Option<Secret>,
    /// Home directory of the user.
    pub home: Option<PathBuf>,
    /// Directories that it may lie in.
    pub roots: Vec<PathBuf>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A key file that cannot be used. Never tells what is in it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("key file {} does not exist", shown_path(path))]
    NotFound { path: PathBuf },
    #[error("key file {} cannot be used: {why}", shown_path(path))]
    NotAllowed { path: PathBuf, why: &'static str, roots: Vec<PathBuf> },
    #[error("key file {} {why}", shown_path(path))]
    Permissions { path: PathBuf, why: String },
    #[error("key file {} is encrypted", shown_path(path))]
    Encrypted { path: PathBuf },
    #[error(
        "key file {} is encrypted, and not with this passphrase or not in a way that is known here",
        shown_path(path)
    )]
    WrongPassphrase { path: PathBuf },
    #[error("{} is not a private key in a known format", shown_path(path))]
    NotAPrivateKey { path: PathBuf },
}

impl Explain for KeyFileError {
    fn code(&self) -> Code {
        match self {
            KeyFileError::NotFound { .. } => Code::KeyNotFound,
            KeyFileError::NotAllowed { .. } => Code::KeyPathNotAllowed,
            KeyFileError::Permissions { .. } => Code::KeyPermissions,
            KeyFileError::Encrypted { .. } | KeyFileError::WrongPassphrase { .. } => Code::KeyEncrypted,
            KeyFileError::NotAPrivateKey { .. } => Code::NotAPrivateKey,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            KeyFileError::NotFound { .. } => "key_path is on the machine of this MCP server; check it there.".into(),
            KeyFileError::NotAllowed { roots, .. } => format!(
                "Give the whole path of a private key file in {}, or use the SSH agent. Only the user can allow more \
                 places (SSH_KEY_ROOTS).",
                shown_roots(roots)
            ),
            KeyFileError::Permissions { path, .. } => {
                format!("Ask the user to make it theirs alone: chmod 600 {}", shown_path(path))
            }
            KeyFileError::Encrypted { .. } => {
                "Name its passphrase in passphrase_ref, or ask the user to add the key to the SSH agent (ssh-add) and \
                 leave out key_path."
                    .into()
            }
            KeyFileError::WrongPassphrase { .. } => {
                "Do not guess. Ask the user to check that secret, or to add the key to the SSH agent (ssh-add).".into()
            }
            KeyFileError::NotAPrivateKey { .. } => {
                "Give the private key (without .pub) in OpenSSH, PKCS#1, PKCS#8 or SEC1 form.".into()
            }
        })
    }

    fn retryable(&self) -> bool {
        false
    }
}

fn shown_roots(roots: &[PathBuf]) -> String {
    let shown: Vec<_> = roots.iter().take(2).map(|root| shown_path(root).to_string()).collect();
    if shown.is_empty() { "a directory that is allowed".into() } else { shown.join(" or ") }
}

impl KeyFile {
    /// Its path, with the home directory in place of `~/`.
    pub(super) fn whole_path(&self) -> PathBuf {
        place::expand(&self.path, self.home.as_deref())
    }

    /// Reads the key. Blocks; a file system may be slow.
    pub(super) fn load(&self) -> Result<Arc<PrivateKey>, KeyFileError> {
        let path = self.whole_path();
        let opened = place::open(&path, &self.roots).map_err(|refusal| self.refused(&path, refusal))?;
        let text = file::read(opened).map_err(|fault| self.faulty(&path, fault))?;
        self.decode(&text, path).map(Arc::new)
    }

    fn decode(&self, text: &str, path: PathBuf) -> Result<PrivateKey, KeyFileError> {
        let error = match russh::keys::decode_secret_key(text, None) {
            Ok(key) => return Ok(key),
            Err(error) => error,
        };
        if !matches!(error, russh::keys::Error::KeyIsEncrypted) && !says_encrypted(text) {
            return Err(KeyFileError::NotAPrivateKey { path });
        }
        match &self.passphrase {
            None => Err(KeyFileError::Encrypted { path }),
            Some(passphrase) => russh::keys::decode_secret_key(text, Some(passphrase.expose()))
                .map_err(|_| KeyFileError::WrongPassphrase { path }),
        }
    }

    fn refused(&self, path: &Path, refusal: Refusal) -> KeyFileError {
        let path = path.to_path_buf();
        let why = match refusal {
            Refusal::Missing => return KeyFileError::NotFound { path },
            Refusal::Denied => return KeyFileError::Permissions { path, why: "cannot be read".into() },
            Refusal::Outside => "it is not below a directory that is allowed",
            Refusal::Link => "a link leads there, and none is followed",
            Refusal::NotRegular => "it is not a regular file",
        };
        KeyFileError::NotAllowed { path, why, roots: self.roots.clone() }
    }

    fn faulty(&self, path: &Path, fault: Fault) -> KeyFileError {
        let path = path.to_path_buf();
        match fault {
            Fault::Missing => KeyFileError::NotFound { path },
            Fault::Link => self.refused(&path, Refusal::Link),
            Fault::NotRegular => self.refused(&path, Refusal::NotRegular),
            // No key is as large, and no more of it is read.
            Fault::TooLarge(_) | Fault::NotText => KeyFileError::NotAPrivateKey { path },
            // As ssh-keygen leaves it: to make it theirs alone would only be the way to the next refusal.
            Fault::OpenToOthers if path.extension().is_some_and(|extension| extension == "pub") => {
                KeyFileError::NotAPrivateKey { path }
            }
            Fault::Foreign | Fault::OpenToOthers | Fault::Changeable | Fault::Unreadable(_) => {
                KeyFileError::Permissions { path, why: fault.to_string() }
            }
        }
    }
}

/// An encrypted PKCS#8 or PEM file is a parse error to russh: only the header tells.
fn says_encrypted(text: &str) -> bool {
    text.lines().take(3).any(|line| line.contains("ENCRYPTED"))
}
