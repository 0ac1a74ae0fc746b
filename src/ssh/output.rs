//! The output of one command: two streams with absolute byte offsets, bounded in memory, the rest in a file.
//!
//! The pump appends and settles; pollers and waiters read the same buffer. No I/O of the network happens here, and no
//! reader ever holds up the pump: what is in a file is read without the lock.

mod chars;
mod control;
mod ended;
mod file;
mod form;
mod line;
mod pattern;
#[cfg(test)]
mod random;
mod show;
mod spill;
mod stream;
#[cfg(test)]
mod tests;
mod view;
mod wait;
mod window;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, watch};

pub use self::{
    control::{acts_or_hides, neutralise},
    form::Form,
    line::{LINE_CHARS, Latest},
    pattern::{MAX_PATTERN_BYTES, Pattern, PatternError},
    spill::{MAX_FILES, NotKept, PIECE_BYTES, SpillStore},
    stream::{HEAD_BYTES, TAIL_BYTES},
    view::{Lost, Omitted, OutputView, RUNNING_BYTES, Shown, StreamView, View},
    wait::{Found, LINE_BYTES, Turn, Watcher},
};
use self::{
    spill::Piece,
    stream::Stream,
    view::{Frame, Plan},
};
use crate::ssh::ids::Owner;

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
    streams: Arc<Mutex<Streams>>,
    spill: Arc<SpillStore>,
    /// Counts the appends, so that a reader can wait for the next one.
    appended: watch::Sender<u64>,
}

#[derive(Debug)]
struct Streams {
    stdout: Stream,
    stderr: Stream,
}

impl Streams {
    fn of(&mut self, source: Source) -> &mut Stream {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }

    /// Pieces in the files.
    fn pieces(&self) -> u64 {
        self.stdout.pieces() + self.stderr.pieces()
    }

    fn lose_files(&mut self, why: &NotKept) {
        for stream in [&mut self.stdout, &mut self.stderr] {
            if stream.pieces() > 0 {
                stream.lose_file(why.clone());
            }
        }
    }

    fn full(&self) -> Option<Source> {
        let full = |(source, stream): (Source, &Stream)| stream.is_full().then_some(source);
        [(Source::Stdout, &self.stdout), (Source::Stderr, &self.stderr)].into_iter().find_map(full)
    }
}

impl OutputBuffer {
    /// An empty buffer whose middle goes to `spill`.
    #[must_use]
    pub fn new(spill: Arc<SpillStore>) -> Self {
        let stream = || Stream::new(spill.is_on());
        let streams = Streams { stdout: stream(), stderr: stream() };
        Self { streams: Arc::new(Mutex::new(streams)), spill, appended: watch::Sender::new(0) }
    }

    /// Appends bytes as the channel delivers them.
    ///
    /// Nothing is held back: a poller must see a prompt of three bytes. Nothing waits either: whoever appends more
    /// than a packet settles in between, while [`OutputBuffer::needs_settling`].
    pub fn append(&self, source: Source, bytes: &[u8]) {
        self.streams().of(source).append(bytes);
        self.appended.send_modify(|count| *count += 1);
    }

    /// Whether a stream has more in memory than belongs there.
    #[must_use]
    pub fn needs_settling(&self) -> bool {
        self.streams().full().is_some()
    }

    /// Moves what is too much for the memory to the file, and waits for the disk, with a bound.
    ///
    /// May be dropped at any time: what is not known to be in the file is still in memory, and is written again to the
    /// same place. A disk that is full, or a limit, ends the keeping and nothing else.
    pub async fn settle(&self) {
        while let Some((source, next)) = self.next_piece() {
            let written = match next {
                Ok(Settling { piece, room, number }) => {
                    self.spill.clone().write(piece).await.map(|file| (number, file, room))
                }
                Err(why) => Err(why),
            };
            if written.as_ref().is_err_and(NotKept::is_for_want_of_room) && self.spill.ended.make_room() {
                continue;
            }
            let mut streams = self.streams();
            match written {
                Ok((number, file, room)) => streams.of(source).settled(number, file, room),
                Err(why) => {
                    tracing::warn!(stream = ?source, %why, "the rest of this output is not kept whole");
                    streams.of(source).close(why);
                }
            }
        }
    }

    fn next_piece(&self) -> Option<(Source, Result<Settling, NotKept>)> {
        let mut streams = self.streams();
        let source = streams.full()?;
        let used = streams.pieces();
        let stream = streams.of(source);
        let room = self.spill.reserve(used);
        Some((source, room.map(|room| Settling { piece: stream.next_piece(), room, number: stream.pieces() })))
    }

    /// What an answer shows: `budget` bytes of text. `ended` says that nothing more will come.
    pub async fn view(&self, view: View, form: Form, budget: usize, ended: bool) -> OutputView {
        loop {
            let (stdout, stderr) = self.plan(view, budget, Frame { form, ended });
            let (stdout, stderr) = tokio::join!(stdout.show(), stderr.show());
            // A file that fails once is given up, so this ends.
            match (stdout, stderr) {
                (Ok(stdout), Ok(stderr)) => return OutputView { stdout, stderr, form },
                (stdout, stderr) => {
                    self.give_up(Source::Stdout, stdout.err());
                    self.give_up(Source::Stderr, stderr.err());
                }
            }
        }
    }

    fn plan(&self, view: View, budget: usize, frame: Frame) -> (Plan, Plan) {
        let streams = self.streams();
        view::plan(&streams.stdout, &streams.stderr, view, budget, frame)
    }

    fn give_up(&self, source: Source, why: Option<NotKept>) {
        let Some(why) = why else { return };
        tracing::warn!(stream = ?source, %why, "spilled output cannot be read back");
        self.streams().of(source).lose_file(why);
    }

    /// Nothing more will come. Gives back memory that was kept for it, and from now on the file of what `owner` has here
    /// makes room for others.
    pub(crate) fn seal(&self, owner: &Owner) {
        let mut streams = self.streams();
        streams.stdout.shrink();
        streams.stderr.shrink();
        let spilled = streams.pieces() > 0;
        drop(streams);
        if spilled {
            self.spill.ended.add(owner, &self.streams);
        }
    }

    /// Bytes that are kept in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        let streams = self.streams();
        streams.stdout.in_memory() + streams.stderr.in_memory()
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

/// A piece on its way to the file, and the room that it takes there.
struct Settling {
    piece: Piece,
    /// Which piece of the stream it is.
    number: u64,
    room: OwnedSemaphorePermit,
}
