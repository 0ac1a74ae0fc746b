//! One stream: its head and its tail in memory, and a count of everything.

use std::collections::VecDeque;

/// Bytes kept from the start of each stream.
pub const HEAD_BYTES: usize = 64 << 10;
/// Bytes kept from the end of each stream.
pub const TAIL_BYTES: usize = 448 << 10;

#[derive(Debug, Default)]
pub(super) struct Stream {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Stream {
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (to_head, to_tail) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head.len()));
        self.head.extend_from_slice(to_head);
        let kept = &to_tail[to_tail.len().saturating_sub(TAIL_BYTES)..];
        let excess = (self.tail.len() + kept.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        self.tail.extend(kept);
    }

    pub(super) fn shrink(&mut self) {
        self.head.shrink_to_fit();
        self.tail.shrink_to_fit();
    }

    /// Every byte that ever came.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Offset of the first byte that is no longer in memory.
    pub(super) fn head_end(&self) -> u64 {
        self.head.len() as u64
    }

    /// Offset of the first byte of the tail; equal to [`Stream::head_end`] while nothing was dropped.
    pub(super) fn tail_start(&self) -> u64 {
        self.total - self.tail.len() as u64
    }

    /// The bytes from `from` to `to` that are in memory without a gap, starting at `from`.
    pub(super) fn range(&self, from: u64, to: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let to = to.min(self.total);
        if from < self.head_end() {
            let end = to.min(self.head_end());
            bytes.extend_from_slice(&self.head[index(from)..index(end.max(from))]);
        }
        let next = from + bytes.len() as u64;
        if next >= self.tail_start() && next < to {
            let start = self.tail_start();
            bytes.extend(self.tail.range(index(next - start)..index(to - start)));
        }
        bytes
    }

    /// Where the character that holds the byte at `offset` begins: `offset` itself, or up to three
    /// bytes before it.
    pub(super) fn char_start(&self, offset: u64) -> u64 {
        let from = offset.saturating_sub(3);
        let around = self.range(from, offset + 4);
        let at = index(offset - from);
        if from + around.len() as u64 <= offset {
            return offset;
        }
        let start = (0..at).rev().take_while(|i| is_continuation(around[i + 1])).last();
        match start {
            Some(start) if char_covers(&around[start..], at - start) => from + start as u64,
            _ => offset,
        }
    }
}

/// Offsets inside the buffer fit, as its parts are far below 4 GiB.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

const fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Whether `bytes` begin with one character that reaches beyond `position`.
fn char_covers(bytes: &[u8], position: usize) -> bool {
    let length = match bytes[0] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return false,
    };
    position < length && bytes.get(..length).is_some_and(|c| std::str::from_utf8(c).is_ok())
}

/// How many bytes at the end are the beginning of a character that is not complete.
pub(super) fn incomplete_suffix(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let lead = tail.iter().rposition(|b| !is_continuation(*b));
    match lead.map(|lead| &tail[lead..]) {
        Some(rest) if std::str::from_utf8(rest).is_err_and(|e| e.error_len().is_none()) => rest.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_head_and_tail_and_counts_everything() {
        let mut stream = Stream::default();
        let bytes: Vec<u8> = (0..2_000_000_u32).map(|i| u8::try_from(i % 251).unwrap_or(0)).collect();
        for chunk in bytes.chunks(31_111) {
            stream.append(chunk);
        }
        assert_eq!(stream.total(), 2_000_000);
        assert_eq!(stream.range(0, 70_000), bytes[..HEAD_BYTES]);
        let tail = stream.tail_start();
        assert_eq!(2_000_000 - tail, TAIL_BYTES as u64);
        assert_eq!(stream.range(tail, u64::MAX), bytes[2_000_000 - TAIL_BYTES..]);
        assert!(stream.range(HEAD_BYTES as u64, tail).is_empty(), "the gap is not in memory");
    }

    #[test]
    fn reads_across_the_seam_of_head_and_tail() {
        let mut stream = Stream::default();
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| u8::try_from(i % 251).unwrap_or(0)).collect();
        stream.append(&bytes);
        assert_eq!(stream.head_end(), stream.tail_start());
        assert_eq!(stream.range(10, 99_999), bytes[10..99_999]);
    }

    #[test]
    fn finds_the_start_of_a_character() {
        let mut stream = Stream::default();
        stream.append("aé€😀\u{fe}".as_bytes());
        let text = "aé€😀\u{fe}";
        for offset in 0..text.len() {
            let expected = text.floor_char_boundary(offset);
            assert_eq!(stream.char_start(offset as u64), expected as u64, "{offset}");
        }
        let mut binary = Stream::default();
        binary.append(&[0x80, 0x80, 0x80, 0x80, 0x80]);
        assert_eq!(binary.char_start(3), 3, "bytes that are no character are not skipped");
    }

    #[test]
    fn holds_back_only_the_beginning_of_a_character() {
        assert_eq!(incomplete_suffix(b"abc"), 0);
        assert_eq!(incomplete_suffix(&"é".as_bytes()[..1]), 1);
        assert_eq!(incomplete_suffix(&"😀".as_bytes()[..3]), 3);
        assert_eq!(incomplete_suffix(&[b'a', 0xff]), 0, "never valid: nothing to wait for");
        assert_eq!(incomplete_suffix("é".as_bytes()), 0);
    }
}
