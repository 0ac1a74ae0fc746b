//! Why connecting failed, told apart by type: only what may pass by itself is retried.

use std::{io, sync::Arc};

use super::{Target, handler::LinkState, host_key::HostKeyError, key_file::KeyFileError};
use crate::{
    error::{Code, Details, Explain},
    ssh::error::target_details,
};

/// A failure to connect.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum ClientError {
    #[error("host name {host:?} cannot be resolved{}", if *.temporary { " for now" } else { "" })]
    Resolve { host: String, temporary: bool },
    #[error("cannot connect to {target}: {source}")]
    Io { target: Target, source: Arc<io::Error> },
    #[error("connecting to {target} took longer than allowed{}", .last.as_ref().map(|e| format!(" (last failure: {e})")).unwrap_or_default())]
    Timeout { target: Target, last: Option<Box<ClientError>> },
    #[error("the connection to {target} was lost while connecting ({cause})")]
    Lost { target: Target, cause: String },
    #[error("{target} does not speak SSH (it sent {greeting:?})")]
    NotSsh { target: Target, greeting: String },
    #[error("no common {kind} with the server; ours: {ours}; theirs: {theirs}")]
    NoCommonAlgorithm { kind: String, ours: String, theirs: String },
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    #[error("{target} refused to log in (tried: {tried}; the server offers: {offered})")]
    AuthFailed { target: Target, tried: String, offered: String },
    #[error("the SSH agent cannot be used: {why}")]
    AgentUnavailable { why: String },
    #[error("the SSH agent holds no key")]
    AgentEmpty,
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("SSH protocol error: {0}")]
    Protocol(String),
    /// As russh reports it; [`ClientError::before_authentication`] turns it into one of the others.
    #[error("{0}")]
    Russh(Arc<russh::Error>),
}

impl From<russh::Error> for ClientError {
    fn from(error: russh::Error) -> Self {
        ClientError::Russh(Arc::new(error))
    }
}

impl ClientError {
    pub(super) fn io(target: &Target, source: io::Error) -> Self {
        ClientError::Io { target: target.clone(), source: Arc::new(source) }
    }

    /// Whether trying again may help by itself. Authentication and host keys never pass.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Resolve { temporary, .. } => *temporary,
            ClientError::Io { source, .. } => is_transient_io(source.kind()),
            ClientError::Timeout { .. } | ClientError::Lost { .. } => true,
            _ => false,
        }
    }

    /// Gives a failure of the handshake its meaning.
    pub(super) fn before_authentication(self, target: &Target, link: &LinkState) -> Self {
        let ClientError::Russh(error) = self else { return self };
        let greeting = link.greeting();
        if !greeting.is_empty() && !greeting.starts_with("SSH-") && !is_ssh_refusal(&greeting) {
            return ClientError::NotSsh { target: target.clone(), greeting };
        }
        let lost = |cause: &str| ClientError::Lost { target: target.clone(), cause: cause.to_owned() };
        match &*error {
            russh::Error::IO(source) if source.kind() == io::ErrorKind::UnexpectedEof => lost("the server closed it"),
            russh::Error::IO(source) => ClientError::io(target, io::Error::new(source.kind(), source.to_string())),
            russh::Error::Disconnect | russh::Error::HUP if is_ssh_refusal(&greeting) => lost(greeting.trim()),
            russh::Error::Disconnect | russh::Error::HUP => {
                lost(&link.cause().unwrap_or("the server closed it".into()))
            }
            russh::Error::Version | russh::Error::PacketSize(_) => {
                ClientError::NotSsh { target: target.clone(), greeting }
            }
            russh::Error::NoCommonAlgo { kind, ours, theirs } => ClientError::NoCommonAlgorithm {
                kind: format!("{kind:?}").to_lowercase(),
                ours: ours.join(","),
                theirs: super::address::shorten_list(theirs),
            },
            other => ClientError::Protocol(other.to_string()),
        }
    }
}

/// What OpenSSH sends instead of a version line when it is too busy (`MaxStartups`,
/// `PerSourcePenalties`).
fn is_ssh_refusal(greeting: &str) -> bool {
    greeting.starts_with("Exceeded MaxStartups") || greeting.starts_with("Not allowed at this time")
}

fn is_transient_io(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as K;
    matches!(
        kind,
        K::ConnectionRefused
            | K::ConnectionReset
            | K::ConnectionAborted
            | K::BrokenPipe
            | K::UnexpectedEof
            | K::TimedOut
            | K::NetworkUnreachable
            | K::HostUnreachable
            | K::NetworkDown
            | K::Interrupted
    )
}

impl Explain for ClientError {
    fn code(&self) -> Code {
        match self {
            ClientError::Resolve { .. } => Code::ResolveFailed,
            ClientError::Io { source, .. } => io_code(source.kind()),
            ClientError::Timeout { .. } => Code::ConnectTimeout,
            ClientError::Lost { .. } => Code::ConnectionLost,
            ClientError::NotSsh { .. } => Code::NotSsh,
            ClientError::NoCommonAlgorithm { .. } => Code::NoCommonAlgorithm,
            ClientError::HostKey(error) => error.code(),
            ClientError::AuthFailed { .. } => Code::AuthFailed,
            ClientError::AgentUnavailable { .. } => Code::AgentUnavailable,
            ClientError::AgentEmpty => Code::AgentEmpty,
            ClientError::Key(error) => error.code(),
            ClientError::Protocol(_) | ClientError::Russh(_) => Code::ConnectionLost,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ClientError::HostKey(error) => return error.hint(),
            ClientError::Key(error) => return error.hint(),
            ClientError::Resolve { .. } => "Check the host name with the user; an IP address works too.".into(),
            ClientError::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                "Nothing listens there: check host and port, and that sshd runs.".into()
            }
            ClientError::Io { .. } => "Check the address and the network between this machine and the host.".into(),
            ClientError::Timeout { .. } => {
                "Check the address and the firewall; a larger timeout_secs helps only if the host is slow.".into()
            }
            ClientError::Lost { .. } => "The server ended the connection; try again in a moment.".into(),
            ClientError::NotSsh { .. } => "Another service listens on this port: check the port number.".into(),
            ClientError::NoCommonAlgorithm { .. } => {
                "The server offers only algorithms that are off here; ask the user to update it.".into()
            }
            ClientError::AuthFailed { .. } => {
                "Do not guess. Check username and key or password with the user; RSA keys are signed with SHA-2 only."
                    .into()
            }
            ClientError::AgentUnavailable { .. } => "Set SSH_AUTH_SOCK in the settings of this server in the \
                client's configuration, or give key_path."
                .into(),
            ClientError::AgentEmpty => "Ask the user to run ssh-add, or give key_path.".into(),
            ClientError::Protocol(_) | ClientError::Russh(_) => return None,
        })
    }

    fn retryable(&self) -> bool {
        self.is_transient()
    }

    fn details(&self) -> Details {
        let details = Details::new();
        match self {
            ClientError::HostKey(error) => error.details(),
            ClientError::NoCommonAlgorithm { ours, theirs, .. } => details.text("ours", ours).text("theirs", theirs),
            ClientError::AuthFailed { target, tried, offered } => {
                target_details(details, target).text("tried", tried).text("offered", offered)
            }
            ClientError::Io { target, .. }
            | ClientError::Timeout { target, .. }
            | ClientError::Lost { target, .. }
            | ClientError::NotSsh { target, .. } => target_details(details, target),
            _ => details,
        }
    }
}

fn io_code(kind: io::ErrorKind) -> Code {
    use io::ErrorKind as K;
    match kind {
        K::ConnectionRefused => Code::ConnectRefused,
        K::TimedOut => Code::ConnectTimeout,
        K::NetworkUnreachable | K::HostUnreachable | K::NetworkDown => Code::Unreachable,
        K::PermissionDenied => Code::PermissionDenied,
        K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof => Code::ConnectionLost,
        _ => Code::Unreachable,
    }
}
