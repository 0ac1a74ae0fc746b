//! The list of commands: `ssh_list_commands`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Call, Reply};
use crate::{
    app::{CommandFilter, CommandPage},
    mcp::{
        failure::Failure,
        types::{Place, StatusWord, echoed, time},
    },
    ssh::async_command::CommandInfo,
};

/// Parameters of `ssh_list_commands`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ListParams {
    /// Only commands of this session
    #[schemars(extend("x-trim" = true))]
    pub session_id: Option<String>,
    /// Only commands that stand so
    #[schemars(extend("x-trim" = true))]
    pub status: Option<StatusWord>,
}

/// Result of `ssh_list_commands`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListResult {
    /// How many are listed.
    pub count: usize,
    /// Newest first, at most 50.
    pub commands: Vec<CommandRow>,
    /// Older ones match too.
    pub more: bool,
}

/// A command in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CommandRow {
    /// The command.
    pub command_id: String,
    /// Where it runs.
    #[serde(flatten)]
    pub place: Place,
    /// The command line, cut to 200 characters.
    pub command: String,
    /// Where it stands.
    pub status: StatusWord,
    /// Exit status, once it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u32>,
    /// When it was started.
    pub started_at: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
}

impl From<&CommandInfo> for CommandRow {
    fn from(info: &CommandInfo) -> Self {
        Self {
            command_id: info.id.to_string(),
            place: Place::new(info.session_id, &info.target),
            command: echoed(&info.command),
            status: info.status.into(),
            exit_code: info.exit_status,
            started_at: time(info.started_at),
            ended_at: info.ended_at.map(time),
        }
    }
}

pub(in crate::mcp::commands) async fn list(call: Call, params: ListParams) -> Result<Reply<ListResult>, Failure> {
    let filter = CommandFilter { session_id: params.session_id, status: params.status.map(Into::into) };
    Ok(list_reply(&call.app.commands(&call.owner, &filter)?))
}

/// The answer of `ssh_list_commands`.
#[must_use]
pub fn list_reply(page: &CommandPage) -> Reply<ListResult> {
    let hint = page.more.then(|| "Older commands are not shown: filter by session_id or status.".into());
    let commands: Vec<CommandRow> = page.commands.iter().map(Into::into).collect();
    Reply::from(ListResult { count: commands.len(), commands, more: page.more }).hint(hint)
}
