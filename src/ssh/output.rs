//! The output of one command: two streams with absolute byte offsets, bounded in memory.
//!
//! The pump appends; pollers and waiters read the same buffer. No I/O happens here.

mod line;
mod pattern;
mod stream;
mod view;
mod wait;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use self::stream::Stream;
pub use self::{
    line::{LINE_CHARS, Latest},
    pattern::{MAX_PATTERN_BYTES, Pattern, PatternError},
    stream::{HEAD_BYTES, TAIL_BYTES},
    view::{Omitted, OutputView, RUNNING_BYTES, Shown, StreamView, View},
    wait::{Found, LINE_BYTES, Watcher},
};

/// Which stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Both streams of a command.
#[derive(Debug)]
pub struct OutputBuffer {
    streams: Mutex<Streams>,
    /// Counts the appends, so that a reader can wait for the next one.
    appended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Streams {
    stdout: Stream,
    stderr: Stream,
}

impl Default for OutputBuffer {
    fn default() -> Self {
        Self { streams: Mutex::default(), appended: watch::Sender::new(0) }
    }
}

impl OutputBuffer {
    /// Appends bytes as the channel delivers them.
    ///
    /// Nothing is held back: a poller must see a prompt of three bytes.
    pub fn append(&self, source: Source, bytes: &[u8]) {
        let mut streams = self.streams();
        match source {
            Source::Stdout => streams.stdout.append(bytes),
            Source::Stderr => streams.stderr.append(bytes),
        }
        drop(streams);
        self.appended.send_modify(|count| *count += 1);
    }

    /// What an answer shows. `ended` says that nothing more will come.
    #[must_use]
    pub fn view(&self, view: View, budget: usize, ended: bool) -> OutputView {
        let streams = self.streams();
        view::view(&streams.stdout, &streams.stderr, view, budget, ended)
    }

    /// Gives back memory that was kept for further output.
    pub(crate) fn seal(&self) {
        let mut streams = self.streams();
        streams.stdout.shrink();
        streams.stderr.shrink();
    }

    /// Fires with every append from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
