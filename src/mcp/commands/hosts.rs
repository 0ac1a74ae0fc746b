//! Hosts of the configuration of `ssh`: `ssh_list_hosts`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tool::{Call, Reply};
use crate::{
    app::{HostPage, HostRow},
    mcp::failure::Failure,
};

/// Parameters of `ssh_list_hosts`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ListParams {
    /// Text in alias, host, user or jump host
    #[schemars(extend("x-trim" = true))]
    pub filter: Option<String>,
}

/// Result of `ssh_list_hosts`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListResult {
    /// How many are shown.
    pub count: usize,
    /// There are more that match.
    pub more: bool,
    /// The hosts, in the order of the configuration.
    pub hosts: Vec<HostWord>,
}

/// A host.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HostWord {
    /// Its name: the address for ssh_connect.
    pub alias: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Login name on the host.
    pub username: String,
    /// Hosts on the way, nearest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jump: Option<String>,
    /// Your open sessions to it.
    pub session_ids: Vec<String>,
}

impl From<HostRow> for HostWord {
    fn from(row: HostRow) -> Self {
        Self {
            alias: row.alias,
            host: row.target.host,
            port: row.target.port,
            username: row.target.username,
            jump: (!row.jump.is_empty()).then(|| row.jump.join(",")),
            session_ids: row.sessions.iter().map(ToString::to_string).collect(),
        }
    }
}

pub(super) async fn list(call: Call, params: ListParams) -> Result<Reply<ListResult>, Failure> {
    Ok(list_reply(call.app.hosts(&call.owner, params.filter.as_deref()).await?))
}

/// The answer of `ssh_list_hosts`.
#[must_use]
pub fn list_reply(page: HostPage) -> Reply<ListResult> {
    let hint = match (page.hosts.is_empty(), page.more) {
        (true, _) => Some("No alias of the user's ssh configuration fits. Ask the user for address and username."),
        (false, true) => Some("There are more: use filter."),
        (false, false) => None,
    };
    let hosts: Vec<HostWord> = page.hosts.into_iter().map(Into::into).collect();
    Reply::from(ListResult { count: hosts.len(), more: page.more, hosts }).hint(hint.map(Into::into))
}
