//! TCP servers that are no SSH servers, and one that stands before a real one.

pub(crate) mod wire;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};

use wire::Wire;

/// What a server does with each connection.
#[derive(Clone, Debug)]
pub(crate) enum Play {
    /// Takes the connection and says nothing, for ever.
    Silent,
    /// Says this, closes its half and waits until the client goes.
    Say(&'static [u8]),
    /// Answers the first thing that it reads with this and closes, as HTTP servers do.
    Answer(&'static [u8]),
    /// Says this again and again.
    Endless(&'static [u8]),
    /// Says this, one byte at a time and slowly, and never ends a line.
    Drip(&'static [u8]),
    /// Does this with so many connections, then passes all others on to a port of 127.0.0.1.
    Relay {
        /// What the first connections get.
        first: &'static [u8],
        /// How many those are.
        refused: usize,
        /// Where the others lead.
        port: u16,
    },
    /// Passes the first connection on to a port of 127.0.0.1; says nothing to all others.
    Once(u16),
}

/// A running server; it ends when dropped.
pub(crate) struct FakeServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl FakeServer {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) async fn start(play: Play) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), play).await.expect("a free port")
    }

    /// Listens on a free port of this address, if the machine has it.
    pub(crate) async fn start_on(ip: IpAddr, play: Play) -> std::io::Result<Self> {
        let listener = TcpListener::bind((ip, 0)).await?;
        let (address, connections) = (listener.local_addr()?, Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn(accept(listener, play, Arc::clone(&connections)));
        Ok(Self { address, connections, task })
    }

    /// `host:port` for `ssh_connect`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A server that speaks SSH as far as its script says. It ends when dropped.
pub(crate) struct HostileServer {
    port: u16,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl HostileServer {
    /// Listens on a free port of 127.0.0.1, and plays the script to each connection. When the script is over, or
    /// fails, it closes.
    pub(crate) async fn start<F>(script: impl Fn(Wire) -> F + Send + 'static) -> Self
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let mut host_key = [0; 32];
        getrandom::fill(&mut host_key).expect("random bytes");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let Ok(wire) = Wire::new(socket, &host_key) else { return };
                serving.spawn(script(wire));
            }
        });
        Self { port, connections, task }
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// `host:port` for `ssh_connect`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, play: Play, connections: Arc<AtomicUsize>) {
    // Dropped with this task, and its tasks with it.
    let mut serving = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let number = connections.fetch_add(1, Ordering::SeqCst);
        serving.spawn(serve(socket, play.clone(), number));
    }
}

async fn serve(mut socket: TcpStream, play: Play, number: usize) -> std::io::Result<()> {
    match play {
        Play::Silent => std::future::pending().await,
        Play::Say(text) => say(socket, text).await,
        Play::Answer(text) => {
            let _ = socket.read(&mut [0; 256]).await?;
            say(socket, text).await
        }
        Play::Endless(text) => loop {
            socket.write_all(text).await?;
        },
        Play::Drip(text) => {
            for byte in text.iter().cycle() {
                socket.write_all(&[*byte]).await?;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            Ok(())
        }
        Play::Relay { first, refused, .. } if number < refused => say(socket, first).await,
        Play::Once(_) if number > 0 => std::future::pending().await,
        Play::Once(port) | Play::Relay { port, .. } => {
            let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            tokio::io::copy_bidirectional(&mut socket, &mut far).await.map(drop)
        }
    }
}

/// Reads to the end before closing: bytes left unread would turn the close into a reset.
async fn say(mut socket: TcpStream, text: &[u8]) -> std::io::Result<()> {
    socket.write_all(text).await?;
    socket.shutdown().await?;
    tokio::io::copy(&mut socket, &mut tokio::io::sink()).await.map(drop)
}

/// A port of 127.0.0.1 that refuses for as long as this lives: bound, so nobody else gets it, and
/// never listening.
pub(crate) struct RefusingPort(TcpSocket);

impl RefusingPort {
    /// Any free one.
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        Self(socket)
    }

    /// `host:port` for `ssh_connect`.
    pub(crate) fn address(&self) -> String {
        self.0.local_addr().expect("an address").to_string()
    }
}
