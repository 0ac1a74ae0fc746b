//! The connections of a session, and the places for channels on them.
//!
//! sshd allows ten session channels per connection by default (`MaxSessions`) and refuses the next
//! one at once. The refusal teaches the limit; then another connection to the same host is opened,
//! up to [`MAX_CONNECTIONS`], and after that a command waits for a place.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use russh::ChannelOpenFailure;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::Instant,
};

use super::counter::{Counted, Counter};
use crate::ssh::{
    Error,
    client::{self, Channel, ConnectSpec, Connection},
};

/// Connections that one session opens for its commands.
const MAX_CONNECTIONS: usize = 8;
/// How long the dialling of a further connection may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait for a place before a further connection is tried again.
const PLACE_POLL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Connections {
    spec: ConnectSpec,
    first: Arc<Pooled>,
    further: Mutex<Vec<Arc<Pooled>>>,
    /// One further connection is dialled at a time.
    dialling: AsyncMutex<()>,
    freed: Arc<Notify>,
}

#[derive(Debug)]
struct Pooled {
    connection: Connection,
    channels: Counter,
    /// Channels that the server allows, as far as it has been learnt.
    limit: Mutex<usize>,
}

/// A place for one channel. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pooled: Arc<Pooled>,
    counted: Option<Counted>,
    freed: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counted.take();
        self.freed.notify_one();
    }
}

impl Place {
    /// Why the connection of this place ended.
    pub(crate) fn cause(&self) -> String {
        self.pooled.connection.cause()
    }
}

impl Pooled {
    fn new(connection: Connection, limit: usize) -> Arc<Self> {
        Arc::new(Self { connection, channels: Counter::default(), limit: Mutex::new(limit) })
    }

    fn limit(&self) -> MutexGuard<'_, usize> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A refusal while `open` channels were open, this one included.
    fn learn(&self, open: usize) {
        let mut limit = self.limit();
        *limit = (*limit).min(open - 1).max(1);
    }
}

impl Connections {
    pub(crate) fn new(spec: ConnectSpec, first: Connection) -> Self {
        Self {
            spec,
            first: Pooled::new(first, usize::MAX),
            further: Mutex::default(),
            dialling: AsyncMutex::default(),
            freed: Arc::new(Notify::new()),
        }
    }

    pub(crate) fn spec(&self) -> &ConnectSpec {
        &self.spec
    }

    /// Waits until the first connection is lost; gives the cause.
    pub(crate) async fn lost(&self) -> String {
        self.first.connection.closed().await;
        self.first.connection.cause()
    }

    /// Whether the server answers within `bound`.
    pub(crate) async fn answers(&self, bound: Duration) -> bool {
        self.first.connection.answers(bound).await
    }

    /// Opens a session channel, on a further connection if the open ones are full. Waits for a
    /// place where no further connection is to be had; the caller sets the deadline.
    pub(crate) async fn open_session(&self) -> Result<(Channel, Place), Error> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Heard from here on, so that no place is missed between the look and the wait.
            freed.as_mut().enable();
            match self.reserve() {
                Some(place) => {
                    if let Some(opened) = self.open_on(place).await? {
                        return Ok(opened);
                    }
                }
                None if self.dial_further().await => {}
                None => {
                    let _ = tokio::time::timeout(PLACE_POLL, freed).await;
                }
            }
        }
    }

    fn reserve(&self) -> Option<Place> {
        let further = self.further();
        let alive = [&self.first].into_iter().chain(further.iter()).filter(|p| !p.connection.is_closed());
        let mut alive = alive.peekable();
        if alive.peek().is_none() {
            // Opening on it tells the cause.
            return Some(self.place(&self.first, self.first.channels.add()));
        }
        alive.find_map(|pooled| {
            let limit = *pooled.limit();
            Some(self.place(pooled, pooled.channels.reserve(limit)?))
        })
    }

    fn place(&self, pooled: &Arc<Pooled>, counted: Counted) -> Place {
        Place { pooled: pooled.clone(), counted: Some(counted), freed: self.freed.clone() }
    }

    /// The channel; none where the connection was full, which is remembered.
    async fn open_on(&self, place: Place) -> Result<Option<(Channel, Place)>, Error> {
        let target = || self.spec.target.clone();
        match place.pooled.connection.open_session().await {
            Ok(channel) => Ok(Some((channel, place))),
            Err(russh::Error::ChannelOpenFailure(
                ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage,
            )) if place.pooled.channels.get() > 1 => {
                place.pooled.learn(place.pooled.channels.get());
                Ok(None)
            }
            Err(russh::Error::ChannelOpenFailure(why)) => {
                Err(Error::ChannelRefused { target: target(), why: format!("{why:?}") })
            }
            Err(_) => Err(Error::ConnectionLost { target: target(), cause: place.cause() }),
        }
    }

    /// Opens a further connection; whether there is hope for a place now.
    async fn dial_further(&self) -> bool {
        let before = self.further().len();
        let _dialling = self.dialling.lock().await;
        {
            let mut further = self.further();
            further.retain(|pooled| !pooled.connection.is_closed());
            if further.len() > before {
                return true;
            }
            if further.len() + 1 >= MAX_CONNECTIONS {
                return false;
            }
        }
        match self.dial(Instant::now() + DIAL_TIMEOUT).await {
            Ok(connection) => {
                let limit = *self.first.limit();
                self.further().push(Pooled::new(connection, limit));
                true
            }
            Err(error) => {
                tracing::warn!(host = %self.spec.target, %error, "no further connection could be opened");
                false
            }
        }
    }

    /// Opens a connection that is not shared.
    pub(crate) async fn dial(&self, deadline: Instant) -> Result<Connection, Error> {
        let (connection, retries) = client::connect(&self.spec, deadline).await;
        connection.map_err(|error| Error::Client(Arc::new(error), retries))
    }

    fn further(&self) -> MutexGuard<'_, Vec<Arc<Pooled>>> {
        self.further.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says goodbye on all connections at once.
    pub(crate) async fn disconnect(&self, bound: Duration) {
        let mut all = std::mem::take(&mut *self.further());
        all.push(self.first.clone());
        futures_util::future::join_all(all.iter().map(|pooled| pooled.connection.disconnect(bound))).await;
    }
}
