//! MCP over HTTP, on Poem.
//!
//! | Path | |
//! |---|---|
//! | `POST`, `GET`, `DELETE /mcp` | streamable HTTP, and bare JSON-RPC |
//! | `GET /sse` with `POST /message` | HTTP+SSE of 2024-11-05 |
//! | `POST /sse` | as `POST /mcp` |
//! | `GET /health` | counts, no secrets |

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{StatusCode, uri::Scheme};
use poem::{
    Endpoint, EndpointExt, IntoResponse, Response, Route, RouteMethod,
    endpoint::make_sync,
    listener::Acceptor,
    web::{Json, LocalAddr, RemoteAddr},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    Backend, Error, Handler,
    guard::Guard,
    sessions::{REAP_EVERY, Sessions},
    sse,
    streamable::Streamable,
};
use crate::{
    app::Health,
    config::{HttpSettings, NamedToken},
};

/// How long the app may take to end remote commands.
const REMOTE_BUDGET: Duration = Duration::from_secs(3);

/// How long the calls whose commands have just ended may take to answer.
const ANSWERS: Duration = Duration::from_millis(700);

/// How long connections may take to close.
const CONNECTIONS: Duration = Duration::from_millis(700);

/// Pause after a failed accept. Without one, a process that has no file descriptor left spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that listens and does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tokens: Vec<NamedToken>,
}

impl Server {
    /// Opens the listener. Port 0 takes any free one.
    ///
    /// # Errors
    ///
    /// The port is in use, or the address is no loopback address and there is no token.
    pub async fn bind(settings: &HttpSettings) -> Result<Self, Error> {
        let address = SocketAddr::new(settings.bind, settings.port);
        if !settings.bind.is_loopback() && settings.tokens.is_empty() {
            return Err(Error::NoToken(address));
        }
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::PortInUse(address),
            _ => Error::Listen { address, source },
        })?;
        Ok(Self { address: listener.local_addr()?, listener, tokens: settings.tokens.clone() })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled: then ends remote commands, lets calls answer, and closes.
    ///
    /// # Errors
    ///
    /// None today: a failed accept is tried again.
    pub async fn run<S: Handler, B: Backend>(
        self,
        handler: S,
        backend: Arc<B>,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let sessions = Arc::new(Sessions::new());
        tasks.spawn(reap(sessions.clone(), closing.clone()));
        let exchanges = TaskTracker::new();
        let streamable = Streamable::new(handler.clone(), sessions, exchanges.clone(), &closing);
        let (streams, messages) = sse::endpoints(handler, tasks.clone(), closing.clone());
        let guard = Guard { address: self.address, tokens: self.tokens };
        let routes = routes(streamable, streams, messages, backend.clone()).with(guard);
        let ending = end(stop, backend, exchanges, closing.clone());
        info!(address = %self.address, "listening");
        poem::Server::new_with_acceptor(Tcp { listener: self.listener, address: self.address })
            .run_with_graceful_shutdown(routes, ending, Some(CONNECTIONS))
            .await?;
        closing.cancel();
        tasks.close();
        let _ = timeout(CONNECTIONS, tasks.wait()).await;
        Ok(())
    }
}

/// Runs the orderly end up to the closing of connections, which is Poem's.
async fn end<B: Backend>(stop: CancellationToken, backend: Arc<B>, exchanges: TaskTracker, closing: CancellationToken) {
    stop.cancelled().await;
    backend.shutdown(REMOTE_BUDGET).await;
    exchanges.close();
    let _ = timeout(ANSWERS, exchanges.wait()).await;
    closing.cancel();
}

async fn reap(sessions: Arc<Sessions>, closing: CancellationToken) {
    let mut tick = interval(REAP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => sessions.reap().await,
            () = closing.cancelled() => return,
        }
    }
}

fn routes<B: Backend>(
    streamable: Streamable,
    streams: impl Endpoint<Output = Response> + 'static,
    messages: impl Endpoint<Output = Response> + 'static,
    backend: Arc<B>,
) -> impl Endpoint<Output = Response> {
    let streamable = Arc::new(streamable);
    let sse = RouteMethod::new().get(streams).post(streamable.clone());
    let health = RouteMethod::new().get(make_sync(move |_| health(backend.health())));
    Route::new()
        .at("/mcp", streamable)
        .at("/sse", sse)
        .at("/message", RouteMethod::new().post(messages))
        .at("/health", health)
        .map_to_response()
        .catch_all_error(|error| async move { error.into_response() })
        .map_to_response()
}

fn health(health: Health) -> Response {
    Json(serde_json::json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_secs": health.uptime.as_secs(),
        "sessions": health.sessions,
        "running_commands": health.running_commands,
        "forwards": health.forwards,
    }))
    .with_status(StatusCode::OK)
    .into_response()
}

/// Poem's own acceptor sets no `nodelay` and its accept loop retries errors without a pause.
struct Tcp {
    listener: TcpListener,
    address: SocketAddr,
}

impl Acceptor for Tcp {
    type Io = TcpStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![LocalAddr(self.address.into())]
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        let mut told = false;
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => {
                    // Answers are small and somebody waits for each.
                    let _ = stream.set_nodelay(true);
                    let local = stream.local_addr().unwrap_or(self.address);
                    return Ok((stream, LocalAddr(local.into()), RemoteAddr(remote.into()), Scheme::HTTP));
                }
                Err(error) => {
                    // Once: it may go on for long.
                    if !std::mem::replace(&mut told, true) {
                        warn!(%error, "cannot accept a connection");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
