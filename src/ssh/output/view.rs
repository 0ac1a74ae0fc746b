//! What one answer shows of both streams: a budget shared between them, and where the bytes for it are.
//!
//! A view is made in two steps. The plan is made while the buffer is locked and touches memory only; what lies in a
//! file is read afterwards, so neither the pump nor another reader ever waits for it.

use super::{
    chars::LONGEST_CHAR,
    form::Form,
    show,
    spill::NotKept,
    stream::Stream,
    window::{Pieces, Window},
};

/// Bytes of each stream that an answer about a running command shows.
pub const RUNNING_BYTES: usize = 4_000;

/// What an answer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The end of each stream.
    Tail,
    /// A quarter from the start, three quarters from the end; all from the start where the form is exact.
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
#[derive(Clone, Debug)]
pub struct OutputView {
    /// Standard output.
    pub stdout: StreamView,
    /// Standard error.
    pub stderr: StreamView,
    /// How the bytes became text.
    pub form: Form,
}

impl OutputView {
    /// Whether anything that has arrived in a shown stream is missing from its text.
    #[must_use]
    pub fn truncated(&self) -> bool {
        [&self.stdout, &self.stderr].iter().any(|s| s.shown.as_ref().is_some_and(|s| s.truncated))
    }
}

/// What one answer shows of one stream.
#[derive(Clone, Debug)]
pub struct StreamView {
    /// Exact number of bytes that the stream has produced so far.
    pub total_bytes: u64,
    /// The text; none where only the other stream was asked for.
    pub shown: Option<Shown>,
    /// What cannot be read any more.
    pub lost: Option<Lost>,
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
    /// The bytes in the form that was asked for.
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

/// Bytes that are kept nowhere.
#[derive(Clone, Debug)]
pub struct Lost {
    /// Absolute offset of the first one.
    pub from: u64,
    /// How many.
    pub bytes: u64,
    /// Why.
    pub why: NotKept,
}

/// How an answer is made of what it asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) form: Form,
    /// Nothing more will come.
    pub(super) ended: bool,
}

/// What is shown of one stream, and where its bytes are.
#[derive(Debug)]
pub(super) struct Plan {
    total: u64,
    lost: Option<Lost>,
    part: Part,
    /// Bytes of text.
    share: u64,
    frame: Frame,
}

#[derive(Debug)]
enum Part {
    Nothing,
    Tail(Window),
    Ends { head: Window, tail: Window },
    From { from: u64, gap: Option<Omitted>, pieces: Pieces },
}

/// Plans both streams. `budget` is in bytes of text.
pub(super) fn plan(stdout: &Stream, stderr: &Stream, view: View, budget: usize, frame: Frame) -> (Plan, Plan) {
    let (out_from, err_from) = match view {
        View::From { stdout, stderr } => (stdout, stderr),
        _ => (Some(0), Some(0)),
    };
    let wanted = |stream: &Stream, from: Option<u64>| {
        frame.form.text_bytes(from.map_or(0, |from| stream.total().saturating_sub(from)))
    };
    let (out_share, err_share) = split(budget as u64, wanted(stdout, out_from), wanted(stderr, err_from));
    let one = |stream: &Stream, from: Option<u64>, share: u64| {
        let share = if view == View::Tail { share.min(RUNNING_BYTES as u64) } else { share };
        let part = match (view, from) {
            (_, None) => Part::Nothing,
            (View::Tail, _) => Part::Tail(end_of(stream, frame.form.source_bytes(share))),
            (View::HeadAndTail, _) if !frame.form.is_exact() => {
                Part::Ends { head: start_of(stream, share), tail: end_of(stream, share) }
            }
            (_, Some(from)) => part_from(stream, from, share, frame.form),
        };
        Plan { total: stream.total(), lost: stream.lost(), part, share, frame }
    };
    (one(stdout, out_from, out_share), one(stderr, err_from, err_share))
}

/// stderr has a quarter for sure; what one stream does not need goes to the other.
fn split(budget: u64, stdout: u64, stderr: u64) -> (u64, u64) {
    let stderr_share = stderr.min((budget / 4).max(budget.saturating_sub(stdout)));
    (budget - stderr_share, stderr_share)
}

fn start_of(stream: &Stream, bytes: u64) -> Window {
    in_memory(stream, 0, bytes / 4)
}

/// The last bytes, and the one before them: a line may begin right after it.
fn end_of(stream: &Stream, bytes: u64) -> Window {
    let from = stream.total().saturating_sub(bytes + 1);
    in_memory(stream, from, stream.total())
}

/// Head and tail of a stream are in memory, and larger than an answer.
fn in_memory(stream: &Stream, from: u64, to: u64) -> Window {
    let Pieces { start, before, after, total, .. } = stream.pieces_of(from, to);
    Window { start, bytes: [before, after].concat(), total }
}

fn part_from(stream: &Stream, from: u64, share: u64, form: Form) -> Part {
    let from = from.min(stream.total());
    let lost = stream.lost();
    let gap = lost.as_ref().filter(|lost| (lost.from..lost.from + lost.bytes).contains(&from));
    let gap = gap.map(|lost| Omitted { from, bytes: lost.from + lost.bytes - from });
    let start = gap.map_or(from, |gap| gap.from + gap.bytes);
    // A character may have begun before, unless what stands there is lost.
    let earliest = lost.filter(|lost| start >= lost.from).map_or(0, |lost| lost.from + lost.bytes);
    let before = start.saturating_sub(LONGEST_CHAR - 1).max(earliest);
    let pieces = stream.pieces_of(before, start + form.source_bytes(share) + 2 * LONGEST_CHAR);
    Part::From { from: start, gap, pieces }
}

impl Plan {
    /// Reads what is in a file and makes the text.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(super) async fn show(self) -> Result<StreamView, NotKept> {
        let (share, frame) = (self.share, self.frame);
        let shown = match self.part {
            Part::Nothing => None,
            Part::Tail(window) => Some(show::fit(share, frame.form, |bytes| show::tail(&window, bytes, frame))),
            Part::Ends { head, tail } => {
                Some(show::fit(share, frame.form, |bytes| show::ends(&head, &tail, bytes, frame)))
            }
            Part::From { from, gap, pieces } => {
                let window = pieces.load().await?;
                Some(show::fit(share, frame.form, |bytes| show::from(&window, from, gap, bytes, frame)))
            }
        };
        Ok(StreamView { total_bytes: self.total, shown, lost: self.lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_keeps_a_quarter_and_lends_what_it_does_not_need() {
        assert_eq!(split(16_000, 100_000, 100_000), (12_000, 4_000));
        assert_eq!(split(16_000, 100_000, 10), (15_990, 10));
        assert_eq!(split(16_000, 100, 100_000), (100, 15_900));
        assert_eq!(split(16_000, 0, 0), (16_000, 0));
    }
}
