//! A throw-away SSH host on loopback: russh's server half, running real commands of this machine.
//!
//! It is open to one random key, and to a password if the options name one. Self-contained, because
//! `examples/demo.rs` includes this file too. Where a real shell cannot misbehave as a test needs it,
//! a command that begins with `@` plays a script instead: see `exec::script`.
//!
//! Nothing here holds up russh's event loop: each channel has a task of its own, and all of them end
//! with their connection, all connections with the host.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, MethodKind, Preferred,
    keys::{
        HashAlg, PrivateKey, PublicKey,
        ssh_key::{LineEnding, private::Ed25519Keypair},
    },
    server::{self, Auth, ChannelOpenHandle, Config, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

// The demo includes this file by its path; plain `mod` lines would then be looked up elsewhere.
#[path = "embedded_host/exec.rs"]
mod exec;
#[path = "embedded_host/factors.rs"]
pub(crate) mod factors;
#[path = "embedded_host/forward.rs"]
mod forward;

use exec::SessionChannel;
use factors::{Factors, Passed};
use forward::forward;

/// What a host accepts; by default its random key only, and any number of sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    password: Option<String>,
    max_sessions: Option<usize>,
    hang_up_on_login: bool,
    algorithms: Option<(PrivateKey, Preferred)>,
    factors: Factors,
}

impl Options {
    /// Negotiates these and nothing else, with this host key.
    pub(crate) fn algorithms(mut self, host_key: PrivateKey, preferred: Preferred) -> Self {
        self.algorithms = Some((host_key, preferred));
        self
    }

    /// Wants these factors.
    pub(crate) fn factors(mut self, factors: Factors) -> Self {
        self.factors = factors;
        self
    }

    /// Accepts this password too.
    pub(crate) fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Refuses one session channel more than this per connection, as `MaxSessions` of sshd does.
    pub(crate) fn max_sessions(mut self, limit: usize) -> Self {
        self.max_sessions = Some(limit);
        self
    }

    /// Closes the connection on any login, without a word.
    pub(crate) fn hang_up_on_login(mut self) -> Self {
        self.hang_up_on_login = true;
        self
    }

    /// Listens on a free port of 127.0.0.1.
    pub(crate) async fn start(self) -> io::Result<EmbeddedHost> {
        // Lets the client choose compression; `none` stays first in the list.
        let by_default = (random_key()?, Preferred::COMPRESSED);
        let ((host_key, preferred), client_key) = (self.algorithms.clone().unwrap_or(by_default), random_key()?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let stop = CancellationToken::new();
        let config = Config {
            keys: vec![host_key.clone()],
            preferred,
            auth_rejection_time: Duration::ZERO,
            inactivity_timeout: None,
            // russh waits, with the whole connection, for a channel whose queue is full. A queue
            // that never fills costs nothing until it is used.
            channel_buffer_size: 1 << 20,
            methods: self.factors.methods().unwrap_or(Config::default().methods),
            ..Config::default()
        };
        let shared = Arc::new(Shared {
            client_key: client_key.public_key().clone(),
            options: self,
            connections: AtomicUsize::new(0),
            auth_attempts: AtomicUsize::new(0),
            stop: stop.clone(),
        });
        tokio::spawn(accept(listener, Arc::new(config), Arc::clone(&shared)));
        Ok(EmbeddedHost { port, host_key, client_key, shared, _stop: stop.drop_guard() })
    }
}

/// A running host. Dropped, it closes every connection and kills what runs on them.
pub(crate) struct EmbeddedHost {
    port: u16,
    host_key: PrivateKey,
    client_key: PrivateKey,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl EmbeddedHost {
    /// A host that is open to its random key only.
    pub(crate) async fn start() -> io::Result<Self> {
        Options::default().start().await
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The host key's fingerprint as OpenSSH writes it (`SHA256:...`).
    pub(crate) fn fingerprint(&self) -> String {
        self.host_key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The line that a known_hosts file has for this host.
    pub(crate) fn known_hosts_line(&self) -> io::Result<String> {
        let key = self.host_key.public_key().to_openssh().map_err(io::Error::other)?;
        Ok(format!("[127.0.0.1]:{} {key}\n", self.port))
    }

    /// The one key that opens this host.
    pub(crate) fn client_key(&self) -> &PrivateKey {
        &self.client_key
    }

    /// Writes that key as an OpenSSH private key of mode 0600.
    pub(crate) fn write_client_key(&self, path: &Path) -> io::Result<()> {
        self.client_key.write_openssh_file(path, LineEnding::LF).map_err(io::Error::other)
    }

    /// TCP connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Passwords and keys tried so far; a key that is first offered and then proved counts once.
    pub(crate) fn auth_attempts(&self) -> usize {
        self.shared.auth_attempts.load(Ordering::SeqCst)
    }
}

/// What every connection needs of its host.
struct Shared {
    client_key: PublicKey,
    options: Options,
    connections: AtomicUsize,
    auth_attempts: AtomicUsize,
    stop: CancellationToken,
}

impl Shared {
    fn count_attempt(&self) {
        self.auth_attempts.fetch_add(1, Ordering::SeqCst);
    }
}

fn verdict(accepted: bool) -> Auth {
    if accepted { Auth::Accept } else { Auth::reject() }
}

fn random_key() -> io::Result<PrivateKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(Ed25519Keypair::from_seed(&seed).into())
}

async fn accept(listener: TcpListener, config: Arc<Config>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let stop = shared.stop.clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { return };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(socket, Arc::clone(&config), Arc::clone(&shared)));
            }
        }
    }
}

/// Serves one connection until either side ends it.
///
/// russh gets one end of a pipe and not the socket itself: so the socket can be closed without any
/// goodbye, as a broken network would.
async fn serve(mut socket: TcpStream, config: Arc<Config>, shared: Arc<Shared>) {
    // Nagle's algorithm would hold small packets back for 40 ms.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let (near, mut far) = tokio::io::duplex(256 * 1024);
    let refuses_politely = shared.options.algorithms.is_some();
    let life = shared.stop.child_token();
    let connection = Connection {
        places: Arc::new(Semaphore::new(shared.options.max_sessions.unwrap_or(Semaphore::MAX_PERMITS))),
        shared,
        life: life.clone(),
        forwards: HashMap::new(),
        passed: Passed::default(),
    };
    let relay = async move {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut socket, &mut far) => {}
            () = life.cancelled() => {}
        }
        if refuses_politely {
            // russh's last words, its offer among them, still lie in the pipe.
            let rest = tokio::io::copy(&mut far, &mut socket);
            let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        }
    };
    let session = async {
        // An error here is a client that went away or was refused; the tests look at the client.
        if let Ok(running) = server::run_stream(config, near, connection).await {
            let _ = running.await;
        }
    };
    tokio::join!(relay, session);
}

/// One authenticated or authenticating connection. russh drops it when the connection ends.
struct Connection {
    shared: Arc<Shared>,
    /// One permit per session channel.
    places: Arc<Semaphore>,
    /// Cancelled: the socket closes at once.
    life: CancellationToken,
    /// Cancelled when the client closes the channel of a forward.
    forwards: HashMap<ChannelId, CancellationToken>,
    passed: Passed,
}

impl Connection {
    fn judge(&mut self, right: bool, method: MethodKind) -> Auth {
        if right { self.shared.options.factors.pass(&mut self.passed, method) } else { Auth::reject() }
    }

    /// Where the options say so: closes the socket, and never returns.
    async fn hang_up(&self) {
        if self.shared.options.hang_up_on_login {
            self.life.cancel();
            std::future::pending().await
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.life.cancel();
    }
}

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn auth_password(&mut self, _user: &str, password: &str) -> Result<Auth, Self::Error> {
        self.shared.count_attempt();
        self.hang_up().await;
        let right = self.shared.options.password.as_deref() == Some(password);
        Ok(self.judge(right, MethodKind::Password))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.shared.options.factors.answered(&mut self.passed, response))
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.shared.options.factors.banner.clone())
    }

    async fn auth_publickey_offered(&mut self, _user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        let known = offer.public_key.key_data() == self.shared.client_key.key_data();
        if !known {
            self.shared.count_attempt();
        }
        Ok(verdict(known))
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        self.shared.count_attempt();
        self.hang_up().await;
        let right = key.public_key.key_data() == self.shared.client_key.key_data();
        Ok(self.judge(right, MethodKind::PublicKey))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        reply.accept().await;
        let (requests, output) = channel.split();
        let channel =
            SessionChannel { output: Arc::new(output), handle: session.handle(), place, connection: self.life.clone() };
        tokio::spawn(channel.serve(requests));
        Ok(())
    }

    /// Replies at once, and in the callback: russh keeps one "wants a reply" per channel, which a
    /// signal request that follows closely would overwrite.
    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let refused = exec::scripted(command) == Some(b"refuse");
        if refused { session.channel_failure(channel) } else { session.channel_success(channel) }
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let (true, Ok(port)) = (loopback, u16::try_from(port)) else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        let closed = self.life.child_token();
        self.forwards.insert(channel.id(), closed.clone());
        let (target, stop) = ((host.to_owned(), port), self.shared.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = forward(channel, reply, target, closed) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Self::Error> {
        if let Some(closed) = self.forwards.remove(&channel) {
            closed.cancel();
        }
        Ok(())
    }
}
