//! MCP over HTTP, on Poem and hyper, HTTP/1.1 alone.
//!
//! | Path | |
//! |---|---|
//! | `POST`, `GET`, `DELETE /mcp` | streamable HTTP, and bare JSON-RPC |
//! | `GET /sse` with `POST /message` | HTTP+SSE of 2024-11-05 |
//! | `POST /sse` | as `POST /mcp` |
//! | `GET /health` | counts, no secrets |

mod caller;
mod connection;
mod heads;
mod listener;
mod tls;
#[cfg(unix)]
mod unix;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{StatusCode, header::ALLOW};
use poem::{
    Endpoint, EndpointExt, IntoResponse, Response, Route, RouteMethod, endpoint::make_sync,
    error::MethodNotAllowedError, web::Json,
};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

pub(super) use self::caller::Caller;
pub use self::tls::TlsError;
use self::{
    connection::{Connections, Limits},
    listener::Listener,
};
use super::{
    Backend, Error, Handler,
    bodies::Bodies,
    guard::Guard,
    sessions::{REAP_EVERY, Sessions},
    sse,
    streamable::Streamable,
};
use crate::{app::Health, config::HttpSettings};

/// How long the app may take to end remote commands.
const REMOTE_BUDGET: Duration = Duration::from_secs(3);

/// How long the calls whose commands have just ended may take to answer.
const ANSWERS: Duration = Duration::from_millis(700);

/// How long connections may take to close.
const CONNECTIONS: Duration = Duration::from_millis(700);

/// A server that listens and does not serve yet.
pub struct Server {
    listeners: Vec<Listener>,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    settings: HttpSettings,
}

impl Server {
    /// Opens the listeners. Port 0 takes any free one.
    ///
    /// # Errors
    ///
    /// A listener cannot be opened, the certificate cannot be used, or the address is no loopback address and there is
    /// no token, or neither TLS nor the word that none is wanted.
    pub async fn bind(settings: &HttpSettings) -> Result<Self, Error> {
        let address = SocketAddr::new(settings.bind, settings.port);
        if !settings.bind.to_canonical().is_loopback() {
            check_exposure(settings, address)?;
        }
        let tls = settings.tls.as_ref().map(tls::acceptor).transpose()?;
        let (listener, address) = Listener::tcp(address).await?;
        let mut listeners = vec![listener];
        if let Some(path) = &settings.socket {
            listeners.push(Listener::unix(path).await?);
        }
        Ok(Self { listeners, address, tls, settings: settings.clone() })
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
        let bodies = Bodies::new(self.settings.body_timeout);
        let streamable = Streamable::new(handler.clone(), sessions, exchanges.clone(), &closing, bodies.clone());
        let (streams, messages) = sse::endpoints(handler, tasks.clone(), closing.clone(), bodies);
        let guard = Guard::new(self.address, &self.settings);
        let limits = Limits {
            connections: self.settings.max_connections,
            header_timeout: self.settings.header_timeout,
            write_timeout: self.settings.body_timeout,
        };
        let endpoint = routes(streamable, streams, messages, backend.clone()).with(guard).boxed();
        let tokens = !self.settings.tokens.is_empty();
        let connections = Connections::new(endpoint, self.tls, tokens, &limits, closing.clone());
        info!(address = %self.address, socket = ?self.settings.socket, tls = self.settings.tls.is_some(), "listening");
        self.listeners.into_iter().for_each(|listener| connections.listen(listener));
        end(stop, backend, exchanges, closing).await;
        connections.end(CONNECTIONS).await;
        tasks.close();
        let _ = timeout(CONNECTIONS, tasks.wait()).await;
        Ok(())
    }
}

/// The settings have said so already, with their source; a caller of the library has not.
fn check_exposure(settings: &HttpSettings, address: SocketAddr) -> Result<(), Error> {
    if settings.tokens.is_empty() {
        return Err(Error::NoToken(address));
    }
    if settings.tls.is_none() && !settings.insecure_http {
        return Err(Error::NoTls(address));
    }
    Ok(())
}

/// Runs the orderly end up to the closing of connections.
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
        .at("/sse", with_allow("GET, HEAD, POST", sse))
        .at("/message", with_allow("POST", RouteMethod::new().post(messages)))
        .at("/health", with_allow("GET, HEAD", health))
        .map_to_response()
        .catch_all_error(|error| async move { error.into_response() })
        .map_to_response()
}

/// Another method is told which ones there are, as RFC 9110 wants it with the 405.
fn with_allow(methods: &'static str, route: RouteMethod) -> impl Endpoint<Output = Response> {
    route.catch_error(move |_: MethodNotAllowedError| async move {
        StatusCode::METHOD_NOT_ALLOWED.with_header(ALLOW, methods).into_response()
    })
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
