//! One stream: its head and its tail in memory, its middle in a file, and a count of everything.
//!
//! Nothing here touches the disk. What is too much for the memory stays in the tail until it is known to be in the
//! file, so at every moment each kept byte can be read from one place or the other.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    spill::{NotKept, PIECE_BYTES, Piece, SpillFile},
    view::Lost,
    window::{FilePiece, Pieces},
};

/// Bytes kept in memory from the start of each stream.
pub const HEAD_BYTES: usize = 64 << 10;
/// Bytes kept in memory from the end of each stream, at most; a piece less where the rest is in a file.
pub const TAIL_BYTES: usize = 448 << 10;
/// A pump that does not settle loses what is beyond the tail by this much, in bytes.
const SLACK_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Stream {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    file: Option<Arc<SpillFile>>,
    /// Pieces in the file, without a gap from the end of the head on.
    pieces: u64,
    /// Their share of the room that all commands have.
    room: Option<OwnedSemaphorePermit>,
    /// Why nothing goes to the file any more.
    closed: Option<NotKept>,
}

impl Stream {
    /// An empty stream; one that is not `spilling` keeps head and tail only.
    pub(super) fn new(spilling: bool) -> Self {
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            total: 0,
            file: None,
            pieces: 0,
            room: None,
            closed: (!spilling).then_some(NotKept::Off),
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (to_head, to_tail) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head.len()));
        self.head.extend_from_slice(to_head);
        if self.closed.is_none() && self.tail.len() + to_tail.len() > TAIL_BYTES + SLACK_BYTES {
            self.close(NotKept::Slow);
        }
        let limit = if self.closed.is_none() { TAIL_BYTES + SLACK_BYTES } else { TAIL_BYTES };
        let kept = &to_tail[to_tail.len().saturating_sub(limit)..];
        let excess = (self.tail.len() + kept.len()).saturating_sub(limit);
        self.tail.drain(..excess);
        self.tail.extend(kept);
    }

    /// Whether a piece has to go to the file.
    pub(super) fn is_full(&self) -> bool {
        self.closed.is_none() && self.tail.len() > TAIL_BYTES
    }

    /// The piece that goes to the file next; it stays here until [`Stream::settled`].
    pub(super) fn next_piece(&self) -> Piece {
        Piece {
            bytes: copy(&self.tail, 0, PIECE_BYTES.min(self.tail.len())),
            position: self.pieces * PIECE_BYTES as u64,
            file: self.file.clone(),
        }
    }

    /// The piece number `piece` is in `file`.
    pub(super) fn settled(&mut self, piece: u64, file: Arc<SpillFile>, room: OwnedSemaphorePermit) {
        if self.closed.is_some() || piece != self.pieces {
            return;
        }
        self.pieces += 1;
        self.tail.drain(..PIECE_BYTES);
        self.file = Some(file);
        match &mut self.room {
            Some(all) => all.merge(room),
            none => *none = Some(room),
        }
    }

    /// Nothing goes to the file any more; what is there can still be read.
    pub(super) fn close(&mut self, why: NotKept) {
        self.closed.get_or_insert(why);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
    }

    /// The file cannot be read.
    pub(super) fn lose_file(&mut self, why: NotKept) {
        self.closed = Some(why);
        (self.file, self.room, self.pieces) = (None, None, 0);
    }

    /// Gives back memory that was kept for further output.
    pub(super) fn shrink(&mut self) {
        self.head.shrink_to_fit();
        self.tail.shrink_to_fit();
    }

    /// Every byte that ever came.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Pieces in the file.
    pub(super) const fn pieces(&self) -> u64 {
        self.pieces
    }

    /// What is kept no more, and why.
    pub(super) fn lost(&self) -> Option<Lost> {
        let (from, to) = (self.file_end(), self.tail_start());
        (from < to).then(|| Lost { from, bytes: to - from, why: self.closed.clone().unwrap_or(NotKept::Off) })
    }

    /// Where the bytes from `from` to `to` are, as far as they are kept without a gap.
    pub(super) fn pieces_of(&self, from: u64, to: u64) -> Pieces {
        let within = |low: u64, high: u64| (from.clamp(low, high), to.clamp(low, high));
        let (head_from, head_to) = within(0, self.head_end());
        let (file_from, file_to) = within(self.head_end(), self.file_end());
        let reaches = from >= self.tail_start() || self.file_end() == self.tail_start();
        let (tail_from, tail_to) = if reaches { within(self.tail_start(), self.total) } else { (0, 0) };
        let tail = |offset: u64| index(offset.saturating_sub(self.tail_start()));
        Pieces {
            start: from,
            before: self.head[index(head_from)..index(head_to.max(head_from))].to_vec(),
            file: self.file.clone().filter(|_| file_from < file_to).map(|file| FilePiece {
                file,
                position: file_from - self.head_end(),
                length: index(file_to - file_from),
            }),
            after: copy(&self.tail, tail(tail_from), tail(tail_to.max(tail_from))),
            total: self.total,
        }
    }

    /// Bytes in memory.
    pub(super) fn in_memory(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: Arc<SpillFile>) {
        self.file = Some(file);
    }

    /// Offset of the first byte after the head.
    fn head_end(&self) -> u64 {
        self.head.len() as u64
    }

    /// Offset of the first byte after what is in the file.
    fn file_end(&self) -> u64 {
        self.head_end() + self.pieces * PIECE_BYTES as u64
    }

    /// Offset of the first byte of the tail.
    pub(super) fn tail_start(&self) -> u64 {
        self.total - self.tail.len() as u64
    }
}

/// The bytes from `from` to `to`, whole slices at a time.
fn copy(tail: &VecDeque<u8>, from: usize, to: usize) -> Vec<u8> {
    let (first, second) = tail.as_slices();
    let within = |at: usize| (at.min(first.len()), at.saturating_sub(first.len()));
    let ((from, from_second), (to, to_second)) = (within(from), within(to));
    [&first[from..to], &second[from_second..to_second]].concat()
}

/// Offsets inside a part of the buffer fit, as the parts in memory are far below 4 GiB and windows of a file too.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
