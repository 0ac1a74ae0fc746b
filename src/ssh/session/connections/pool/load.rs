//! How much a connection carries, and the channel that it keeps for ending commands.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::ssh::client::{Channel, Connection};

/// How long after its end a channel may still count on the server. OpenSSH forgets one in its next round.
const SETTLING: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(in super::super) struct Pooled {
    pub(in super::super) connection: Connection,
    load: Mutex<Load>,
}

pub(super) struct Load {
    /// Places that are given away.
    pub(super) channels: usize,
    pub(super) unused_since: Instant,
    /// A channel was opened here.
    pub(super) served: bool,
    /// It took none, though nothing of ours ran.
    pub(super) full_until: Option<Instant>,
    /// When channels were closed: the server may take a moment to notice.
    closed: Vec<Instant>,
    spare: Spare,
}

/// The channel that is kept for ending commands. It is opened beforehand: how many the server allows is
/// only known once it has refused one, and then all may be in use.
enum Spare {
    Missing,
    Opening,
    Kept(Channel),
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("channels", &self.channels).finish_non_exhaustive()
    }
}

impl Load {
    /// Notes that a channel has ended.
    pub(super) fn note_closed(&mut self) {
        self.closing();
        self.closed.push(Instant::now());
    }

    /// Whether the channel for ending commands is asked for and not answered.
    pub(super) fn opens_spare(&self) -> bool {
        matches!(self.spare, Spare::Opening)
    }

    /// Channels that the server may count, besides those of `channels`.
    pub(super) fn others(&mut self) -> usize {
        self.closing() + usize::from(!matches!(self.spare, Spare::Missing))
    }

    /// Whether it takes no channel for now.
    pub(super) fn is_full(&self) -> bool {
        self.full_until.is_some_and(|until| Instant::now() < until)
    }

    /// Channels that were closed so lately that the server may still count them.
    pub(super) fn closing(&mut self) -> usize {
        self.closed.retain(|closed| closed.elapsed() < SETTLING);
        self.closed.len()
    }
}

impl Pooled {
    pub(super) fn new(connection: Connection) -> Arc<Self> {
        let load = Load {
            channels: 0,
            unused_since: Instant::now(),
            served: false,
            full_until: None,
            closed: Vec::new(),
            spare: Spare::Missing,
        };
        Arc::new(Self { connection, load: Mutex::new(load) })
    }

    /// Dropbear loses the exit and the output of commands of one connection that end at the same time, and the end of
    /// one whose channel was open while another one ended. So it gets a connection for each command.
    pub(super) fn is_for_one(&self) -> bool {
        self.connection.facts.server_version.contains("dropbear")
    }

    pub(super) fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the channel that is kept for ending commands.
    pub(in super::super) fn take_spare(&self) -> Option<Channel> {
        let mut load = self.load();
        let Spare::Kept(_) = load.spare else { return None };
        let Spare::Kept(kept) = std::mem::replace(&mut load.spare, Spare::Missing) else { return None };
        Some(kept)
    }

    /// Whether a channel was closed so lately that the server may still count it.
    pub(in super::super) fn settles(&self) -> bool {
        self.load().closing() > 0
    }
}

/// The room for the channel that is kept for ending commands; free again when dropped without it. Until then the
/// connection takes no further command, which could get that room from the server.
pub(in super::super) struct SparePlace {
    pooled: Arc<Pooled>,
    freed: Arc<Notify>,
}

impl SparePlace {
    pub(in super::super) fn keep(self, channel: Channel) {
        self.pooled.load().spare = Spare::Kept(channel);
    }
}

impl SparePlace {
    /// None where it is kept already.
    pub(super) fn take(pooled: &Arc<Pooled>, freed: &Arc<Notify>) -> Option<Self> {
        let mut load = pooled.load();
        if !matches!(load.spare, Spare::Missing) {
            return None;
        }
        load.spare = Spare::Opening;
        Some(Self { pooled: pooled.clone(), freed: freed.clone() })
    }
}

impl Drop for SparePlace {
    fn drop(&mut self) {
        let mut load = self.pooled.load();
        if load.opens_spare() {
            load.spare = Spare::Missing;
        }
        drop(load);
        self.freed.notify_waiters();
    }
}
