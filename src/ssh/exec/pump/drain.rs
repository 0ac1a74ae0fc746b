//! After the exit: how long the rest of the output is waited for.

use std::time::Duration;

use tokio::time::Instant;

use super::Pump;

/// After the exit status: how long output may pause before it counts as all there is. A child that
/// went to the background may hold stdout open for ever.
pub(super) const DRAIN_QUIET: Duration = Duration::from_millis(300);
/// After the exit status: how long output is taken in at most, but for what was on its way, see [`DENSE_BYTES`].
pub(super) const DRAIN_MAX: Duration = Duration::from_millis(1_500);
/// How often the server is asked whether more is on its way. On a slow link a packet alone may take longer than
/// [`DRAIN_QUIET`]; a child that goes on writing would keep us asking.
pub(super) const ECHOES: usize = 3;
/// After an answer: how long what came before it may take from the connection to us.
const ECHO_SETTLE: Duration = Duration::from_millis(50);
/// Output of this size within [`DRAIN_MAX`] was on its way when the command ended, and is taken in to its end.
pub(super) const DENSE_BYTES: usize = 32 << 10;
/// No more than this can have been on its way: the window that russh gives, and the pipes of the host.
const IN_FLIGHT_BYTES: usize = (2 << 20) + (256 << 10);

/// The question whether output is still on its way when nothing has come for a while.
#[derive(Default)]
pub(super) struct Echo {
    /// Bytes since the exit when it was asked, while the answer is awaited.
    pub(super) asked_at: Option<usize>,
    pub(super) times: usize,
    /// Nothing more is on its way.
    pub(super) done: bool,
    /// It was not answered.
    pub(super) silent: bool,
}

impl Pump<'_> {
    /// sshd tells the exit status while up to a window of output is still on its way, which may take long on a slow
    /// link. A child that goes on writing after the command is not waited for: it writes less, or for ever.
    pub(super) fn go_on_draining(&mut self) {
        let now = Instant::now();
        let (_, mut latest) = self.drain.unwrap_or((now, now + DRAIN_MAX));
        if self.since_exit >= self.dense_from && self.since_exit <= IN_FLIGHT_BYTES {
            self.dense_from = self.since_exit + DENSE_BYTES;
            latest = now + DRAIN_MAX;
        }
        self.drain = Some((latest.min(now + DRAIN_QUIET), latest));
    }

    /// The time that the disk takes is no pause of the output.
    pub(super) fn keep_draining(&mut self) {
        if let Some((quiet, latest)) = &mut self.drain {
            *quiet = (*latest).min(Instant::now() + DRAIN_QUIET);
        }
    }

    /// Whether it is time to ask if more is on its way.
    pub(super) fn asks_for_echo(&mut self) -> bool {
        let due = self.is_quiet() && self.is_there() && !self.eof && self.stopping.is_none();
        if !due || self.knows_all() || self.echo.asked_at.is_some() {
            return false;
        }
        self.echo.asked_at = Some(self.since_exit);
        self.echo.times += 1;
        true
    }

    /// Whether nothing that was in flight at the exit is still to come. More than that comes from somebody who goes on.
    pub(super) fn knows_all(&self) -> bool {
        self.echo.done || self.since_exit > IN_FLIGHT_BYTES
    }

    pub(super) fn echoed(&mut self, answered: bool) {
        let nothing_came = self.echo.asked_at.take() == Some(self.since_exit);
        self.echo.done = nothing_came || self.echo.times >= ECHOES;
        self.echo.silent = !answered;
        let settled = Instant::now() + ECHO_SETTLE;
        self.drain = Some((settled, settled + DRAIN_MAX));
    }

    /// The exit was told, and what came after it has come to an end, as far as one can see.
    pub(super) fn is_quiet(&self) -> bool {
        self.drain.is_some_and(|(at, _)| Instant::now() >= at)
    }

    /// What it ended with is known: only the rest of its output is waited for.
    pub(super) fn may_end_drain(&self) -> bool {
        self.stopping.is_none() && self.drain.is_some() && !(self.is_quiet() && self.knows_all())
    }

    /// What has not come by now is not waited for.
    pub(super) fn end_drain(&mut self) {
        let now = Instant::now();
        self.echo.done = true;
        self.drain = Some((now, now));
    }
}
