//! Local port forwards: a listener on 127.0.0.1 that leads through the session.
//!
//! A forward has connections of its own. A slow local reader freezes the whole SSH connection it
//! is on, since russh gives window credit on receipt; so it must not share one with commands. Only where
//! a person would have to type a code for another login it does, and a reader that stands still is cut off.

mod carry;
mod line;
pub mod policy;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    time::{Instant, timeout},
};
use tracing::Instrument;

use self::{
    carry::{Carried, carry, close},
    line::{Line, Lines, MAX_LINES},
};
use super::{
    Error,
    client::Channel,
    ids::{ForwardId, Owner, SessionId},
    quota::Held,
    registry::Entry,
    session::{HEALTH_CHECK_TIMEOUT, Session},
};

/// Forwarded connections that are open at once on one forward; more wait in the listener's queue.
pub const MAX_FORWARDED: usize = 256;
/// How long the server may take to reach the target.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// After this long without an answer the server is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(5);
/// How long an opening that nobody waits for is kept, to be closed when it comes.
const LATE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the goodbye of its connection may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(100);
/// Pause after an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
        let lines = Arc::new(Lines::new(carrier, session.clone()));
        session.tasks.spawn(forward.clone().serve(listener, lines, held).instrument(span));
        Ok(forward)
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, lines: Arc<Lines>, held: Held) {
        tokio::select! {
            () = self.accept_all(&listener, &lines) => {}
            () = lines.session.token.cancelled() => {}
        }
        // Port and place are free again before the record says that the forward has ended.
        drop((listener, held));
        let _ = self.ended.set(Instant::now());
        if let Some(own) = lines.last().await.connection.own() {
            own.disconnect(GOODBYE_TIMEOUT).await;
        }
    }

    async fn accept_all(&self, listener: &TcpListener, lines: &Arc<Lines>) {
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
            let (spec, lines) = (self.spec.clone(), lines.clone());
            let counted = lines.session.forwarded.add();
            let tasks = lines.session.tasks.clone();
            let carrying = async move {
                tokio::select! {
                    () = forward(local, peer, &lines, &spec) => {}
                    () = lines.session.token.cancelled() => {}
                }
                lines.session.touch();
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

/// A channel to the target; over another connection where the first turns out to be lost or is held up.
async fn channel(lines: &Lines, peer: SocketAddr, spec: &ForwardSpec) -> Option<(Channel, Arc<Line>)> {
    for _ in 0..MAX_LINES {
        let line = lines.line().await?;
        let held_up = line.is_held_up();
        let opened = tokio::select! {
            opened = open(lines, &line, peer, spec) => opened,
            // Where there is no better line, this one is waited for.
            () = line.holding_up(), if !held_up => continue,
        };
        match opened {
            None if line.connection.is_closed() => {}
            opened => return Some((opened?, line)),
        }
    }
    None
}

type Opened = Result<Channel, russh::Error>;

async fn listen(port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { port },
        io::ErrorKind::PermissionDenied => Error::PortPermission { port },
        _ => Error::Internal(error.to_string()),
    })
}

async fn forward(local: TcpStream, peer: SocketAddr, lines: &Lines, spec: &ForwardSpec) {
    if let Err(error) = local.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn Nagle's algorithm off");
    }
    let Some((channel, line)) = channel(lines, peer, spec).await else { return };
    if carry(local, channel, &line).await == Carried::FromHere {
        line.closed_from_here();
    }
}

async fn open(lines: &Lines, line: &Arc<Line>, peer: SocketAddr, spec: &ForwardSpec) -> Option<Channel> {
    let (tell, mut told) = oneshot::channel();
    let (opening, ends) = (opening(line.clone(), peer, spec.clone(), tell), lines.session.token.clone());
    lines.session.tasks.spawn(async move { ends.run_until_cancelled(opening).await }.in_current_span());
    let mut opened = timeout(SILENCE, &mut told).await;
    if opened.is_err() {
        // The target may be slow; a server that is silent too makes way for a new connection.
        if !line.connection.is_alive(HEALTH_CHECK_TIMEOUT).await && !line.is_held_up() {
            line.connection.cut();
        }
        opened = timeout(OPEN_TIMEOUT, &mut told).await;
    }
    match opened {
        Ok(Ok(Ok(channel))) => return Some(channel),
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the server did not open the forwarded connection"),
        Ok(Err(_)) | Err(_) => tracing::warn!("the server took too long to open the forwarded connection"),
    }
    None
}

/// Opens a channel, and closes it again where nobody waits for it any more: the target would stay connected.
async fn opening(line: Arc<Line>, peer: SocketAddr, spec: ForwardSpec, tell: oneshot::Sender<Opened>) {
    let opening = line.connection.open_direct_tcpip(&spec.remote_host, spec.remote_port, peer);
    let Ok(opened) = timeout(LATE_TIMEOUT, opening).await else { return };
    if let Err(Ok(late)) = tell.send(opened) {
        let (read, write) = late.split();
        close(read, &write).await;
        line.closed_from_here();
    }
}

impl Entry for Forward {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn ended_at(&self) -> Option<Instant> {
        self.ended.get().copied()
    }
}
