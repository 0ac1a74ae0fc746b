//! A session: its connections, its children, its health, its orderly end.
//!
//! Every task of a session runs on its tracker and hears its token; there is one road to the end,
//! [`Session::close`], for the tool, the idle timer, the lost connection and the end of the process.

mod connections;
mod end;
mod stop;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub(crate) use self::connections::{Carrier, Connections, Opened, Place};
pub use self::end::EndReason;
pub(crate) use self::stop::STOP_TIMEOUT;
use self::stop::{GRACE, SHORT_GRACE, Stopper};
use super::{
    Error,
    client::{ConnectSpec, Connection, Facts, Target},
    counter::Counter,
    error::ClosedSession,
    exec::{Ended, Shell, capture},
    forward::ForwardInfo,
    ids::{Owner, SessionId},
    quota::Held,
    registry::Entry,
};

/// How long a health check waits for the server.
pub const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the tasks of a session have to end when it is closed; covers the end of its commands.
const CLOSE_TIMEOUT: Duration = STOP_TIMEOUT.saturating_add(Duration::from_millis(200));
/// How often further connections are looked at that nothing uses any more.
const UPKEEP: Duration = Duration::from_secs(10);
/// How long the login shell may take to say which one it is. Then commands go as they are.
const SHELL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long commands may take to notice that their connection is lost; on further connections they go on.
const NOTICE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often it is looked at whether they have.
const NOTICE_STEP: Duration = Duration::from_millis(5);
/// How long the goodbye to the server may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(200);

/// What the caller chose for a session.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Label; unique among the owner's live sessions.
    pub name: Option<String>,
    /// Label that groups a caller's sessions.
    pub agent_id: Option<String>,
    /// Never closed for idleness.
    pub persistent: bool,
    /// Closed after this long without use.
    pub inactivity_timeout: Duration,
    /// Time-out of commands that name none.
    pub command_timeout: Duration,
    /// The way to the host, to tell it from others: compared and never shown.
    pub way: String,
}

/// An open session, or the record of a closed one.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub owner: Owner,
    /// What the caller chose.
    pub choices: Choices,
    /// When it was opened.
    pub connected_at: DateTime<Utc>,
    /// Retries that connecting took.
    pub retry_attempts: u32,
    /// What the first connection's handshake told.
    pub facts: Facts,
    /// The host is the machine of this process.
    pub(crate) on_this_machine: bool,
    pub(crate) connections: Connections,
    pub(crate) tasks: TaskTracker,
    pub(crate) token: CancellationToken,
    /// Commands running, foreground and background.
    pub(crate) running: Counter,
    /// Background commands running; these have a limit.
    pub(crate) background: Counter,
    /// Connections open through forwards.
    pub(crate) forwarded: Counter,
    /// The login shell; none where it cannot be told, and commands go as they are.
    shell: OnceCell<Option<Shell>>,
    /// How often it did not answer.
    unanswered: AtomicU32,
    stopper: Stopper,
    /// One forward is opened at a time.
    pub(crate) forwarding: tokio::sync::Mutex<()>,
    last_used: Mutex<Instant>,
    health: Mutex<(DateTime<Utc>, bool)>,
    end: OnceLock<End>,
    /// Its place among the open sessions.
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct End {
    reason: EndReason,
    at: DateTime<Utc>,
    instant: Instant,
}

/// A session as it is listed.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// The caller's label.
    pub name: Option<String>,
    /// Host, port and user.
    pub target: Target,
    /// The jump hosts on the way, the nearest first.
    pub hops: Vec<Target>,
    /// Label that groups a caller's sessions.
    pub agent_id: Option<String>,
    /// When it was opened.
    pub connected_at: DateTime<Utc>,
    /// When it last answered a check.
    pub last_health_check: Option<DateTime<Utc>>,
    /// What that check said.
    pub healthy: bool,
    /// Never closed for idleness.
    pub persistent: bool,
    /// Commands running now, foreground and background.
    pub running_commands: usize,
    /// Its open forwards.
    pub forwards: Vec<ForwardInfo>,
    /// Retries that connecting took.
    pub retry_attempts: u32,
    /// zlib as negotiated.
    pub compression_enabled: bool,
    /// Time-out of commands that name none.
    pub command_timeout: Duration,
}

impl Session {
    /// A session over its first connection.
    #[must_use]
    pub fn new(owner: Owner, choices: Choices, spec: ConnectSpec, connection: Connection, retry_attempts: u32) -> Self {
        let now = Utc::now();
        Self {
            id: SessionId::random(),
            owner,
            choices,
            connected_at: now,
            retry_attempts,
            facts: connection.facts.clone(),
            on_this_machine: connection.on_this_machine,
            connections: Connections::new(spec, connection),
            tasks: TaskTracker::new(),
            token: CancellationToken::new(),
            running: Counter::default(),
            background: Counter::default(),
            forwarded: Counter::default(),
            shell: OnceCell::new(),
            unanswered: AtomicU32::new(0),
            stopper: Stopper::default(),
            forwarding: tokio::sync::Mutex::default(),
            last_used: Mutex::new(Instant::now()),
            health: Mutex::new((now, true)),
            end: OnceLock::new(),
            held: Mutex::default(),
        }
    }

    /// Its place among the open sessions, free again once it is closed.
    pub(crate) fn holding(self, held: Held) -> Self {
        Self { held: Mutex::new(Some(held)), ..self }
    }

    /// Host, port and user.
    #[must_use]
    pub fn target(&self) -> &Target {
        self.connections.target()
    }

    /// The jump hosts on the way, the nearest first.
    #[must_use]
    pub fn hops(&self) -> &[Target] {
        self.connections.hops()
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.end.get().is_none()
    }

    /// Whether it was closed because its connection was lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.end.get().is_some_and(|end| matches!(end.reason, EndReason::Lost(_)))
    }

    /// The error that a use of a closed session gets.
    #[must_use]
    pub fn closed_error(&self) -> Option<Error> {
        let closed = |end: &End| ClosedSession {
            id: self.id,
            name: self.choices.name.clone(),
            target: self.target().clone(),
            hops: self.hops().to_vec(),
            reason: end.reason.clone(),
            at: end.at,
        };
        self.end.get().map(|end| Error::SessionClosed(Box::new(closed(end))))
    }

    /// Notes a use: the idle time begins anew.
    pub fn touch(&self) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Asks the server for a sign of life.
    pub async fn check_health(&self) -> bool {
        let healthy = self.is_open() && self.connections.is_alive(HEALTH_CHECK_TIMEOUT).await;
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = (Utc::now(), healthy);
        healthy
    }

    /// The session as it is listed; its forwards are known elsewhere.
    #[must_use]
    pub fn info(&self, forwards: Vec<ForwardInfo>) -> SessionInfo {
        let (checked_at, healthy) = *self.health.lock().unwrap_or_else(PoisonError::into_inner);
        SessionInfo {
            id: self.id,
            name: self.choices.name.clone(),
            target: self.target().clone(),
            hops: self.hops().to_vec(),
            agent_id: self.choices.agent_id.clone(),
            connected_at: self.connected_at,
            last_health_check: Some(checked_at),
            healthy,
            persistent: self.choices.persistent,
            running_commands: self.running.get(),
            forwards,
            retry_attempts: self.retry_attempts,
            compression_enabled: self.facts.compression_enabled,
            command_timeout: self.choices.command_timeout,
        }
    }

    /// Closes the session when its connection is lost or it has been idle for too long.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let idle_at = self.idle_at();
            tokio::select! {
                // Finishes what a caller who went away may have begun; the first reason stays.
                () = self.token.cancelled() => return self.close(EndReason::Shutdown).await,
                cause = self.connections.ended() => return self.close(EndReason::Lost(cause)).await,
                () = sleep_until(idle_at.min(Instant::now() + UPKEEP)) => {
                    if self.is_idle() {
                        return self.close(EndReason::Idle).await;
                    }
                    self.connections.close_unused(GOODBYE_TIMEOUT).await;
                }
            }
        }
    }

    fn idle_at(&self) -> Instant {
        // While it is in use the idle time has not begun; it is looked at again later.
        let from = if self.is_busy() { Instant::now() } else { self.last_used() };
        from + if self.choices.persistent { FAR_AWAY } else { self.choices.inactivity_timeout }
    }

    fn is_idle(&self) -> bool {
        let idle_for = Instant::now().saturating_duration_since(self.last_used());
        !self.choices.persistent && !self.is_busy() && idle_for >= self.choices.inactivity_timeout
    }

    fn is_busy(&self) -> bool {
        self.running.get() > 0 || self.forwarded.get() > 0
    }

    fn last_used(&self) -> Instant {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The login shell of the host, asked once. None where commands have to go as they are: a forced
    /// command, an appliance, Windows.
    pub(crate) async fn shell(&self) -> Option<Shell> {
        let asked = self.shell.get_or_try_init(|| self.ask_shell(true)).await;
        // A question that got lost is asked again by the next command.
        asked.ok().copied().flatten()
    }

    /// Asks for the login shell before the first command has to. That is no use of the session: it does
    /// not connect one again that is lost.
    pub async fn learn_shell(self: Arc<Self>) {
        tokio::select! {
            _ = self.shell.get_or_try_init(|| self.ask_shell(false)) => {}
            () = self.token.cancelled() => {}
        }
    }

    async fn ask_shell(&self, may_reconnect: bool) -> Result<Option<Shell>, Error> {
        let nonce = Uuid::new_v4().simple().to_string();
        let (channel, _place) = self.connections.open_probe(may_reconnect).await?;
        let deadline = Instant::now() + SHELL_TIMEOUT;
        let answer = capture(channel, &format!("echo {nonce} $SHELL"), "", deadline).await;
        if answer.is_none() && self.unanswered.fetch_add(1, Ordering::AcqRel) == 0 {
            // Lost or slow, which may pass; a second time it is taken for an answer.
            return Err(Error::ConnectionLost {
                target: self.target().clone(),
                cause: "the shell did not answer".into(),
            });
        }
        let said = answer.as_deref().unwrap_or_default().lines().find_map(|line| line.strip_prefix(&nonce));
        Ok(said.and_then(Shell::of))
    }

    /// Ends the process tree of the login shell `pid`, whose channel holds `place`.
    pub(crate) async fn stop(&self, place: &Place, pid: u32) -> Ended {
        let grace = if self.ends_with_the_process() { SHORT_GRACE } else { GRACE };
        self.stopper.stop(&self.connections, place, pid, grace).await
    }

    fn ends_with_the_process(&self) -> bool {
        self.end.get().is_some_and(|end| end.reason == EndReason::Shutdown)
    }

    /// Ends the session with all that belongs to it: commands are stopped and keep the output they
    /// had, forwards are closed. The first reason stays.
    pub async fn close(&self, reason: EndReason) {
        let lost = matches!(reason, EndReason::Lost(_));
        let end = End { reason, at: Utc::now(), instant: Instant::now() };
        if self.end.set(end).is_ok() {
            tracing::info!(session = %self.id, host = %self.target(), reason = %self.end_reason(), "session closed");
        }
        if lost {
            self.commands_notice().await;
        }
        self.token.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!(session = %self.id, left = self.tasks.len(), "tasks of a closed session did not end in time");
        }
        self.connections.disconnect(GOODBYE_TIMEOUT).await;
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Waits until the commands of a lost connection have ended by themselves: their outcome is unknown,
    /// and a cancel would hide that.
    async fn commands_notice(&self) {
        let deadline = Instant::now() + NOTICE_TIMEOUT;
        while self.running.get() > 0 && Instant::now() < deadline {
            tokio::time::sleep(NOTICE_STEP).await;
        }
    }

    fn end_reason(&self) -> &'static str {
        self.end.get().map_or("", |end| end.reason.as_str())
    }
}

/// Further than any process lives; the timer cannot hold an unbounded time.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);

impl Entry for Session {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn ended_at(&self) -> Option<Instant> {
        self.end.get().map(|end| end.instant)
    }
}
