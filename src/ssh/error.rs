//! The core's error: what failed, on what, with its code, hint and retryability.

mod asking;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};

pub use self::asking::ToAnswer;
use super::{
    client::{ClientError, Target, route::TooManyHops},
    forward::policy::Denied,
    ids::{CommandId, SessionId},
    quota::Full,
    session::EndReason,
    ssh_config::SshConfigError,
};
use crate::{
    error::{Code, Detail, Details, Explain},
    secret::named::SecretError,
};

/// Every failure of the core.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum Error {
    #[error("invalid address {address:?}")]
    InvalidAddress { address: String, reason: &'static str },
    #[error("invalid username {username:?}")]
    InvalidUsername { username: String },
    #[error("{name:?} is no Host alias of the ssh configuration, and near to one; nothing was connected")]
    NearAlias { name: String, candidates: Vec<String> },
    #[error("{0}")]
    SshConfig(Box<SshConfigError>),
    #[error("the ssh configuration refuses this connection ({0})")]
    RefusedByConfig(String),
    #[error("hop {hop} of jump is not [user@]host[:port]: {text:?}")]
    InvalidJump { hop: usize, text: String },
    #[error("{0}")]
    TooManyHops(#[from] TooManyHops),
    #[error("username is missing")]
    MissingUsername,
    #[error("address names user {in_address:?}, username says {username:?}")]
    ConflictingUsernames { in_address: String, username: String },
    #[error("password and password_ref are given")]
    ConflictingSecrets,
    #[error("passphrase_ref is given without key_path")]
    PassphraseWithoutKey,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("invalid {field} {value:?}")]
    InvalidName { field: &'static str, value: String },
    #[error("another live session is named {name:?}: {session_id}")]
    NameInUse { name: String, session_id: SessionId },
    #[error("{field} {why}")]
    InvalidCommand { field: &'static str, why: &'static str },
    #[error("{field} is {bytes} bytes long; at most {limit} are taken")]
    TooLong { field: &'static str, bytes: usize, limit: usize },
    #[error("directory {directory:?} does not exist on {target} or cannot be entered; nothing was run")]
    NoSuchDirectory { directory: String, target: Target },
    #[error("no session has the id {id:?}")]
    SessionNotFound { id: String, candidates: Vec<Candidate> },
    #[error("{0}")]
    SessionClosed(Box<ClosedSession>),
    #[error("no command has the id {id:?}")]
    CommandNotFound { id: String },
    #[error("{full}")]
    TooManyCommands { full: Full, running: Vec<CommandId> },
    #[error("{0}")]
    Full(#[from] Full),
    #[error("forwarding to {host}:{port} is refused: {}", .why.why())]
    ForwardTargetDenied { host: String, port: u16, why: Denied },
    #[error("{0}")]
    Client(Arc<ClientError>, u32),
    #[error("{target} refused to start the command: {why}")]
    ChannelRefused { target: Target, why: String },
    #[error("the connection to {target} was lost, and only the user can log in again: {needed}")]
    NeedsUser { target: Target, needed: Arc<ClientError> },
    #[error("the command did not start on {target}: the connection was lost ({cause})")]
    ConnectionLost { target: Target, cause: String },
    #[error("the connection to {target} was lost while the command ran ({cause})")]
    OutcomeUnknown { target: Target, cause: String },
    #[error("the command did not start within {} s: every place on the server stayed taken", .after.as_secs())]
    NoPlace { after: Duration },
    #[error("port {port} on 127.0.0.1 is in use")]
    PortInUse { port: u16 },
    #[error("invalid {field} {port}")]
    InvalidPort { field: &'static str, port: u32 },
    #[error("port {port} on 127.0.0.1 may not be opened by this process")]
    PortPermission { port: u16 },
    #[error("invalid remote_address {address:?}")]
    InvalidRemoteAddress { address: String },
    #[error("the server is stopping; nothing was begun")]
    Stopping,
    #[error("internal error: {0}")]
    Internal(String),
}

/// A session that was open.
#[derive(Clone, Debug, thiserror::Error)]
#[error("session {id} to {target} was closed at {at}: {reason}", at = time(*at))]
pub struct ClosedSession {
    /// Its id.
    pub id: SessionId,
    /// Its label.
    pub name: Option<String>,
    /// Host, port and user.
    pub target: Target,
    /// Jump hosts before it, nearest first.
    pub hops: Vec<Target>,
    /// Why it was closed.
    pub reason: EndReason,
    /// When it was closed.
    pub at: DateTime<Utc>,
}

/// A session that the caller may have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: SessionId,
    /// Its label.
    pub name: Option<String>,
    /// Host, port and user.
    pub target: Target,
}

impl From<SshConfigError> for Error {
    fn from(error: SshConfigError) -> Self {
        Error::SshConfig(Box::new(error))
    }
}

impl Explain for Error {
    fn code(&self) -> Code {
        match self {
            Error::InvalidAddress { .. } | Error::InvalidRemoteAddress { .. } => Code::InvalidAddress,
            Error::NearAlias { .. } => Code::InvalidAddress,
            Error::SshConfig(error) => error.code(),
            Error::RefusedByConfig(_) => Code::SshConfigInvalid,
            Error::InvalidJump { .. } | Error::TooManyHops(_) => Code::InvalidArgument,
            Error::InvalidUsername { .. } => Code::InvalidUsername,
            Error::MissingUsername => Code::MissingArgument,
            Error::PassphraseWithoutKey => Code::MissingArgument,
            Error::Secret(error) => error.code(),
            Error::ConflictingUsernames { .. } | Error::ConflictingSecrets => Code::ConflictingArguments,
            Error::InvalidName { .. } => Code::InvalidName,
            Error::NameInUse { .. } => Code::NameInUse,
            Error::InvalidCommand { .. } => Code::InvalidArgument,
            Error::TooLong { field: "command", .. } => Code::CommandTooLong,
            Error::TooLong { .. } => Code::OutOfRange,
            Error::NoSuchDirectory { .. } => Code::NoSuchDirectory,
            Error::SessionNotFound { .. } => Code::SessionNotFound,
            Error::SessionClosed(_) => Code::SessionClosed,
            Error::CommandNotFound { .. } => Code::CommandNotFound,
            Error::TooManyCommands { .. } => Code::TooManyCommands,
            Error::Full(full) => full.code(),
            Error::ForwardTargetDenied { .. } => Code::ForwardTargetDenied,
            Error::Client(error, _) => error.code(),
            Error::NeedsUser { .. } => Code::AuthFailed,
            Error::ChannelRefused { .. } => Code::ChannelRefused,
            Error::NoPlace { .. } => Code::Busy,
            Error::ConnectionLost { .. } => Code::ConnectionLost,
            Error::OutcomeUnknown { .. } => Code::OutcomeUnknown,
            Error::PortInUse { .. } => Code::PortInUse,
            Error::InvalidPort { .. } => Code::InvalidPort,
            Error::PortPermission { .. } => Code::PermissionDenied,
            Error::Stopping => Code::Busy,
            Error::Internal(_) => Code::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        if let Some(hint) = self.argument_hint() {
            return Some(hint.into());
        }
        Some(match self {
            Error::InvalidAddress { reason, .. } => (*reason).into(),
            Error::NearAlias { name, .. } => format!(
                "Use one of the candidates, as the user meant it. If a host of that very name is meant, write its full \
                 name, or {:?}.",
                format!("{name}.")
            ),
            Error::SshConfig(error) => return error.hint(),
            Error::Client(error, _) => return error.hint(),
            Error::Secret(error) => return error.hint(),
            Error::SessionNotFound { candidates, .. } if candidates.is_empty() => {
                "No session is open. Open one with ssh_connect.".into()
            }
            Error::SessionNotFound { .. } => {
                "Copy the session_id (a UUID) of one of the candidates, or call ssh_list_sessions.".into()
            }
            Error::SessionClosed(closed) => format!(
                "Open it again: ssh_connect with address {:?} and username {:?}{}, and use the new session_id.",
                closed.target.host_port(),
                closed.target.username,
                through(&closed.hops)
            ),
            Error::CommandNotFound { .. } => {
                "Find the command_id with ssh_list_commands; records are kept for 30 minutes after the end.".into()
            }
            Error::TooManyCommands { full, .. } | Error::Full(full) => full.hint(),
            Error::ForwardTargetDenied { why, .. } => match why.setting() {
                Some(setting) => format!("Use another target, or ask the user: the setting {setting} decides."),
                None => "Use another target. No setting allows this one; SSH_FORWARD_ALLOW and SSH_FORWARD_DENY rule \
                    the others."
                    .into(),
            },
            Error::ChannelRefused { .. } => "The server allows no commands on this login. Ask the user.".into(),
            Error::NoPlace { .. } => "Wait for running commands to end, then repeat this call.".into(),
            Error::NeedsUser { .. } => {
                "Nothing was run. Call ssh_connect again with the same arguments, and with this session_id if you like: \
                 the user is asked there, and you get a new session_id."
                    .into()
            }
            Error::ConnectionLost { .. } => {
                "Nothing was run. Repeat the command; if its session is closed, open one with ssh_connect first.".into()
            }
            Error::OutcomeUnknown { .. } => "The command may have run, wholly or in part. Look at its effect on \
                the host before running it again."
                .into(),
            Error::PortInUse { .. } => "Use local_port 0 for any free port, or another number.".into(),
            Error::PortPermission { .. } => "Use a local_port of 1024 or above, or 0 for any free one.".into(),
            Error::Stopping => "Repeat the call once the server runs again.".into(),
            Error::NoSuchDirectory { .. } => "Check the path with ssh_execute \"ls -d\", or leave out cwd.".into(),
            _ => return None,
        })
    }

    fn retryable(&self) -> bool {
        match self {
            Error::Client(error, _) => error.is_transient(),
            Error::Full(full) => full.retryable(),
            Error::Secret(error) => error.retryable(),
            Error::NoPlace { .. } | Error::TooManyCommands { .. } | Error::Stopping | Error::ConnectionLost { .. } => {
                true
            }
            _ => false,
        }
    }

    fn details(&self) -> Details {
        let details = Details::new();
        match self {
            Error::SessionNotFound { candidates, .. } => details.with("candidates", records(candidates)),
            Error::SessionClosed(closed) => {
                let details = target_details(details.text("session_id", closed.id), &closed.target);
                let details = match &closed.name {
                    Some(name) => details.text("name", name),
                    None => details,
                };
                details.text("reason", closed.reason.as_str()).text("closed_at", time(closed.at))
            }
            Error::Full(full) => full.details(),
            Error::TooManyCommands { full, running } => {
                full.details().with("running", Detail::Texts(running.iter().map(ToString::to_string).collect()))
            }
            Error::NameInUse { session_id, .. } => details.text("session_id", session_id),
            Error::Secret(error) => error.details(),
            Error::Client(error, retries) => error.details().number("retry_attempts", *retries),
            Error::NeedsUser { target, needed } => {
                let asked = needed.needed_answers().map(|(needed, _)| needed.prompts()).unwrap_or_default();
                let details = target_details(details, target).text("why", "needs_answers");
                details.with("prompts", Detail::Texts(asked))
            }
            Error::OutcomeUnknown { target, .. }
            | Error::ConnectionLost { target, .. }
            | Error::ChannelRefused { target, .. }
            | Error::NoSuchDirectory { target, .. } => target_details(details, target),
            Error::TooLong { field, limit, .. } => details.text("argument", field).number("limit", *limit as u64),
            Error::InvalidAddress { .. } => details.text("argument", "address"),
            Error::NearAlias { candidates, .. } => {
                details.text("argument", "address").with("candidates", Detail::Texts(candidates.clone()))
            }
            Error::SshConfig(error) => error.details(),
            Error::InvalidJump { hop, .. } => details.text("argument", "jump").number("hop", *hop as u64),
            Error::TooManyHops(_) => details.text("argument", "jump"),
            Error::InvalidUsername { .. } | Error::MissingUsername => details.text("argument", "username"),
            Error::InvalidName { field, .. } | Error::InvalidCommand { field, .. } => details.text("argument", field),
            _ => details,
        }
    }
}

impl Error {
    /// Hints of the errors that blame one argument.
    fn argument_hint(&self) -> Option<&'static str> {
        Some(match self {
            Error::InvalidUsername { .. } => {
                "Use the plain login name: letters, digits and . _ - + @ \\ $, not starting with \"-\"."
            }
            Error::InvalidJump { .. } => {
                "Write the hops as ssh -J takes them, the nearest first: user@host:port,host2. At most 8."
            }
            Error::TooManyHops(_) => "Name fewer hops; those of the first one's own configuration count too.",
            Error::MissingUsername => "Give username, or write it into address: user@host.",
            Error::RefusedByConfig(_) => "Nothing was connected. Tell the user what their ssh configuration says.",
            Error::ConflictingUsernames { .. } => "Name the user once.",
            Error::ConflictingSecrets => "Give password_ref alone: it keeps the password from the model.",
            Error::PassphraseWithoutKey => "Name the encrypted key file in key_path.",
            Error::InvalidName { .. } => {
                "Use 1 to 64 printable characters that do not look like a session_id, or leave it out."
            }
            Error::NameInUse { .. } => "Use another name, or reuse that session.",
            Error::InvalidCommand { field: "command", .. } => {
                "Give a command line of 1 to 120000 bytes without NUL; for binary data \"base64 -d > path\" with base64 in stdin."
            }
            Error::InvalidCommand { .. } => "Give the path of a directory, on one line, or leave out cwd.",
            Error::TooLong { field: "cwd", .. } => "Give a shorter path, or leave out cwd and change to it in command.",
            Error::TooLong { field: "command", .. } => {
                "Send the text in stdin, for example command \"sh -s\" or \"cat > path\"."
            }
            Error::TooLong { field: "password", .. } => "Check the password with the user.",
            Error::TooLong { field: "stdin", .. } => "Send it in parts: \"cat > path\", then \"cat >> path\".",
            Error::InvalidRemoteAddress { .. } => {
                "Give a host name or address as the remote host knows it, without port; localhost is the remote host itself."
            }
            Error::InvalidPort { field: "local_port", .. } => "Use a number from 0 to 65535; 0 takes any free port.",
            Error::InvalidPort { .. } => "Use a number from 1 to 65535.",
            _ => return None,
        })
    }
}

/// Names who was reached where.
pub(crate) fn target_details(details: Details, target: &Target) -> Details {
    details.text("host", &target.host).number("port", target.port).text("username", &target.username)
}

/// The jump hosts as `jump` takes them.
fn through(hops: &[Target]) -> String {
    let hops: Vec<_> = hops.iter().map(Target::to_string).collect();
    if hops.is_empty() { String::new() } else { format!(" through jump {:?}", hops.join(",")) }
}

fn records(candidates: &[Candidate]) -> Detail {
    let record = |candidate: &Candidate| {
        let details = Details::new().text("session_id", candidate.id);
        let details = match &candidate.name {
            Some(name) => details.text("name", name),
            None => details,
        };
        target_details(details, &candidate.target)
    };
    Detail::Records(candidates.iter().map(record).collect())
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A path as an error may show it.
pub(crate) fn shown_path(path: &std::path::Path) -> impl fmt::Display + use<> {
    super::client::address::shorten(&PathBuf::from(path).to_string_lossy())
}
