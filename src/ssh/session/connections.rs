//! The connections of a session, and the places for channels on them.
//!
//! sshd allows ten session channels per connection by default (`MaxSessions`), some sites four, and
//! refuses the next one at once. Commands leave one place free for ending other commands, so that a
//! cancel needs no new login. When all places are taken another connection to the same host is opened,
//! and after [`ConnectSpec::max_connections`] a command waits. When every connection was lost, the next
//! use opens one: that is the reconnect, and nothing that may have started is ever run again.
//!
//! Where a person typed a code at login, one connection is all there is: commands wait for its places, forwards share it.

mod carrier;
mod pool;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use russh::ChannelOpenFailure;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::pool::{Next, Pool, Pooled, Refusal, SparePlace};
pub(crate) use self::{carrier::Carrier, pool::Place};
use crate::ssh::{
    Error,
    client::{self, Channel, ClientError, ConnectSpec, Connection, Environment, Target, Typed, route::Reach},
};

/// How long a server may take to open a channel before it is asked for a sign of life.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long that sign may take; then the connection counts as lost.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// Logins that one caller has made anew, at most, where each connection serves one channel and then ends.
const DIALS_WHERE_SERVED_ONCE: usize = 4;
/// How long a caller waits for a place before it looks again.
const PLACE_POLL: Duration = Duration::from_millis(500);
/// Pause before a server is asked again that may still count a channel that was closed.
const SETTLING_STEP: Duration = Duration::from_millis(20);
/// How long opening a channel for a stop may take before another connection is tried.
const STOP_OPEN_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Connections {
    target: Target,
    /// Jump hosts before it, nearest first.
    hops: Vec<Target>,
    /// Gone once the session is closed, and the credentials with it.
    spec: Mutex<Option<Arc<ConnectSpec>>>,
    pool: Pool,
    /// What a person typed when the session was opened.
    typed: Typed,
    /// Whether a lost connection is replaced.
    reconnects: bool,
    /// Commands may use the SSH agent of this machine.
    lends_agent: bool,
    /// Why a reconnect was refused for good.
    refused: Mutex<Option<Arc<ClientError>>>,
    dead: CancellationToken,
    /// It was connected anew, and nobody was told yet.
    untold: AtomicBool,
}

/// An open channel with its place.
pub(crate) struct Opened {
    pub(crate) channel: Channel,
    pub(crate) place: Place,
    /// The connection had to be opened anew for it.
    pub(crate) reconnected: bool,
}

impl Connections {
    pub(crate) fn new(spec: ConnectSpec, first: Connection) -> Self {
        // Nobody is asked for a code in the middle of their work, and a login without one may count as a failed one.
        let max_connections = if first.typed == Typed::AtTheEnd { 1 } else { spec.max_connections };
        Self {
            target: spec.target.clone(),
            hops: spec.route.targets(),
            reconnects: spec.reconnect,
            lends_agent: spec.forward_agent.is_some(),
            typed: first.typed,
            pool: Pool::new(first, max_connections),
            spec: Mutex::new(Some(Arc::new(spec))),
            refused: Mutex::default(),
            dead: CancellationToken::new(),
            untold: AtomicBool::new(false),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn hops(&self) -> &[Target] {
        &self.hops
    }

    pub(crate) fn lends_agent(&self) -> bool {
        self.lends_agent
    }

    /// Waits until the session cannot go on: a reconnect was refused for good, or the connection was
    /// lost and is not to be replaced. Gives the cause.
    pub(crate) async fn ended(&self) -> String {
        if self.reconnects || self.pool.serves_once() {
            self.dead.cancelled().await;
            return self.refused().map(|error| format!("connecting again was refused: {error}")).unwrap_or_default();
        }
        self.pool.first_lost().await
    }

    /// Whether some connection is open, as far as is known.
    pub(crate) fn is_connected(&self) -> bool {
        self.pool.any().is_some() || self.pool.rests()
    }

    /// Whether the server shows a sign of life within `bound`.
    pub(crate) async fn is_alive(&self, bound: Duration) -> bool {
        let Some(pooled) = self.pool.any() else { return self.pool.rests() };
        if pooled.connection.is_alive(bound).await {
            return true;
        }
        // It may be ending just now, as it should.
        self.pool.serves_once() && timeout(bound, pooled.connection.closed()).await.is_ok() && self.pool.rests()
    }

    /// Connects anew if every connection was lost; whether that was needed. The caller sets the deadline.
    pub(crate) async fn ensure(&self) -> Result<bool, Error> {
        // A server that ends each connection with its channel has lost none.
        if self.pool.any().is_none() && self.pool.rests() {
            return Ok(false);
        }
        if self.pool.any().is_some() && self.is_alive(SIGN_OF_LIFE).await {
            return Ok(false);
        }
        self.give_up_silent().await;
        let opened = self.open_session().await?;
        let _ = timeout(SIGN_OF_LIFE, opened.channel.close()).await;
        Ok(opened.reconnected)
    }

    /// Opens a session channel: on an open connection with a free place, else on a further one. The
    /// caller sets the deadline. The first after a reconnect says so.
    pub(crate) async fn open_session(&self) -> Result<Opened, Error> {
        let (channel, place) = self.open_channel(self.reconnects).await?;
        Ok(Opened { channel, place, reconnected: self.untold.swap(false, Ordering::AcqRel) })
    }

    /// Opens a session channel that is no use of the session.
    pub(crate) async fn open_probe(&self, may_reconnect: bool) -> Result<(Channel, Place), Error> {
        self.open_channel(may_reconnect && self.reconnects).await
    }

    async fn open_channel(&self, may_reconnect: bool) -> Result<(Channel, Place), Error> {
        let failures = self.pool.failures();
        let mut dialled_anew = 0;
        loop {
            let freed = self.pool.freed();
            tokio::pin!(freed);
            // Heard from here on, so that no place is missed between the look and the wait.
            freed.as_mut().enable();
            match self.pool.next(failures) {
                Next::Place(place, spare) => {
                    // Where a connection serves once, another caller may have been first.
                    let most = if self.pool.serves_once() { DIALS_WHERE_SERVED_ONCE } else { 1 };
                    if let Some(channel) = self.open_on(&place, spare, dialled_anew < most).await? {
                        return Ok((channel, place.opened()));
                    }
                }
                Next::Dial { anew } => {
                    let dialling = self.pool.dialling();
                    if anew && !may_reconnect && !self.pool.serves_once() {
                        return Err(self.lost());
                    }
                    self.dial_into_pool(anew).await?;
                    dialled_anew += usize::from(anew);
                    drop(dialling);
                }
                Next::Wait => {
                    let _ = timeout(PLACE_POLL, freed).await;
                }
                Next::Failed(error) => return Err(error),
            }
        }
    }

    /// The channel; none where the connection was full, or turned out to be lost and another one may be tried.
    async fn open_on(
        &self,
        place: &Place,
        spare: Option<SparePlace>,
        may_try_another: bool,
    ) -> Result<Option<Channel>, Error> {
        let connection = &place.pooled.connection;
        let mut opening = pin!(self.open_with_spare(place, spare));
        let opened = loop {
            match timeout(OPEN_TIMEOUT, &mut opening).await {
                Ok(opened) => break opened,
                // Not dropped: a slow server would open a channel that nobody owns. A connection that is given up
                // ends the opening with an error.
                Err(_) => self.give_up_silent().await,
            }
        };
        match opened {
            Ok(channel) => Ok(Some(channel)),
            Err(russh::Error::ChannelOpenFailure(why)) => self.refused_channel(place, &why).await.map(|()| None),
            // Lost: nothing was asked for yet, so another connection may be tried. But not again and again, where a
            // server ends each connection at its first channel: every one is a login.
            Err(_) if (self.reconnects || self.pool.serves_once()) && may_try_another => {
                connection.cut();
                if !self.pool.serves_once() {
                    // The same for a further connection.
                    self.pool.pause_growth();
                }
                Ok(None)
            }
            Err(_) => Err(self.lost()),
        }
    }

    /// Opens the channel, and beside it the one that is kept for ending commands if that is missing.
    async fn open_with_spare(&self, place: &Place, spare: Option<SparePlace>) -> Result<Channel, russh::Error> {
        let connection = &place.pooled.connection;
        let Some(spare_place) = spare else { return connection.open_session().await };
        match tokio::join!(connection.open_session(), connection.open_session()) {
            (Ok(channel), Ok(spare)) => {
                spare_place.keep(spare);
                Ok(channel)
            }
            (Ok(channel), Err(error)) => {
                drop(spare_place);
                if is_full(&error) {
                    self.pool.learn_limit_beside(place);
                }
                Ok(channel)
            }
            // One is allowed, whichever it was.
            (Err(_), Ok(channel)) => Ok(channel),
            (Err(error), Err(_)) => Err(error),
        }
    }

    async fn refused_channel(&self, place: &Place, why: &ChannelOpenFailure) -> Result<(), Error> {
        if is_for_want_of_a_place(why) {
            match self.pool.learn_limit(place) {
                Refusal::Learnt | Refusal::Held => return Ok(()),
                Refusal::Unsettled => {
                    tokio::time::sleep(SETTLING_STEP).await;
                    return Ok(());
                }
                Refusal::NoneAllowed => {}
            }
        }
        Err(Error::ChannelRefused { target: self.target.clone(), why: format!("{why:?}") })
    }

    /// Gives up every connection that shows no sign of life. All at once: they lead to the same machine,
    /// and the next one would cost the caller as much time again.
    async fn give_up_silent(&self) {
        let open = self.pool.all();
        let checks = open.iter().map(async |pooled| {
            if !pooled.connection.is_alive(SIGN_OF_LIFE).await {
                tracing::warn!(host = %self.target, "the server is silent; the connection is given up");
                pooled.connection.cut();
            }
        });
        join_all(checks).await;
    }

    fn lost(&self) -> Error {
        Error::ConnectionLost { target: self.target.clone(), cause: self.pool.cause() }
    }

    /// Opens a connection for the pool. A further one that fails is no failure: the caller waits.
    async fn dial_into_pool(&self, anew: bool) -> Result<(), Error> {
        let Some(spec) = self.spec() else { return Err(self.lost()) };
        if let Some(refused) = self.refused() {
            return Err(self.not_again(refused, 0));
        }
        let peer = if anew { None } else { self.pool.peer() };
        let (dialled, retries) =
            client::connect_to(&spec, Reach { peer, shared: true }, Instant::now() + spec.timeout).await;
        match dialled {
            // The session was closed meanwhile: nobody would ever close this one.
            Ok(_) if self.spec().is_none() => Err(self.lost()),
            Ok(connection) => {
                if anew && !self.pool.serves_once() {
                    tracing::info!(host = %self.target, retries, "reconnected");
                    self.untold.store(true, Ordering::Release);
                }
                self.pool.add(connection);
                Ok(())
            }
            Err(error) if !anew => {
                tracing::warn!(host = %self.target, %error, "no further connection could be opened");
                self.pool.pause_growth();
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                if error.is_final() {
                    *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
                    self.dead.cancel();
                }
                let error = self.not_again(error, retries);
                self.pool.fail(&error);
                Err(error)
            }
        }
    }

    async fn dial_reaching(&self, shared: bool, deadline: Instant) -> Result<Connection, Error> {
        let Some(spec) = self.spec() else { return Err(self.lost()) };
        let reach = Reach { peer: self.pool.peer(), shared };
        let (connection, retries) = client::connect_to(&spec, reach, deadline).await;
        connection.map_err(|error| Error::Client(Arc::new(error), retries))
    }

    fn refused(&self) -> Option<Arc<ClientError>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Variables that a command is given.
    pub(crate) fn environment(&self) -> Environment {
        self.spec().map(|spec| spec.environment.clone()).unwrap_or_default()
    }

    fn spec(&self) -> Option<Arc<ConnectSpec>> {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a channel to end a command over: on its own connection, where one is kept for this, else
    /// on any other, else on a new one.
    pub(crate) async fn open_for_stop(&self, of: &Place) -> Option<(Channel, Option<Place>)> {
        for place in self.pool.stop_places(of) {
            if let Ok(Some(channel)) = timeout(STOP_OPEN_TIMEOUT, open_for_stop_on(&place.pooled)).await {
                return Some((channel, Some(place.opened())));
            }
        }
        if self.typed == Typed::AtTheEnd {
            return None;
        }
        let connection = self.dial_reaching(true, Instant::now() + STOP_OPEN_TIMEOUT).await.ok()?;
        // A session that was closed meanwhile would never close it.
        self.spec()?;
        let place = self.pool.add(connection);
        let channel = place.pooled.connection.open_session().await.ok()?;
        Some((channel, Some(place.opened())))
    }

    /// Closes further connections that have not been used for a while.
    pub(crate) async fn close_unused(&self, bound: Duration) {
        let unused = self.pool.take_unused();
        join_all(unused.iter().map(|pooled| pooled.connection.disconnect(bound))).await;
    }

    /// Says goodbye on all connections at once, and forgets the credentials.
    pub(crate) async fn disconnect(&self, bound: Duration) {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).take();
        let all = self.pool.take_all();
        join_all(all.iter().map(|pooled| pooled.connection.disconnect(bound))).await;
    }
}

async fn open_for_stop_on(pooled: &Pooled) -> Option<Channel> {
    // Asked first: what is kept on a silent connection would end nothing.
    if pooled.connection.is_alive(STOP_OPEN_TIMEOUT).await
        && let Some(kept) = pooled.take_spare()
    {
        return Some(kept);
    }
    loop {
        match pooled.connection.open_session().await {
            Ok(channel) => return Some(channel),
            Err(error) if is_full(&error) && pooled.settles() => tokio::time::sleep(SETTLING_STEP).await,
            Err(_) => return None,
        }
    }
}

fn is_full(error: &russh::Error) -> bool {
    matches!(error, russh::Error::ChannelOpenFailure(why) if is_for_want_of_a_place(why))
}

/// OpenSSH says the one, RFC 4254 has the other for it, TinySSH prohibits all but the first. Whether there is another
/// channel tells what it means: without one, the login has no commands at all.
fn is_for_want_of_a_place(why: &ChannelOpenFailure) -> bool {
    use ChannelOpenFailure as F;
    matches!(why, F::ConnectFailed | F::ResourceShortage | F::AdministrativelyProhibited)
}
