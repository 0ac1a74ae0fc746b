//! One line of output as people see it: without control sequences, and short.

use super::{OutputBuffer, Source, control::neutralise};

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
    pub async fn line(&mut self, output: &OutputBuffer) -> Option<String> {
        let (stdout, stderr) = (output.total(Source::Stdout), output.total(Source::Stderr));
        let grown = match (stdout > self.stdout, stderr > self.stderr) {
            (true, _) => Some((Source::Stdout, stdout)),
            (false, true) => Some((Source::Stderr, stderr)),
            _ => None,
        };
        *self = Self { stdout, stderr };
        let (source, total) = grown?;
        let from = total.saturating_sub(LOOK_BACK);
        last_line(&output.piece(source, from, usize::try_from(LOOK_BACK).unwrap_or_default()).await.bytes)
    }
}

/// The last line that holds something. A carriage return ends one too: progress bars overwrite theirs.
fn last_line(bytes: &[u8]) -> Option<String> {
    let mut lines = bytes.rsplit(|byte| matches!(byte, b'\n' | b'\r'));
    lines.find_map(|line| Some(clear(line, LINE_CHARS)).filter(|line| !line.trim().is_empty()))
}

/// Harmless text of at most `limit` characters on one line.
pub(super) fn clear(bytes: &[u8], limit: usize) -> String {
    neutralise(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::SpillStore, *};

    async fn latest(bytes: &[u8]) -> Option<String> {
        let output = OutputBuffer::new(SpillStore::off());
        output.append(Source::Stdout, bytes);
        Latest::default().line(&output).await
    }

    #[tokio::test]
    async fn the_latest_line_is_the_last_that_holds_something() {
        assert_eq!(latest(b"one\ntwo\n\n  \n").await.as_deref(), Some("two"));
        assert_eq!(latest(b"10%\r20%\r").await.as_deref(), Some("20%"));
        assert_eq!(latest(b"no end").await.as_deref(), Some("no end"));
        assert_eq!(latest(b"\n\n").await, None);
        assert_eq!(latest(b"").await, None);
    }

    #[tokio::test]
    async fn control_sequences_are_taken_out() {
        let line = b"a\x1b[1;31mred\x1b[0m\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://x\x1b\\link\x08\x00\tz\xe2\x80\xae!";
        assert_eq!(latest(line).await.as_deref(), Some("aredlink\\u{8}\\u{0} z\\u{202e}!"));
        assert_eq!(latest(b"\x1b[2J\x1b[H").await, None);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_between_characters() {
        let line = latest("é".repeat(5_000).as_bytes()).await.unwrap_or_default();
        assert_eq!(line.chars().count(), LINE_CHARS);
    }

    #[tokio::test]
    async fn the_stream_that_grew_is_shown_and_only_once() {
        let (output, mut latest) = (OutputBuffer::new(SpillStore::off()), Latest::default());
        output.append(Source::Stdout, b"out\n");
        assert_eq!(latest.line(&output).await.as_deref(), Some("out"));
        output.append(Source::Stderr, b"err\n");
        assert_eq!(latest.line(&output).await.as_deref(), Some("err"));
        assert_eq!(latest.line(&output).await, None);
    }
}
