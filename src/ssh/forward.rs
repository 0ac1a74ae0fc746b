//! Local port forwards: a listener on 127.0.0.1 that leads through the session.
//!
//! A forward has a connection of its own. A slow local reader freezes the whole SSH connection it
//! is on, since russh gives window credit on receipt; so it must not share one with commands. Only where
//! a person would have to type a code for another login it does, and a reader that stands still is cut off.

pub mod policy;
mod reader;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
    sync::{Mutex as AsyncMutex, Semaphore},
    time::{Instant, timeout},
};
use tracing::Instrument;

use self::reader::Reader;
use super::{
    Error,
    client::{Channel, Connection},
    ids::{ForwardId, Owner, SessionId},
    quota::Held,
    registry::Entry,
    session::{Carrier, HEALTH_CHECK_TIMEOUT, Session},
};

/// Forwarded connections that are open at once on one forward; more wait in the listener's queue.
pub const MAX_FORWARDED: usize = 256;
/// How long the server may take to reach the target.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// After this long without an answer the server is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the goodbye of its connection may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(100);
/// Pause after an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Size of each copy buffer; larger ones gained nothing on loopback.
const COPY_BUFFER: usize = 64 << 10;

/// A forward as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardInfo {
    /// Its id.
    pub id: ForwardId,
    /// Where it listens.
    pub local: SocketAddr,
    /// Host that the remote side connects to.
    pub remote_host: String,
    /// Port that the remote side connects to.
    pub remote_port: u16,
    /// Whether it still listens.
    pub active: bool,
    /// Whether its connection carries other things too, so that a slow reader holds them up.
    pub is_shared: bool,
}

/// What to forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSpec {
    /// Port on 127.0.0.1; 0 takes any free one.
    pub local_port: u16,
    /// Host as the remote side knows it.
    pub remote_host: String,
    /// Its port.
    pub remote_port: u16,
}

impl ForwardSpec {
    /// Checks where to forward to.
    ///
    /// # Errors
    ///
    /// `InvalidRemoteAddress`, `InvalidPort`.
    pub fn new(local_port: u16, remote_host: &str, remote_port: u16) -> Result<Self, Error> {
        let host = remote_host.trim();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let valid = bare.parse::<std::net::IpAddr>().is_ok()
            || (!bare.is_empty() && bare.len() <= 253 && !bare.starts_with('-') && bare.bytes().all(is_name));
        if !valid {
            return Err(Error::InvalidRemoteAddress { address: super::client::address::shorten(remote_host) });
        }
        if remote_port == 0 {
            return Err(Error::InvalidPort { field: "remote_port", port: 0 });
        }
        Ok(Self { local_port, remote_host: bare.to_owned(), remote_port })
    }
}

/// An open forward, or the record of a closed one.
#[derive(Debug)]
pub struct Forward {
    /// Its id.
    pub id: ForwardId,
    /// The session it belongs to.
    pub session_id: SessionId,
    owner: Owner,
    spec: ForwardSpec,
    local: SocketAddr,
    is_shared: bool,
    ended: OnceLock<Instant>,
}

impl Forward {
    /// Listens, and forwards each connection until the session ends; `held` is its place until then.
    ///
    /// # Errors
    ///
    /// `PortInUse`, `PortPermission`, or why no connection to the host could be opened.
    pub(crate) async fn open(
        session: &Arc<Session>,
        spec: ForwardSpec,
        held: Held,
        deadline: Instant,
    ) -> Result<Arc<Self>, Error> {
        let listener = listen(spec.local_port).await?;
        let local = listener.local_addr().map_err(|error| Error::Internal(error.to_string()))?;
        let carrier = session.connections.carrier(deadline).await?;
        let is_shared = carrier.is_shared();
        let forward = Arc::new(Self {
            id: ForwardId::random(),
            session_id: session.id,
            owner: session.owner.clone(),
            spec,
            local,
            is_shared,
            ended: OnceLock::new(),
        });
        let span = tracing::info_span!("forward", id = %forward.id, session = %session.id);
        let link = Arc::new(Link { connection: AsyncMutex::new(Arc::new(carrier)), session: session.clone() });
        session.tasks.spawn(forward.clone().serve(listener, link, held).instrument(span));
        Ok(forward)
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, link: Arc<Link>, held: Held) {
        tokio::select! {
            () = self.accept_all(&listener, &link) => {}
            () = link.session.token.cancelled() => {}
        }
        // Port and place are free again before the record says that the forward has ended.
        drop((listener, held));
        let _ = self.ended.set(Instant::now());
        if let Some(own) = link.connection.lock().await.own() {
            own.disconnect(GOODBYE_TIMEOUT).await;
        }
    }

    async fn accept_all(&self, listener: &TcpListener, link: &Arc<Link>) {
        let room = Arc::new(Semaphore::new(MAX_FORWARDED));
        while let Ok(place) = room.clone().acquire_owned().await {
            let (local, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (spec, link) = (self.spec.clone(), link.clone());
            let counted = link.session.forwarded.add();
            let tasks = link.session.tasks.clone();
            let carrying = async move {
                tokio::select! {
                    () = carry(local, peer, &link, &spec) => {}
                    () = link.session.token.cancelled() => {}
                }
                link.session.touch();
                drop((counted, place));
            };
            tasks.spawn(carrying.in_current_span());
        }
    }

    /// The forward as it is listed.
    #[must_use]
    pub fn info(&self) -> ForwardInfo {
        ForwardInfo {
            id: self.id,
            local: self.local,
            remote_host: self.spec.remote_host.clone(),
            remote_port: self.spec.remote_port,
            active: self.is_active(),
            is_shared: self.is_shared,
        }
    }

    /// Whether it still listens.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.ended.get().is_none()
    }

    /// Whether this forward is what `spec` asks for.
    #[must_use]
    pub fn serves(&self, spec: &ForwardSpec) -> bool {
        self.spec == *spec
            || (spec.local_port == self.local.port()
                && (&spec.remote_host, spec.remote_port) == (&self.spec.remote_host, self.spec.remote_port))
    }
}

/// The connection of a forward, and the session that it belongs to.
struct Link {
    connection: AsyncMutex<Arc<Carrier>>,
    session: Arc<Session>,
}

impl Link {
    /// A channel to the target; over a new connection where the old one turns out to be lost.
    async fn open(&self, peer: SocketAddr, spec: &ForwardSpec) -> Option<(Channel, Arc<Carrier>)> {
        let mut carrier = self.connection().await?;
        let mut opened = open(&carrier, peer, spec).await;
        if opened.is_none() && carrier.is_closed() {
            carrier = self.connection().await?;
            opened = open(&carrier, peer, spec).await;
        }
        Some((opened?, carrier))
    }

    /// The connection; a new one where it was lost and the session itself is connected. A forward does
    /// not reconnect a session: until that is used again, its port refuses.
    async fn connection(&self) -> Option<Arc<Carrier>> {
        let mut connection = self.connection.lock().await;
        if connection.is_closed() {
            if !self.session.connections.is_connected() {
                return None;
            }
            let dialled = self.session.connections.carrier(Instant::now() + OPEN_TIMEOUT).await;
            *connection = Arc::new(dialled.inspect_err(|error| tracing::warn!(%error, "forward cannot connect")).ok()?);
        }
        Some(connection.clone())
    }
}

async fn listen(port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { port },
        io::ErrorKind::PermissionDenied => Error::PortPermission { port },
        _ => Error::Internal(error.to_string()),
    })
}

/// Carries one connection; each side's end of stream is passed on by itself.
async fn carry(local: TcpStream, peer: SocketAddr, link: &Link, spec: &ForwardSpec) {
    if let Err(error) = local.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn Nagle's algorithm off");
    }
    let Some((channel, carrier)) = link.open(peer, spec).await else { return };
    let mut local = Reader::new(local, carrier.is_shared());
    drop(carrier);
    let mut remote = channel.into_stream();
    let copied = copy_bidirectional_with_sizes(&mut local, &mut remote, COPY_BUFFER, COPY_BUFFER).await;
    tracing::debug!(?copied, "forwarded connection ended");
}

async fn open(connection: &Connection, peer: SocketAddr, spec: &ForwardSpec) -> Option<Channel> {
    let mut opening = pin!(connection.open_direct_tcpip(&spec.remote_host, spec.remote_port, peer));
    let mut opened = timeout(SILENCE, &mut opening).await;
    if opened.is_err() {
        // The target may be slow; a server that is silent too makes way for a new connection.
        if !connection.answers(HEALTH_CHECK_TIMEOUT).await {
            connection.cut();
        }
        opened = timeout(OPEN_TIMEOUT, opening).await;
    }
    match opened {
        Ok(Ok(channel)) => return Some(channel),
        Ok(Err(error)) => tracing::warn!(%error, "the server did not open the forwarded connection"),
        Err(_) => tracing::warn!("the server took too long to open the forwarded connection"),
    }
    None
}

impl Entry for Forward {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn ended_at(&self) -> Option<Instant> {
        self.ended.get().copied()
    }
}
