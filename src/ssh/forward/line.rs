//! The connections of one forward.
//!
//! One is enough as a rule. Another takes over for those that come later where the first is lost, is held up by a
//! local end that does not read, or keeps the rests of too many channels.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::Instant,
};

use super::OPEN_TIMEOUT;
use crate::ssh::session::{Carrier, Session};

/// Connections that one forward has at a time, as long as the last of what it carries.
pub(super) const MAX_LINES: usize = 4;
/// Channels of one connection that were closed from here, each of which it keeps about 3.5 KB.
const MAX_CLOSED_FROM_HERE: usize = 256;

/// After another connection could not be had, none is tried for this long while the first carries.
const DIAL_PAUSE: Duration = Duration::from_secs(30);

/// A connection that carries; it lives as long as what it carries.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) connection: Carrier,
    /// Local ends that take nothing at the moment. russh gives window credit on receipt, so that each of them stops
    /// all that the connection carries.
    held_up: watch::Sender<usize>,
    closed_from_here: AtomicUsize,
}

/// Counts a local end that takes nothing until it is dropped.
pub(super) struct HeldUp<'a>(&'a watch::Sender<usize>);

impl Drop for HeldUp<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Line {
    fn new(connection: Carrier) -> Arc<Self> {
        Arc::new(Self { connection, held_up: watch::Sender::new(0), closed_from_here: AtomicUsize::new(0) })
    }

    pub(super) fn hold_up(&self) -> HeldUp<'_> {
        self.held_up.send_modify(|count| *count += 1);
        HeldUp(&self.held_up)
    }

    /// Whether it may be silent for a reason of this side.
    pub(super) fn is_held_up(&self) -> bool {
        *self.held_up.borrow() > 0
    }

    /// Waits until something holds it up.
    pub(super) async fn holding_up(&self) {
        // The sender is this line, so the wait cannot fail.
        let _ = self.held_up.subscribe().wait_for(|count| *count > 0).await;
    }

    /// Notes a channel that the server did not close.
    pub(super) fn closed_from_here(&self) {
        self.closed_from_here.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether those that come later are better off elsewhere.
    fn is_to_spare(&self) -> bool {
        self.is_held_up() || self.closed_from_here.load(Ordering::Relaxed) >= MAX_CLOSED_FROM_HERE
    }
}

/// The connections of a forward, and the session that they belong to.
#[derive(Debug)]
pub(super) struct Lines {
    current: AsyncMutex<Current>,
    pub(super) session: Arc<Session>,
}

#[derive(Debug)]
struct Current {
    line: Arc<Line>,
    /// Those that still carry something.
    earlier: Vec<Weak<Line>>,
    /// When another may be tried.
    dials_from: Instant,
}

impl Lines {
    pub(super) fn new(first: Carrier, session: Arc<Session>) -> Self {
        Self {
            current: AsyncMutex::new(Current {
                line: Line::new(first),
                earlier: Vec::new(),
                dials_from: Instant::now(),
            }),
            session,
        }
    }

    /// The one for what comes next. Where it is lost and the session itself is not connected there is none: a forward
    /// does not reconnect a session; until that is used again, its port refuses.
    pub(super) async fn line(&self) -> Option<Arc<Line>> {
        let mut current = self.current.lock().await;
        let lost = current.line.connection.is_closed();
        if !lost && !current.line.is_to_spare() {
            return Some(current.line.clone());
        }
        if lost && !self.session.connections.is_connected() {
            return None;
        }
        current.earlier.retain(|earlier| earlier.strong_count() > 0);
        let usable = |line: &Arc<Line>| !line.connection.is_closed() && !line.is_to_spare();
        let next = match current.earlier.iter().filter_map(Weak::upgrade).find(usable) {
            Some(earlier) => earlier,
            // What is held up still carries; beyond the limit that has to do.
            None if !lost && (current.earlier.len() + 1 >= MAX_LINES || Instant::now() < current.dials_from) => {
                return Some(current.line.clone());
            }
            None => match self.session.connections.carrier(Instant::now() + OPEN_TIMEOUT).await {
                Ok(connection) => Line::new(connection),
                Err(error) => {
                    tracing::warn!(%error, "forward cannot connect");
                    current.dials_from = Instant::now() + DIAL_PAUSE;
                    return (!lost).then(|| current.line.clone());
                }
            },
        };
        let before = std::mem::replace(&mut current.line, next.clone());
        current.earlier.retain(|earlier| !std::ptr::eq(earlier.as_ptr(), Arc::as_ptr(&next)));
        current.earlier.push(Arc::downgrade(&before));
        Some(next)
    }

    /// The one that was made last.
    pub(super) async fn last(&self) -> Arc<Line> {
        self.current.lock().await.line.clone()
    }
}
