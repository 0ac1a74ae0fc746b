//! What each verb is asked for, and what it answers.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::plan::ResolvedRow;
use crate::{
    config::Compression,
    secret::Secret,
    ssh::{
        async_command::{Command, CommandInfo, Status},
        client::{HostKeyInfo, Target, login::Answered},
        ids::SessionId,
        output::{Form, Found, OutputView, Pattern},
        session::SessionInfo,
    },
};

/// What `connect` is asked for.
#[derive(Clone)]
pub struct ConnectRequest {
    /// `host`, `host:port`, `user@host:port`, `[v6]:port`, `ssh://...`.
    pub address: String,
    /// Login name, unless `address` has it.
    pub username: Option<String>,
    /// Jump hosts as `ssh -J` takes them. They are logged in to as by default: password and key are for the target.
    pub jump: Option<String>,
    /// Password; goes before the key file.
    pub password: Option<Secret>,
    /// The same by the name of a configured secret.
    pub password_ref: Option<String>,
    /// Private key file on this machine; `~/` is expanded.
    pub key_path: Option<String>,
    /// Name of the configured secret that decrypts it.
    pub passphrase_ref: Option<String>,
    /// Name of the configured secret that makes one-time codes.
    pub totp_ref: Option<String>,
    /// Label of the session.
    pub name: Option<String>,
    /// Label that groups the caller's sessions.
    pub agent_id: Option<String>,
    /// Never close it for idleness.
    pub persistent: bool,
    /// The whole of connecting; the setting where it is none.
    pub timeout: Option<Duration>,
    /// Retries; the setting where it is none.
    pub max_retries: Option<u32>,
    /// First delay; the setting where it is none.
    pub retry_delay: Option<Duration>,
    /// zlib; the setting where it is none.
    pub compression: Option<Compression>,
    /// Host key that a person approved. Never from a tool's parameters.
    pub approved_key: Option<ApprovedKey>,
    /// What a person typed when this was tried before. Never from a tool's parameters.
    pub answers: Vec<TypedAnswer>,
    /// A session to reuse if it is alive and its target matches.
    pub session_id: Option<String>,
}

/// A host key that a person approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovedKey {
    /// Whose it is: the target, or a jump host.
    pub of: Target,
    /// SHA-256 fingerprint.
    pub fingerprint: String,
}

/// What a person typed, and for whom.
#[derive(Clone, Debug)]
pub struct TypedAnswer {
    /// The server that asked, which alone is sent it; none for a passphrase, which is sent to nobody.
    pub to: Option<Asking>,
    /// What was asked and answered.
    pub answered: Answered,
}

/// A server that asks. The same target may stand on the way twice: what it is called depends on where one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Who is to be logged in where.
    pub target: Target,
    /// Its place on the way, from 1, where it is a jump host.
    pub hop: Option<usize>,
}

/// What `connect` did.
#[derive(Debug)]
pub struct Connected {
    /// The session.
    pub session: SessionInfo,
    /// Whether it was there before.
    pub reused: bool,
    /// Its connection was lost and opened anew.
    pub reconnected: bool,
    /// Why the session that was named could not be reused: `unknown`, `dead` or `other_target`.
    pub reuse_refused: Option<&'static str>,
    /// What the server took: `password`, `publickey`, `agent`, `keyboard-interactive`; several with commas.
    pub auth_method: String,
    /// The host key.
    pub host_key: HostKeyInfo,
    /// Such as `SSH-2.0-OpenSSH_9.2p1`.
    pub server_version: String,
    /// The caller's other live sessions to the same host, port and user: the newest, and a notice counts the rest.
    pub other_sessions: Vec<SessionId>,
    /// The deadline that was in force.
    pub timeout: Duration,
    /// What lines of the configuration of `ssh` decided.
    pub resolved: Vec<ResolvedRow>,
    /// What the caller should know: a clamp, a warning.
    pub notices: Vec<String>,
}

/// What `run` and `start` are asked for.
#[derive(Debug)]
pub struct CommandRequest {
    /// The command line for the login shell.
    pub command: String,
    /// Directory to run it in.
    pub cwd: Option<String>,
    /// How long it may run; the setting where it is none.
    pub timeout: Option<Duration>,
    /// Text for standard input; end-of-file at once where it is none.
    pub stdin: Option<String>,
    /// How the bytes of its output become text.
    pub form: Form,
}

/// What `output` is asked for.
#[derive(Clone, Debug, Default)]
pub struct OutputRequest {
    /// Wait for the end, at most this long (`Some(None)`: the answer limit).
    pub wait: Option<Option<Duration>>,
    /// Where to read standard output from.
    pub stdout_offset: Option<u64>,
    /// Where to read standard error from.
    pub stderr_offset: Option<u64>,
    /// Bytes of text, both streams together.
    pub max_bytes: Option<usize>,
    /// How the bytes become text.
    pub form: Form,
    /// Wait at most until this appears.
    pub until: Option<Pattern>,
}

/// Who waits for a verb.
#[derive(Clone, Debug, Default)]
pub struct Waiter {
    /// Fires when the caller gives the call up.
    pub cancel: CancellationToken,
    /// The command that the verb waits for, as soon as it is known.
    pub command: Awaited,
}

/// A place for the command that a verb waits for. Whoever waits for the verb may look at its output
/// meanwhile: the verb tells nobody.
#[derive(Clone, Debug, Default)]
pub struct Awaited(Arc<OnceLock<Arc<Command>>>);

impl Awaited {
    /// Notes the command; the first one stays.
    pub(super) fn note(&self, command: &Arc<Command>) {
        let _ = self.0.set(command.clone());
    }

    /// The command.
    #[must_use]
    pub fn get(&self) -> Option<&Command> {
        self.0.get().map(Arc::as_ref)
    }
}

/// A command with its output.
#[derive(Debug)]
pub struct CommandView {
    /// The command.
    pub info: CommandInfo,
    /// What is shown of its output.
    pub output: OutputView,
    /// The wait was cut to this.
    pub wait_limited_to: Option<Duration>,
    /// What became of a wait for something in the output.
    pub until: Option<Until>,
}

/// What became of a wait for something in the output.
#[derive(Clone, Debug, Default)]
pub struct Until {
    /// It, where it appeared.
    pub found: Option<Found>,
    /// Bytes that were dropped before they could be looked at.
    pub missed_bytes: u64,
    /// Where to look on, in each stream that is looked at: what is to appear may have begun before the end of what there is.
    pub goes_on_from: Offsets,
}

/// An offset in each stream; none where it is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// In stdout.
    pub stdout: Option<u64>,
    /// In stderr.
    pub stderr: Option<u64>,
}

/// What `commands` is asked for.
#[derive(Clone, Debug, Default)]
pub struct CommandFilter {
    /// Only this session's.
    pub session_id: Option<String>,
    /// Only those that stand so.
    pub status: Option<Status>,
}

/// A page of commands, newest first.
#[derive(Debug)]
pub struct CommandPage {
    /// At most [`COMMANDS_PER_PAGE`].
    pub commands: Vec<CommandInfo>,
    /// There are more that match.
    pub more: bool,
}

/// Rows that `commands` returns at most.
pub const COMMANDS_PER_PAGE: usize = 50;

/// What `cancel` did.
#[derive(Debug)]
pub struct Cancelled {
    /// False when it had ended before.
    pub cancelled: bool,
    /// The command and all of its output that fits an answer.
    pub view: CommandView,
}

/// What `disconnect` did.
#[derive(Debug)]
pub struct Disconnected {
    /// The session.
    pub session_id: SessionId,
    /// False when it was closed before.
    pub was_open: bool,
    /// Commands that were stopped.
    pub commands_cancelled: usize,
    /// Forwards that were closed.
    pub forwards_closed: usize,
}

/// Counts for `/health`.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    /// Time since the start.
    pub uptime: Duration,
    /// Open sessions.
    pub sessions: usize,
    /// Running commands.
    pub running_commands: usize,
    /// Open forwards.
    pub forwards: usize,
}
