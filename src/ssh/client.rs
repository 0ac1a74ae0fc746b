//! Connecting: resolve, dial, verify the host key, authenticate; retried where that can help.
//!
//! Owns nothing that outlives a [`Connection`]. Everything here runs under the caller's one deadline.

pub mod address;
mod agent_forward;
mod algorithms;
mod error;
mod handler;
pub mod host_key;
mod key_file;
pub mod login;
mod retry;
pub mod route;
mod stream;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use russh::client::Handle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use self::{agent_forward::AgentForward, key_file::KeyFileError};
pub use self::{
    algorithms::{Algorithms, Keepalive, Rekey},
    error::ClientError,
    key_file::KeyFile,
    login::Credentials,
    retry::RetryPolicy,
};
use self::{
    handler::{ClientHandler, LinkState},
    host_key::KnownHosts,
    login::AgentUse,
    route::{Reach, Route, Under, Way},
    stream::LinkStream,
};
use crate::{config::Compression, secret::Secret, ssh::counter::Counted};

/// Who is reached where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Login name on the host.
    pub username: String,
}

impl Target {
    /// `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn host_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Hosts in a row, as `ssh -J` takes them.
    #[must_use]
    pub fn chain(hops: &[Self]) -> String {
        hops.iter().map(Self::to_string).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.username, self.host_port())
    }
}

/// The host key that the server proved to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeyInfo {
    /// Such as `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:...` as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// Why it was trusted.
    pub trust: Trust,
    /// What was odd about the known_hosts files.
    pub warnings: Vec<String>,
}

/// Why a host key was trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It stood in a known_hosts file.
    Known,
    /// A known authority certified it.
    Certified,
    /// The host was unknown; the key was recorded on this first use.
    AcceptedNew,
    /// The host was unknown; a person approved the key, and it was recorded.
    Approved,
}

impl Trust {
    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Trust::Known => "known",
            Trust::AcceptedNew => "accepted_new",
            Trust::Certified => "certified",
            Trust::Approved => "approved",
        }
    }
}

/// Everything that is needed to connect, and to connect again.
#[derive(Clone, Debug)]
pub struct ConnectSpec {
    /// Who is reached where.
    pub target: Target,
    /// How it is reached.
    pub route: Route,
    /// How to authenticate. Kept only as long as the session; wiped on drop.
    pub credentials: Credentials,
    /// How transient failures are retried.
    pub retry: RetryPolicy,
    /// zlib.
    pub compression: Compression,
    /// What may be negotiated, and how the connection is kept up.
    pub algorithms: Algorithms,
    /// Which host keys are trusted.
    pub known_hosts: Arc<KnownHosts>,
    /// The name that the host has in known_hosts files and certificates, in place of its address (`HostKeyAlias`).
    pub host_key_alias: Option<String>,
    /// Variables that each command is given, as far as the server takes them.
    pub environment: Environment,
    /// The agent that its commands may use (`ForwardAgent`); none unless a person allows it.
    pub forward_agent: Option<AgentUse>,
    /// SHA-256 fingerprint of the host key that a person approved for this one connection: no other
    /// key will do.
    pub approved_key: Option<String>,
    /// The whole of connecting, when it is done again.
    pub timeout: Duration,
    /// A lost connection is replaced at the next use.
    pub reconnect: bool,
    /// Connections that one session opens for its commands.
    pub max_connections: usize,
}

impl ConnectSpec {
    /// What known_hosts files call the host. An alias has no port there, as in OpenSSH.
    fn known_as(&self) -> (String, u16) {
        match &self.host_key_alias {
            Some(alias) => (alias.clone(), address::DEFAULT_PORT),
            None => (self.target.host.clone(), self.target.port),
        }
    }
}

/// Variables that a command is given (`SetEnv`, `SendEnv`). Their values may be secret.
#[derive(Clone, Default)]
pub struct Environment(pub Arc<[(String, Secret)]>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// One authenticated SSH connection. Ends when dropped.
pub struct Connection {
    handle: Handle<ClientHandler>,
    link: Arc<LinkState>,
    /// The agent, where commands may use it.
    pub(crate) agent: Option<Arc<AgentForward>>,
    /// What the server proved and said while connecting.
    pub facts: Facts,
    /// The address that was reached, where it is known.
    pub(crate) peer: Option<SocketAddr>,
    /// The server is on the machine of this process, or may be.
    pub(crate) on_this_machine: bool,
    /// What a person had to type.
    pub(crate) typed: Typed,
    /// Cuts the socket, so that russh's own task ends even when the peer is silent.
    cut: CancellationToken,
    _cut: DropGuard,
    /// The last to go: the stream leads through it.
    _under: Under,
}

/// How long a local program may take nothing of what a forward sends it, where its connection carries other work too:
/// meanwhile all of that stands still.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(5);

/// Who asked for what a person typed when a connection was opened. One like it cannot be opened without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Nobody.
    Nothing,
    /// A jump host. As long as its connection is there, a further one can be opened through it.
    OnTheWay,
    /// The server itself.
    AtTheEnd,
}

/// What is known of a connection from its handshake.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The host key.
    pub host_key: HostKeyInfo,
    /// Such as `SSH-2.0-OpenSSH_9.2p1 Debian-2`.
    pub server_version: String,
    /// zlib was negotiated.
    pub compression_enabled: bool,
    /// What was negotiated.
    pub negotiated: Negotiated,
    /// What the caller should know about the algorithms.
    pub warnings: Vec<String>,
    /// What the server took: `password`, `publickey`, `agent`, `keyboard-interactive`; several with commas.
    pub auth_method: String,
}

/// The algorithms of a connection, by the names of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// Key exchange.
    pub kex: String,
    /// Signature of the host key.
    pub host_key: String,
    /// Cipher, of both directions.
    pub cipher: String,
    /// MAC, of both directions; nothing where the cipher needs none.
    pub mac: Option<String>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// A channel as russh gives it.
pub(crate) type Channel = russh::Channel<russh::client::Msg>;

/// Connects until `deadline`; transient failures are retried. Gives the number of retries, with
/// the failure too.
///
/// # Errors
///
/// Every [`ClientError`].
pub async fn connect(spec: &ConnectSpec, deadline: Instant) -> (Result<Connection, ClientError>, u32) {
    connect_to(spec, Reach { peer: None, shared: true }, deadline).await
}

/// As [`connect`], with more to say on how it is reached.
pub(crate) async fn connect_to(
    spec: &ConnectSpec,
    reach: Reach,
    deadline: Instant,
) -> (Result<Connection, ClientError>, u32) {
    let (connection, retries) =
        retry::until(&spec.target, deadline, spec.retry, || attempt(spec, reach, deadline)).await;
    (connection.map_err(|error| error.on_the_way(spec.route.hops())), retries)
}

/// One login. It may take several connections.
async fn attempt(spec: &ConnectSpec, reach: Reach, deadline: Instant) -> Result<Connection, ClientError> {
    let mut progress = login::Progress::new(&spec.credentials);
    loop {
        match connect_once(spec, reach, deadline, &mut progress).await {
            Ok(Some(connection)) => {
                spec.credentials.forget_answers();
                return Ok(connection);
            }
            Ok(None) => {}
            Err(error) => return Err(progress.judge(error, &spec.target)),
        }
    }
}

/// One connection; none where the login goes on over a further one.
async fn connect_once(
    spec: &ConnectSpec,
    reach: Reach,
    deadline: Instant,
    progress: &mut login::Progress<'_>,
) -> Result<Option<Connection>, ClientError> {
    let mut offer = spec.algorithms.offer()?;
    let notices = std::mem::take(&mut offer.notices);
    let Way { stream, peer, on_this_machine, mut under } = spec.route.open(&spec.target, reach, deadline).await?;
    let cut = CancellationToken::new();
    let guard = cut.clone().drop_guard();
    let link = Arc::new(LinkState::default());
    let stream = LinkStream::new(stream, cut.clone(), link.clone());
    let agent = spec.forward_agent.clone().map(|agent| Arc::new(AgentForward::new(agent, spec.target.clone())));
    let handler = ClientHandler::new(spec, link.clone(), agent.clone());
    let (known_hosts, (host, port)) = (spec.known_hosts.clone(), spec.known_as());
    let wanted = tokio::task::spawn_blocking(move || known_hosts.wanted(&host, port)).await;
    let wanted = wanted.map_err(|error| ClientError::Protocol(error.to_string()))?;
    let wanted =
        wanted.map_err(|source| ClientError::HostKey { target: spec.target.clone(), source: source.into() })?;
    let config = Arc::new(handler::config(spec, offer, &wanted));
    let mut handle = match russh::client::connect_stream(config, stream, handler).await {
        Ok(handle) => handle,
        Err(error) => {
            let error = error.before_authentication(spec, &link);
            return Err(under.explain(&spec.target, error).await);
        }
    };
    if let Some(agent) = &agent {
        agent.bind(handle.agent_session_binding());
    }
    let outcome = login::authenticate(&mut handle, &spec.target, &link, deadline, progress).await?;
    let login::Outcome::In(auth_method) = outcome else { return Ok(None) };
    let mut facts = link.facts(auth_method).ok_or(ClientError::Protocol("no host key was shown".into()))?;
    facts.warnings.extend(notices);
    let typed = if progress.typed { Typed::AtTheEnd } else { under.typed() };
    Ok(Some(Connection { handle, link, agent, facts, peer, on_this_machine, typed, cut, _cut: guard, _under: under }))
}

impl Connection {
    /// Opens a session channel.
    pub(crate) async fn open_session(&self) -> Result<Channel, russh::Error> {
        self.handle.channel_open_session().await
    }

    /// Opens a channel to `host:port` as the server sees it.
    pub(crate) async fn open_direct_tcpip(
        &self,
        host: &str,
        port: u16,
        originator: SocketAddr,
    ) -> Result<Channel, russh::Error> {
        self.handle
            .channel_open_direct_tcpip(host, port.into(), originator.ip().to_string(), originator.port().into())
            .await
    }

    /// Whether anything comes from the server within `bound`, which is asked for a sign of life; later where a forward
    /// may hold up the answer. On a slow link the answer stands behind all the output that is on its way: that is a sign
    /// of life too. While we do not read ourselves, silence is none of the server's.
    pub async fn is_alive(&self, bound: Duration) -> bool {
        let heard = self.link.heard();
        tokio::select! {
            answered = self.answers(bound) => answered || (self.link.stalls.get() > 0 && !self.is_closed()),
            () = self.link.hears_more_than(heard) => !self.is_closed(),
        }
    }

    /// Whether the server answers within `bound`; later where a forward may hold up the answer. All that it sent before
    /// has come then.
    pub async fn answers(&self, bound: Duration) -> bool {
        let bound = if self.typed == Typed::Nothing { bound } else { bound + STALL_LIMIT };
        let answered = tokio::time::timeout(bound, self.handle.send_ping()).await;
        answered.is_ok_and(|sent| sent.is_ok()) && !self.is_closed()
    }

    /// Nothing is read here, for want of something else, until the result is dropped.
    pub(crate) fn stall(&self) -> Counted {
        self.link.stalls.add()
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.cut.is_cancelled() || self.link.closed.is_cancelled() || self.handle.is_closed()
    }

    /// Ends the connection at once and without a goodbye: its peer does not answer.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) {
        self.link.closed.cancelled().await;
    }

    /// Why the connection ended, as far as it is known.
    #[must_use]
    pub fn cause(&self) -> String {
        self.link.cause().unwrap_or_else(|| "connection closed".into())
    }

    /// Says goodbye and waits, at most for `bound`, until the connection has ended.
    pub async fn disconnect(&self, bound: Duration) {
        let goodbye = async {
            let reason = russh::Disconnect::ByApplication;
            if self.handle.disconnect(reason, "", "").await.is_ok() {
                self.closed().await;
            }
        };
        // A peer that does not read is cut off when the connection is dropped.
        let _ = tokio::time::timeout(bound, goodbye).await;
    }
}
