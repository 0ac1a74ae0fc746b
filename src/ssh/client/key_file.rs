//! Private key files: OpenSSH, PKCS#1, PKCS#8 and SEC1.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use russh::keys::PrivateKey;
use secrecy::zeroize::Zeroizing;

use crate::{
    error::{Code, Explain},
    ssh::error::shown_path,
};

/// Largest key file that is read; an RSA key of 16,384 bits takes 13 KiB.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;

/// A key file that cannot be used. Never tells what is in it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("key file {} does not exist", shown_path(path))]
    NotFound { path: PathBuf },
    #[error("key file {} cannot be used: {why}", shown_path(path))]
    NotAllowed { path: PathBuf, why: &'static str },
    #[error("key file {} {why}", shown_path(path))]
    Permissions { path: PathBuf, why: String },
    #[error("key file {} is encrypted", shown_path(path))]
    Encrypted { path: PathBuf },
    #[error("{} is not a private key in a known format", shown_path(path))]
    NotAPrivateKey { path: PathBuf },
}

impl Explain for KeyFileError {
    fn code(&self) -> Code {
        match self {
            KeyFileError::NotFound { .. } => Code::KeyNotFound,
            KeyFileError::NotAllowed { .. } => Code::KeyPathNotAllowed,
            KeyFileError::Permissions { .. } => Code::KeyPermissions,
            KeyFileError::Encrypted { .. } => Code::KeyEncrypted,
            KeyFileError::NotAPrivateKey { .. } => Code::NotAPrivateKey,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            KeyFileError::NotFound { .. } => "key_path is on the machine of this MCP server; check it there.".into(),
            KeyFileError::NotAllowed { .. } => "Give the path of a private key file, such as ~/.ssh/id_ed25519.".into(),
            KeyFileError::Permissions { path, .. } => {
                format!("Ask the user to run: chmod 600 {}", shown_path(path))
            }
            KeyFileError::Encrypted { .. } => {
                "Ask the user to add it to the SSH agent (ssh-add), then leave out key_path.".into()
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

/// Reads a private key. Blocks; a file system may be slow.
pub(super) fn load(path: &Path) -> Result<Arc<PrivateKey>, KeyFileError> {
    let text = read(path)?;
    russh::keys::decode_secret_key(&text, None).map(Arc::new).map_err(|error| {
        let path = path.to_path_buf();
        if matches!(error, russh::keys::Error::KeyIsEncrypted) || says_encrypted(&text) {
            KeyFileError::Encrypted { path }
        } else {
            KeyFileError::NotAPrivateKey { path }
        }
    })
}

/// An encrypted PKCS#8 or PEM file is a parse error to russh: only the header tells.
fn says_encrypted(text: &str) -> bool {
    text.lines().take(3).any(|line| line.contains("ENCRYPTED"))
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => KeyFileError::NotFound { path: path.into() },
        _ => KeyFileError::Permissions { path: path.into(), why: format!("cannot be read: {error}") },
    };
    // Before it is opened: opening a FIFO would block.
    check(path, &std::fs::metadata(path).map_err(failed)?)?;
    let file = File::open(path).map_err(failed)?;
    let mut text = Zeroizing::new(String::new());
    match file.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(KeyFileError::NotAPrivateKey { path: path.into() })
        }
        Err(error) => Err(failed(error)),
    }
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), KeyFileError> {
    let not_allowed = |why| Err(KeyFileError::NotAllowed { path: path.into(), why });
    if !metadata.is_file() {
        return not_allowed("it is not a regular file");
    }
    if metadata.len() > MAX_KEY_FILE_BYTES {
        return not_allowed("it is larger than 64 KiB");
    }
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.into(), why: "can be read by other users".into() });
    }
    Ok(())
}
