//! How the stream of bytes to an SSH server comes about: by TCP, through SSH servers, a program or a proxy.
//!
//! Owns what lies below the stream (`Under`) for as long as its connection lives. Speaks no SSH itself: a jump host is
//! connected to like any other server, its host key checked and its login done before a channel is asked of it.

mod command;
mod dial;
mod error;
pub mod hops;
mod jump;
mod proxy;
mod same;

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};

pub use self::{
    command::ProxyCommand,
    dial::{AddressFamily, Dial},
    error::{ProxyFault, RouteError},
    jump::{JumpPool, Jumps, MAX_HOPS, TooManyHops},
};
use self::{command::Running, jump::Lease};
use super::{ClientError, ConnectSpec, Target, Typed};
pub use crate::config::{ProxyKind, ProxyServer};

/// How the server is reached.
#[derive(Clone, Debug)]
pub enum Route {
    /// By TCP; its name is looked up here.
    Direct(Dial),
    /// Through an SSH server, which has a login, a host-key check and a route of its own. Made by
    /// [`Route::through`].
    Jump(Jump),
    /// Through a local program, whose standard input and output are the stream.
    Command(ProxyCommand),
    /// Through a SOCKS5 or HTTP proxy, which is reached as [`Dial`] says and looks the name up.
    Proxy(ProxyServer, Dial),
}

impl Default for Route {
    fn default() -> Self {
        Route::Direct(Dial::default())
    }
}

/// The last SSH server on the way.
#[derive(Clone, Debug)]
pub struct Jump {
    /// It; its own route leads to it.
    server: Arc<ConnectSpec>,
    /// Where its connection is shared.
    jumps: Jumps,
}

impl Route {
    /// Through these servers, the nearest first; none: directly. The route of the first one stays as it is, each other
    /// one is reached through the one before it. The timeout, retries and connection limit of a hop do not count: those
    /// of the session do.
    ///
    /// # Errors
    ///
    /// [`TooManyHops`]: at most [`MAX_HOPS`], those in the route of the first one included.
    pub fn through(hops: Vec<ConnectSpec>, jumps: &Jumps) -> Result<Self, TooManyHops> {
        let mut hops = hops.into_iter();
        let Some(mut last) = hops.next() else { return Ok(Route::default()) };
        let mut count = 1 + last.route.hops();
        for mut hop in hops {
            hop.route = Route::Jump(Jump { server: Arc::new(last), jumps: jumps.clone() });
            last = hop;
            count += 1;
        }
        if count > MAX_HOPS {
            return Err(TooManyHops { count });
        }
        Ok(Route::Jump(Jump { server: Arc::new(last), jumps: jumps.clone() }))
    }

    /// SSH servers on the way.
    #[must_use]
    pub fn hops(&self) -> usize {
        match self {
            Route::Jump(jump) => 1 + jump.server.route.hops(),
            _ => 0,
        }
    }

    /// The SSH servers on the way, nearest first.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let Route::Jump(jump) = self else { return Vec::new() };
        let mut targets = jump.server.route.targets();
        targets.push(jump.server.target.clone());
        targets
    }

    /// Makes the stream.
    pub(super) async fn open(&self, target: &Target, reach: Reach, deadline: Instant) -> Result<Way, ClientError> {
        match self {
            Route::Direct(dial) => {
                let tcp = dial.connect(target, reach.peer, deadline).await?;
                let peer = tcp.peer_addr().map_err(|error| ClientError::io(target, error))?;
                let on_this_machine = dial::is_on_this_machine(&tcp);
                Ok(Way { stream: Stream::Tcp(tcp), peer: Some(peer), on_this_machine, under: Under::Nothing })
            }
            Route::Jump(jump) => {
                let (channel, lease) = jump.connect(target, reach, deadline).await?;
                Ok(Way::unknown(Stream::Other(Box::new(channel)), Under::Jump(lease)))
            }
            Route::Command(command) => {
                let (stream, running) = command.start(target)?;
                Ok(Way::unknown(Stream::Other(Box::new(stream)), Under::Command(Box::new(running))))
            }
            Route::Proxy(proxy, dial) => {
                let tcp = proxy.connect(dial, target, deadline).await?;
                Ok(Way::unknown(Stream::Tcp(tcp), Under::Nothing))
            }
        }
    }
}

/// What a connection is to be besides what its [`ConnectSpec`] says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// The address that a direct connection leads to, and no other.
    pub(crate) peer: Option<SocketAddr>,
    /// Connections to jump hosts may serve others too. Not so where a slow reader at this end can stop the connection:
    /// it would stop all that go through the same jump host.
    pub(crate) shared: bool,
}

/// A stream to a server.
pub(super) struct Way {
    pub(super) stream: Stream,
    /// The address that was reached, where it is known here.
    pub(super) peer: Option<SocketAddr>,
    /// The server is on the machine of this process, or may be.
    pub(super) on_this_machine: bool,
    pub(super) under: Under,
}

impl Way {
    /// A way whose end cannot be seen from here: it may lead back.
    const fn unknown(stream: Stream, under: Under) -> Self {
        Self { stream, peer: None, on_this_machine: true, under }
    }
}

/// The stream itself.
pub(super) enum Stream {
    Tcp(TcpStream),
    Other(Box<dyn Duplex>),
}

/// Both directions in one.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What the stream needs as long as it is used, and that ends with it.
pub(super) enum Under {
    Nothing,
    Jump(Lease),
    Command(Box<Running>),
}

impl Under {
    /// What a person had to type for it.
    pub(super) fn typed(&self) -> Typed {
        match self {
            Under::Jump(lease) if lease.was_typed() => Typed::OnTheWay,
            _ => Typed::Nothing,
        }
    }

    /// The failure of the handshake as what it is.
    pub(super) async fn explain(&mut self, target: &Target, error: ClientError) -> ClientError {
        match self {
            Under::Command(running) if error.is_loss() => running.explain(target, error).await,
            _ => error,
        }
    }
}
