//! Which connection a channel goes to. Decides only; no I/O happens here.

mod load;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

pub(super) use self::load::{Pooled, SparePlace};
use crate::ssh::{
    Error,
    client::{AgentForward, Connection},
    counter::Counted,
};

/// Channels per connection until a server teaches otherwise: the default of OpenSSH.
const ASSUMED_LIMIT: usize = 10;
/// How long an answer may take that output before it delays: 64 KiB each second, for what sshd holds back.
const ECHO_TIMEOUT: Duration = Duration::from_secs(10);
/// A further connection is closed after this long without a channel.
const UNUSED_AFTER: Duration = Duration::from_secs(30);
/// OpenSSH counts a channel for as long as its process runs, closed or not: a connection that is full of such ones is
/// tried again after this long.
const HELD: Duration = Duration::from_secs(30);
/// After a further connection could not be opened, none is tried for this long.
const GROWTH_PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    freed: Arc<Notify>,
    max_connections: usize,
    /// The server ends each connection with its only channel.
    serves_once: bool,
}

#[derive(Debug)]
struct State {
    open: Vec<Arc<Pooled>>,
    /// Channels that the server allows per connection.
    limit: usize,
    /// Connections being opened.
    dialling: usize,
    /// No further connection before this.
    paused_until: Option<Instant>,
    /// Failed reconnects, and the last one: whoever waited for it shares its failure.
    failures: (u64, Option<Error>),
    /// Why the last connection ended.
    cause: Option<String>,
    peer: Option<SocketAddr>,
}

/// What a caller who wants a channel does next.
pub(super) enum Next {
    /// Opens one here, and beside it the one that is kept for ending commands, where that is missing.
    Place(Place, Option<SparePlace>),
    /// Opens a connection; `anew` where none is left.
    Dial { anew: bool },
    /// Waits for a place.
    Wait,
    /// Gives up: the reconnect it waited for has failed.
    Failed(Error),
}

/// What a refused channel tells.
pub(super) enum Refusal {
    /// How many channels the server allows per connection.
    Learnt,
    /// That this connection takes none for now: nothing of ours runs there, and yet it is full.
    Held,
    /// Nothing: a channel that was closed just now may still have counted.
    Unsettled,
    /// That the server allows none.
    NoneAllowed,
}

/// A place for one channel. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(super) pooled: Arc<Pooled>,
    freed: Arc<Notify>,
    /// There is a channel, or was.
    opened: bool,
}

impl Place {
    /// Notes that the channel is open.
    pub(super) fn opened(mut self) -> Self {
        self.opened = true;
        self.pooled.load().served = true;
        self
    }

    /// Tells the connection of this place from the others that are open.
    pub(crate) fn connection_id(&self) -> usize {
        Arc::as_ptr(&self.pooled).addr()
    }

    /// The agent that its connection lends.
    pub(crate) fn agent(&self) -> Option<Arc<AgentForward>> {
        self.pooled.connection.agent.clone()
    }

    /// Whether its connection answers; what the server sent before has come then.
    pub(crate) async fn answers(&self) -> bool {
        self.pooled.connection.answers(ECHO_TIMEOUT).await
    }

    /// Nothing is read from its connection until the result is dropped.
    pub(crate) fn stall(&self) -> Counted {
        self.pooled.connection.stall()
    }

    /// Why the connection of this place ended.
    pub(crate) fn cause(&self) -> String {
        self.pooled.connection.cause()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut load = self.pooled.load();
        load.channels -= 1;
        load.unused_since = Instant::now();
        if self.opened {
            load.note_closed();
        }
        drop(load);
        self.freed.notify_one();
    }
}

/// A connection that is being opened.
#[derive(Debug)]
pub(super) struct Dialling<'a>(&'a Pool);

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.0.state().dialling -= 1;
        self.0.freed.notify_waiters();
    }
}

impl State {
    fn forget_closed(&mut self) {
        if let Some(closed) = self.open.iter().find(|pooled| pooled.connection.is_closed()) {
            self.cause = Some(closed.connection.cause());
            self.open.retain(|pooled| !pooled.connection.is_closed());
        }
    }

    /// Channels of commands per connection: one place stays free for ending them.
    fn for_commands(&self) -> usize {
        self.limit.saturating_sub(1).max(1)
    }
}

impl Pool {
    pub(super) fn new(first: Connection, max_connections: usize) -> Self {
        let state = State {
            peer: first.peer,
            open: Vec::new(),
            limit: ASSUMED_LIMIT,
            dialling: 0,
            paused_until: None,
            failures: (0, None),
            cause: None,
        };
        let serves_once = first.facts.server_version.contains("tinyssh");
        let pool = Self { state: Mutex::new(state), freed: Arc::new(Notify::new()), max_connections, serves_once };
        pool.add(first);
        pool
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection that has ended is none that was lost: TinySSH ends each one after its first channel.
    pub(super) fn serves_once(&self) -> bool {
        self.serves_once
    }

    /// Whether no connection is open, as it should be, and the last one could be opened.
    pub(super) fn rests(&self) -> bool {
        self.serves_once && self.any().is_none() && self.state().failures.1.is_none()
    }

    /// Fires when a place may be free.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// How many reconnects have failed so far.
    pub(super) fn failures(&self) -> u64 {
        self.state().failures.0
    }

    /// What to do for a channel; `failures` as they were when the caller began.
    pub(super) fn next(&self, failures: u64) -> Next {
        let mut state = self.state();
        state.forget_closed();
        let most = state.for_commands();
        let opens_spare = |pooled: &Pooled| pooled.load().opens_spare();
        let has_room = |pooled: &Pooled| {
            let takes = if pooled.is_for_one() { 1 } else { most };
            let load = pooled.load();
            !load.is_full() && load.channels < takes
        };
        let free = state.open.iter().find(|pooled| !opens_spare(pooled) && has_room(pooled));
        if let Some(pooled) = free {
            let keeps_spare = state.limit > 1 && !pooled.is_for_one();
            let spare = keeps_spare.then(|| SparePlace::take(pooled, &self.freed)).flatten();
            return Next::Place(self.place(pooled), spare);
        }
        if state.open.iter().any(|pooled| opens_spare(pooled) && has_room(pooled)) {
            return Next::Wait;
        }
        if state.open.is_empty() {
            return match (&state.failures, state.dialling) {
                ((failed, Some(error)), _) if *failed > failures => Next::Failed(error.clone()),
                (_, 0) => {
                    state.dialling += 1;
                    Next::Dial { anew: true }
                }
                _ => Next::Wait,
            };
        }
        let paused = state.paused_until.is_some_and(|until| Instant::now() < until);
        if paused || state.dialling > 0 || state.open.len() >= self.max_connections {
            return Next::Wait;
        }
        state.dialling += 1;
        Next::Dial { anew: false }
    }

    fn place(&self, pooled: &Arc<Pooled>) -> Place {
        pooled.load().channels += 1;
        Place { pooled: pooled.clone(), freed: self.freed.clone(), opened: false }
    }

    /// Ends the dialling that [`Next::Dial`] began, when dropped.
    pub(super) fn dialling(&self) -> Dialling<'_> {
        Dialling(self)
    }

    /// Adds a connection; gives its first place.
    pub(super) fn add(&self, connection: Connection) -> Place {
        let mut state = self.state();
        state.peer = connection.peer;
        state.failures.1 = None;
        let pooled = Pooled::new(connection);
        state.open.push(pooled.clone());
        self.place(&pooled)
    }

    /// A refusal of the channel that is kept for ending commands, beside that of `place`.
    pub(super) fn learn_limit_beside(&self, place: &Place) {
        let mut state = self.state();
        let mut load = place.pooled.load();
        state.limit = state.limit.min(load.channels + load.others());
    }

    /// A refusal for want of a place: the server allows no more than it may have counted then.
    pub(super) fn learn_limit(&self, place: &Place) -> Refusal {
        let mut state = self.state();
        let mut load = place.pooled.load();
        let (besides, closing) = (load.channels - 1, load.closing());
        if besides + closing == 0 && load.served {
            load.full_until = Some(Instant::now() + HELD);
            return Refusal::Held;
        }
        let counted = besides + load.others();
        if counted == 0 {
            return Refusal::NoneAllowed;
        }
        if counted < state.limit {
            state.limit = counted;
            return Refusal::Learnt;
        }
        Refusal::Unsettled
    }

    /// Tells whoever waits that connecting anew has failed.
    pub(super) fn fail(&self, error: &Error) {
        let mut state = self.state();
        state.failures = (state.failures.0 + 1, Some(error.clone()));
    }

    pub(super) fn pause_growth(&self) {
        self.state().paused_until = Some(Instant::now() + GROWTH_PAUSE);
    }

    /// Any open connection.
    pub(super) fn any(&self) -> Option<Arc<Pooled>> {
        let mut state = self.state();
        state.forget_closed();
        state.open.first().cloned()
    }

    /// Waits for the end of the first connection; gives the cause.
    pub(super) async fn first_lost(&self) -> String {
        if let Some(first) = self.any() {
            first.connection.closed().await;
            return first.connection.cause();
        }
        self.cause()
    }

    /// Why the last connection ended.
    pub(super) fn cause(&self) -> String {
        self.state().cause.clone().unwrap_or_else(|| "connection closed".into())
    }

    /// The address that was reached: further connections go to the same machine, whatever its name
    /// resolves to meanwhile, since process ids mean nothing on another.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.state().peer
    }

    /// Places for a stop: first on the connection of `of`, then on the others.
    pub(super) fn stop_places(&self, of: &Place) -> Vec<Place> {
        let mut state = self.state();
        state.forget_closed();
        let others = state.open.iter().filter(|pooled| !Arc::ptr_eq(pooled, &of.pooled));
        [&of.pooled].into_iter().chain(others).map(|pooled| self.place(pooled)).collect()
    }

    /// Takes out further connections that nothing has used for a while.
    pub(super) fn take_unused(&self) -> Vec<Arc<Pooled>> {
        let mut state = self.state();
        state.forget_closed();
        let now = Instant::now();
        let mut first = true;
        state
            .open
            .extract_if(.., |pooled| {
                let load = pooled.load();
                let further = !std::mem::take(&mut first);
                further && load.channels == 0 && now.saturating_duration_since(load.unused_since) > UNUSED_AFTER
            })
            .collect()
    }

    /// Every connection, open as far as is known.
    pub(super) fn all(&self) -> Vec<Arc<Pooled>> {
        let mut state = self.state();
        state.forget_closed();
        state.open.clone()
    }

    pub(super) fn take_all(&self) -> Vec<Arc<Pooled>> {
        std::mem::take(&mut self.state().open)
    }
}
