//! Connections to jump hosts, shared between the sessions of one principal.
//!
//! One is opened when it is needed, serves all who want the same server with the same login by the same way, and is
//! closed once nothing has used it for a while. A keeper per connection waits for that; it runs on the pool's tracker.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use russh::{ChannelOpenFailure, ChannelStream, client::Msg};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{Channel, ClientError, ConnectSpec, Connection, Target, Typed, attempt},
    Jump, Reach, RouteError, same,
};
use crate::ssh::ids::Owner;

/// Most SSH servers on the way to one server.
pub const MAX_HOPS: usize = 8;
/// Connections that are shared at once; one more is its user's own.
const MAX_SHARED: usize = 256;
/// A connection is closed after this long without use.
const UNUSED_AFTER: Duration = Duration::from_secs(30);
/// The same where a person typed a code for it, or for one before it: longer than they may take to answer what the next
/// host on the way asks, so that no second code is asked of them.
const UNUSED_AFTER_TYPING: Duration = Duration::from_secs(180);
/// How long a jump host may take to connect before it is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(5);
/// How long that sign may take; then the connection counts as lost.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// How long the goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(200);

/// There are more than [`MAX_HOPS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} jump hosts are named; at most {MAX_HOPS} are taken")]
pub struct TooManyHops {
    /// How many.
    pub count: usize,
}

/// Every connection to a jump host. One per process.
#[derive(Debug, Default)]
pub struct JumpPool {
    slots: Mutex<Vec<Arc<Slot>>>,
    keepers: TaskTracker,
    ended: CancellationToken,
}

/// The connections to jump hosts of one principal.
#[derive(Clone, Debug)]
pub struct Jumps {
    pool: Arc<JumpPool>,
    owner: Owner,
}

/// The place of one connection.
#[derive(Debug)]
struct Slot {
    owner: Owner,
    server: Arc<ConnectSpec>,
    /// Held while it is opened, so that those who come meanwhile share it.
    shared: tokio::sync::Mutex<Option<Arc<Shared>>>,
}

/// One who waits for a connection. A place that nobody waits for any more and that has none is given up, and the
/// credentials in it.
struct Claim<'a> {
    pool: &'a JumpPool,
    slot: Arc<Slot>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // Its keeper knows it too, where there is a connection.
        let is_unknown = |slot: &Arc<Slot>| Arc::ptr_eq(slot, &self.slot) && Arc::strong_count(slot) <= 2;
        self.pool.slots().retain(|slot| !is_unknown(slot));
    }
}

#[derive(Debug)]
struct Shared {
    connection: Connection,
    users: watch::Sender<usize>,
}

/// The use of a connection to a jump host.
#[derive(Debug)]
pub(in super::super) struct Lease(Arc<Shared>);

impl Lease {
    fn new(shared: Arc<Shared>) -> Self {
        shared.users.send_modify(|users| *users += 1);
        Self(shared)
    }

    /// Whether a person had to type something, there or before it.
    pub(super) fn was_typed(&self) -> bool {
        self.0.was_typed()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.users.send_modify(|users| *users -= 1);
    }
}

impl JumpPool {
    /// The part of one principal: its connections serve nobody else.
    #[must_use]
    pub fn of(self: &Arc<Self>, owner: &Owner) -> Jumps {
        Jumps { pool: self.clone(), owner: owner.clone() }
    }

    /// Connections that are open or being opened.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slots().len()
    }

    /// Closes every connection.
    pub async fn shutdown(&self) {
        self.ended.cancel();
        self.keepers.close();
        self.keepers.wait().await;
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place for this server; none where all are taken.
    fn slot(&self, owner: &Owner, server: &Arc<ConnectSpec>) -> Option<Arc<Slot>> {
        let mut slots = self.slots();
        if let Some(slot) = slots.iter().find(|slot| slot.owner == *owner && same::server(&slot.server, server)) {
            return Some(slot.clone());
        }
        if slots.len() >= MAX_SHARED || self.ended.is_cancelled() {
            return None;
        }
        let slot = Arc::new(Slot { owner: owner.clone(), server: server.clone(), shared: Default::default() });
        slots.push(slot.clone());
        Some(slot)
    }

    /// Closes the connection once it is lost, or nothing has used it for a while.
    async fn keep(self: Arc<Self>, slot: Arc<Slot>, shared: Arc<Shared>) {
        loop {
            tokio::select! {
                () = unused(&shared.users, shared.kept_for()) => {}
                () = shared.connection.closed() => {}
                () = self.ended.cancelled() => {}
            }
            let mut kept = slot.shared.lock().await;
            let goes_on = *shared.users.borrow() > 0 && !shared.connection.is_closed() && !self.ended.is_cancelled();
            if goes_on {
                continue;
            }
            if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &shared)) {
                *kept = None;
                self.slots().retain(|other| !Arc::ptr_eq(other, &slot));
            }
            break;
        }
        shared.connection.disconnect(GOODBYE_TIMEOUT).await;
    }
}

/// Waits until there has been no user for a while.
async fn unused(users: &watch::Sender<usize>, after: Duration) {
    let mut users = users.subscribe();
    loop {
        // Its sender outlives this wait.
        let _ = users.wait_for(|users| *users == 0).await;
        if timeout(after, users.wait_for(|users| *users > 0)).await.is_err() {
            return;
        }
    }
}

impl Jump {
    /// A stream to the target through this server, and the use of its connection.
    pub(super) async fn connect(
        &self,
        target: &Target,
        reach: Reach,
        deadline: Instant,
    ) -> Result<(ChannelStream<Msg>, Lease), ClientError> {
        let hop = self.server.route.hops() + 1;
        loop {
            let (lease, found) = self.lease(reach, deadline).await.map_err(|error| error.at_hop(hop))?;
            match lease.0.open(target).await {
                Ok(channel) => return Ok((channel.into_stream(), lease)),
                Err(russh::Error::ChannelOpenFailure(why)) => return Err(self.refusal(&why, hop).at(target)),
                // It was lost and nobody had noticed yet; a new one is not lost again and again.
                Err(_) if found => lease.0.connection.cut(),
                Err(_) => {
                    let (target, cause) = (self.server.target.clone(), lease.0.connection.cause());
                    return Err(ClientError::Lost { target, cause }.at_hop(hop));
                }
            }
        }
    }

    /// The use of an open connection, and whether it was there before.
    async fn lease(&self, reach: Reach, deadline: Instant) -> Result<(Lease, bool), ClientError> {
        let slot = if reach.shared { self.jumps.pool.slot(&self.jumps.owner, &self.server) } else { None };
        let Some(slot) = slot else { return Ok((Lease::new(self.open(reach, deadline).await?), false)) };
        let claim = Claim { pool: &self.jumps.pool, slot };
        let mut kept = claim.slot.shared.lock().await;
        if let Some(shared) = kept.as_ref().filter(|shared| !shared.connection.is_closed()) {
            return Ok((Lease::new(shared.clone()), true));
        }
        let shared = self.open(reach, deadline).await?;
        let lease = Lease::new(shared.clone());
        *kept = Some(shared.clone());
        let pool = &self.jumps.pool;
        pool.keepers.spawn(pool.clone().keep(claim.slot.clone(), shared));
        Ok((lease, false))
    }

    async fn open(&self, reach: Reach, deadline: Instant) -> Result<Arc<Shared>, ClientError> {
        // To a jump host it is: the address that was reached before is that of the session's own server.
        let reach = Reach { peer: None, ..reach };
        let begun = Instant::now();
        // Boxed: a jump host may be reached through another one.
        let connecting = Box::pin(attempt(&self.server, reach, deadline));
        let late = |_| {
            let target = self.server.target.clone();
            Err(ClientError::Timeout { target, after: begun.elapsed(), last: None })
        };
        let connection = tokio::time::timeout_at(deadline, connecting).await.unwrap_or_else(late)?;
        tracing::debug!(host = %self.server.target, "connected to a jump host");
        Ok(Arc::new(Shared { connection, users: watch::Sender::new(0) }))
    }

    fn refusal(&self, why: &ChannelOpenFailure, hop: usize) -> RouteError {
        let via = self.server.target.clone();
        match why {
            ChannelOpenFailure::AdministrativelyProhibited | ChannelOpenFailure::UnknownChannelType => {
                RouteError::JumpDenied { via, hop }
            }
            _ => RouteError::JumpUnreached { via, hop },
        }
    }
}

impl Shared {
    fn was_typed(&self) -> bool {
        self.connection.typed != Typed::Nothing
    }

    const fn kept_for(&self) -> Duration {
        match self.connection.typed {
            Typed::Nothing => UNUSED_AFTER,
            Typed::OnTheWay | Typed::AtTheEnd => UNUSED_AFTER_TYPING,
        }
    }

    /// A channel to the target. The caller sets the deadline.
    async fn open(&self, target: &Target) -> Result<Channel, russh::Error> {
        // What asks is no connection of this machine; OpenSSH too says so with these.
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 65535));
        let mut opening = pin!(self.connection.open_direct_tcpip(&target.host, target.port, nobody));
        loop {
            match timeout(SILENCE, &mut opening).await {
                Ok(opened) => return opened,
                // The target may be slow. A jump host that is silent too is given up, which ends the opening.
                Err(_) if !self.connection.is_alive(SIGN_OF_LIFE).await => self.connection.cut(),
                Err(_) => {}
            }
        }
    }
}
