//! Sessions: `ssh_connect`, `ssh_disconnect`, `ssh_list_sessions`.

mod ask;
mod host_key;
mod login;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tool::{Call, Reply};
use crate::{
    app::{ConnectRequest, Connected, Disconnected, ResolvedRow},
    config::Compression,
    mcp::{
        failure::Failure,
        mask::masked,
        types::{Password, SessionRow, ceil_secs},
    },
    ssh::{client::HostKeyInfo, session::SessionInfo},
};

/// Said whenever a password came through the model.
const PASSWORD_NOTICE: &str =
    "The password passed through the model and its logs. Prefer password_ref, the SSH agent or key_path; ask the user.";

/// Parameters of `ssh_connect`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ConnectParams {
    /// Where to connect to.
    #[schemars(
        description = "host, host:port, user@host:port, [v6]:port, or an alias of ~/.ssh/config; port 22 by default"
    )]
    #[schemars(extend("x-trim" = true))]
    pub address: String,
    /// Login name; required unless address or ~/.ssh/config has it
    pub username: Option<String>,
    /// Jump hosts, nearest first.
    #[schemars(description = "Jump hosts as ssh -J takes them: [user@]host[:port], nearest first, with commas")]
    #[schemars(extend("x-trim" = true))]
    pub jump: Option<String>,
    /// Prefer the SSH agent, key_path or password_ref: a password given here passes through the model
    #[schemars(extend("x-secret" = true))]
    pub password: Option<Password>,
    /// Name of a password that the user configured
    #[schemars(extend("x-trim" = true, "x-secret" = true))]
    pub password_ref: Option<String>,
    /// Private key file on the machine of this MCP server
    pub key_path: Option<String>,
    /// Name of the configured passphrase of that key
    #[schemars(extend("x-trim" = true, "x-secret" = true))]
    pub passphrase_ref: Option<String>,
    /// Name of a configured TOTP secret, for servers that want a code
    #[schemars(extend("x-trim" = true))]
    pub totp_ref: Option<String>,
    /// Label for people; not usable as session_id
    pub name: Option<String>,
    /// Never close it for idleness (default false)
    pub persistent: Option<bool>,
    /// Limit of connecting, all retries included (default {connect_timeout})
    #[schemars(range(min = 1, max = 86_400), extend("x-zero-unset" = true))]
    pub timeout_secs: Option<u64>,
    /// Retries after a transient failure (default {max_retries})
    #[schemars(range(max = 100))]
    pub max_retries: Option<u32>,
    /// First delay; it doubles, up to 10 s (default {retry_delay})
    #[schemars(range(max = 60_000))]
    pub retry_delay_ms: Option<u64>,
    /// Ask for zlib (true) or refuse it (false); left out, the settings decide
    pub compress: Option<bool>,
    /// Reuse this session if it is alive and leads to the same target; else connect anew
    #[schemars(extend("x-trim" = true))]
    pub session_id: Option<String>,
    /// Label that groups your sessions; not a protection
    #[schemars(extend("x-trim" = true))]
    pub agent_id: Option<String>,
}

/// Result of `ssh_connect`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConnectResult {
    /// The session: every other tool needs it.
    pub session_id: String,
    /// What was done.
    pub message: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Login name on the host.
    pub username: String,
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Label that groups sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The server took the login.
    pub authenticated: bool,
    /// How: password, publickey, agent or keyboard-interactive; several with commas.
    pub auth_method: String,
    /// Retries that connecting took.
    pub retry_attempts: u32,
    /// The session was there before.
    pub reused: bool,
    /// The connection of the reused session was lost and opened anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnected: Option<bool>,
    /// Why session_id was not reused: unknown, dead or other_target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reuse_refused: Option<String>,
    /// It is never closed for idleness.
    pub persistent: bool,
    /// Limit of connecting that was in force.
    pub timeout_secs: u64,
    /// zlib, as negotiated.
    pub compression_enabled: bool,
    /// The host key that the server proved to hold.
    pub host_key: HostKeyWord,
    /// How the server names itself.
    pub server_version: String,
    /// Your other live sessions to the same host, port and user, the newest 20.
    pub other_sessions: Vec<String>,
    /// What lines of the ssh configuration decided.
    #[schemars(extend("x-unlisted" = true))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<ResolvedWord>,
}

/// A value of the ssh configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ResolvedWord {
    /// Keyword of ssh_config, or jump for a host on the way.
    pub keyword: &'static str,
    /// Its value.
    pub value: String,
    /// The file that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl From<ResolvedRow> for ResolvedWord {
    fn from(row: ResolvedRow) -> Self {
        let (file, line) = row.place.unzip();
        Self { keyword: row.keyword, value: masked(&row.value).into_owned(), file, line }
    }
}

/// A host key.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HostKeyWord {
    /// Such as ssh-ed25519.
    pub algorithm: String,
    /// As ssh-keygen -l prints it.
    pub fingerprint: String,
    /// Why it was trusted: known, certified, accepted_new or approved.
    pub trust: String,
}

impl From<HostKeyInfo> for HostKeyWord {
    fn from(key: HostKeyInfo) -> Self {
        Self { algorithm: key.algorithm, fingerprint: key.fingerprint, trust: key.trust.as_str().into() }
    }
}

pub(super) async fn connect(call: Call, params: ConnectParams) -> Result<Reply<ConnectResult>, Failure> {
    let with_password = params.password.is_some();
    let connected = ask::connect_or_ask(&call, request(params)).await?;
    Ok(connect_reply(connected, with_password))
}

fn request(params: ConnectParams) -> ConnectRequest {
    ConnectRequest {
        address: params.address,
        username: params.username,
        password: params.password.map(|Password(secret)| secret),
        password_ref: params.password_ref,
        key_path: params.key_path,
        passphrase_ref: params.passphrase_ref,
        totp_ref: params.totp_ref,
        answers: Vec::new(),
        name: params.name,
        agent_id: params.agent_id,
        persistent: params.persistent.unwrap_or(false),
        timeout: params.timeout_secs.map(Duration::from_secs),
        max_retries: params.max_retries,
        retry_delay: params.retry_delay_ms.map(Duration::from_millis),
        compression: params.compress.map(|on| if on { Compression::On } else { Compression::Off }),
        approved_key: None,
        jump: params.jump,
        session_id: params.session_id,
    }
}

/// The answer of `ssh_connect`.
#[must_use]
pub fn connect_reply(connected: Connected, with_password: bool) -> Reply<ConnectResult> {
    let hint = connect_hint(&connected);
    let mut notices = connected.notices;
    if with_password {
        notices.push(PASSWORD_NOTICE.into());
    }
    let SessionInfo { id, name, target, agent_id, persistent, retry_attempts, compression_enabled, .. } =
        connected.session;
    let how = if connected.reused { "reused the session" } else { "connected" };
    Reply::from(ConnectResult {
        session_id: id.to_string(),
        message: format!("{how} to {target}"),
        host: target.host,
        port: target.port,
        username: target.username,
        name,
        agent_id,
        authenticated: true,
        auth_method: connected.auth_method,
        retry_attempts,
        reused: connected.reused,
        reconnected: connected.reconnected.then_some(true),
        reuse_refused: connected.reuse_refused.map(Into::into),
        persistent,
        timeout_secs: ceil_secs(connected.timeout),
        compression_enabled,
        host_key: connected.host_key.into(),
        server_version: connected.server_version,
        other_sessions: connected.other_sessions.iter().map(ToString::to_string).collect(),
        resolved: connected.resolved.into_iter().map(Into::into).collect(),
    })
    .hint(hint)
    .notices(notices)
}

fn connect_hint(connected: &Connected) -> Option<String> {
    if let Some(why) = connected.reuse_refused {
        return Some(format!("The session that was named could not be reused ({why}): use this new session_id."));
    }
    (!connected.reused && !connected.other_sessions.is_empty())
        .then(|| "Other sessions to this host are open: close those that you do not need with ssh_disconnect.".into())
}

/// Parameters of `ssh_disconnect`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DisconnectParams {
    /// session_id from ssh_connect (a UUID, not the name)
    #[schemars(extend("x-trim" = true))]
    pub session_id: String,
}

/// Result of `ssh_disconnect`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DisconnectResult {
    /// The session.
    pub session_id: String,
    /// What was done.
    pub message: String,
    /// Commands that were stopped.
    pub commands_cancelled: usize,
    /// Forwards that were closed.
    pub forwards_closed: usize,
}

pub(super) async fn disconnect(call: Call, params: DisconnectParams) -> Result<Reply<DisconnectResult>, Failure> {
    Ok(disconnect_reply(&call.app.disconnect(&call.owner, &params.session_id).await?))
}

/// The answer of `ssh_disconnect`.
#[must_use]
pub fn disconnect_reply(done: &Disconnected) -> Reply<DisconnectResult> {
    let message = if done.was_open { "the session is closed" } else { "the session was closed before" };
    Reply::from(DisconnectResult {
        session_id: done.session_id.to_string(),
        message: message.into(),
        commands_cancelled: done.commands_cancelled,
        forwards_closed: done.forwards_closed,
    })
}

/// Parameters of `ssh_list_sessions`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ListParams {
    /// Only sessions with this agent_id
    #[schemars(extend("x-trim" = true))]
    pub agent_id: Option<String>,
}

/// Result of `ssh_list_sessions`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListResult {
    /// How many.
    pub count: usize,
    /// The open sessions.
    pub sessions: Vec<SessionRow>,
}

pub(super) async fn list(call: Call, params: ListParams) -> Result<Reply<ListResult>, Failure> {
    let sessions = call.app.sessions(&call.owner, params.agent_id.as_deref()).await?;
    Ok(list_reply(sessions, params.agent_id.is_some()))
}

/// The answer of `ssh_list_sessions`.
#[must_use]
pub fn list_reply(sessions: Vec<SessionInfo>, of_one_agent: bool) -> Reply<ListResult> {
    let none = if of_one_agent {
        "No open session has this agent_id. Leave it out to see all, or open one with ssh_connect."
    } else {
        "No session is open here. Open one with ssh_connect."
    };
    let hint = sessions.is_empty().then(|| none.into());
    let sessions: Vec<SessionRow> = sessions.into_iter().map(Into::into).collect();
    Reply::from(ListResult { count: sessions.len(), sessions }).hint(hint)
}
