//! What the log says of requests that were refused: enough to see it happen, and no more than the log can bear.
//!
//! Whoever reaches the port can have requests refused, as many as it likes, with paths of its choice.

use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};
use tracing::warn;

use super::Denied;

/// Lines in one [`SPAN`].
const MAX_LINES: u32 = 10;

/// How long [`MAX_LINES`] have to suffice.
const SPAN: Duration = Duration::from_secs(60);

/// Characters of a path that are logged.
const PATH_CHARS: usize = 64;

/// The refusals of one server.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// When the span began.
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Told {
    /// Counts one more. Some where it gets a line, with the number that got none since the last one.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= SPAN) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines >= MAX_LINES {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Refusals {
    pub(super) fn tell(&self, path: &str, denied: Denied) {
        let admitted = self.0.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        if let Some(left_out) = admitted {
            warn!(path = %shown(path), left_out, "refused a request: {denied}");
        }
    }
}

/// The beginning of a path, quoted and escaped.
fn shown(path: &str) -> String {
    let end = path.char_indices().nth(PATH_CHARS).map_or(path.len(), |(end, _)| end);
    let (kept, cut) = path.split_at(end);
    format!("{kept:?}{}", if cut.is_empty() { "" } else { "\u{2026}" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_a_few_lines_and_a_count() {
        let (mut told, begin) = (Told::default(), Instant::now());
        let lines = (0..1_000).filter(|_| told.admit(begin).is_some()).count();
        assert_eq!(lines, MAX_LINES as usize);
        assert_eq!(told.admit(begin + SPAN), Some(1_000 - u64::from(MAX_LINES)));
        assert_eq!(told.admit(begin + SPAN), Some(0));
    }

    #[test]
    fn a_path_is_shown_short_and_on_one_line() {
        assert_eq!(shown("/mcp"), "\"/mcp\"");
        assert_eq!(shown("/\n"), "\"/\\n\"");
        assert_eq!(shown(&"\u{e4}".repeat(65_536)), format!("\"{}\"\u{2026}", "\u{e4}".repeat(PATH_CHARS)));
    }
}
