//! From bytes to the text of an answer: cut at line ends and characters, the gap named in the text. Pure functions.

use super::{
    chars::LONGEST_CHAR,
    form::Form,
    view::{Frame, Omitted, Shown},
    window::Window,
};

/// What the line about a gap may add to the budget, in bytes.
const GAP_LINE_BYTES: usize = 128;

/// Shows as many bytes as make a text of `share` bytes: an escape is longer than what it stands for.
pub(super) fn fit(share: u64, form: Form, show: impl Fn(u64) -> Shown) -> Shown {
    let mut bytes = form.source_bytes(share);
    loop {
        let shown = show(bytes);
        let length = shown.text.len() as u64;
        if length <= share + GAP_LINE_BYTES as u64 || bytes <= LONGEST_CHAR {
            return shown;
        }
        // By an eighth at least, so that the work stays linear wherever the long ones are.
        bytes = (bytes * share / length).min(bytes - bytes.div_ceil(8));
    }
}

/// The text from `from` on, after a `gap`.
pub(super) fn from(window: &Window, from: u64, gap: Option<Omitted>, bytes: u64, frame: Frame) -> Shown {
    let start = if frame.form.is_exact() { from } else { window.char_start(from) };
    let part = whole(window, start, start + bytes.max(LONGEST_CHAR), frame);
    let next_offset = start + part.len() as u64;
    let line = gap.filter(|_| !frame.form.is_exact()).map(|gap| format!("{}\n", lost_line(gap)));
    let text = line.unwrap_or_default() + &frame.form.render(part);
    Shown { offset: start, next_offset, omitted: gap, truncated: gap.is_some() || next_offset < window.total, text }
}

/// The last `bytes` bytes.
pub(super) fn tail(window: &Window, bytes: u64, frame: Frame) -> Shown {
    let start = tail_from(window, bytes, frame.form);
    let part = whole(window, start, u64::MAX, frame);
    Shown {
        offset: start,
        next_offset: start + part.len() as u64,
        omitted: (start > 0).then_some(Omitted { from: 0, bytes: start }),
        truncated: start > 0,
        text: frame.form.render(part),
    }
}

/// A quarter from `head`, the rest from `tail`; all of it if it is no more than `bytes`.
pub(super) fn ends(head: &Window, tail: &Window, bytes: u64, frame: Frame) -> Shown {
    if tail.total <= bytes {
        return self::tail(tail, bytes, frame);
    }
    let mut first = whole(head, 0, bytes / 4, Frame { ended: false, ..frame });
    if let Some(line_end) = first.iter().rposition(|b| *b == b'\n') {
        first = &first[..=line_end];
    }
    let start = tail_from(tail, bytes - bytes / 4, frame.form);
    let last = whole(tail, start, u64::MAX, frame);
    let gap = Omitted { from: first.len() as u64, bytes: start - first.len() as u64 };
    let mut text = frame.form.render(first);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&omitted_line(gap));
    text.push('\n');
    text.push_str(&frame.form.render(last));
    Shown { offset: 0, next_offset: start + last.len() as u64, omitted: Some(gap), truncated: true, text }
}

/// Where the last `bytes` bytes begin: at the start of a line if there is one, else of a character.
fn tail_from(window: &Window, bytes: u64, form: Form) -> u64 {
    let earliest = window.total.saturating_sub(bytes);
    if earliest == 0 || form.is_exact() {
        return earliest;
    }
    // A line may begin right there, so the byte before is looked at too.
    let before = window.get(earliest - 1, window.total);
    match before.iter().position(|b| *b == b'\n') {
        Some(line_end) if line_end + 1 < before.len() => earliest + line_end as u64,
        _ => match window.char_start(earliest) {
            start if start < earliest => window.next_char(earliest),
            _ => earliest,
        },
    }
}

/// The bytes from `from` to `to`, without a last character or sequence that is cut. One that may still be completed is
/// left for the next read; once the stream has ended it is shown as it is. A reader always makes way.
fn whole(window: &Window, from: u64, to: u64, frame: Frame) -> &[u8] {
    let bytes = window.get(from, to);
    let at_end = from + bytes.len() as u64 == window.total;
    if at_end && frame.ended {
        return bytes;
    }
    let complete = &bytes[..bytes.len() - frame.form.incomplete(bytes)];
    if complete.is_empty() && !at_end { &bytes[..bytes.len() - Form::Raw.incomplete(bytes)] } else { complete }
}

fn omitted_line(gap: Omitted) -> String {
    format!("[... {} bytes omitted; read on from offset {} ...]", gap.bytes, gap.from)
}

fn lost_line(gap: Omitted) -> String {
    format!("[... {} bytes from offset {} are not kept ...]", gap.bytes, gap.from)
}
