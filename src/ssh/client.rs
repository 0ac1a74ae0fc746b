//! Connecting: resolve, dial, verify the host key, authenticate; retried where that can help.
//!
//! Owns nothing that outlives a [`Connection`]. Everything here runs under the caller's one deadline.

pub mod address;
mod error;
mod handler;
pub mod host_key;
mod key_file;
pub mod login;
mod retry;
mod stream;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use russh::client::Handle;
use tokio::{net::TcpStream, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use self::key_file::KeyFileError;
pub use self::{error::ClientError, key_file::KeyFile, login::Credentials, retry::RetryPolicy};
use self::{
    handler::{ClientHandler, LinkState},
    host_key::KnownHosts,
    stream::LinkStream,
};
use crate::config::Compression;

/// How often an idle connection is probed, and how many unanswered probes end it: a dead link is
/// noticed after about 90 s without traffic, and keeps NAT entries alive before that.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_MAX: usize = 3;

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
    /// How to authenticate. Kept only as long as the session; wiped on drop.
    pub credentials: Credentials,
    /// How transient failures are retried.
    pub retry: RetryPolicy,
    /// zlib.
    pub compression: Compression,
    /// Which host keys are trusted.
    pub known_hosts: Arc<KnownHosts>,
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

/// One authenticated SSH connection. Ends when dropped.
pub struct Connection {
    handle: Handle<ClientHandler>,
    link: Arc<LinkState>,
    /// What the server proved and said while connecting.
    pub facts: Facts,
    /// The address that was reached.
    pub(crate) peer: SocketAddr,
    /// The server is on the machine of this process.
    pub(crate) on_this_machine: bool,
    /// Cuts the socket, so that russh's own task ends even when the peer is silent.
    cut: CancellationToken,
    _cut: DropGuard,
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
    /// What the server took: `password`, `publickey`, `agent`, `keyboard-interactive`; several with commas.
    pub auth_method: String,
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
    connect_to(spec, None, deadline).await
}

/// As [`connect`]; to `peer` and nowhere else, where that is given.
pub(crate) async fn connect_to(
    spec: &ConnectSpec,
    peer: Option<SocketAddr>,
    deadline: Instant,
) -> (Result<Connection, ClientError>, u32) {
    retry::until(&spec.target, deadline, spec.retry, || attempt(spec, peer, deadline)).await
}

/// One login. It may take several connections.
async fn attempt(spec: &ConnectSpec, peer: Option<SocketAddr>, deadline: Instant) -> Result<Connection, ClientError> {
    let mut progress = login::Progress::new(&spec.credentials);
    loop {
        match connect_once(spec, peer, deadline, &mut progress).await {
            Ok(Some(connection)) => return Ok(connection),
            Ok(None) => {}
            Err(error) => return Err(progress.judge(error, &spec.target)),
        }
    }
}

/// One connection; none where the login goes on over a further one.
async fn connect_once(
    spec: &ConnectSpec,
    peer: Option<SocketAddr>,
    deadline: Instant,
    progress: &mut login::Progress<'_>,
) -> Result<Option<Connection>, ClientError> {
    let addresses = match peer {
        Some(peer) => vec![peer],
        None => resolve(&spec.target).await?,
    };
    let tcp = dial(&spec.target, &addresses, deadline).await?;
    let peer = tcp.peer_addr().map_err(|error| ClientError::io(&spec.target, error))?;
    let own = tcp.local_addr().map_err(|error| ClientError::io(&spec.target, error))?;
    // Whoever talks to an address of its own does so from that address.
    let on_this_machine = peer.ip().to_canonical().is_loopback() || peer.ip() == own.ip();
    let cut = CancellationToken::new();
    let guard = cut.clone().drop_guard();
    let link = Arc::new(LinkState::default());
    let stream = LinkStream::new(tcp, cut.clone(), link.clone());
    let handler = ClientHandler::new(spec, link.clone());
    let (known_hosts, host, port) = (spec.known_hosts.clone(), spec.target.host.clone(), spec.target.port);
    let wanted = tokio::task::spawn_blocking(move || known_hosts.wanted(&host, port)).await;
    let wanted = wanted.map_err(|error| ClientError::Protocol(error.to_string()))?;
    let wanted =
        wanted.map_err(|source| ClientError::HostKey { target: spec.target.clone(), source: source.into() })?;
    let config = Arc::new(handler::config(spec.compression, &wanted));
    let mut handle = russh::client::connect_stream(config, stream, handler)
        .await
        .map_err(|error| error.before_authentication(&spec.target, &link))?;
    let outcome = login::authenticate(&mut handle, &spec.target, &link, deadline, progress).await?;
    let login::Outcome::In(auth_method) = outcome else { return Ok(None) };
    let facts = link.facts(auth_method).ok_or(ClientError::Protocol("no host key was shown".into()))?;
    Ok(Some(Connection { handle, link, facts, peer, on_this_machine, cut, _cut: guard }))
}

/// Addresses of the host. Blocking look-up on a thread of its own: its error kinds, which the
/// async look-up of tokio hides, tell a temporary failure from an unknown name.
async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, ClientError> {
    let (host, port) = (target.host.clone(), target.port);
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let looked_up = tokio::task::spawn_blocking(move || {
        let hints = dns_lookup::AddrInfoHints { socktype: dns_lookup::SockType::Stream.into(), ..Default::default() };
        let service = port.to_string();
        let found = dns_lookup::getaddrinfo(Some(&host), Some(&service), Some(hints))?;
        Ok(found.filter_map(Result::ok).map(|info| info.sockaddr).take(MAX_ADDRESSES).collect::<Vec<_>>())
    });
    let failed = |temporary| ClientError::Resolve { target: target.clone(), temporary };
    match looked_up.await {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(failed(false)),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(failed(is_temporary(&error))),
        Err(_) => Err(failed(true)),
    }
}

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

fn is_temporary(error: &dns_lookup::LookupError) -> bool {
    matches!(error.kind(), dns_lookup::LookupErrorKind::Again)
}

/// Tries the addresses in turn; each gets an equal share of the time that is left, so one black
/// hole does not use it all.
async fn dial(target: &Target, addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, ClientError> {
    let mut last = None;
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Nagle's algorithm costs 40 ms per command.
                tcp.set_nodelay(true).map_err(|error| ClientError::io(target, error))?;
                return Ok(tcp);
            }
            Ok(Err(error)) => last = Some(ClientError::io(target, error)),
            Err(_) => last = Some(ClientError::Timeout { target: target.clone(), after: share, last: None }),
        }
    }
    Err(last.unwrap_or_else(|| ClientError::Resolve { target: target.clone(), temporary: false }))
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

    /// Whether the server answers within `bound`.
    pub async fn answers(&self, bound: Duration) -> bool {
        tokio::time::timeout(bound, self.handle.send_ping()).await.is_ok_and(|sent| sent.is_ok()) && !self.is_closed()
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
