//! The one pump: channel -> [`OutputBuffer`] -> [`Exit`]. Foreground and background commands alike.
//!
//! The pump never waits for a reader: one unread channel would freeze its whole connection.

mod directory;

use std::time::Duration;

use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client::Msg};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub(crate) use self::directory::Directory;
use super::{
    client::Channel,
    output::{OutputBuffer, Source},
};

/// How long after TERM the remote process has before KILL.
const TERM_GRACE: Duration = Duration::from_millis(700);
/// How long after KILL its end is waited for.
const KILL_GRACE: Duration = Duration::from_millis(500);
/// After the exit status: how long output may pause before it counts as all there is. A child that
/// went to the background may hold stdout open for ever.
const DRAIN_QUIET: Duration = Duration::from_millis(300);
/// After the exit status: how long output is taken in at most.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// stdin is sent in pieces of this size.
const STDIN_PIECE: usize = 256 << 10;
/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254, section 5.2).
const EXTENDED_DATA_STDERR: u32 = 1;

/// What is run.
pub(crate) struct Exec {
    /// The line for the login shell.
    pub(crate) line: String,
    /// Standard input; end-of-file at once where it is empty.
    pub(crate) stdin: Vec<u8>,
    /// The directory to run in, if one was asked for.
    pub(crate) directory: Option<Directory>,
}

/// What ends a command from our side.
pub(crate) struct Stop {
    /// When its time is up.
    pub(crate) deadline: Instant,
    /// Fires on cancel and on disconnect.
    pub(crate) token: CancellationToken,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: Option<u32>,
    pub(crate) signal: Option<String>,
    pub(crate) cause: Cause,
    /// After a stop: the remote process was seen to end.
    pub(crate) remote_ended: bool,
}

/// Why the pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The command ended by itself.
    Ended,
    /// It ran longer than allowed.
    TimedOut,
    /// Cancel or disconnect.
    Stopped,
    /// The connection was lost.
    Lost,
    /// The connection was lost before the command was asked for.
    NotStarted,
    /// The server refused the request.
    Refused,
    /// The directory does not exist; nothing was run.
    NoSuchDirectory,
}

/// Runs `exec` on a fresh channel until it ends or `stop` ends it.
pub(crate) async fn run(channel: Channel, exec: Exec, output: &OutputBuffer, stop: Stop) -> Exit {
    let (mut read, write) = channel.split();
    let mut pump = Pump::new(&write, output, exec.directory);
    let asked = tokio::time::timeout_at(stop.deadline, write.exec(true, exec.line.into_bytes())).await;
    if !matches!(asked, Ok(Ok(()))) {
        return pump.exit(Cause::NotStarted);
    }
    let cause = pump.run(&mut read, exec.stdin, &stop).await;
    pump.flush();
    if !pump.closed {
        // The server's own Close is not waited for: russh would not report it.
        let _ = tokio::time::timeout(KILL_GRACE, write.close()).await;
    }
    pump.exit(cause)
}

struct Pump<'a> {
    write: &'a ChannelWriteHalf<Msg>,
    output: &'a OutputBuffer,
    directory: Option<Directory>,
    status: Option<u32>,
    signal: Option<String>,
    closed: bool,
    refused: bool,
    /// When the output counts as complete; set with the exit status.
    drained_at: Option<Instant>,
    drained_at_most: Option<Instant>,
    stopping: Option<Stopping>,
}

/// The signals of a stop, one after the other.
struct Stopping {
    cause: Cause,
    next: Instant,
    killed: bool,
}

impl<'a> Pump<'a> {
    fn new(write: &'a ChannelWriteHalf<Msg>, output: &'a OutputBuffer, directory: Option<Directory>) -> Self {
        Self {
            write,
            output,
            directory,
            status: None,
            signal: None,
            closed: false,
            refused: false,
            drained_at: None,
            drained_at_most: None,
            stopping: None,
        }
    }

    async fn run(&mut self, read: &mut ChannelReadHalf, stdin: Vec<u8>, stop: &Stop) -> Cause {
        // A writer on a closed channel never returns: it runs beside the reader, never before it.
        let feed = feed(self.write, stdin);
        tokio::pin!(feed);
        let mut fed = false;
        let output = self.output;
        loop {
            let wake = self.next_wake(stop.deadline);
            tokio::select! {
                message = read.wait(), if !output.needs_settling() => match message {
                    Some(message) => self.take(message),
                    None if self.closed || self.drained_at.is_some() => return self.ended(),
                    None => return self.stopping.as_ref().map_or(Cause::Lost, |stopping| stopping.cause),
                },
                () = output.settle(), if output.needs_settling() => self.settled(),
                () = &mut feed, if !fed => fed = true,
                () = stop.token.cancelled(), if self.may_stop() => self.begin_stop(Cause::Stopped).await,
                () = sleep_until(wake) => if let Some(cause) = self.on_wake().await { return cause },
            }
            if self.closed || self.refused {
                return self.ended();
            }
        }
    }

    fn take(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::Data { data } => self.output.append(Source::Stdout, &data),
            ChannelMsg::ExtendedData { data, ext: EXTENDED_DATA_STDERR } => self.take_stderr(&data),
            ChannelMsg::ExitStatus { exit_status } => {
                self.status = Some(exit_status);
                self.begin_drain();
            }
            ChannelMsg::ExitSignal { signal_name, .. } => {
                self.signal = Some(signal_text(&signal_name));
                self.begin_drain();
            }
            ChannelMsg::Failure => self.refused = true,
            ChannelMsg::Close => self.closed = true,
            _ => return,
        }
        if self.drained_at.is_some() {
            self.drained_at = Some(Instant::now() + DRAIN_QUIET);
        }
    }

    fn take_stderr(&mut self, data: &[u8]) {
        match &mut self.directory {
            Some(directory) => directory.filter(data, |bytes| self.output.append(Source::Stderr, bytes)),
            None => self.output.append(Source::Stderr, data),
        }
    }

    fn flush(&mut self) {
        if let Some(directory) = &mut self.directory {
            directory.flush(|bytes| self.output.append(Source::Stderr, bytes));
        }
    }

    fn begin_drain(&mut self) {
        let now = Instant::now();
        self.drained_at = Some(now + DRAIN_QUIET);
        self.drained_at_most.get_or_insert(now + DRAIN_MAX);
    }

    /// The time that the disk took is no pause of the output.
    fn settled(&mut self) {
        if self.drained_at.is_some() {
            self.drained_at = Some(Instant::now() + DRAIN_QUIET);
        }
    }

    /// A command that has ended is drained, not stopped.
    fn may_stop(&self) -> bool {
        self.stopping.is_none() && self.drained_at.is_none()
    }

    fn next_wake(&self, deadline: Instant) -> Instant {
        match (self.drained_at, self.drained_at_most, &self.stopping) {
            (_, Some(most), _) if self.output.needs_settling() => most,
            (Some(quiet), Some(most), _) => quiet.min(most),
            (_, _, Some(stopping)) => stopping.next,
            _ => deadline,
        }
    }

    async fn on_wake(&mut self) -> Option<Cause> {
        if self.drained_at.is_some() {
            return Some(self.ended());
        }
        match &mut self.stopping {
            None => {
                self.begin_stop(Cause::TimedOut).await;
                None
            }
            Some(stopping) if !stopping.killed => {
                stopping.killed = true;
                stopping.next = Instant::now() + KILL_GRACE;
                self.signal(Sig::KILL).await;
                None
            }
            Some(stopping) => Some(stopping.cause),
        }
    }

    async fn begin_stop(&mut self, cause: Cause) {
        self.stopping = Some(Stopping { cause, next: Instant::now() + TERM_GRACE, killed: false });
        self.signal(Sig::TERM).await;
    }

    async fn signal(&self, signal: Sig) {
        // A connection that does not take it in time is as good as lost; the grace goes on either way.
        let _ = tokio::time::timeout(KILL_GRACE, self.write.signal(signal)).await;
    }

    fn ended(&self) -> Cause {
        if self.directory.as_ref().is_some_and(Directory::is_missing) {
            return Cause::NoSuchDirectory;
        }
        match &self.stopping {
            _ if self.refused => Cause::Refused,
            Some(stopping) => stopping.cause,
            None => Cause::Ended,
        }
    }

    fn exit(self, cause: Cause) -> Exit {
        let remote_ended = self.closed || self.status.is_some() || self.signal.is_some();
        Exit { status: self.status, signal: self.signal, cause, remote_ended }
    }
}

/// Sends stdin and end-of-file.
async fn feed(write: &ChannelWriteHalf<Msg>, stdin: Vec<u8>) {
    let mut rest = bytes_of(stdin);
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(STDIN_PIECE));
        if write.data_bytes(piece).await.is_err() {
            return;
        }
    }
    let _ = write.eof().await;
}

fn bytes_of(stdin: Vec<u8>) -> bytes::Bytes {
    stdin.into()
}

/// The name of a signal, without `SIG` (RFC 4254, section 6.10).
fn signal_text(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => super::client::address::shorten(name),
        other => format!("{other:?}"),
    }
}
