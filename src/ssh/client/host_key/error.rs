//! Why a host key is not trusted.

use std::path::{Path, PathBuf};

use crate::{
    error::{Code, Details, Explain},
    ssh::error::shown_path,
};

/// A host key that is not trusted.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum HostKeyError {
    #[error("host key of {} changed: offered {} {}, known {known} ({} line {})", .found.host, .found.algorithm, .found.offered, shown_path(&.found.file), .found.line)]
    Changed { found: Box<Evidence>, known: String },
    #[error("host key of {} is revoked: {} ({} line {})", .0.host, .0.offered, shown_path(&.0.file), .0.line)]
    Revoked(Box<Evidence>),
    #[error("certificate of {} is not valid: {why} (authority: {} line {})", .found.host, shown_path(&.found.file), .found.line)]
    Certificate { found: Box<Evidence>, why: &'static str },
    #[error("host key of {} is unknown: {} {}", .0.host, .0.algorithm, .0.offered)]
    Unknown(Box<UnknownKey>),
    #[error("host key of {host} is not the one that was approved: offered {offered}, approved {approved}")]
    NotApproved { host: String, offered: String, approved: String },
    #[error("host key of {host} is unknown and cannot be recorded: {why}")]
    CannotRecord { host: String, offered: String, why: String },
    #[error("{file} cannot be read, so no host key can be checked: {why}", file = shown_path(file))]
    Unreadable { file: PathBuf, why: String },
}

/// A key that no file speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// The host, as known_hosts names it.
    pub host: String,
    /// Type of the offered key.
    pub algorithm: String,
    /// SHA-256 fingerprint of the offered key.
    pub offered: String,
    /// Why it was not recorded.
    pub why: Unrecorded,
}

/// Why an unknown key was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrecorded {
    /// The policy is `strict`.
    Strict,
    /// The policy is `ask`, and nobody was asked yet, or nobody can be.
    Unasked,
    /// A certificate authority is known for the host, and the key has no certificate of it.
    NotCertified,
}

impl Unrecorded {
    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Unrecorded::Strict => "strict",
            Unrecorded::Unasked => "cannot_ask",
            Unrecorded::NotCertified => "not_certified",
        }
    }
}

/// The line that speaks against a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The host, as known_hosts names it.
    pub host: String,
    /// Type of the offered key.
    pub algorithm: String,
    /// SHA-256 fingerprint of the offered key.
    pub offered: String,
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
}

impl Evidence {
    fn details(&self) -> Details {
        Details::new()
            .text("algorithm", &self.algorithm)
            .text("offered_fingerprint", &self.offered)
            .text("file", shown_path(&self.file))
            .number("line", self.line as u64)
    }

    /// What a person runs, once the new key is found to be right: it takes the host's lines out.
    #[must_use]
    pub fn mend(&self) -> String {
        format!("ssh-keygen -R {} -f {}", quoted(&self.host), quoted(&path_text(&self.file)))
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// One word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl HostKeyError {
    /// Whether a file could not be read or written: nothing is said about the key.
    #[must_use]
    pub const fn is_of_a_file(&self) -> bool {
        matches!(self, HostKeyError::Unreadable { .. } | HostKeyError::CannotRecord { .. })
    }
}

impl Explain for HostKeyError {
    fn code(&self) -> Code {
        match self {
            HostKeyError::Changed { .. } | HostKeyError::NotApproved { .. } => Code::HostKeyChanged,
            HostKeyError::Revoked(_) => Code::HostKeyRevoked,
            HostKeyError::Certificate { .. }
            | HostKeyError::Unknown(_)
            | HostKeyError::CannotRecord { .. }
            | HostKeyError::Unreadable { .. } => Code::HostKeyUnknown,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            HostKeyError::Changed { .. } => "Stop and tell the user: this may be an attack. If the server was \
                reinstalled, the user can check the new fingerprint on the server itself and then run the command in \
                `mend`. No tool can do that."
                .into(),
            HostKeyError::NotApproved { .. } => {
                "Stop and tell the user: the server showed one key, then another. This may be an attack.".into()
            }
            HostKeyError::Revoked(_) => "Stop and tell the user: this key must not be trusted.".into(),
            HostKeyError::Certificate { .. } => {
                "Tell the user: the server needs a new certificate of its authority.".into()
            }
            HostKeyError::Unknown(unknown) => unknown.hint(),
            HostKeyError::CannotRecord { .. } => {
                "Ask the user to make the known_hosts file of this server writable, or to add the host there.".into()
            }
            HostKeyError::Unreadable { .. } => "Ask the user to repair that file.".into(),
        })
    }

    fn retryable(&self) -> bool {
        false
    }

    fn details(&self) -> Details {
        match self {
            HostKeyError::Changed { found, known } => {
                found.details().text("known_fingerprint", known).text("mend", found.mend())
            }
            HostKeyError::Revoked(found) => found.details(),
            HostKeyError::Certificate { found, why } => found.details().text("why", why),
            HostKeyError::Unknown(unknown) => Details::new()
                .text("algorithm", &unknown.algorithm)
                .text("offered_fingerprint", &unknown.offered)
                .text("why", unknown.why.as_str()),
            HostKeyError::NotApproved { offered, approved, .. } => {
                Details::new().text("offered_fingerprint", offered).text("approved_fingerprint", approved)
            }
            HostKeyError::CannotRecord { offered, .. } => Details::new().text("offered_fingerprint", offered),
            HostKeyError::Unreadable { file, .. } => Details::new().text("file", shown_path(file)),
        }
    }
}

impl UnknownKey {
    fn hint(&self) -> String {
        let why = match self.why {
            Unrecorded::Strict => "only known hosts are allowed here",
            Unrecorded::Unasked => "a person has to approve it, and this client cannot ask one",
            Unrecorded::NotCertified => "its authority is known and did not certify this key",
        };
        format!(
            "Tell the user: {why}. The user can check the fingerprint on the server and add the key to \
             ~/.ssh/known_hosts."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_that_mends_survives_a_shell() {
        let found = Evidence {
            host: "[h]:2222".into(),
            algorithm: String::new(),
            offered: String::new(),
            file: "/home/o'neil/a b/$(id)".into(),
            line: 1,
        };
        assert_eq!(found.mend(), r"ssh-keygen -R '[h]:2222' -f '/home/o'\''neil/a b/$(id)'");
    }
}
