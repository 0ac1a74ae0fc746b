//! One line of output as people see it: without control sequences, and short.

use super::{OutputBuffer, Source};

/// Characters of a line that is shown by itself.
pub const LINE_CHARS: usize = 200;

/// How far back the beginning of the latest line is looked for.
const LOOK_BACK: u64 = 4 << 10;

/// Follows a buffer and gives the line that was written last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latest {
    stdout: u64,
    stderr: u64,
}

impl Latest {
    /// The latest line of the stream that has grown since the last call; standard output where both
    /// have. None where neither has, or where it holds nothing to be seen.
    pub fn line(&mut self, output: &OutputBuffer) -> Option<String> {
        let (stdout, stderr) = (output.total(Source::Stdout), output.total(Source::Stderr));
        let grown = match (stdout > self.stdout, stderr > self.stderr) {
            (true, _) => Some((Source::Stdout, stdout)),
            (false, true) => Some((Source::Stderr, stderr)),
            _ => None,
        };
        *self = Self { stdout, stderr };
        let (source, total) = grown?;
        let from = total.saturating_sub(LOOK_BACK);
        last_line(&output.piece(source, from, usize::try_from(LOOK_BACK).unwrap_or_default()).bytes)
    }
}

/// The last line that holds something. A carriage return ends one too: progress bars overwrite theirs.
fn last_line(bytes: &[u8]) -> Option<String> {
    let mut lines = bytes.rsplit(|byte| matches!(byte, b'\n' | b'\r'));
    lines
        .find_map(|line| Some(clear(&String::from_utf8_lossy(line), LINE_CHARS)).filter(|line| !line.trim().is_empty()))
}

/// Text without control characters and control sequences, cut to `limit` characters.
pub(super) fn clear(text: &str, limit: usize) -> String {
    let mut clear = String::new();
    let mut chars = text.chars().peekable();
    let mut count = 0;
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut chars),
            '\t' => clear.push(' '),
            c if c.is_control() || is_invisible(c) => continue,
            c => clear.push(c),
        }
        count = if c == '\u{1b}' { count } else { count + 1 };
        if count == limit {
            break;
        }
    }
    clear
}

/// Skips what follows an escape: a CSI sequence, a string up to its end, or one character (ECMA-48).
fn skip_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    return;
                }
            }
        }
        _ => {}
    }
}

/// Characters that show nothing and can turn around what does (zero width, bidi, byte order mark).
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latest(bytes: &[u8]) -> Option<String> {
        let output = OutputBuffer::default();
        output.append(Source::Stdout, bytes);
        Latest::default().line(&output)
    }

    #[test]
    fn the_latest_line_is_the_last_that_holds_something() {
        assert_eq!(latest(b"one\ntwo\n\n  \n").as_deref(), Some("two"));
        assert_eq!(latest(b"10%\r20%\r").as_deref(), Some("20%"));
        assert_eq!(latest(b"no end").as_deref(), Some("no end"));
        assert_eq!(latest(b"\n\n"), None);
        assert_eq!(latest(b""), None);
    }

    #[test]
    fn control_sequences_are_taken_out() {
        let line = b"a\x1b[1;31mred\x1b[0m\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://x\x1b\\link\x08\x00\tz\xe2\x80\xae!";
        assert_eq!(latest(line).as_deref(), Some("aredlink z!"));
        assert_eq!(latest(b"\x1b[2J\x1b[H"), None);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let line = latest("é".repeat(5_000).as_bytes()).unwrap_or_default();
        assert_eq!(line.chars().count(), LINE_CHARS);
    }

    #[test]
    fn the_stream_that_grew_is_shown_and_only_once() {
        let (output, mut latest) = (OutputBuffer::default(), Latest::default());
        output.append(Source::Stdout, b"out\n");
        assert_eq!(latest.line(&output).as_deref(), Some("out"));
        output.append(Source::Stderr, b"err\n");
        assert_eq!(latest.line(&output).as_deref(), Some("err"));
        assert_eq!(latest.line(&output), None);
    }
}
