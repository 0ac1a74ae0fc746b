//! Masks known texts in a stream, wherever its chunks end. No I/O.
//!
//! An Aho-Corasick automaton of our own: the crate's cannot be wiped, and does not tell how much of a text may still
//! become a match, which is all that has to be held back.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use secrecy::zeroize::{Zeroize, Zeroizing};

/// What stands where a secret stood, unless a secret could be read into it.
const MASK: &str = "[redacted]";
/// Nodes of an automaton, about one for each byte of each pattern; 24 bytes each. [`LiveSecrets`] keeps below it; with
/// more, nothing would be let through.
///
/// [`LiveSecrets`]: super::live::LiveSecrets
pub(super) const MAX_NODES: usize = 2_000_000;
/// The node where nothing has matched yet; no node has it as a child.
const ROOT: u32 = 0;

/// Texts to mask. Wiped on drop.
pub struct Patterns {
    nodes: Vec<Node>,
    /// Where each byte leads from the root.
    starts: Box<[u32; 256]>,
    mask: Mask,
}

/// A prefix of a pattern.
#[derive(Clone, Copy, Default)]
struct Node {
    byte: u8,
    child: u32,
    sibling: u32,
    /// The longest proper suffix that is a prefix of a pattern.
    fail: u32,
    /// Bytes before here that may still become a secret; while the automaton is built, the length of the prefix.
    open: u32,
    /// The longest pattern that ends here; 0 if none does.
    ends: u32,
}

enum Mask {
    /// This is written, and no pattern can be read out of it and its surroundings.
    Text(Vec<u8>),
    /// There is no such text: after the first secret nothing more is written.
    Stop,
    /// There are too many patterns: nothing is written at all.
    Nothing,
}

impl Patterns {
    /// Builds the automaton. Empty patterns are passed over.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Self {
        let patterns: Vec<P> = patterns.into_iter().collect();
        let bytes: usize = patterns.iter().map(|pattern| pattern.as_ref().len()).sum();
        // One allocation: a vector that grows would leave copies of secrets behind.
        let mut all = Self {
            nodes: Vec::with_capacity(bytes.min(MAX_NODES) + 1),
            starts: Box::new([ROOT; 256]),
            mask: Mask::Nothing,
        };
        all.nodes.push(Node::default());
        if bytes > MAX_NODES {
            return all;
        }
        patterns.iter().for_each(|pattern| all.add(pattern.as_ref()));
        all.link();
        all.mask = mask_beside(&patterns);
        all
    }

    /// True when there is nothing to mask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && !matches!(self.mask, Mask::Nothing)
    }

    #[expect(clippy::cast_possible_truncation, reason = "MAX_NODES fits")]
    fn add(&mut self, pattern: &[u8]) {
        let mut at = ROOT;
        for &byte in pattern {
            at = match self.child(at, byte) {
                Some(child) => child,
                None => {
                    let (new, parent) = (self.nodes.len() as u32, self.nodes[at as usize]);
                    let open = parent.open + 1;
                    self.nodes.push(Node { byte, sibling: parent.child, open, ..Node::default() });
                    self.nodes[at as usize].child = new;
                    if at == ROOT {
                        self.starts[usize::from(byte)] = new;
                    }
                    new
                }
            };
        }
        let end = &mut self.nodes[at as usize];
        end.ends = end.open;
    }

    /// Finds the suffix of each node, level by level.
    fn link(&mut self) {
        let mut queue = VecDeque::from([ROOT]);
        while let Some(at) = queue.pop_front() {
            let Node { mut child, fail, .. } = self.nodes[at as usize];
            if child == ROOT {
                // It goes on with what its suffix is a part of, if with anything.
                self.nodes[at as usize].open = self.nodes[fail as usize].open;
            }
            while child != ROOT {
                let Node { byte, sibling, .. } = self.nodes[child as usize];
                let suffix = if at == ROOT { ROOT } else { self.step(fail, byte) };
                let within = self.nodes[suffix as usize].ends;
                let node = &mut self.nodes[child as usize];
                node.fail = suffix;
                node.ends = node.ends.max(within);
                queue.push_back(child);
                child = sibling;
            }
        }
    }

    fn child(&self, at: u32, byte: u8) -> Option<u32> {
        if at == ROOT {
            return Some(self.starts[usize::from(byte)]).filter(|child| *child != ROOT);
        }
        let mut child = self.nodes[at as usize].child;
        while child != ROOT && self.nodes[child as usize].byte != byte {
            child = self.nodes[child as usize].sibling;
        }
        Some(child).filter(|child| *child != ROOT)
    }

    fn step(&self, mut at: u32, byte: u8) -> u32 {
        loop {
            match self.child(at, byte) {
                Some(child) => return child,
                None if at == ROOT => return ROOT,
                None => at = self.nodes[at as usize].fail,
            }
        }
    }
}

impl Drop for Patterns {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.byte.zeroize();
        }
    }
}

/// A text that shares neither its first nor its last byte with a pattern, and has none within it: whatever stands around
/// it, no pattern reaches into it.
fn mask_beside<P: AsRef<[u8]>>(patterns: &[P]) -> Mask {
    let mut used = [false; 256];
    patterns.iter().flat_map(|pattern| pattern.as_ref()).for_each(|byte| used[usize::from(*byte)] = true);
    let inside = |pattern: &[u8]| !pattern.is_empty() && memchr::memmem::find(MASK.as_bytes(), pattern).is_some();
    let taken = used[usize::from(b'[')] || used[usize::from(b']')];
    if !taken && !patterns.iter().any(|pattern| inside(pattern.as_ref())) {
        return Mask::Text(MASK.into());
    }
    let preferred = *b"*#~_-.";
    let free = preferred.into_iter().chain(b'!'..=b'~').chain(0..=255).find(|byte| !used[usize::from(*byte)]);
    free.map_or(Mask::Stop, |byte| Mask::Text(vec![byte]))
}

/// Masks one stream. A run of bytes that belong to secrets, also to several that overlap or touch, becomes one mask.
///
/// It holds back no more than what may be the beginning of a secret, in linear time.
pub struct Redactor {
    patterns: Arc<Patterns>,
    state: u32,
    /// What is not given out yet.
    pending: Zeroizing<Vec<u8>>,
    /// Where `pending` begins in the stream.
    begins: usize,
    /// Parts of the stream that are secret and not given out yet, in order and apart.
    secret: VecDeque<Range<usize>>,
    /// The byte before `pending` was secret: its mask is written.
    in_secret: bool,
    stopped: bool,
}

impl Redactor {
    /// Begins a stream.
    #[must_use]
    pub fn new(patterns: Arc<Patterns>) -> Self {
        let stopped = matches!(patterns.mask, Mask::Nothing);
        let pending = Zeroizing::new(Vec::new());
        Self { patterns, state: ROOT, pending, begins: 0, secret: VecDeque::new(), in_secret: false, stopped }
    }

    /// Takes the next bytes; gives those that are no part of a secret whatever follows.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.patterns.is_empty() {
            return bytes.to_vec();
        }
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.pending.push(byte);
            self.state = self.patterns.step(self.state, byte);
            let Node { ends, open, .. } = self.patterns.nodes[self.state as usize];
            if ends > 0 {
                self.found(ends as usize);
            }
            // In pieces, so that a long chunk is not kept twice.
            if self.pending.len() >= 2 * (open as usize).max(4096) {
                self.give(open as usize, &mut out);
            }
        }
        let held = self.patterns.nodes[self.state as usize].open as usize;
        self.give(held, &mut out);
        out
    }

    /// The rest, at the end of the stream.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.give(0, &mut out);
        out
    }

    /// The last `length` bytes are a secret.
    fn found(&mut self, length: usize) {
        let end = self.begins + self.pending.len();
        let mut start = end - length;
        while let Some(last) = self.secret.back().filter(|last| last.end >= start) {
            start = start.min(last.start);
            self.secret.pop_back();
        }
        self.secret.push_back(start..end);
    }

    /// Gives out all but the last `held` bytes: no secret that is still to be found begins before them.
    fn give(&mut self, held: usize, out: &mut Vec<u8>) {
        let (mut at, until) = (self.begins, self.begins + self.pending.len() - held);
        while at < until {
            let next = self.secret.front().cloned().unwrap_or(until..until);
            if next.start > at {
                let plain = next.start.min(until);
                self.write(at..plain, out);
                at = plain;
                continue;
            }
            self.mask(out);
            at = next.end.min(until);
            if next.end <= until {
                self.secret.pop_front();
            }
        }
        let given = until - self.begins;
        self.pending.drain(..given);
        self.begins = until;
    }

    fn write(&mut self, part: Range<usize>, out: &mut Vec<u8>) {
        self.in_secret = false;
        if !self.stopped {
            out.extend_from_slice(&self.pending[part.start - self.begins..part.end - self.begins]);
        }
    }

    fn mask(&mut self, out: &mut Vec<u8>) {
        match &self.patterns.mask {
            _ if self.in_secret || self.stopped => {}
            Mask::Text(text) => out.extend_from_slice(text),
            Mask::Stop | Mask::Nothing => self.stopped = true,
        }
        self.in_secret = true;
    }
}

#[cfg(test)]
mod tests;
