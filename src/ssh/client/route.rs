//! How the stream of bytes to an SSH server comes about.

mod command;
mod dial;
mod jump;

pub use self::{
    command::ProxyCommand,
    dial::{AddressFamily, Dial},
    jump::{JumpPool, Jumps, MAX_HOPS, TooManyHops},
};
use super::ConnectSpec;
pub use crate::config::{ProxyKind, ProxyServer};
use std::sync::Arc;

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
    #[expect(dead_code, reason = "the types go first")]
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
}
