//! Secrets that the human configured. A caller names one; its text never passes through the model.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Secret,
    live::{LiveSecrets, NoRoom},
};
use crate::error::{Code, Detail, Details, Explain};

pub use super::{
    hosts::HostPattern,
    source::{COMMAND_TIMEOUT, SecretCommand, SecretSource},
};

/// The longest name of a secret.
pub const MAX_NAME_CHARS: usize = 64;
/// Secrets that can be configured.
pub const MAX_SECRETS: usize = 200;
/// Names that an error lists.
const SHOWN_NAMES: usize = 50;

/// One configured secret.
#[derive(Clone)]
pub struct NamedSecret {
    /// Where its text comes from.
    pub source: SecretSource,
    /// Hosts that may be sent it; any where there is no list.
    pub hosts: Option<Vec<HostPattern>>,
    /// What jump hosts among them are given it as, without that a caller names it.
    pub jump: Option<JumpUse>,
}

/// What a jump host is given a secret as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JumpUse {
    /// The password.
    Password,
    /// What makes its one-time codes.
    Totp,
}

/// All configured secrets, and the watch over those in use.
#[derive(Clone, Default)]
pub struct Secrets {
    /// By name.
    pub named: BTreeMap<String, NamedSecret>,
    /// The secrets in use, for the log to mask.
    pub live: Arc<LiveSecrets>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.named.keys()).finish()
    }
}

/// Why a secret cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum SecretError {
    #[error("no secret is configured under this name")]
    NotFound { available: Vec<String> },
    #[error("the secret {name:?} may not be used for {host}:{port}")]
    NotAllowed { name: String, host: String, port: u16 },
    #[error("the secret {name:?} cannot be read: {why}")]
    Unavailable { name: String, why: String },
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

impl Secrets {
    /// Reads a secret that is to be used for this host, and has it masked from now on.
    ///
    /// # Errors
    ///
    /// An unknown name, a host that may not have it (nothing is read then), a source that fails, or more secrets in
    /// use than the log can mask.
    pub async fn get(&self, name: &str, host: &str, port: u16) -> Result<Secret, SecretError> {
        let Some(secret) = self.named.get(name) else {
            // Not repeated: it may be a secret that was given in place of a name.
            let available = self.named.keys().take(SHOWN_NAMES).cloned().collect();
            return Err(SecretError::NotFound { available });
        };
        if let Some(hosts) = &secret.hosts
            && !hosts.iter().any(|pattern| pattern.matches(host, port))
        {
            return Err(SecretError::NotAllowed { name: name.into(), host: host.into(), port });
        }
        let text = secret.source.read().await;
        let text = text.map_err(|why| SecretError::Unavailable { name: name.into(), why })?;
        self.live.watch(&text)?;
        Ok(text)
    }
}

impl Secrets {
    /// Reads the secret that the user meant for this jump host; none where there is none. The first by name counts.
    ///
    /// # Errors
    ///
    /// As [`Secrets::get`].
    pub async fn for_jump(&self, wanted: JumpUse, host: &str, port: u16) -> Result<Option<Secret>, SecretError> {
        let is_for = |secret: &NamedSecret| {
            let hosts = secret.hosts.iter().flatten();
            secret.jump == Some(wanted) && hosts.into_iter().any(|pattern| pattern.matches(host, port))
        };
        match self.named.iter().find(|(_, secret)| is_for(secret)) {
            Some((name, _)) => self.get(name, host, port).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Whether it can be the name of a secret.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(allowed)
}

impl Explain for SecretError {
    fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::SecretNotFound,
            Self::NotAllowed { .. } => Code::SecretNotAllowed,
            Self::Unavailable { .. } => Code::SecretUnavailable,
            Self::NoRoom(_) => Code::Busy,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { available } if available.is_empty() => {
                "No secret is configured. Ask the user to add [secrets.NAME] to the settings file of this server."
                    .into()
            }
            Self::NotFound { .. } => "Use one of the names in available.".into(),
            Self::NotAllowed { .. } => {
                "Its hosts are limited in the settings file of this server. Do not look for a way round; ask the user."
                    .into()
            }
            Self::Unavailable { .. } => "Ask the user to check [secrets] in the settings file of this server.".into(),
            Self::NoRoom(_) => {
                "Nothing was connected. Repeat this call in a moment, or close sessions that are done with \
                 ssh_disconnect."
                    .into()
            }
        })
    }

    fn retryable(&self) -> bool {
        matches!(self, Self::NoRoom(_))
    }

    fn details(&self) -> Details {
        match self {
            Self::NotFound { available } => Details::new().with("available", Detail::Texts(available.clone())),
            Self::NotAllowed { host, port, .. } => Details::new().text("host", host).number("port", *port),
            Self::Unavailable { .. } | Self::NoRoom(_) => Details::new(),
        }
    }
}
