//! What is listened on: a TCP port, and a Unix socket.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

#[cfg(unix)]
use poem::Addr;
use poem::web::{LocalAddr, RemoteAddr};
use tokio::net::{TcpListener, TcpStream};

#[cfg(unix)]
use super::unix::Socket;
use super::{
    super::Error,
    caller::{self, Caller, Sockets},
};

/// Where connections come from.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(Socket),
}

/// A connection as it was accepted.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream, SocketAddr),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

impl Listener {
    /// A port, and the address with its number.
    pub(super) async fn tcp(address: SocketAddr) -> Result<(Self, SocketAddr), Error> {
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::PortInUse(address),
            _ => Error::Listen { address, source },
        })?;
        let address = listener.local_addr()?;
        Ok((Self::Tcp(listener), address))
    }

    /// A Unix socket.
    #[cfg(unix)]
    pub(super) async fn unix(path: &Path) -> Result<Self, Error> {
        Ok(Self::Unix(Socket::bind(path).await?))
    }

    /// Elsewhere there is none.
    #[cfg(not(unix))]
    pub(super) async fn unix(path: &Path) -> Result<Self, Error> {
        Err(Error::Socket { path: path.to_owned(), source: io::ErrorKind::Unsupported.into() })
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // Answers are small and somebody waits for each.
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream, remote))
            }
            #[cfg(unix)]
            Self::Unix(socket) => Ok(Stream::Unix(socket.accept().await?)),
        }
    }
}

/// The two ends of a connection, and who has the other one.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) local: LocalAddr,
    pub(super) remote: RemoteAddr,
    pub(super) caller: Caller,
}

impl Ends {
    /// Of a TCP connection. Without `sockets` nobody is looked up: callers are known by their token.
    pub(super) async fn of_tcp(
        stream: &TcpStream,
        remote: SocketAddr,
        sockets: Option<&Arc<Sockets>>,
    ) -> io::Result<Self> {
        let local = stream.local_addr()?;
        let caller = match sockets {
            Some(sockets) => caller::look_up(sockets.clone(), remote, local).await,
            None => Caller::Unchecked,
        };
        Ok(Self { local: LocalAddr(local.into()), remote: RemoteAddr(remote.into()), caller })
    }

    /// Of a Unix socket, where the kernel vouches for the caller.
    #[cfg(unix)]
    pub(super) fn of_unix(stream: &tokio::net::UnixStream) -> Self {
        let caller = match stream.peer_cred() {
            Ok(peer) => Caller::of(peer.uid(), caller::own_uid()),
            Err(_) => Caller::Unknown,
        };
        let end = || Addr::custom("unix", "");
        Self { local: LocalAddr(end()), remote: RemoteAddr(end()), caller }
    }
}
