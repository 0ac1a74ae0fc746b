//! What one answer shows of both streams: a budget shared between them, cut at line ends, with the
//! gap named in the text.

use super::stream::{Stream, incomplete_suffix};

/// Bytes of each stream that an answer about a running command shows.
pub const RUNNING_BYTES: usize = 4_000;

/// Bytes of the longest UTF-8 character: a reader always makes way.
const LONGEST_CHAR: u64 = 4;

/// What an answer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The end of each stream.
    Tail,
    /// A quarter from the start, three quarters from the end.
    HeadAndTail,
    /// From offsets on; a stream without one is left out but for its total.
    From {
        /// Where to read standard output from.
        stdout: Option<u64>,
        /// Where to read standard error from.
        stderr: Option<u64>,
    },
}

/// What one answer shows of both streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputView {
    /// Standard output.
    pub stdout: StreamView,
    /// Standard error.
    pub stderr: StreamView,
}

impl OutputView {
    /// Whether anything that has arrived in a shown stream is missing from its text.
    #[must_use]
    pub fn truncated(&self) -> bool {
        [&self.stdout, &self.stderr].iter().any(|s| s.shown.as_ref().is_some_and(|s| s.truncated))
    }
}

/// What one answer shows of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamView {
    /// Exact number of bytes that the stream has produced so far.
    pub total_bytes: u64,
    /// The text; none where only the other stream was asked for.
    pub shown: Option<Shown>,
}

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Absolute offset of the first byte of `text`.
    pub offset: u64,
    /// Absolute offset to read on from.
    pub next_offset: u64,
    /// Bytes that are left out: from which offset, how many.
    pub omitted: Option<Omitted>,
    /// Something that has arrived is not in `text`.
    pub truncated: bool,
    /// The bytes as text; invalid UTF-8 is replaced.
    pub text: String,
}

/// A gap in a shown text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Omitted {
    /// Absolute offset of the first byte left out.
    pub from: u64,
    /// How many bytes are left out.
    pub bytes: u64,
}

pub(super) fn view(stdout: &Stream, stderr: &Stream, view: View, budget: usize, ended: bool) -> OutputView {
    let pick = |source: &Stream, from: Option<u64>, share: u64| -> Option<Shown> {
        match view {
            View::Tail => Some(tail(source, share.min(RUNNING_BYTES as u64), ended)),
            View::HeadAndTail => Some(head_and_tail(source, share, ended)),
            View::From { .. } => from.map(|from| read_from(source, from, share, ended)),
        }
    };
    let (out_from, err_from) = match view {
        View::From { stdout, stderr } => (stdout, stderr),
        _ => (Some(0), Some(0)),
    };
    let wanted = |source: &Stream, from: Option<u64>| from.map_or(0, |from| source.total().saturating_sub(from));
    let (out_share, err_share) = split(budget as u64, wanted(stdout, out_from), wanted(stderr, err_from));
    OutputView {
        stdout: StreamView { total_bytes: stdout.total(), shown: pick(stdout, out_from, out_share) },
        stderr: StreamView { total_bytes: stderr.total(), shown: pick(stderr, err_from, err_share) },
    }
}

/// stderr has a quarter for sure; what one stream does not need goes to the other.
fn split(budget: u64, stdout: u64, stderr: u64) -> (u64, u64) {
    let stderr_share = stderr.min((budget / 4).max(budget.saturating_sub(stdout)));
    (budget - stderr_share, stderr_share)
}

fn read_from(stream: &Stream, from: u64, share: u64, ended: bool) -> Shown {
    let from = stream.char_start(from.min(stream.total()));
    // Only the tail of what was dropped from memory can be read; what lies before it is a gap.
    let in_gap = from >= stream.head_end() && from < stream.tail_start();
    let start = if in_gap { stream.char_start(stream.tail_start()) } else { from };
    let omitted = in_gap.then(|| Omitted { from, bytes: start - from });
    let bytes = whole_chars(stream, start, start + share.max(LONGEST_CHAR), ended);
    let next_offset = start + bytes.len() as u64;
    let mut text = omitted.map(|gap| format!("{}\n", dropped_line(gap))).unwrap_or_default();
    text.push_str(&String::from_utf8_lossy(&bytes));
    Shown { offset: start, next_offset, omitted, truncated: in_gap || next_offset < stream.total(), text }
}

fn tail(stream: &Stream, share: u64, ended: bool) -> Shown {
    let start = tail_from(stream, share);
    let bytes = whole_chars(stream, start, u64::MAX, ended);
    let omitted = (start > 0).then_some(Omitted { from: 0, bytes: start });
    Shown {
        offset: start,
        next_offset: start + bytes.len() as u64,
        omitted,
        truncated: start > 0,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

fn head_and_tail(stream: &Stream, share: u64, ended: bool) -> Shown {
    if stream.total() <= share {
        return tail(stream, share, ended);
    }
    let mut head = whole_chars(stream, 0, share / 4, false);
    if let Some(line_end) = head.iter().rposition(|b| *b == b'\n') {
        head.truncate(line_end + 1);
    }
    let start = tail_from(stream, share - share / 4);
    let end = whole_chars(stream, start, u64::MAX, ended);
    let omitted = Omitted { from: head.len() as u64, bytes: start - head.len() as u64 };
    let mut text = String::from_utf8_lossy(&head).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&omitted_line(omitted));
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&end));
    Shown { offset: 0, next_offset: start + end.len() as u64, omitted: Some(omitted), truncated: true, text }
}

/// Where the last `share` bytes begin: at the start of a line if there is one, else of a character.
fn tail_from(stream: &Stream, share: u64) -> u64 {
    let earliest = stream.total().saturating_sub(share).max(if stream.head_end() < stream.tail_start() {
        stream.tail_start()
    } else {
        0
    });
    if earliest == 0 {
        return 0;
    }
    // A line may begin right there, so the byte before is looked at too.
    let before = stream.range(earliest - 1, stream.total());
    match before.iter().position(|b| *b == b'\n') {
        Some(line_end) if line_end + 1 < before.len() => earliest + line_end as u64,
        _ => match stream.char_start(earliest) {
            start if start < earliest => next_char(stream, earliest),
            _ => earliest,
        },
    }
}

/// The first character boundary at or after `offset`, which lies inside a character.
fn next_char(stream: &Stream, offset: u64) -> u64 {
    (offset..offset + 4).find(|at| stream.char_start(*at) == *at).unwrap_or(offset)
}

/// The bytes from `from` to `to`, without a last character that is cut. One that may still be
/// completed is left for the next read; once the stream has `ended` it is shown as it is.
fn whole_chars(stream: &Stream, from: u64, to: u64, ended: bool) -> Vec<u8> {
    let mut bytes = stream.range(from, to);
    let at_end = from + bytes.len() as u64 == stream.total();
    if !(at_end && ended) {
        bytes.truncate(bytes.len() - incomplete_suffix(&bytes));
    }
    bytes
}

fn omitted_line(gap: Omitted) -> String {
    format!("[... {} bytes omitted; read on from offset {} ...]", gap.bytes, gap.from)
}

fn dropped_line(gap: Omitted) -> String {
    format!("[... {} bytes from offset {} are no longer kept ...]", gap.bytes, gap.from)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn stream(bytes: &[u8]) -> Stream {
        let mut stream = Stream::default();
        stream.append(bytes);
        stream
    }

    fn lines(count: usize) -> String {
        (1..=count).map(|i| format!("{i}\n")).collect()
    }

    #[test]
    fn short_output_is_shown_whole() {
        let shown = view(&stream(b"out"), &stream(b"err"), View::HeadAndTail, 16_000, true);
        assert!(!shown.truncated());
        assert_eq!(shown.stdout.shown.unwrap().text, "out");
        assert_eq!(shown.stderr.shown.unwrap().next_offset, 3);
    }

    #[test]
    fn long_output_is_cut_at_line_ends_and_says_where_to_read_on() {
        let text = lines(100_000);
        let out = stream(text.as_bytes());
        let shown = view(&out, &Stream::default(), View::HeadAndTail, 16_000, true).stdout.shown.unwrap();
        let gap = shown.omitted.unwrap();
        let (head, tail) = shown.text.split_once("[...").unwrap();
        let (line, tail) = tail.split_once("...]\n").unwrap();
        assert!(line.contains(&gap.from.to_string()) && line.contains(&gap.bytes.to_string()));
        assert_eq!(head, &text[..head.len()]);
        assert!(head.ends_with('\n') && text.ends_with(tail));
        assert_eq!(text.as_bytes()[text.len() - tail.len() - 1], b'\n', "the tail begins with a whole line");
        assert_eq!(head.len() as u64 + gap.bytes + tail.len() as u64, text.len() as u64);
        assert!(head.len() + tail.len() <= 16_000 && head.len() > 3_900 && tail.len() > 11_900);
    }

    #[test]
    fn stderr_keeps_a_quarter_and_lends_what_it_does_not_need() {
        assert_eq!(split(16_000, 100_000, 100_000), (12_000, 4_000));
        assert_eq!(split(16_000, 100_000, 10), (15_990, 10));
        assert_eq!(split(16_000, 100, 100_000), (100, 15_900));
        assert_eq!(split(16_000, 0, 0), (16_000, 0));
    }

    #[test]
    fn reading_on_by_offset_gives_every_byte_once() {
        let text = "aé€😀\n".repeat(3_000);
        let out = stream(text.as_bytes());
        let (mut from, mut read) = (0, String::new());
        while from < out.total() {
            let shown = read_from(&out, from, 1_001, true);
            assert_eq!(shown.offset, from);
            read.push_str(&shown.text);
            from = shown.next_offset;
        }
        assert_eq!(read, text);
    }

    #[test]
    fn an_offset_in_what_was_dropped_says_so_and_goes_on_after_it() {
        let out = stream(lines(1_000_000).as_bytes());
        let shown = read_from(&out, 100_000, 1_000, true);
        assert_eq!(shown.offset, out.tail_start());
        assert_eq!(shown.omitted, Some(Omitted { from: 100_000, bytes: out.tail_start() - 100_000 }));
        assert!(shown.truncated && shown.text.contains("no longer kept"));
    }

    #[test]
    fn a_character_in_flight_waits_for_its_rest_until_the_end() {
        let mut out = stream("é€".as_bytes().split_last().unwrap().1);
        assert_eq!(tail(&out, 4_000, false).text, "é");
        assert_eq!(tail(&out, 4_000, false).next_offset, 2);
        assert_eq!(tail(&out, 4_000, true).text, "é\u{fffd}");
        out.append(&"€".as_bytes()[2..]);
        assert_eq!(read_from(&out, 2, 4_000, false).text, "€");
    }

    #[test]
    fn offsets_are_clamped_and_invalid_bytes_survive() {
        let out = stream(&[0xff, 0xfe, b'a']);
        assert_eq!(read_from(&out, 99, 10, true).offset, 3);
        assert_eq!(read_from(&out, 0, 10, true).text, "\u{fffd}\u{fffd}a");
        assert_eq!(read_from(&out, 0, 1, false).next_offset, 3, "a reader always makes way by a whole character");
    }
}
