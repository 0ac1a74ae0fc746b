//! A command: start, wait, cancel. A foreground run is start and wait.

mod status;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use self::status::Status;
use super::{
    Error,
    client::Target,
    counter::Counted,
    exec::{self, Cause, Exec, Exit, Preamble, Shell, Stop},
    ids::{CommandId, Owner, SessionId},
    output::{OutputBuffer, SpillStore},
    quota::Held,
    registry::Entry,
    session::{Opened, Place, Session},
};

/// Longest command line: sshd passes it to the shell as one argument, which Linux limits to 128 KiB.
pub const MAX_COMMAND_BYTES: usize = 120_000;
/// Longest line that Linux takes as one argument, with what stands before it: a quote in a directory takes four bytes.
const MAX_LINE_BYTES: usize = (128 << 10) - 1;
/// Most that one command takes on standard input.
pub const MAX_STDIN_BYTES: usize = 1 << 20;
/// Longest directory name (`PATH_MAX` of Linux).
pub const MAX_CWD_BYTES: usize = 4_096;

/// What to run.
#[derive(Debug)]
pub struct CommandSpec {
    command: String,
    cwd: Option<String>,
    stdin: String,
    timeout: Duration,
    spill: Arc<SpillStore>,
}

impl CommandSpec {
    /// Checks what is to be run; nothing that was not checked reaches a host.
    ///
    /// # Errors
    ///
    /// `InvalidCommand`, `TooLong`.
    pub fn new(command: String, cwd: Option<String>, stdin: Option<String>, timeout: Duration) -> Result<Self, Error> {
        let stdin = stdin.unwrap_or_default();
        if command.trim().is_empty() {
            return Err(Error::InvalidCommand { field: "command", why: "is empty" });
        }
        if command.contains('\0') {
            return Err(Error::InvalidCommand { field: "command", why: "holds a NUL character" });
        }
        if cwd.as_ref().is_some_and(|cwd| cwd.contains(['\0', '\n', '\r'])) {
            return Err(Error::InvalidCommand { field: "cwd", why: "holds a NUL or a line break" });
        }
        check_length("command", command.len(), MAX_COMMAND_BYTES)?;
        check_length("stdin", stdin.len(), MAX_STDIN_BYTES)?;
        check_length("cwd", cwd.as_ref().map_or(0, String::len), MAX_CWD_BYTES)?;
        Ok(Self { command, cwd, stdin, timeout, spill: SpillStore::off() })
    }

    /// The command line, as the login shell gets it.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Output that is too long for the memory goes there.
    #[must_use]
    pub fn spilling_to(self, spill: Arc<SpillStore>) -> Self {
        Self { spill, ..self }
    }
}

fn check_length(field: &'static str, bytes: usize, limit: usize) -> Result<(), Error> {
    if bytes > limit { Err(Error::TooLong { field, bytes, limit }) } else { Ok(()) }
}

/// A command as it stands.
#[derive(Clone, Debug)]
pub struct CommandInfo {
    /// Its id.
    pub id: CommandId,
    /// The session that runs it.
    pub session_id: SessionId,
    /// Host, port and user.
    pub target: Target,
    /// The command line, whole.
    pub command: String,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How long it has run.
    pub duration: Duration,
    /// How long it may run.
    pub timeout: Duration,
    /// Where it stands.
    pub status: Status,
    /// Exit status, where the remote gave one.
    pub exit_status: Option<u32>,
    /// Signal that ended it, without `SIG`.
    pub exit_signal: Option<String>,
    /// It was ended for running longer than `timeout`.
    pub timed_out: bool,
    /// After a stop: whether the end of the remote process was confirmed.
    pub remote_ended: Option<bool>,
    /// After a stop: processes that left its session (`setsid`) and go on.
    pub detached: Vec<u32>,
    /// It ended, but something that it started still holds its output.
    pub output_held: bool,
    /// It ended, and the connection was lost before all of its output had come.
    pub output_cut: bool,
    /// The connection had to be opened anew for it.
    pub reconnected: bool,
    /// The host did not take the SSH agent; told once for each connection.
    pub agent_refused: bool,
    /// Why it is `Failed`.
    pub error: Option<Arc<Error>>,
}

/// A command that was started, or the record of one that has ended.
#[derive(Debug)]
pub struct Command {
    /// Its id.
    pub id: CommandId,
    /// The session that runs it.
    pub session_id: SessionId,
    owner: Owner,
    target: Target,
    command: String,
    started_at: DateTime<Utc>,
    started: Instant,
    timeout: Duration,
    /// What it has written.
    pub output: OutputBuffer,
    outcome: watch::Sender<Option<Arc<Outcome>>>,
    /// It has a place among the background commands, which have a limit.
    pub background: bool,
    token: CancellationToken,
}

/// What a running command takes: of its session, of its principal, and among the background commands.
type Places = (Counted, Held, Option<Counted>);

/// How a command ended.
#[derive(Debug)]
struct Outcome {
    status: Status,
    exit_status: Option<u32>,
    exit_signal: Option<String>,
    timed_out: bool,
    remote_ended: Option<bool>,
    detached: Vec<u32>,
    output_held: bool,
    output_cut: bool,
    reconnected: bool,
    agent_refused: bool,
    error: Option<Arc<Error>>,
    ended_at: DateTime<Utc>,
    ended: Instant,
}

impl Command {
    /// Starts a command on `session`. `held` is its place among all that run, `slot` that among the background
    /// commands of the session.
    #[must_use]
    pub(crate) fn start(session: &Arc<Session>, spec: CommandSpec, held: Held, slot: Option<Counted>) -> Arc<Self> {
        let command = Arc::new(Self {
            id: CommandId::random(),
            session_id: session.id,
            owner: session.owner.clone(),
            target: session.target().clone(),
            command: spec.command.clone(),
            started_at: Utc::now(),
            started: Instant::now(),
            timeout: spec.timeout,
            output: OutputBuffer::new(spec.spill.clone()),
            outcome: watch::Sender::new(None),
            background: slot.is_some(),
            token: session.token.child_token(),
        });
        let span = tracing::info_span!("command", id = %command.id, session = %session.id);
        // Counted from now on, so that a session with a command that is about to start is not idle.
        let running = session.running.add();
        session.tasks.spawn(command.clone().drive(session.clone(), spec, (running, held, slot)).instrument(span));
        command
    }

    async fn drive(self: Arc<Self>, session: Arc<Session>, spec: CommandSpec, counted: Places) {
        let outcome = self.run(&session, spec).await;
        tracing::debug!(status = outcome.status.as_str(), exit_status = outcome.exit_status, "command ended");
        if outcome.remote_ended == Some(false) {
            tracing::warn!(host = %self.target, "the end of a remote process was not confirmed: it may still run");
        }
        self.output.seal(&self.owner);
        session.touch();
        // The place is free before anybody can learn of the end.
        drop(counted);
        self.outcome.send_replace(Some(Arc::new(outcome)));
    }

    async fn run(&self, session: &Arc<Session>, spec: CommandSpec) -> Outcome {
        let deadline = self.started + self.timeout;
        let (shell, opened) = match self.open(session, deadline).await {
            Ok(opened) => opened,
            Err(NotOpened::Cancelled) if session.is_lost() => {
                let cause = "before it was asked for".into();
                return self.failed(Error::ConnectionLost { target: self.target.clone(), cause });
            }
            Err(NotOpened::Cancelled) => return self.outcome(Status::Cancelled).with_remote_ended(true),
            Err(NotOpened::Failed(error)) => return self.failed(error),
        };
        if shell.is_none() && spec.cwd.is_some() {
            let why = "cannot be used on this host: its shell is unknown";
            return self.failed(Error::InvalidCommand { field: "cwd", why });
        }
        let preamble = Preamble::new(shell, spec.cwd.as_deref());
        let bytes = spec.command.len() + preamble.as_ref().map_or(0, Preamble::len);
        if bytes > MAX_LINE_BYTES {
            return self.failed(Error::TooLong { field: "command", bytes, limit: MAX_COMMAND_BYTES });
        }
        let environment = session.connections.environment();
        let place = &opened.place;
        let (command, stdin) = (spec.command, spec.stdin.into_bytes());
        let exec = Exec { preamble, command, stdin, environment, agent: place.agent() };
        let stop = Stop { deadline, token: self.token.clone() };
        // Ending a process tree is rare, and takes more room than all else of a command.
        let beside = (|pid| Box::pin(session.stop(place, pid)), || place.answers(), || place.stall());
        let mut exit = exec::run(opened.channel, exec, &self.output, stop, beside).await;
        // Nobody asked for a cancel: the session ended under the command.
        if exit.cause == Cause::Stopped && session.is_lost() {
            exit.cause = Cause::Lost;
        }
        let (reconnected, agent_refused) = (opened.reconnected, exit.agent_refused);
        Outcome { reconnected, agent_refused, ..self.judge(exit, place, spec.cwd.unwrap_or_default()) }
    }

    /// Opens a channel. An opening that is abandoned goes on by itself and closes what it got, since
    /// a channel that nobody owns would stay open on the server.
    async fn open(&self, session: &Arc<Session>, deadline: Instant) -> Result<(Option<Shell>, Opened), NotOpened> {
        let opener = session.clone();
        let mut opening = Box::pin(async move {
            // Asked before the channel is opened: Dropbear loses the end of a command whose channel was
            // open while another one ended.
            let shell = opener.shell().await;
            opener.connections.open_session().await.map(|opened| (shell, opened))
        });
        let abandoned = tokio::select! {
            opened = &mut opening => return opened.map_err(NotOpened::Failed),
            () = self.token.cancelled() => NotOpened::Cancelled,
            () = sleep_until(deadline) => NotOpened::Failed(Error::NoPlace { after: self.timeout }),
        };
        let token = session.token.clone();
        session.tasks.spawn(async move {
            tokio::select! {
                opened = opening => if let Ok((_, opened)) = opened {
                    let _ = opened.channel.close().await;
                },
                () = token.cancelled() => {}
            }
        });
        Err(abandoned)
    }

    fn judge(&self, exit: Exit, place: &Place, cwd: String) -> Outcome {
        let target = self.target.clone();
        let stopped = |status| Outcome {
            exit_signal: exit.signal.clone(),
            remote_ended: Some(exit.ended.confirmed),
            detached: exit.ended.detached.clone(),
            ..self.outcome(status)
        };
        match exit.cause {
            Cause::Ended => Outcome {
                exit_status: exit.status,
                exit_signal: exit.signal,
                output_held: exit.output_held,
                output_cut: exit.output_cut,
                ..self.outcome(Status::Completed)
            },
            // An exit status after TERM is the answer to the signal, not the result of the command.
            Cause::TimedOut => Outcome { timed_out: true, ..stopped(Status::Completed) },
            Cause::Stopped => Outcome { exit_status: exit.status, ..stopped(Status::Cancelled) },
            Cause::Lost => self.failed(Error::OutcomeUnknown { target, cause: place.cause() }),
            Cause::NotStarted => self.failed(Error::ConnectionLost { target, cause: place.cause() }),
            Cause::Refused => self.failed(Error::ChannelRefused { target, why: "the request was refused".into() }),
            Cause::NoSuchDirectory => {
                self.failed(Error::NoSuchDirectory { directory: super::client::address::shorten(&cwd), target })
            }
        }
    }

    fn failed(&self, error: Error) -> Outcome {
        Outcome { error: Some(Arc::new(error)), ..self.outcome(Status::Failed) }
    }

    fn outcome(&self, status: Status) -> Outcome {
        Outcome {
            status,
            exit_status: None,
            exit_signal: None,
            timed_out: false,
            remote_ended: None,
            detached: Vec::new(),
            output_held: false,
            output_cut: false,
            reconnected: false,
            agent_refused: false,
            error: None,
            ended_at: Utc::now(),
            ended: Instant::now(),
        }
    }

    /// Waits for the end, at most until `deadline`; whether it has ended.
    pub async fn ended_by(&self, deadline: Instant) -> bool {
        let mut outcome = self.outcome.subscribe();
        let ended = outcome.wait_for(Option::is_some);
        tokio::time::timeout_at(deadline, ended).await.is_ok()
    }

    /// Asks the command to end. What it has written stays.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.outcome.borrow().is_none()
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.outcome.borrow().as_ref().map_or(Status::Running, |outcome| outcome.status)
    }

    /// The command as it stands.
    #[must_use]
    pub fn info(&self) -> CommandInfo {
        let outcome = self.outcome.borrow().clone();
        let outcome = outcome.as_deref();
        CommandInfo {
            id: self.id,
            session_id: self.session_id,
            target: self.target.clone(),
            command: self.command.clone(),
            started_at: self.started_at,
            ended_at: outcome.map(|o| o.ended_at),
            duration: outcome.map_or_else(Instant::now, |o| o.ended).saturating_duration_since(self.started),
            timeout: self.timeout,
            status: outcome.map_or(Status::Running, |o| o.status),
            exit_status: outcome.and_then(|o| o.exit_status),
            exit_signal: outcome.and_then(|o| o.exit_signal.clone()),
            timed_out: outcome.is_some_and(|o| o.timed_out),
            remote_ended: outcome.and_then(|o| o.remote_ended),
            detached: outcome.map(|o| o.detached.clone()).unwrap_or_default(),
            output_held: outcome.is_some_and(|o| o.output_held),
            output_cut: outcome.is_some_and(|o| o.output_cut),
            reconnected: outcome.is_some_and(|o| o.reconnected),
            agent_refused: outcome.is_some_and(|o| o.agent_refused),
            error: outcome.and_then(|o| o.error.clone()),
        }
    }
}

impl Outcome {
    fn with_remote_ended(self, ended: bool) -> Self {
        Self { remote_ended: Some(ended), ..self }
    }
}

enum NotOpened {
    Cancelled,
    Failed(Error),
}

impl Entry for Command {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn ended_at(&self) -> Option<Instant> {
        self.outcome.borrow().as_ref().map(|outcome| outcome.ended)
    }

    fn retained(&self) -> usize {
        self.output.in_memory() + self.command.len()
    }
}
