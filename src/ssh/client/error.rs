//! Why connecting failed, told apart by type: only what may pass by itself is retried.

use std::{io, sync::Arc, time::Duration};

use super::{
    ConnectSpec, Target,
    address::shorten,
    algorithms::{Kind, Shortfall},
    handler::LinkState,
    host_key::HostKeyError,
    key_file::KeyFileError,
    login::{AuthFailure, NeedsAnswers, Why},
    route::RouteError,
};
use russh::AlgorithmKind;

use crate::{
    error::{Code, Details, Explain},
    ssh::error::target_details,
};

/// A failure to connect.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum ClientError {
    #[error("host name {:?} cannot be resolved{}", .target.host, if *.temporary { " for now" } else { "" })]
    Resolve { target: Target, temporary: bool },
    #[error("cannot connect to {target}: {source}")]
    Io { target: Target, source: Arc<io::Error> },
    #[error("connecting to {target} took longer than {} s{}", .after.as_secs_f64().round(), .last.as_ref().map(|e| format!(" (last failure: {e})")).unwrap_or_default())]
    Timeout { target: Target, after: Duration, last: Option<Box<ClientError>> },
    #[error("the connection to {target} was lost while connecting ({cause})")]
    Lost { target: Target, cause: String },
    #[error("the connection to {target} was lost while logging in (tried: {tried}; {cause})")]
    LostInLogin { target: Target, tried: String, cause: String },
    #[error("{target} does not speak SSH (it sent {greeting:?})")]
    NotSsh { target: Target, greeting: String },
    #[error("no common {} with {}, which offers {}", .0.kind.noun(), .0.target, shorten(&.0.theirs))]
    NoCommonAlgorithm(Box<Shortfall>),
    #[error("no {} is left of {} {list}", .kind.noun(), .kind.keyword())]
    NoAlgorithmLeft { kind: Kind, list: String },
    #[error("{source}")]
    HostKey { target: Target, source: Box<HostKeyError> },
    #[error("{0}")]
    AuthFailed(Box<AuthFailure>),
    #[error("{0}")]
    NeedsAnswers(Box<NeedsAnswers>),
    #[error("what totp_ref names is no secret of one-time codes")]
    NotATotpSecret,
    #[error("the SSH agent cannot be used: {why}")]
    AgentUnavailable { why: String },
    #[error("the SSH agent holds no key")]
    AgentEmpty,
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("cannot connect to {target}: {source}")]
    Route { target: Target, source: Box<RouteError> },
    #[error("at hop {hop} of the way: {source}")]
    AtHop { hop: usize, source: Box<ClientError> },
    #[error("SSH protocol error: {0}")]
    Protocol(String),
    /// As russh reports it; the end of the handshake turns it into one of the others.
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

    /// Whether trying again may help by itself. Authentication and host keys never pass, and a server
    /// that hangs up on a login may well have counted it.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Resolve { temporary, .. } => *temporary,
            ClientError::Io { source, .. } => is_transient_io(source),
            ClientError::Timeout { .. } | ClientError::Lost { .. } => true,
            ClientError::Route { source, .. } => source.is_transient(),
            ClientError::AtHop { source, .. } => source.is_transient(),
            _ => false,
        }
    }

    /// Whether connecting again is hopeless until a person does something: nothing that this machine or the network
    /// does by itself can mend it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            ClientError::AtHop { source, .. } => source.is_final(),
            // A file that cannot be read for a moment: no descriptor is left, or its file system is away.
            ClientError::HostKey { source, .. } => !source.is_of_a_file(),
            ClientError::AuthFailed(_)
            | ClientError::NeedsAnswers(_)
            | ClientError::NotATotpSecret
            | ClientError::LostInLogin { .. }
            | ClientError::NoCommonAlgorithm(_)
            | ClientError::NoAlgorithmLeft { .. }
            | ClientError::NotSsh { .. }
            | ClientError::AgentEmpty
            | ClientError::Key(_) => true,
            _ => false,
        }
    }

    /// The failure of a jump host on the way, counted from here. One that is nearer stays what it is.
    pub(super) fn at_hop(self, hop: usize) -> Self {
        match self {
            ClientError::AtHop { .. } => self,
            source => ClientError::AtHop { hop, source: Box::new(source) },
        }
    }

    /// Notes how many jump hosts there are, for who asks a person: "hop 1 of 2".
    pub(super) fn on_the_way(mut self, of: usize) -> Self {
        if let ClientError::AtHop { source, .. } = &mut self
            && let ClientError::NeedsAnswers(needed) = &mut **source
        {
            needed.hops = of;
        }
        self
    }

    /// What a server asks that only a person can answer, and at which hop where it is a jump host.
    #[must_use]
    pub fn needed_answers(&self) -> Option<(&NeedsAnswers, Option<usize>)> {
        match self {
            ClientError::NeedsAnswers(needed) => Some((needed, None)),
            ClientError::AtHop { hop, source } => source.needed_answers().map(|(needed, _)| (needed, Some(*hop))),
            _ => None,
        }
    }

    /// The jump host that failed, counted from 1; none where it is the server itself.
    #[must_use]
    pub fn hop(&self) -> Option<usize> {
        match self {
            ClientError::AtHop { hop, .. } => Some(*hop),
            ClientError::Timeout { last: Some(last), .. } => last.hop(),
            _ => None,
        }
    }

    /// Whether the stream ended, or was never one of SSH.
    pub(super) const fn is_loss(&self) -> bool {
        matches!(self, ClientError::Lost { .. } | ClientError::Io { .. } | ClientError::NotSsh { .. })
    }

    /// Gives a failure of the handshake its meaning.
    pub(super) fn before_authentication(self, spec: &ConnectSpec, link: &LinkState) -> Self {
        let target = &spec.target;
        let ClientError::Russh(error) = self else { return self };
        let greeting = link.greeting();
        if !greeting.is_empty() && !is_ssh_2(&greeting) && !is_ssh_refusal(&greeting) {
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
            russh::Error::NoCommonAlgo { kind, ours, theirs } => {
                let kind = match kind {
                    AlgorithmKind::Kex => Kind::Kex,
                    AlgorithmKind::Key => Kind::HostKey,
                    AlgorithmKind::Cipher => Kind::Cipher,
                    AlgorithmKind::Mac => Kind::Mac,
                    AlgorithmKind::Compression => Kind::Compression,
                };
                let offers = (ours.as_slice(), theirs.as_slice());
                ClientError::NoCommonAlgorithm(Box::new(Shortfall::new(target, &spec.algorithms, kind, offers)))
            }
            other => ClientError::Protocol(other.to_string()),
        }
    }
}

/// Whether it may be a version line of SSH 2; 1.99 stands for both versions (RFC 4253, section 5.1).
fn is_ssh_2(greeting: &str) -> bool {
    greeting.starts_with("SSH-") && (!greeting.starts_with("SSH-1.") || greeting.starts_with("SSH-1.99-"))
}

/// What OpenSSH sends instead of a version line when it is too busy (`MaxStartups`,
/// `PerSourcePenalties`).
fn is_ssh_refusal(greeting: &str) -> bool {
    greeting.starts_with("Exceeded MaxStartups") || greeting.starts_with("Not allowed at this time")
}

/// Clients start their servers without the variables of a terminal.
const AGENT_HINT: &str = "Set SSH_AUTH_SOCK in this server's env in the client's configuration (1Password: \
    ~/.1password/agent.sock; macOS: launchctl getenv SSH_AUTH_SOCK), or IdentityAgent in ~/.ssh/config, or give key_path.";

/// No parameter of a call is for a jump host.
const HOP_ASKS: &str = "Do not guess, and never ask for a code or password itself. The jump host wants what nothing here \
    gives it: ask the user for a key (agent, IdentityFile), a secret with jump = \"password\" or \"totp\" in this \
    server's settings, or, for a code, a client that supports elicitation.";

/// EHOSTDOWN, which has no kind of its own.
#[cfg(any(target_os = "linux", target_os = "android"))]
const HOST_DOWN: i32 = 112;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const HOST_DOWN: i32 = 64;

fn is_transient_io(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
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
    ) || error.raw_os_error() == Some(HOST_DOWN)
}

impl Explain for ClientError {
    fn code(&self) -> Code {
        match self {
            ClientError::Resolve { .. } => Code::ResolveFailed,
            ClientError::Io { source, .. } => io_code(source.kind()),
            ClientError::Timeout { .. } => Code::ConnectTimeout,
            ClientError::Lost { .. } | ClientError::LostInLogin { .. } => Code::ConnectionLost,
            ClientError::NotSsh { .. } => Code::NotSsh,
            ClientError::NoCommonAlgorithm(_) => Code::NoCommonAlgorithm,
            ClientError::NoAlgorithmLeft { .. } => Code::SshConfigInvalid,
            ClientError::HostKey { source, .. } => source.code(),
            ClientError::AuthFailed(_) | ClientError::NeedsAnswers(_) | ClientError::NotATotpSecret => Code::AuthFailed,
            ClientError::AgentUnavailable { .. } => Code::AgentUnavailable,
            ClientError::AgentEmpty => Code::AgentEmpty,
            ClientError::Key(error) => error.code(),
            ClientError::Route { source, .. } => source.code(),
            ClientError::AtHop { source, .. } => source.code(),
            ClientError::Protocol(_) | ClientError::Russh(_) => Code::ConnectionLost,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ClientError::HostKey { source, .. } => return source.hint(),
            ClientError::Key(error) => return error.hint(),
            ClientError::Route { source, .. } => return source.hint(),
            ClientError::AtHop { source, .. } => match &**source {
                ClientError::NeedsAnswers(_) => HOP_ASKS.into(),
                ClientError::AuthFailed(failure) if failure.why == Why::PasswordWanted => HOP_ASKS.into(),
                source => return source.hint(),
            },
            ClientError::Resolve { .. } => "Check the host name with the user; an IP address works too.".into(),
            ClientError::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                "Nothing listens there: check host and port, and that sshd runs.".into()
            }
            ClientError::Io { .. } => "Check the address and the network between this machine and the host.".into(),
            // There was an answer each time, and it was a refusal.
            ClientError::Timeout { last: Some(last), .. } if last.code() == Code::ConnectRefused => {
                return last.hint();
            }
            ClientError::Timeout { .. } => {
                "Check the address and the firewall; a larger timeout_secs helps only if the host is slow.".into()
            }
            ClientError::Lost { .. } => "The server ended the connection; try again in a moment.".into(),
            ClientError::LostInLogin { .. } => {
                "Do not guess. The server may have refused the login this way, or the network failed: ask the user."
                    .into()
            }
            ClientError::NotSsh { .. } => "Another service listens on this port: check the port number.".into(),
            ClientError::NoCommonAlgorithm(shortfall) => shortfall.hint(),
            ClientError::NoAlgorithmLeft { kind, .. } => format!(
                "Nothing was dialled. Ask the user to correct {} for this host in ~/.ssh/config: it names nothing that \
                 ssh-mcp has.",
                kind.keyword()
            ),
            ClientError::AuthFailed(failure) => failure.hint(),
            ClientError::NeedsAnswers(_) => {
                "The user has to answer, and this client shows no questions. Ask for totp_ref, \
                a key, or a client that supports elicitation; never ask for the code itself."
                    .into()
            }
            ClientError::NotATotpSecret => {
                "It has to be base32 or an otpauth://totp/ URI. Ask the user to check [secrets].".into()
            }
            ClientError::AgentUnavailable { .. } => AGENT_HINT.into(),
            ClientError::AgentEmpty => "Ask the user to run ssh-add, or give key_path.".into(),
            ClientError::Protocol(_) | ClientError::Russh(_) => {
                "The server broke off or broke the SSH protocol; do not repeat it: ask the user to check the server."
                    .into()
            }
        })
    }

    fn retryable(&self) -> bool {
        self.is_transient()
    }

    fn details(&self) -> Details {
        let details = Details::new();
        match self {
            ClientError::HostKey { target, source } => {
                let mut details = target_details(details, target);
                details.0.extend(source.details().0);
                details
            }
            ClientError::NoCommonAlgorithm(shortfall) => {
                let details = target_details(details, &shortfall.target).text("kind", shortfall.kind.as_str());
                details.text("ours", &shortfall.ours).text("theirs", &shortfall.theirs)
            }
            ClientError::NoAlgorithmLeft { kind, list } => details.text("keyword", kind.keyword()).text("value", list),
            ClientError::Route { target, source } => {
                let mut details = target_details(details, target);
                details.0.extend(source.details().0);
                details
            }
            ClientError::AtHop { hop, source } => {
                let mut details = details.number("hop", *hop as u64);
                details.0.extend(source.details().0);
                details
            }
            ClientError::Timeout { target, after, .. } => {
                let details = match self.hop() {
                    Some(hop) => details.number("hop", hop as u64),
                    None => details,
                };
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a day of seconds at most")]
                let secs = after.as_secs_f64().round() as u64;
                target_details(details, target).number("timeout_secs", secs)
            }
            ClientError::LostInLogin { target, tried, .. } => target_details(details, target).text("tried", tried),
            ClientError::AuthFailed(failure) => failure.details(),
            ClientError::NeedsAnswers(needed) => needed.details(),
            ClientError::Resolve { target, .. }
            | ClientError::Io { target, .. }
            | ClientError::Lost { target, .. }
            | ClientError::NotSsh { target, .. } => target_details(details, target),
            _ => details,
        }
    }
}

pub(super) fn io_code(kind: io::ErrorKind) -> Code {
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
