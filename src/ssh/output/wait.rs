//! Waiting until something appears in the output. The waiter watches the buffer that everybody reads;
//! it keeps where it has got to, and of a regular expression's current line at most [`WINDOW`].

use std::{sync::Arc, time::Duration};

use regex::bytes::Regex;
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{OutputBuffer, Source, line::clear, pattern::Pattern, window::Pieces};

/// Bytes of a line that are matched as one. Of a longer line the next window begins in the middle of
/// the last, so a match of up to half of this is found wherever it stands.
const WINDOW: usize = 64 << 10;
/// Bytes that are taken out of the buffer, and looked at, at once.
const PIECE: usize = 64 << 10;
/// A line that has not ended is matched once it has been as it is for this long: a prompt stays as it
/// is. While it grows it is matched each time it has doubled, so that no byte is looked at often.
const SETTLED: Duration = Duration::from_millis(20);

/// Bytes that the line of a match is cut to.
pub const LINE_BYTES: usize = 200;

/// Something that appeared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// In which stream.
    pub source: Source,
    /// Absolute offset of the first byte after it: to look for the next one, go on from here.
    pub end: u64,
    /// The line it stands on, without control sequences, cut to [`LINE_BYTES`].
    pub line: String,
}

/// Searches with a regular expression that run one after the other: those of one caller. One may take two seconds of
/// processor time, so it runs in a thread for blocking work. Clones are the same turn.
#[derive(Clone, Debug)]
pub struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// Looks for a pattern in the output of one command. Each byte is taken out of the buffer once.
#[derive(Debug)]
pub struct Watcher<'a> {
    pattern: &'a Pattern,
    scans: Vec<Scan>,
    turn: Turn,
    /// What was found and not told yet.
    hit: Option<(Source, Span)>,
    /// Bytes that were dropped before they could be looked at.
    missed: u64,
}

/// How far one stream has been looked at.
#[derive(Debug)]
struct Scan {
    source: Source,
    /// Offset of the first byte that was not taken yet.
    next: u64,
    /// Bytes of a text that have matched so far.
    matched: usize,
    /// The line that has not ended; for a regular expression only.
    line: Line,
    /// A search that has the line, and what it finds.
    search: Option<AbortOnDropHandle<(Line, Option<Span>)>>,
    /// Where somebody else would have to begin in order to miss nothing.
    from: u64,
}

#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// The first byte belongs to what was matched before: it is context and not part of a match.
    context: usize,
    /// How many bytes there were when they were matched last.
    looked_at: usize,
    /// How many bytes are known to hold no match, however the line goes on or ends.
    settled: usize,
}

/// A piece of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins: later than asked for where something is no longer in memory.
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
}

impl OutputBuffer {
    /// Up to `limit` bytes that are kept from `from` on. The one place that takes bytes out for a waiter.
    pub(super) async fn piece(&self, source: Source, from: u64, limit: usize) -> Piece {
        loop {
            let pieces = self.kept(source, from, limit);
            match pieces.load().await {
                Ok(window) => return Piece { start: window.start, bytes: window.bytes },
                // A file that fails once is given up, so this ends.
                Err(why) => self.give_up(source, Some(why)),
            }
        }
    }

    fn kept(&self, source: Source, from: u64, limit: usize) -> Pieces {
        let mut streams = self.streams();
        let stream = streams.of(source);
        let from = from.min(stream.total());
        let start = match stream.lost() {
            Some(gap) if (gap.from..gap.from + gap.bytes).contains(&from) => gap.from + gap.bytes,
            _ => from,
        };
        stream.pieces_of(start, start.saturating_add(limit as u64))
    }

    /// Bytes that a stream has produced so far.
    #[must_use]
    pub fn total(&self, source: Source) -> u64 {
        self.streams().of(source).total()
    }

    /// Waits until a stream holds more than `seen` bytes, and gives how many.
    pub async fn grown(&self, source: Source, seen: u64) -> u64 {
        let mut appended = self.subscribe();
        loop {
            appended.mark_unchanged();
            let total = self.total(source);
            // The sender lives in `self`: the wait cannot fail.
            if total > seen || appended.changed().await.is_err() {
                return total;
            }
        }
    }
}

impl<'a> Watcher<'a> {
    /// Looks from these offsets on; a stream without one is not looked at.
    #[must_use]
    pub fn new(pattern: &'a Pattern, stdout: Option<u64>, stderr: Option<u64>) -> Self {
        let scan = |source, next| Scan { source, next, matched: 0, line: Line::default(), search: None, from: next };
        let stdout = stdout.map(|from| scan(Source::Stdout, from));
        let stderr = stderr.map(|from| scan(Source::Stderr, from));
        Self { pattern, scans: stdout.into_iter().chain(stderr).collect(), turn: Turn::default(), hit: None, missed: 0 }
    }

    /// Takes turns with others.
    #[must_use]
    pub fn taking(self, turn: Turn) -> Self {
        Self { turn, ..self }
    }

    /// Waits until it appears. May be dropped and called again: it goes on where it was.
    pub async fn appears(&mut self, output: &OutputBuffer) -> Found {
        let mut appended = output.subscribe();
        loop {
            appended.mark_unchanged();
            if let Some(found) = self.look(output, false).await {
                return found;
            }
            tokio::select! {
                _ = appended.changed() => {}
                () = sleep(SETTLED), if self.is_unsettled() => {
                    if let Some(found) = self.look(output, true).await {
                        return found;
                    }
                }
            }
        }
    }

    /// Looks at everything that has arrived. `settled` says that lines without an end count as ended.
    pub async fn look(&mut self, output: &OutputBuffer, settled: bool) -> Option<Found> {
        for scan in &mut self.scans {
            if self.hit.is_none() {
                let span = scan.look((self.pattern, &self.turn), output, settled, &mut self.missed).await;
                self.hit = span.map(|span| (scan.source, span));
            }
        }
        // Its line may have to be read from the disk. Dropped meanwhile, it is described the next time.
        let (source, span) = self.hit?;
        let found = found(output, source, self.pattern, span).await;
        self.hit = None;
        Some(found)
    }

    /// Where to look on for the same pattern, in the streams that are looked at: what has come of it may have begun earlier
    /// than the last byte.
    #[must_use]
    pub fn goes_on_from(&self, source: Source) -> Option<u64> {
        let from = self.scans.iter().find(|scan| scan.source == source)?.from;
        let hit = self.hit.filter(|(at, _)| *at == source).map(|(_, span)| span.start);
        Some(hit.map_or(from, |hit| hit.min(from)))
    }

    /// Bytes that were dropped before they could be looked at: a flood may be faster than its waiter.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    fn is_unsettled(&self) -> bool {
        self.scans.iter().any(|scan| scan.line.is_unsettled())
    }
}

impl Scan {
    async fn look(
        &mut self,
        (pattern, turn): (&Pattern, &Turn),
        output: &OutputBuffer,
        settled: bool,
        missed: &mut u64,
    ) -> Option<Span> {
        loop {
            // A look that was dropped may have left one behind.
            if let Some(span) = self.searched().await {
                return Some(span);
            }
            let Piece { start, bytes } = output.piece(self.source, self.next, PIECE).await;
            if start != self.next {
                // What lies between was dropped before it could be looked at, or does not exist yet.
                if start < self.next {
                    return None;
                }
                (self.matched, self.line, self.from) = (0, Line::default(), start);
                *missed += start - self.next;
            }
            let last = bytes.is_empty();
            self.next = start + bytes.len() as u64;
            match pattern {
                Pattern::Text(text) => {
                    let found = text.read_on(&mut self.matched, &bytes).map(|end| start + end as u64);
                    self.from = self.next - self.matched as u64;
                    if let Some(end) = found {
                        return Some(Span { start: end - text.len() as u64, end });
                    }
                }
                Pattern::Regex(_) if last && !(settled && self.line.is_unsettled()) => {}
                Pattern::Regex(regex) => {
                    self.begin(regex.clone(), turn, start, bytes);
                    if let Some(span) = self.searched().await {
                        return Some(span);
                    }
                }
            }
            if last {
                return None;
            }
            // A flood must not keep the thread from other work.
            tokio::task::yield_now().await;
        }
    }

    /// Begins to search the line with these bytes, which stand at `from`; without any, as it is.
    fn begin(&mut self, regex: Regex, turn: &Turn, from: u64, bytes: Vec<u8>) {
        let (mut line, turn) = (std::mem::take(&mut self.line), turn.0.clone());
        let search = async move {
            // Never closed.
            let permit = turn.acquire_owned().await;
            let search = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let found = line.read(&regex, from, &bytes);
                (line, found)
            });
            // Neither panics nor is cancelled.
            search.await.unwrap_or_default()
        };
        self.search = Some(AbortOnDropHandle::new(tokio::spawn(search)));
    }

    /// Waits for the search that runs. May be dropped.
    async fn searched(&mut self) -> Option<Span> {
        let (line, found) = self.search.as_mut()?.await.unwrap_or_default();
        self.search = None;
        self.from = self.next - line.bytes.len() as u64;
        self.line = line;
        found
    }
}

/// Where a match stands in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

impl Span {
    /// The same, counted from `base`.
    const fn at(self, base: u64) -> Self {
        Self { start: base + self.start, end: base + self.end }
    }
}

impl Line {
    /// Takes a piece that stands at `from`. Without a byte the line is matched as it is: it has stopped growing for now.
    fn read(&mut self, regex: &Regex, from: u64, piece: &[u8]) -> Option<Span> {
        let mut at = from;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if let Some(span) = self.take(regex, part, at) {
                return Some(span);
            }
            at += part.len() as u64;
        }
        let found = if piece.is_empty() { self.settle(regex) } else { self.doubled(regex) };
        found.map(|found| found.at(at - self.bytes.len() as u64))
    }

    /// Takes part of a line, which stands at `from`; a line end is its last byte.
    fn take(&mut self, regex: &Regex, mut part: &[u8], mut from: u64) -> Option<Span> {
        loop {
            let room = WINDOW - self.bytes.len();
            let (now, later) = part.split_at(part.len().min(room));
            self.bytes.extend_from_slice(now);
            from += now.len() as u64;
            let base = from - self.bytes.len() as u64;
            if self.bytes.last() == Some(&b'\n') {
                let found = self.search(regex);
                self.bytes.clear();
                (self.context, self.looked_at, self.settled) = (0, 0, 0);
                return found.map(|found| found.at(base));
            }
            if later.is_empty() && self.bytes.len() < WINDOW {
                return None;
            }
            if let Some(found) = self.search(regex) {
                return Some(found.at(base));
            }
            self.bytes.drain(..WINDOW / 2);
            self.context = 1;
            (self.looked_at, self.settled) = (self.bytes.len(), self.bytes.len());
            part = later;
        }
    }

    fn search(&self, regex: &Regex) -> Option<Span> {
        let line = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // `find_at` knows what stands before: `^` does not match in the middle of a line.
        let found = regex.find_at(line, self.context.min(line.len()))?;
        Some(Span { start: found.start() as u64, end: found.end() as u64 })
    }

    fn is_unsettled(&self) -> bool {
        self.bytes.len() > self.settled
    }

    /// Matches a line that may still grow, if it has doubled. A match that reaches to its end waits:
    /// more may belong to it, and `$` means the end of the line.
    fn doubled(&mut self, regex: &Regex) -> Option<Span> {
        let length = self.bytes.len();
        if length < 2 * self.looked_at.max(1) {
            return None;
        }
        self.looked_at = length;
        let found = self.search(regex);
        if found.is_none() {
            self.settled = length;
        }
        found.filter(|found| found.end < length as u64)
    }

    /// Matches a line that has stopped growing for now.
    fn settle(&mut self, regex: &Regex) -> Option<Span> {
        let unsettled = self.is_unsettled();
        self.settled = self.bytes.len();
        unsettled.then(|| self.search(regex)).flatten()
    }
}

async fn found(output: &OutputBuffer, source: Source, pattern: &Pattern, span: Span) -> Found {
    let before = LINE_BYTES as u64 / 2;
    let from = span.start.saturating_sub(before);
    let piece = output.piece(source, from, 2 * LINE_BYTES).await;
    let at = usize::try_from(span.start.saturating_sub(piece.start)).unwrap_or(0).min(piece.bytes.len());
    let (head, tail) = piece.bytes.split_at(at);
    let line_start = head.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    // A text may begin with line ends; its line is then the first that follows.
    let skipped = match pattern {
        Pattern::Text(_) => tail.iter().take_while(|byte| **byte == b'\n').count(),
        Pattern::Regex(_) => 0,
    };
    let line_start = if skipped > 0 { at + skipped } else { line_start };
    let line = piece.bytes[line_start..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    Found { source, end: span.end, line: cut(&clear(line, LINE_BYTES)) }
}

/// At most [`LINE_BYTES`], without half a character.
fn cut(line: &str) -> String {
    let end = (0..=line.len().min(LINE_BYTES)).rev().find(|end| line.is_char_boundary(*end));
    line[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
