//! Wire words that several tools share. Field order is the order on the wire.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};

use super::{failure::clip, mask::masked};
use crate::{
    app::CommandView,
    error::Explain,
    secret::Secret,
    ssh::{
        async_command::{CommandInfo, Status},
        client::Target,
        forward::ForwardInfo,
        ids::SessionId,
        output::{Form, OutputView, StreamView},
        session,
    },
};

/// Characters of a command line that an answer repeats.
const COMMAND_LIMIT: usize = 200;

/// A password on its way in. Never shown, never written.
#[derive(Clone)]
pub struct Password(pub Secret);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl JsonSchema for Password {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Password".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of `Status`")]
pub enum StatusWord {
    Running,
    Completed,
    Cancelled,
    Failed,
}

impl From<Status> for StatusWord {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Completed => Self::Completed,
            Status::Cancelled => Self::Cancelled,
            Status::Failed => Self::Failed,
        }
    }
}

impl From<StatusWord> for Status {
    fn from(word: StatusWord) -> Self {
        match word {
            StatusWord::Running => Self::Running,
            StatusWord::Completed => Self::Completed,
            StatusWord::Cancelled => Self::Cancelled,
            StatusWord::Failed => Self::Failed,
        }
    }
}

/// How output is written in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the contract")]
pub enum Encoding {
    #[default]
    Text,
    Base64,
}

impl Encoding {
    /// The form of text is neutralised unless it is to be `raw`.
    #[must_use]
    pub const fn form(self, raw: bool) -> Form {
        match (self, raw) {
            (Self::Base64, _) => Form::Base64,
            (Self::Text, true) => Form::Raw,
            (Self::Text, false) => Form::Text,
        }
    }
}

/// Which session, and who is reached where.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Place {
    /// The session.
    pub session_id: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Login name on the host.
    pub username: String,
}

impl Place {
    /// The place of a session.
    #[must_use]
    pub fn new(session_id: SessionId, target: &Target) -> Self {
        let Target { host, port, username } = target.clone();
        Self { session_id: session_id.to_string(), host, port, username }
    }
}

/// How a command ended.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Exit {
    /// Exit status, once it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u32>,
    /// Signal that ended it, without SIG.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_signal: Option<String>,
    /// It was ended for running longer than timeout_secs.
    pub timed_out: bool,
}

impl From<&CommandInfo> for Exit {
    fn from(info: &CommandInfo) -> Self {
        Self { exit_code: info.exit_status, exit_signal: info.exit_signal.clone(), timed_out: info.timed_out }
    }
}

/// What an answer holds of the output, and where to read on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Page {
    /// Bytes that stdout has produced so far, exactly.
    pub stdout_bytes: u64,
    /// Bytes that stderr has produced so far, exactly.
    pub stderr_bytes: u64,
    /// Something that has arrived is not in stdout or stderr of this answer.
    pub truncated: bool,
    /// Offset to read stdout on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_stdout_offset: Option<u64>,
    /// Offset to read stderr on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_stderr_offset: Option<u64>,
    /// Offset of the first byte that is left out inside stdout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_omitted_from: Option<u64>,
    /// Bytes that are left out inside stdout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_omitted_bytes: Option<u64>,
    /// Offset of the first byte that is left out inside stderr.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_omitted_from: Option<u64>,
    /// Bytes that are left out inside stderr.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_omitted_bytes: Option<u64>,
}

impl From<&OutputView> for Page {
    fn from(output: &OutputView) -> Self {
        let next = |stream: &StreamView| stream.shown.as_ref().map(|shown| shown.next_offset);
        let gap = |stream: &StreamView| stream.shown.as_ref().and_then(|shown| shown.omitted);
        let (out, err) = (&output.stdout, &output.stderr);
        Self {
            stdout_bytes: out.total_bytes,
            stderr_bytes: err.total_bytes,
            truncated: output.truncated(),
            next_stdout_offset: next(out),
            next_stderr_offset: next(err),
            stdout_omitted_from: gap(out).map(|gap| gap.from),
            stdout_omitted_bytes: gap(out).map(|gap| gap.bytes),
            stderr_omitted_from: gap(err).map(|gap| gap.from),
            stderr_omitted_bytes: gap(err).map(|gap| gap.bytes),
        }
    }
}

/// The output itself. Always the last fields: everything small is readable before them.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Text {
    /// Text of stderr.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// Text of stdout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
}

impl From<OutputView> for Text {
    fn from(output: OutputView) -> Self {
        let text = |stream: StreamView| stream.shown.map(|shown| shown.text);
        Self { stderr: text(output.stderr), stdout: text(output.stdout) }
    }
}

/// Why a command failed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Problem {
    /// A code of the table of codes.
    pub code: String,
    /// What failed, on what.
    pub message: String,
    /// One next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// The failure of a command, where it has one.
    #[must_use]
    pub fn of(info: &CommandInfo) -> Option<Self> {
        let error = info.error.as_ref()?;
        Some(Self { code: error.code().to_string(), message: error.to_string(), hint: error.hint() })
    }
}

/// A command as it stands, without its output.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Ran {
    /// Where it stands.
    pub status: StatusWord,
    /// How it ended.
    #[serde(flatten)]
    pub exit: Exit,
    /// The command.
    pub command_id: String,
    /// Where it runs.
    #[serde(flatten)]
    pub place: Place,
    /// How long it has run.
    pub duration_ms: u64,
    /// How long it may run.
    pub timeout_secs: u64,
    /// Time until it is ended, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_remaining_secs: Option<u64>,
    /// The connection was lost before and opened anew for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnected: Option<bool>,
    /// What is shown of its output.
    #[serde(flatten)]
    pub page: Page,
    /// base64, where stdout and stderr are not plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
}

impl From<&CommandView> for Ran {
    fn from(view: &CommandView) -> Self {
        let info = &view.info;
        let remaining = || ceil_secs(info.timeout.saturating_sub(info.duration));
        Self {
            status: info.status.into(),
            exit: info.into(),
            command_id: info.id.to_string(),
            place: Place::new(info.session_id, &info.target),
            duration_ms: millis(info.duration),
            timeout_secs: ceil_secs(info.timeout),
            timeout_remaining_secs: (info.status == Status::Running).then(remaining),
            reconnected: info.reconnected.then_some(true),
            page: (&view.output).into(),
            encoding: (view.output.form == Form::Base64).then_some("base64"),
        }
    }
}

/// An open forward.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ForwardRow {
    /// The forward.
    pub forward_id: String,
    /// Where it listens, on the machine of this server.
    pub local_address: String,
    /// Where it leads, as the remote host sees it.
    pub remote_address: String,
}

impl From<&ForwardInfo> for ForwardRow {
    fn from(forward: &ForwardInfo) -> Self {
        Self {
            forward_id: forward.id.to_string(),
            local_address: forward.local.to_string(),
            remote_address: host_port(&forward.remote_host, forward.remote_port),
        }
    }
}

/// An open session.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SessionRow {
    /// The session.
    pub session_id: String,
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Login name on the host.
    pub username: String,
    /// Jump hosts, nearest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jump: Option<String>,
    /// When it was opened.
    pub connected_at: String,
    /// When it last answered a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_health_check: Option<String>,
    /// What that check said.
    pub healthy: bool,
    /// It is never closed for idleness.
    pub persistent: bool,
    /// Label that groups sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Commands running now.
    pub running_commands: usize,
    /// Its open forwards.
    pub forwards: Vec<ForwardRow>,
    /// Retries that connecting took.
    pub retry_attempts: u32,
    /// zlib, as negotiated.
    pub compression_enabled: bool,
    /// Time-out of commands that name none.
    pub default_timeout_secs: u64,
}

impl From<session::SessionInfo> for SessionRow {
    fn from(info: session::SessionInfo) -> Self {
        Self {
            session_id: info.id.to_string(),
            name: info.name,
            host: info.target.host,
            port: info.target.port,
            username: info.target.username,
            jump: (!info.hops.is_empty()).then(|| Target::chain(&info.hops)),
            connected_at: time(info.connected_at),
            last_health_check: info.last_health_check.map(time),
            healthy: info.healthy,
            persistent: info.persistent,
            agent_id: info.agent_id,
            running_commands: info.running_commands,
            forwards: info.forwards.iter().map(Into::into).collect(),
            retry_attempts: info.retry_attempts,
            compression_enabled: info.compression_enabled,
            default_timeout_secs: ceil_secs(info.command_timeout),
        }
    }
}

/// A command line as an answer repeats it: without passwords, and cut.
#[must_use]
pub fn echoed(command: &str) -> String {
    clip(&masked(command), COMMAND_LIMIT)
}

/// RFC 3339, UTC, to the millisecond: two commands started in one second keep their order.
#[must_use]
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `host:port`, with brackets around an IPv6 address.
#[must_use]
pub fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whole seconds, rounded up: what is left of a time-out is never told as 0 before its end.
#[must_use]
pub fn ceil_secs(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
