//! Bytes of a stream without a gap, copied out of it, wherever they were.

use std::sync::Arc;

use super::{
    chars,
    spill::{NotKept, SpillFile},
};

/// Where the bytes of a window are: before the file, in it, after it.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Absolute offset of the first byte.
    pub(super) start: u64,
    pub(super) before: Vec<u8>,
    pub(super) file: Option<FilePiece>,
    pub(super) after: Vec<u8>,
    /// What the stream had when this was made.
    pub(super) total: u64,
}

/// A range of a spill file.
#[derive(Debug)]
pub(super) struct FilePiece {
    pub(super) file: Arc<SpillFile>,
    pub(super) position: u64,
    pub(super) length: usize,
}

impl Pieces {
    /// Brings the bytes together.
    pub(super) async fn load(self) -> Result<Window, NotKept> {
        let mut bytes = self.before;
        if let Some(FilePiece { file, position, length }) = self.file {
            bytes.extend(file.read(position, length).await?);
        }
        bytes.extend(self.after);
        Ok(Window { start: self.start, bytes, total: self.total })
    }
}

/// Bytes of a stream without a gap.
#[derive(Debug)]
pub(super) struct Window {
    /// Absolute offset of the first byte.
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
    /// What the stream had when this was made.
    pub(super) total: u64,
}

impl Window {
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The bytes from `from` to `to`, as far as they are here.
    pub(super) fn get(&self, from: u64, to: u64) -> &[u8] {
        let (from, to) = (self.index(from), self.index(to));
        &self.bytes[from..to.max(from)]
    }

    /// Where the character that holds the byte at `offset` begins.
    pub(super) fn char_start(&self, offset: u64) -> u64 {
        if offset < self.start || offset >= self.end() {
            return offset;
        }
        self.start + chars::char_start(&self.bytes, self.index(offset)) as u64
    }

    /// The first beginning of a character at or after `offset`.
    pub(super) fn next_char(&self, offset: u64) -> u64 {
        (offset..offset + chars::LONGEST_CHAR).find(|at| self.char_start(*at) == *at).unwrap_or(offset)
    }

    fn index(&self, offset: u64) -> usize {
        usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.bytes.len())
    }
}
