//! The SSH agent: reached by its socket, on Windows by a pipe or as Pageant.

use std::time::Duration;

use russh::keys::{
    self,
    agent::{AgentIdentity, AgentSessionBinding, client::AgentClient},
};

use super::{AgentUse, agent_stream::AgentStream};
use crate::ssh::client::ClientError;

/// How long the agent may take to list its keys: it asks nobody for that.
pub(super) const LIST_LIMIT: Duration = Duration::from_secs(5);

/// The way to the agent.
pub(in crate::ssh::client) type Socket = Box<dyn keys::agent::client::AgentStream + Send + Unpin>;
pub(super) type Agent = AgentClient<Socket>;

/// Connects, and tells the agent which connection it is for: it may hold keys that are good for some hosts only.
pub(super) async fn connect(
    which: &AgentUse,
    binding: Option<&AgentSessionBinding>,
    limit: Duration,
) -> Result<Agent, ClientError> {
    bound(which, binding, limit, false).await
}

/// Connects for somebody else, and tells the agent which connection asks from then on.
pub(in crate::ssh::client) async fn lent(
    which: &AgentUse,
    binding: Option<&AgentSessionBinding>,
    limit: Duration,
) -> Result<Socket, ClientError> {
    Ok(bound(which, binding, limit, true).await?.into_inner())
}

async fn bound(
    which: &AgentUse,
    binding: Option<&AgentSessionBinding>,
    limit: Duration,
    forwards: bool,
) -> Result<Agent, ClientError> {
    let mut agent = within("connecting", open(which, limit)).await?;
    if let Some(binding) = binding {
        // An agent that knows nothing of it has no such keys, and says so.
        let bound = async { Ok(agent.bind_session(binding, forwards).await) };
        let _ = within("telling it the host", bound).await?;
    }
    Ok(agent)
}

/// What the agent holds.
pub(super) async fn identities(agent: &mut Agent) -> Result<Vec<AgentIdentity>, ClientError> {
    within("listing its keys", agent.request_identities()).await
}

/// Said before anything is dialled, where there is nobody to ask.
pub(super) fn missing() -> ClientError {
    ClientError::AgentUnavailable { why: "SSH_AUTH_SOCK is not set".into() }
}

impl AgentUse {
    /// Whether there can be an agent at all.
    #[must_use]
    pub fn is_named(&self) -> bool {
        match self {
            AgentUse::Off => false,
            AgentUse::OfEnvironment(None) => cfg!(windows),
            AgentUse::OfEnvironment(Some(_)) | AgentUse::At(_) => true,
        }
    }
}

#[cfg(unix)]
async fn open(which: &AgentUse, limit: Duration) -> Result<Agent, keys::Error> {
    match which {
        AgentUse::At(socket) | AgentUse::OfEnvironment(Some(socket)) => {
            let socket = tokio::net::UnixStream::connect(socket).await?;
            Ok(AgentClient::connect(AgentStream::new(socket, limit)).dynamic())
        }
        AgentUse::Off | AgentUse::OfEnvironment(None) => Err(keys::Error::EnvVar("SSH_AUTH_SOCK")),
    }
}

/// A pipe, where one is named; else that of OpenSSH for Windows, then Pageant.
#[cfg(windows)]
async fn open(which: &AgentUse, limit: Duration) -> Result<Agent, keys::Error> {
    const OPENSSH_PIPE: &str = r"\\.\pipe\openssh-ssh-agent";
    let named = match which {
        AgentUse::At(pipe) | AgentUse::OfEnvironment(Some(pipe)) => Some(pipe.as_os_str()),
        AgentUse::Off | AgentUse::OfEnvironment(None) => None,
    };
    let pipe = AgentClient::connect_named_pipe(named.unwrap_or(OPENSSH_PIPE.as_ref())).await;
    match pipe {
        Ok(agent) => Ok(AgentClient::connect(AgentStream::new(agent.into_inner(), limit)).dynamic()),
        Err(error) if named.is_some() => Err(error),
        Err(_) => {
            let pageant = AgentClient::connect_pageant().await?;
            Ok(AgentClient::connect(AgentStream::new(pageant.into_inner(), limit)).dynamic())
        }
    }
}

#[cfg(not(any(unix, windows)))]
async fn open(_which: &AgentUse, _limit: Duration) -> Result<Agent, keys::Error> {
    Err(keys::Error::EnvVar("SSH_AUTH_SOCK"))
}

async fn within<T>(what: &str, call: impl Future<Output = Result<T, keys::Error>>) -> Result<T, ClientError> {
    let unavailable = |why: String| ClientError::AgentUnavailable { why: format!("{what}: {why}") };
    match tokio::time::timeout(LIST_LIMIT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(_) => Err(unavailable(format!("no answer within {} s", LIST_LIMIT.as_secs()))),
    }
}
