//! The buffer against a model: everything that was ever appended, in one `Vec`.

#![expect(clippy::unwrap_used, reason = "tests")]

mod disk;
mod ranges;
mod shown;

use super::*;

const MIB: u64 = 1 << 20;

/// A spilling buffer, and the directory of its files.
fn spilling(command_mib: u64, total_mib: u64) -> (OutputBuffer, Arc<SpillStore>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = SpillStore::new(Some(directory.path().join("spill")), command_mib * MIB, total_mib * MIB);
    (OutputBuffer::new(store.clone()), store, directory)
}

fn plain() -> OutputBuffer {
    OutputBuffer::new(SpillStore::off())
}

/// Appends as the pump does.
async fn pump(buffer: &OutputBuffer, source: Source, bytes: &[u8]) {
    for packet in bytes.chunks(32 << 10) {
        buffer.append(source, packet);
        buffer.settle().await;
    }
}

async fn view(buffer: &OutputBuffer, view: View, budget: usize) -> Shown {
    buffer.view(view, Form::Text, budget, true).await.stdout.shown.unwrap()
}

fn stdout_from(from: u64) -> View {
    View::From { stdout: Some(from), stderr: None }
}

/// The exact bytes of standard output from `from` on.
async fn exact(buffer: &OutputBuffer, from: u64, budget: usize) -> (Shown, Vec<u8>) {
    let shown = buffer.view(stdout_from(from), Form::Base64, budget, true).await.stdout.shown.unwrap();
    let bytes = data_encoding::BASE64.decode(shown.text.as_bytes()).unwrap();
    assert_eq!(shown.offset + bytes.len() as u64, shown.next_offset);
    (shown, bytes)
}

fn lines(count: usize) -> String {
    (1..=count).map(|i| format!("{i}\n")).collect()
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}
