//! Cuts the preamble and its marker from a stream of output.
//!
//! What may be their beginning is held back until the next packet, and for [`HOLD`] at most, so that
//! a prompt that happens to look like it is seen all the same.

use std::{sync::Arc, time::Duration};

use memchr::memmem;

use super::preamble::{Preamble, Told, read_marker};

/// How long a possible beginning is held back.
pub(super) const HOLD: Duration = Duration::from_millis(20);
/// Longest rest of a marker line: a process id or the word for a missing directory.
const MAX_MARKER_REST: usize = 24;

/// The cutter of one stream.
#[derive(Debug)]
pub(super) struct Cutter {
    preamble: Arc<Preamble>,
    /// A marker comes once, and on stderr only.
    expects_pid: bool,
    expects_no_directory: bool,
    held: Vec<u8>,
}

impl Cutter {
    pub(super) fn new(preamble: Arc<Preamble>, is_stderr: bool) -> Self {
        Self {
            expects_pid: is_stderr && preamble.tells_pid(),
            expects_no_directory: is_stderr && preamble.enters_directory(),
            preamble,
            held: Vec::new(),
        }
    }

    /// Passes `data` on without what is ours; gives what a marker told.
    pub(super) fn feed(&mut self, data: &[u8], mut pass: impl FnMut(&[u8])) -> Option<Told> {
        if self.held.is_empty() && !self.concerns(data) {
            pass(data);
            return None;
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(data);
        let mut rest = bytes.as_slice();
        let mut told = None;
        while let Some(found) = self.find(rest) {
            pass(&rest[..found.start]);
            if found.told.is_some() {
                // The first one is the shell's; whatever looks like one from here on was written by the command.
                (self.expects_pid, self.expects_no_directory) = (false, false);
            }
            told = found.told.or(told);
            rest = &rest[found.end..];
        }
        let keep = self.beginning(rest);
        pass(&rest[..rest.len() - keep]);
        self.held = rest[rest.len() - keep..].to_vec();
        told
    }

    /// Whether something is held back.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Passes on what was held back.
    pub(super) fn flush(&mut self, pass: impl FnOnce(&[u8])) {
        if self.holds() {
            pass(&std::mem::take(&mut self.held));
        }
    }

    fn expects_marker(&self) -> bool {
        self.expects_pid || self.expects_no_directory
    }

    fn expects(&self, told: Told) -> bool {
        match told {
            Told::Pid(_) => self.expects_pid,
            Told::NoDirectory => self.expects_no_directory,
        }
    }

    fn concerns(&self, data: &[u8]) -> bool {
        self.beginning(data) > 0 || memmem::find(data, self.preamble.nonce()).is_some()
    }

    /// The first thing to cut that is complete.
    fn find(&self, bytes: &[u8]) -> Option<Cut> {
        let find = |text| memmem::find(bytes, text).map(|at| Cut { start: at, end: at + text.len(), told: None });
        let repeated = self.preamble.texts().filter_map(find).min_by_key(|cut| cut.start);
        let marker = if self.expects_marker() { self.find_marker(bytes) } else { None };
        match (repeated, marker) {
            // The preamble holds the nonce, so a marker that begins inside of it is none.
            (Some(r), Some(m)) if m.end <= r.start => Some(m),
            (Some(r), _) => Some(r),
            (None, marker) => marker,
        }
    }

    fn find_marker(&self, bytes: &[u8]) -> Option<Cut> {
        let nonce = self.preamble.nonce();
        let mut from = 0;
        while let Some(at) = memmem::find(&bytes[from..], nonce) {
            let (start, rest) = (from + at, from + at + nonce.len());
            let line = &bytes[rest..bytes.len().min(rest + MAX_MARKER_REST)];
            if let Some(length) = line.iter().position(|b| *b == b'\n')
                && let Some(told) = read_marker(&line[..length]).filter(|told| self.expects(*told))
            {
                return Some(Cut { start, end: rest + length + 1, told: Some(told) });
            }
            from = rest;
        }
        None
    }

    /// How many bytes at the end may be the beginning of what is to be cut.
    fn beginning(&self, bytes: &[u8]) -> usize {
        let repeated = self.preamble.texts().map(|text| overlap(bytes, text)).max().unwrap_or(0);
        let marker = if self.expects_marker() { self.marker_beginning(bytes) } else { 0 };
        repeated.max(marker)
    }

    fn marker_beginning(&self, bytes: &[u8]) -> usize {
        let nonce = self.preamble.nonce();
        let window = &bytes[bytes.len().saturating_sub(nonce.len() + MAX_MARKER_REST)..];
        match memmem::rfind(window, nonce) {
            Some(at) if !window[at..].contains(&b'\n') => window.len() - at,
            _ => overlap(bytes, nonce),
        }
    }
}

struct Cut {
    start: usize,
    end: usize,
    told: Option<Told>,
}

/// Length of the longest end of `bytes` that is a proper beginning of `pattern`.
fn overlap(bytes: &[u8], pattern: &[u8]) -> usize {
    let most = bytes.len().min(pattern.len().saturating_sub(1));
    (1..=most).rev().find(|length| bytes.ends_with(&pattern[..*length])).unwrap_or(0)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{super::preamble::Shell, *};

    fn preamble() -> Arc<Preamble> {
        Arc::new(Preamble::new(Some(Shell::Posix), Some("/x")).unwrap())
    }

    fn cut(cutter: &mut Cutter, pieces: &[&[u8]]) -> (Vec<u8>, Option<Told>) {
        let (mut out, mut told) = (Vec::new(), None);
        for piece in pieces {
            told = cutter.feed(piece, |bytes| out.extend_from_slice(bytes)).or(told);
        }
        cutter.flush(|bytes| out.extend_from_slice(bytes));
        (out, told)
    }

    fn marker(preamble: &Preamble, rest: &str) -> Vec<u8> {
        [preamble.nonce(), rest.as_bytes()].concat()
    }

    #[test]
    fn cuts_marker_and_preamble_wherever_the_packets_split() {
        let preamble = preamble();
        let text = [
            b"before ".as_slice(),
            &marker(&preamble, " 4711\n"),
            b"bash: line 1: `",
            preamble.texts().next().unwrap(),
            b"foo )'\n",
        ]
        .concat();
        for split in 0..=text.len() {
            let mut cutter = Cutter::new(preamble.clone(), true);
            let (out, told) = cut(&mut cutter, &[&text[..split], &text[split..]]);
            assert_eq!(String::from_utf8_lossy(&out), "before bash: line 1: `foo )'\n", "{split}");
            assert_eq!(told, Some(Told::Pid(4711)));
        }
        let mut cutter = Cutter::new(preamble.clone(), true);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(cut(&mut cutter, &bytes).0, b"before bash: line 1: `foo )'\n");
    }

    #[test]
    fn tells_of_a_missing_directory_unless_the_command_was_reached() {
        let preamble = preamble();
        let no_directory = marker(&preamble, " no-directory\n");
        let text = [b"cd: no\n".to_vec(), no_directory.clone()].concat();
        let mut cutter = Cutter::new(preamble.clone(), true);
        assert_eq!(cut(&mut cutter, &[&text]), (b"cd: no\n".to_vec(), Some(Told::NoDirectory)));

        let forged = [marker(&preamble, " 4711\n"), no_directory.clone()].concat();
        let mut cutter = Cutter::new(preamble.clone(), true);
        assert_eq!(cut(&mut cutter, &[&forged]), (no_directory, Some(Told::Pid(4711))));
    }

    #[test]
    fn cuts_the_preamble_as_ps_shows_it() {
        let preamble = Arc::new(Preamble::new(Some(Shell::Fish), Some("/x")).unwrap());
        for text in preamble.texts() {
            let shown = [b"fish -c ", text, b"true\n"].concat();
            let mut cutter = Cutter::new(preamble.clone(), false);
            assert_eq!(cut(&mut cutter, &[&shown]), (b"fish -c true\n".to_vec(), None));
        }
        assert_eq!(preamble.texts().count(), 2);
    }

    #[test]
    fn takes_the_first_marker_only() {
        let preamble = preamble();
        let text = [marker(&preamble, " 4711\n"), marker(&preamble, " 815\n")].concat();
        let mut cutter = Cutter::new(preamble.clone(), true);
        let (out, told) = cut(&mut cutter, &[&text]);
        assert_eq!((out, told), (marker(&preamble, " 815\n"), Some(Told::Pid(4711))));
    }

    #[test]
    fn leaves_other_output_alone() {
        let preamble = preamble();
        let other = super::tests::preamble();
        for text in [b"pw:".as_slice(), b"echo ", b"ssh-mcp-", &marker(&other, " 4711\n"), &[0, 159, 146, 150]] {
            for expects_marker in [false, true] {
                let mut cutter = Cutter::new(preamble.clone(), expects_marker);
                assert_eq!(cut(&mut cutter, &[text]), (text.to_vec(), None));
            }
        }
    }

    #[test]
    fn passes_a_prompt_on_at_once() {
        let mut cutter = Cutter::new(preamble(), true);
        let mut out = Vec::new();
        cutter.feed(b"Password: ", |bytes| out.extend_from_slice(bytes));
        assert_eq!(out, b"Password: ");
        assert!(!cutter.holds());
    }
}
