//! The pump itself: what arrives on the channel, what is due, and how a stop goes on.

mod drain;

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{Fuse, FusedFuture},
};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client::Msg};
use tokio::time::{Instant, sleep_until, timeout};

use self::drain::{DENSE_BYTES, DRAIN_MAX, DRAIN_QUIET, ECHOES, Echo};
use super::{
    Cause, Ended, Exit, LAST_GRACE, Stop,
    cutter::{Cutter, HOLD},
    feed::feed,
    preamble::{Preamble, Told},
};
use crate::ssh::{
    client::address::shorten,
    output::{OutputBuffer, Source},
};

/// How long after TERM a process that only the signal request can reach has before KILL.
const SIGNAL_GRACE: Duration = Duration::from_millis(700);
/// How long a login shell that is still starting may take to tell its process id, when it is to end.
const MARKER_GRACE: Duration = Duration::from_secs(2);
/// How long ending the process tree may take; it has a shorter limit of its own.
const END_TREE_TIMEOUT: Duration = Duration::from_secs(3);
/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254, section 5.2).
const EXTENDED_DATA_STDERR: u32 = 1;

pub(super) struct Pump<'a> {
    write: &'a ChannelWriteHalf<Msg>,
    output: &'a OutputBuffer,
    stdout: Option<Cutter>,
    stderr: Option<Cutter>,
    held_until: Option<Instant>,
    /// The login shell is to tell its process id.
    tells_pid: bool,
    pid: Option<u32>,
    no_directory: bool,
    status: Option<u32>,
    signal: Option<String>,
    eof: bool,
    pub(super) closed: bool,
    pub(super) lost: bool,
    refused: bool,
    pub(super) agent_refused: bool,
    /// Set with the exit: when the output counts as complete, and when at the latest.
    drain: Option<(Instant, Instant)>,
    /// Bytes that came after the exit.
    since_exit: usize,
    /// With so many bytes after the exit, more are waited for.
    dense_from: usize,
    echo: Echo,
    stopping: Option<Stopping>,
    ended: Option<Ended>,
}

/// A stop on its way.
struct Stopping {
    cause: Cause,
    step: Step,
    /// When the next step is due.
    next: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// TERM was asked for by a signal request.
    Term,
    /// The process tree is being ended on the host.
    Tree,
    /// Nothing more can be done.
    Last,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        write: &'a ChannelWriteHalf<Msg>,
        output: &'a OutputBuffer,
        preamble: Option<Arc<Preamble>>,
    ) -> Self {
        let tells_pid = preamble.as_ref().is_some_and(|preamble| preamble.tells_pid());
        Self {
            write,
            output,
            stdout: preamble.clone().map(|preamble| Cutter::new(preamble, false)),
            stderr: preamble.map(|preamble| Cutter::new(preamble, true)),
            held_until: None,
            tells_pid,
            pid: None,
            no_directory: false,
            status: None,
            signal: None,
            eof: false,
            closed: false,
            lost: false,
            refused: false,
            agent_refused: false,
            drain: None,
            since_exit: 0,
            dense_from: DENSE_BYTES,
            echo: Echo::default(),
            stopping: None,
            ended: None,
        }
    }

    pub(super) async fn run<F: Future<Output = Ended>, G: Future<Output = bool>, H>(
        &mut self,
        read: &mut ChannelReadHalf,
        stdin: Vec<u8>,
        stop: &Stop,
        (end_tree, ask, stall): (impl Fn(u32) -> F, impl Fn() -> G, impl Fn() -> H),
    ) -> Cause {
        // A writer on a closed channel never returns: it runs beside the reader, never before it.
        let mut feed = pin!(feed(self.write, stdin).fuse());
        let mut tree = pin!(Fuse::terminated());
        let mut echo = pin!(Fuse::terminated());
        let mut settling = pin!(Fuse::terminated());
        while !self.is_over(tree.is_terminated()) {
            let wake = self.next_wake(stop.deadline);
            tokio::select! {
                message = read.wait(), if settling.is_terminated() && self.is_there() => self.take(message),
                // The pump waits for the disk, never for a reader.
                () = &mut settling, if !settling.is_terminated() => self.keep_draining(),
                () = &mut feed, if !feed.is_terminated() => {}
                answered = &mut echo, if !echo.is_terminated() => self.echoed(answered),
                ended = &mut tree, if !tree.is_terminated() => self.tree_ended(ended).await,
                () = stop.token.cancelled(), if self.may_stop() => self.begin_stop(Cause::Stopped).await,
                () = stop.token.cancelled(), if self.may_end_drain() => self.end_drain(),
                () = sleep_until(wake) => self.on_wake(stop.deadline).await,
            }
            if let Some(pid) = self.tree_to_end() {
                tree.set(end_tree(pid).fuse());
            }
            if self.asks_for_echo() {
                echo.set(ask().fuse());
            }
            if self.output.needs_settling() {
                if settling.is_terminated() {
                    // A future of its own, which no other wake drops.
                    let (output, stalled) = (self.output, stall());
                    let settle = async move {
                        let _stalled = stalled;
                        output.settle().await;
                    };
                    settling.set(settle.fuse());
                }
                self.keep_draining();
            }
        }
        self.cause()
    }

    fn take(&mut self, message: Option<ChannelMsg>) {
        match message {
            Some(ChannelMsg::Data { data }) => self.take_output(Source::Stdout, &data),
            Some(ChannelMsg::ExtendedData { data, ext: EXTENDED_DATA_STDERR }) => {
                self.take_output(Source::Stderr, &data);
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => self.status = Some(exit_status),
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => self.signal = Some(signal_text(&signal_name)),
            Some(ChannelMsg::Failure) => self.refused = true,
            Some(ChannelMsg::Eof) => self.eof = true,
            Some(ChannelMsg::Close) => self.closed = true,
            Some(_) => return,
            None => self.lost = true,
        }
        if self.status.is_some() || self.signal.is_some() {
            self.go_on_draining();
        }
    }

    fn take_output(&mut self, source: Source, data: &[u8]) {
        if self.drain.is_some() {
            self.since_exit += data.len();
            self.echo.done &= self.echo.times >= ECHOES;
        }
        let cutter = match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        };
        let Some(cutter) = cutter else { return self.output.append(source, data) };
        match cutter.feed(data, |bytes| append(self.output, source, bytes)) {
            Some(Told::Pid(pid)) => self.pid = Some(pid),
            Some(Told::NoDirectory) => self.no_directory = true,
            None => {}
        }
        self.held_until = self.holds().then(|| Instant::now() + HOLD);
    }

    fn holds(&self) -> bool {
        [&self.stdout, &self.stderr].into_iter().flatten().any(Cutter::holds)
    }

    pub(super) fn flush(&mut self) {
        for (cutter, source) in [(&mut self.stdout, Source::Stdout), (&mut self.stderr, Source::Stderr)] {
            if let Some(cutter) = cutter {
                cutter.flush(|bytes| append(self.output, source, bytes));
            }
        }
        self.held_until = None;
    }

    fn is_there(&self) -> bool {
        !self.closed && !self.lost
    }

    /// A command that has ended is drained, not stopped.
    fn may_stop(&self) -> bool {
        self.stopping.is_none() && self.drain.is_none()
    }

    fn is_over(&self, tree_is_done: bool) -> bool {
        let gone = self.closed || self.lost || self.refused;
        let asked = self.knows_all() || self.eof || self.stopping.is_some();
        let drained = self.is_quiet() && asked;
        let given_up = self.stopping.as_ref().is_some_and(|s| s.step == Step::Last && Instant::now() >= s.next);
        // What the host says of the tree is waited for, even when the shell itself has ended.
        (gone || drained || given_up) && (tree_is_done || given_up)
    }

    fn next_wake(&self, deadline: Instant) -> Instant {
        let step = match (&self.stopping, self.drain) {
            (Some(stopping), None) => stopping.next,
            (Some(stopping), Some((drained, _))) => stopping.next.min(drained.max(Instant::now() + HOLD)),
            (None, Some((drained, _))) => {
                let asked = self.echo.asked_at.map(|_| Instant::now() + DRAIN_QUIET);
                drained.max(asked.unwrap_or(drained)).min(deadline + DRAIN_MAX)
            }
            (None, None) => deadline,
        };
        self.held_until.map_or(step, |held| step.min(held))
    }

    async fn on_wake(&mut self, deadline: Instant) {
        let now = Instant::now();
        if self.held_until.is_some_and(|held| now >= held) {
            self.flush();
        }
        if now >= deadline + DRAIN_MAX && self.may_end_drain() {
            self.end_drain();
        }
        match &mut self.stopping {
            None if self.drain.is_none() && now >= deadline => self.begin_stop(Cause::TimedOut).await,
            Some(stopping) if now >= stopping.next && stopping.step != Step::Last => {
                stopping.step = Step::Last;
                stopping.next = now + LAST_GRACE;
                self.signal(Sig::KILL).await;
            }
            _ => {}
        }
    }

    async fn begin_stop(&mut self, cause: Cause) {
        let grace = if self.tells_pid { MARKER_GRACE } else { SIGNAL_GRACE };
        self.stopping = Some(Stopping { cause, step: Step::Term, next: Instant::now() + grace });
        // Where the tree can be ended it gets its TERM there: to many programs a second one means "at once".
        if self.pid.is_none() {
            self.signal(Sig::TERM).await;
        }
    }

    /// The shell whose tree is to be ended now.
    fn tree_to_end(&mut self) -> Option<u32> {
        let stopping = self.stopping.as_mut().filter(|stopping| stopping.step == Step::Term)?;
        let pid = self.pid?;
        stopping.step = Step::Tree;
        stopping.next = Instant::now() + END_TREE_TIMEOUT;
        Some(pid)
    }

    async fn tree_ended(&mut self, ended: Ended) {
        if !ended.confirmed {
            // The script may not have come through; the signal request may.
            self.signal(Sig::TERM).await;
            self.signal(Sig::KILL).await;
        }
        self.ended = Some(ended);
        if let Some(stopping) = &mut self.stopping {
            stopping.step = Step::Last;
            stopping.next = Instant::now() + LAST_GRACE;
        }
    }

    async fn signal(&self, signal: Sig) {
        // A connection that does not take it in time is as good as lost; the grace goes on either way.
        let _ = timeout(LAST_GRACE, self.write.signal(signal)).await;
    }

    fn has_ended(&self) -> bool {
        self.closed || self.status.is_some() || self.signal.is_some()
    }

    fn cause(&self) -> Cause {
        match &self.stopping {
            _ if self.no_directory => Cause::NoSuchDirectory,
            _ if self.refused => Cause::Refused,
            Some(stopping) => stopping.cause,
            None if self.has_ended() => Cause::Ended,
            None => Cause::Lost,
        }
    }

    pub(super) fn exit(self, cause: Cause) -> Exit {
        let seen = Ended { confirmed: self.has_ended(), detached: Vec::new() };
        let open = cause == Cause::Ended && !self.closed && !self.eof;
        Exit {
            status: self.status,
            signal: self.signal,
            cause,
            ended: self.ended.unwrap_or(seen),
            agent_refused: self.agent_refused,
            output_held: open && !self.lost && !self.echo.silent,
            output_cut: open && (self.lost || self.echo.silent),
        }
    }
}

fn append(output: &OutputBuffer, source: Source, bytes: &[u8]) {
    if !bytes.is_empty() {
        output.append(source, bytes);
    }
}

/// The name of a signal, without `SIG` (RFC 4254, section 6.10).
fn signal_text(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => shorten(name),
        other => format!("{other:?}"),
    }
}
