//! Authentication: a password, a key, or every identity of the SSH agent in turn.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

#[cfg(unix)]
use super::agent_stream::AgentStream;
use super::{AgentUse, Given, LoginPlan};
use crate::{
    secret::Secret,
    ssh::client::{
        ClientError, KeyFile, Target,
        handler::{ClientHandler, LinkState},
    },
};
use russh::{
    MethodSet,
    client::{AuthResult, Handle},
    keys::{
        Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey,
        agent::{AgentIdentity, client::AgentClient},
    },
};

/// How long the agent may take for one answer; it may ask a person.
const AGENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Identities of the agent that are tried; servers stop far earlier.
const MAX_IDENTITIES: usize = 64;

/// How to authenticate. Wiped on drop; never shown.
#[derive(Clone)]
pub enum Credentials {
    /// A password.
    Password(Secret),
    /// A private key.
    Key(Arc<PrivateKey>),
    /// Every identity of the agent at this socket.
    Agent(PathBuf),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method())
    }
}

impl LoginPlan {
    /// Reads the key files, and says before anything is dialled what cannot work.
    ///
    /// # Errors
    ///
    /// `ClientError::Key`, `ClientError::AgentUnavailable`.
    pub async fn prepare(self) -> Result<Credentials, ClientError> {
        if let Some(password) = self.password {
            return Ok(Credentials::Password(password));
        }
        let mut called = self.identities.into_iter().filter(|key| matches!(key.given, Given::ByCall | Given::Beside));
        match (called.next(), &self.agent) {
            (Some(identity), _) => Credentials::from_key_file(identity.file).await,
            (None, AgentUse::At(socket) | AgentUse::OfEnvironment(Some(socket))) => Credentials::from_agent(Some(socket)),
            (None, AgentUse::OfEnvironment(None) | AgentUse::Off) => Credentials::from_agent(None),
        }
    }
}

impl Credentials {
    async fn from_key_file(file: KeyFile) -> Result<Self, ClientError> {
        let loaded = tokio::task::spawn_blocking(move || file.load()).await;
        let key = loaded.map_err(|error| ClientError::Protocol(error.to_string()))??;
        Ok(Credentials::Key(key))
    }

    fn from_agent(socket: Option<&Path>) -> Result<Self, ClientError> {
        let unset = || ClientError::AgentUnavailable { why: "SSH_AUTH_SOCK is not set".into() };
        socket.map(|socket| Credentials::Agent(socket.into())).ok_or_else(unset)
    }

    /// `password`, `publickey` or `agent`.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Credentials::Password(_) => "password",
            Credentials::Key(_) => "publickey",
            Credentials::Agent(_) => "agent",
        }
    }
}

/// Logs in; gives the method that the server accepted.
pub(in crate::ssh::client) async fn authenticate(
    handle: &mut Handle<ClientHandler>,
    target: &Target,
    credentials: &Credentials,
    link: &LinkState,
) -> Result<&'static str, ClientError> {
    let mut login = Login { handle, target, link, tried: Vec::new() };
    match credentials {
        Credentials::Password(password) => login.password(password).await?,
        Credentials::Key(key) => login.key(key).await?,
        Credentials::Agent(socket) => login.agent(socket).await?,
    }
    Ok(credentials.method())
}

struct Login<'a> {
    handle: &'a mut Handle<ClientHandler>,
    target: &'a Target,
    link: &'a LinkState,
    tried: Vec<String>,
}

impl Login<'_> {
    async fn password(&mut self, password: &Secret) -> Result<(), ClientError> {
        self.tried.push("password".into());
        let username = self.target.username.clone();
        let result = self.handle.authenticate_password(username, password.expose()).await;
        self.accepted(result.map_err(|error| self.lost(&error))?)
    }

    async fn key(&mut self, key: &Arc<PrivateKey>) -> Result<(), ClientError> {
        let hash = self.rsa_hash(&key.algorithm()).await?;
        self.tried.push(describe(key.public_key()));
        let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
        let result = self.handle.authenticate_publickey(self.target.username.clone(), key).await;
        self.accepted(result.map_err(|error| self.lost(&error))?)
    }

    async fn agent(&mut self, socket: &Path) -> Result<(), ClientError> {
        let mut agent = connect_agent(socket).await?;
        let identities = within("listing its keys", agent.request_identities()).await?;
        if identities.is_empty() {
            return Err(ClientError::AgentEmpty);
        }
        let mut last = None;
        for identity in identities.into_iter().take(MAX_IDENTITIES) {
            let result = self.identity(identity, &mut agent).await?;
            match self.accepted(result) {
                Ok(()) => return Ok(()),
                // The server has ended the connection: no further identity can be tried on it.
                Err(error) if self.handle.is_closed() => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(ClientError::AgentEmpty))
    }

    async fn identity(&mut self, identity: AgentIdentity, agent: &mut Agent) -> Result<AuthResult, ClientError> {
        let username = self.target.username.clone();
        let signed = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                let hash = self.rsa_hash(&key.algorithm()).await?;
                self.tried.push(describe(&key));
                self.handle.authenticate_publickey_with(username, key, hash, agent).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                let hash = self.rsa_hash(&certificate.algorithm()).await?;
                self.tried.push(format!("certificate {}", certificate.algorithm()));
                self.handle.authenticate_certificate_with(username, certificate, hash, agent).await
            }
        };
        // An agent that declines one key may still sign with the next.
        Ok(signed.unwrap_or_else(|error| {
            tracing::debug!(%error, "the agent did not sign");
            AuthResult::Failure { remaining_methods: MethodSet::empty(), partial_success: false }
        }))
    }

    /// RSA signs with SHA-2. A server that does not say what it takes gets SHA-512; SHA-1 is never used.
    async fn rsa_hash(&mut self, algorithm: &Algorithm) -> Result<Option<HashAlg>, ClientError> {
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return Ok(None);
        }
        let best = self.handle.best_supported_rsa_hash().await.map_err(|error| self.lost(&error))?;
        Ok(Some(best.flatten().unwrap_or(HashAlg::Sha512)))
    }

    fn accepted(&self, result: AuthResult) -> Result<(), ClientError> {
        match result {
            AuthResult::Success => Ok(()),
            AuthResult::Failure { remaining_methods, .. } => Err(self.refused(&remaining_methods)),
        }
    }

    /// russh reports a connection that was lost meanwhile as a refusal with no methods left.
    fn refused(&self, offered: &MethodSet) -> ClientError {
        let lost = offered.is_empty() && self.handle.is_closed() && !self.link.disconnected_by_server();
        if lost {
            let cause = self.link.cause().unwrap_or_else(|| "while authenticating".into());
            return self.hung_up(cause);
        }
        let names: Vec<&str> = offered.iter().map(Into::into).collect();
        let offered = match (names.is_empty(), self.link.cause()) {
            (true, Some(cause)) => cause,
            _ => names.join(","),
        };
        ClientError::AuthFailed { target: self.target.clone(), tried: self.tried.join(", "), offered }
    }

    fn lost(&self, error: &russh::Error) -> ClientError {
        let cause = self.link.cause().unwrap_or_else(|| error.to_string());
        self.hung_up(cause)
    }

    /// Once anything was tried, to try again could be one more failed login in the server's books.
    fn hung_up(&self, cause: String) -> ClientError {
        let target = self.target.clone();
        if self.tried.is_empty() {
            return ClientError::Lost { target, cause };
        }
        ClientError::LostInLogin { target, tried: self.tried.join(", "), cause }
    }
}

fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

type Agent = AgentClient<Box<dyn russh::keys::agent::client::AgentStream + Send + Unpin>>;

#[cfg(unix)]
async fn connect_agent(socket: &Path) -> Result<Agent, ClientError> {
    let connecting = async { Ok(tokio::net::UnixStream::connect(socket).await?) };
    let socket = within("connecting", connecting).await?;
    Ok(AgentClient::connect(AgentStream::new(socket, AGENT_TIMEOUT)).dynamic())
}

#[cfg(not(unix))]
async fn connect_agent(_socket: &Path) -> Result<Agent, ClientError> {
    Err(ClientError::AgentUnavailable { why: "it is supported on Unix only so far".into() })
}

async fn within<T>(what: &str, call: impl Future<Output = Result<T, russh::keys::Error>>) -> Result<T, ClientError> {
    let unavailable = |why: String| ClientError::AgentUnavailable { why: format!("{what}: {why}") };
    match tokio::time::timeout(AGENT_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(_) => Err(unavailable(format!("no answer within {} s", AGENT_TIMEOUT.as_secs()))),
    }
}
