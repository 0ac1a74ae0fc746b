//! Port forwards: `ssh_forward`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tool::{Call, Reply};
use crate::{
    mcp::{
        failure::Failure,
        types::{ForwardRow, Place},
    },
    ssh::{
        forward::{ForwardInfo, ForwardSpec},
        session::SessionInfo,
    },
};

/// Said where a forward has no connection of its own.
const SHARED_NOTICE: &str = "The user typed a code to log in, so this forward shares a connection with other work: a local \
    program that reads slowly slows it all down, and one that reads nothing for 5 s is cut off.";

/// Parameters of `ssh_forward`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ForwardParams {
    /// session_id from ssh_connect (a UUID, not the name)
    #[schemars(extend("x-trim" = true))]
    pub session_id: String,
    /// Port to listen on, on the machine of this MCP server; 0 takes any free one
    #[schemars(range(max = 65_535), extend("x-port" = true))]
    pub local_port: u16,
    /// Host as the remote host sees it, without port
    #[schemars(extend("x-trim" = true))]
    pub remote_address: String,
    /// Port on remote_address
    #[schemars(range(min = 1, max = 65_535), extend("x-port" = true))]
    pub remote_port: u16,
}

/// Result of `ssh_forward`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ForwardResult {
    /// The forward, where it listens and where it leads.
    #[serde(flatten)]
    pub forward: ForwardRow,
    /// It listens.
    pub active: bool,
    /// The session that carries it.
    #[serde(flatten)]
    pub place: Place,
}

pub(super) async fn open(call: Call, params: ForwardParams) -> Result<Reply<ForwardResult>, Failure> {
    let ForwardParams { session_id, local_port, remote_address, remote_port } = params;
    let spec = ForwardSpec::new(local_port, &remote_address, remote_port)?;
    let opened = call.app.forward(&call.owner, &session_id, spec).await?;
    Ok(forward_reply(&opened.0, &opened.1))
}

/// The answer of `ssh_forward`.
#[must_use]
pub fn forward_reply(forward: &ForwardInfo, session: &SessionInfo) -> Reply<ForwardResult> {
    let place = Place::new(session.id, &session.target);
    let reply = Reply::from(ForwardResult { forward: forward.into(), active: forward.active, place });
    reply.notices(forward.is_shared.then(|| SHARED_NOTICE.into()).into_iter().collect())
}
