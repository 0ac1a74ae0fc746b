//! What a caller should know about an answer: pure functions over what is shown.

use crate::ssh::output::{Lost, OutputView};

/// Notices about output that cannot be read any more.
#[must_use]
pub fn of(output: &OutputView) -> Vec<String> {
    let streams = [("stdout", &output.stdout), ("stderr", &output.stderr)];
    streams.iter().filter_map(|(name, stream)| Some(not_kept(name, stream.lost.as_ref()?))).collect()
}

fn not_kept(name: &str, lost: &Lost) -> String {
    let Lost { from, bytes, why } = lost;
    let to = from + bytes;
    format!("{bytes} bytes of {name}, from offset {from} to {to}, are not kept and cannot be read: {why}.")
}
