//! Transports: the only code that touches stdin and stdout.
//!
//! - [`stdio`]: one client, JSON-RPC lines.
//! - [`http`]: many clients: `/mcp`, `/sse` with `/message`, `/health`.
//! - [`message`]: JSON-RPC envelopes, read and refused the same way by both.
//! - [`logging`]: where log lines go, and what never gets into them.
//!
//! A transport carries messages between clients and an rmcp [`ServerHandler`]. It knows no tool and no SSH; of the rest
//! of the process it sees a [`Backend`].

use std::{future::Future, io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use rmcp::ServerHandler;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use self::signals::Hangup;
use self::{logging::Logs, signals::Signals};
use crate::{
    app::{App, Health},
    secret::{self, live::LiveSecrets},
};

mod bodies;
mod calls;
mod channel;
mod guard;
pub mod http;
pub mod logging;
pub mod message;
mod sessions;
mod signals;
mod sse;
pub mod stdio;
mod streamable;

/// How long the runtime may take to stop what is left when a server has ended.
const RUNTIME_END: Duration = Duration::from_millis(100);

/// Exit status after a second signal, as shells report an interrupt.
const ABORTED: u8 = 130;

/// The principal of whoever needs no token: the user of this machine.
pub const LOCAL: &str = crate::config::LOCAL_PRINCIPAL;

/// What a transport needs of the process behind its MCP server.
pub trait Backend: Send + Sync + 'static {
    /// Counts for `/health`.
    fn health(&self) -> Health;

    /// Ends everything that runs on remote hosts, within `budget`.
    fn shutdown(&self, budget: Duration) -> impl Future<Output = ()> + Send;
}

impl Backend for App {
    fn health(&self) -> Health {
        self.health()
    }

    async fn shutdown(&self, budget: Duration) {
        self.shutdown(budget).await;
    }
}

/// An MCP server that is cloned for every connection and every stateless request.
pub trait Handler: ServerHandler + Clone + Send + Sync + 'static {}

impl<S: ServerHandler + Clone + Send + Sync + 'static> Handler for S {}

/// Why a server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reachable from other machines, and nobody would be asked for a token.
    #[error(
        "refusing to listen on {0} without a bearer token. Set MCP_TOKEN or MCP_TOKEN_FILE, or bind a loopback address"
    )]
    NoToken(SocketAddr),
    /// Reachable from other machines, and the tokens could be read on the way.
    #[error(
        "refusing to listen on {0} without TLS. Set MCP_TLS_CERT and MCP_TLS_KEY, pass --insecure-http, or bind a loopback address"
    )]
    NoTls(SocketAddr),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] http::TlsError),
    /// The Unix socket could not be made.
    #[error("cannot listen on the socket {}: {source}", .path.display())]
    Socket {
        /// What was asked for.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process has the port.
    #[error("port {} is in use on {}. Stop the other process or choose another port with --port or MCP_PORT", .0.port(), .0.ip())]
    PortInUse(SocketAddr),
    /// The listener could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The runtime or its signal handlers could not be set up, or accepting failed.
    #[error("the server failed: {0}")]
    Io(#[from] std::io::Error),
    /// Logging could not be set up.
    #[error(transparent)]
    Logging(#[from] logging::Error),
    /// A second signal came before the end.
    #[error("stopped at once by a second signal")]
    Aborted,
}

/// Keeps this process out of core dumps and debuggers. To be called first in `main`.
pub fn keep_private() {
    if let Err(error) = secret::process::keep_private() {
        let _ = writeln!(std::io::stderr(), "ssh-mcp: core dumps cannot be turned off: {error}");
    }
}

/// Sets up logging and runs a server to its end.
///
/// Clients are answered on this thread, everything of SSH runs on the threads of `core`, which `serve` gets: the thread
/// of the answers mostly sleeps, so it is given a processor at once where the others are busy with output.
///
/// SIGINT, SIGTERM and maybe SIGHUP cancel the token that `serve` gets; a second signal ends the process at once.
#[must_use]
pub fn run<F, Fut>(filter: &str, logs: Logs, hangup: Hangup, secrets: &Arc<LiveSecrets>, serve: F) -> ExitCode
where
    F: FnOnce(CancellationToken, Handle) -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    if let Err(error) = logging::init(filter, logs, secrets) {
        return failed(&error.into());
    }
    let core = Builder::new_multi_thread().enable_all().build();
    let edge = Builder::new_current_thread().enable_all().build();
    let (core, edge) = match (core, edge) {
        (Ok(core), Ok(edge)) => (core, edge),
        (Err(error), _) | (_, Err(error)) => return failed(&error.into()),
    };
    let handle = core.handle().clone();
    let result = edge.block_on(until_signalled(hangup, |stop| serve(stop, handle)));
    // A thread that reads stdin cannot be woken. It is left behind; the process ends all the same.
    edge.shutdown_timeout(RUNTIME_END);
    core.shutdown_timeout(RUNTIME_END);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Aborted) => ExitCode::from(ABORTED),
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> ExitCode {
    // Not through the log: a filter must not hide why there is no server.
    let _ = writeln!(std::io::stderr(), "ssh-mcp: {error}");
    ExitCode::FAILURE
}

async fn until_signalled<F, Fut>(hangup: Hangup, serve: F) -> Result<(), Error>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), Error>>,
{
    let mut signals = Signals::install(hangup)?;
    let stop = CancellationToken::new();
    let serving = serve(stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        result = &mut serving => return result,
        name = signals.next() => info!(signal = name, "stopping"),
    }
    stop.cancel();
    tokio::select! {
        result = &mut serving => result,
        _ = signals.next() => Err(Error::Aborted),
    }
}
