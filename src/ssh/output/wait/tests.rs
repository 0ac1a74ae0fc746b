use std::{future::poll_fn, task::Poll};

use super::*;
use crate::ssh::output::{HEAD_BYTES, SpillStore, TAIL_BYTES};

/// What is found when `bytes` come in pieces of `size`, each looked at as it comes.
async fn watched(pattern: &Pattern, bytes: &[u8], size: usize) -> Option<Found> {
    let output = OutputBuffer::new(SpillStore::off());
    let mut watcher = Watcher::new(pattern, Some(0), Some(0));
    for piece in bytes.chunks(size) {
        output.append(Source::Stdout, piece);
        if let Some(found) = watcher.look(&output, false).await {
            return Some(found);
        }
    }
    watcher.look(&output, true).await
}

fn regex(expression: &str) -> Pattern {
    Pattern::regex(expression).unwrap()
}

#[tokio::test]
async fn a_text_is_found_across_pieces_and_names_its_line() {
    let pattern = Pattern::text("Listening on").unwrap();
    let bytes = b"starting\nListenListening on :80, ready\nmore\n";
    for size in 1..bytes.len() {
        let found = watched(&pattern, bytes, size).await.unwrap();
        assert_eq!((found.source, found.end), (Source::Stdout, 27), "{size}");
        let line = "ListenListening on :80, ready";
        assert!(line.starts_with(&found.line) && found.line.len() >= 17, "{size}: {}", found.line);
    }
    assert_eq!(watched(&pattern, b"Listening off", 3).await, None);
}

#[tokio::test]
async fn a_look_that_is_dropped_loses_no_match() {
    let directory = tempfile::tempdir().unwrap();
    let output = OutputBuffer::new(SpillStore::new(Some(directory.path().join("spill")), 64 << 20, 64 << 20));
    let mut bytes = vec![b'.'; 2 * HEAD_BYTES];
    bytes.extend_from_slice(b"\nneedle\n");
    let end = bytes.len() as u64 - 1;
    bytes.resize(bytes.len() + 2 * TAIL_BYTES, b'.');
    for piece in bytes.chunks(32 << 10) {
        output.append(Source::Stdout, piece);
        output.settle().await;
    }
    let pattern = Pattern::text("needle").unwrap();
    // Dropped wherever it waits for the disk, the next look finds it all the same.
    for waits in 1.. {
        let mut watcher = Watcher::new(&pattern, Some(0), None);
        let (mut polls, mut look) = (0, Box::pin(watcher.look(&output, false)));
        let first = poll_fn(|context| match look.as_mut().poll(context) {
            Poll::Ready(found) => Poll::Ready(found),
            Poll::Pending if polls + 1 == waits => Poll::Ready(None),
            Poll::Pending => {
                polls += 1;
                Poll::Pending
            }
        })
        .await;
        drop(look);
        let found = if first.is_some() { first.clone() } else { watcher.look(&output, false).await };
        let found = found.map(|found| (found.end, found.line));
        assert_eq!(found, Some((end, "needle".into())), "after {waits} waits");
        if first.is_some() {
            assert!(waits > 2, "the disk was waited for");
            break;
        }
    }
}

#[tokio::test]
async fn a_search_that_takes_long_holds_up_nobody() {
    let output = OutputBuffer::new(SpillStore::off());
    output.append(Source::Stdout, &vec![b'a'; WINDOW]);
    // Every byte may be the one that counts: as many states as bytes of the line.
    let pattern = regex("[ab]*[ac][ab]{2000}[cd]");
    let mut watcher = Watcher::new(&pattern, Some(0), None);
    let first = tokio::select! {
        biased;
        _ = watcher.look(&output, true) => "the search",
        () = tokio::task::yield_now() => "another task",
    };
    assert_eq!(first, "another task");
    // Nothing was lost with the look that was dropped.
    output.append(Source::Stdout, b"c");
    assert_eq!(watcher.look(&output, true).await.map(|found| found.end), Some(WINDOW as u64 + 1));
}

#[tokio::test]
async fn searches_wait_for_those_of_their_own_turn_alone() {
    let output = OutputBuffer::new(SpillStore::off());
    output.append(Source::Stdout, b"ready\n");
    let (pattern, turn) = (regex("ready"), Turn::default());
    let searching = turn.0.clone().acquire_owned().await.unwrap();
    let mut waits = Watcher::new(&pattern, Some(0), None).taking(turn);
    let mut other = Watcher::new(&pattern, Some(0), None).taking(Turn::default());
    assert!(other.look(&output, false).await.is_some());
    assert!(tokio::time::timeout(Duration::from_millis(50), waits.look(&output, false)).await.is_err());
    drop(searching);
    assert!(waits.look(&output, false).await.is_some());
}

#[tokio::test]
async fn whoever_looks_on_begins_where_a_match_may_have_begun() {
    for (pattern, bytes, from) in [
        (Pattern::text("Starting db... ok").unwrap(), "x\nStarting db... ", 2),
        (Pattern::text("\n\nend").unwrap(), "x\n\n\n", 2),
        (Pattern::text("ok").unwrap(), "Starting db", 11),
        (regex("^Starting.*ok$"), "x\nStarting db... ", 2),
        (regex("^ok$"), "x\r\nStarting\n", 12),
    ] {
        let output = OutputBuffer::new(SpillStore::off());
        output.append(Source::Stdout, bytes.as_bytes());
        let mut watcher = Watcher::new(&pattern, Some(0), None);
        assert_eq!(watcher.look(&output, true).await, None);
        assert_eq!(watcher.goes_on_from(Source::Stdout), Some(from), "{bytes:?}");
        assert_eq!(watcher.goes_on_from(Source::Stderr), None);
    }
}

#[tokio::test]
async fn an_expression_is_matched_against_one_line_at_a_time() {
    for (expression, bytes, end) in [
        ("^b+$", "a\nbb\nc\n", Some(4)),
        ("^b+$", "a\r\nbb\r\nc\r\n", Some(5)),
        (r"a\s+b", "a\nb\n", None),
        ("(?i)error: (.*)", "x\nan ERROR: disk\n", Some(16)),
        ("[$#] $", "motd\nuser@host$ ", Some(16)),
        ("x{3}", "xx\nxx\nxxx", Some(9)),
        ("^$", "a\n\n", Some(2)),
        ("é.ü", "é€ü", Some(7)),
    ] {
        for size in 1..=bytes.len() {
            let found = watched(&regex(expression), bytes.as_bytes(), size).await;
            assert_eq!(found.map(|found| found.end), end, "{expression} in {bytes:?} by {size}");
        }
    }
}

#[tokio::test]
async fn a_line_beyond_the_window_is_matched_in_windows_that_overlap() {
    for at in [WINDOW - 3, WINDOW / 2 - 3, WINDOW, 3 * WINDOW / 2 - 1, 3 * WINDOW] {
        let mut bytes = vec![b'.'; at];
        bytes.extend_from_slice(b"needle");
        bytes.resize(4 * WINDOW, b'.');
        for size in [1_000, 65_536, 1 << 20] {
            let found = watched(&regex("need+le"), &bytes, size).await.unwrap();
            assert_eq!(found.end, at as u64 + 6, "{size}");
            assert!(found.line.contains("needle") && found.line.len() <= LINE_BYTES, "{}", found.line);
        }
        assert_eq!(watched(&regex("^needle"), &bytes, 1_000).await, None, "not at the start of a line: {at}");
    }
}

#[tokio::test]
async fn no_byte_is_looked_at_often() {
    // One byte at a time, and no line end: each look may cost at most what is new, but for doublings.
    let pattern = regex("never there");
    let mut line = Line::default();
    let Pattern::Regex(compiled) = &pattern else { unreachable!() };
    let mut looked_at = 0;
    for from in 0..1_000_000_u64 {
        let before = line.looked_at;
        assert_eq!(line.take(compiled, b".", from), None);
        // A window that is full was looked at, and half of it was kept.
        looked_at += if line.looked_at == before { 0 } else { WINDOW };
        let before = line.looked_at;
        assert_eq!(line.doubled(compiled), None);
        looked_at += if line.looked_at == before { 0 } else { line.looked_at };
    }
    assert!(looked_at < 4_000_000, "{looked_at}");
    assert!(line.bytes.len() < WINDOW && line.bytes.capacity() <= 2 * WINDOW, "{}", line.bytes.capacity());
}

#[tokio::test]
async fn only_what_comes_after_the_offsets_counts() {
    let output = OutputBuffer::new(SpillStore::off());
    output.append(Source::Stdout, b"ready\n");
    output.append(Source::Stderr, b"ready\n");
    let pattern = Pattern::text("ready").unwrap();
    assert_eq!(Watcher::new(&pattern, Some(1), Some(1)).look(&output, true).await, None);
    let found = Watcher::new(&pattern, None, Some(0)).look(&output, true).await.unwrap();
    assert_eq!((found.source, found.end, found.line.as_str()), (Source::Stderr, 5, "ready"));
    let beyond = Watcher::new(&pattern, Some(99), None).look(&output, true).await;
    assert_eq!(beyond, None);
}

#[tokio::test]
async fn an_offset_beyond_the_end_waits_for_what_comes_there() {
    let output = OutputBuffer::new(SpillStore::off());
    let pattern = Pattern::text("ready").unwrap();
    let mut watcher = Watcher::new(&pattern, Some(6), None);
    output.append(Source::Stdout, b"ready\n");
    assert_eq!(watcher.look(&output, true).await, None);
    output.append(Source::Stdout, b"ready\n");
    assert_eq!(watcher.look(&output, true).await.unwrap().end, 11);
}

#[tokio::test]
async fn what_was_dropped_is_passed_over() {
    let output = OutputBuffer::new(SpillStore::off());
    let pattern = Pattern::text("end").unwrap();
    let mut watcher = Watcher::new(&pattern, Some(0), None);
    output.append(Source::Stdout, b"e");
    assert_eq!(watcher.look(&output, true).await, None);
    output.append(Source::Stdout, &vec![b'.'; 2 * TAIL_BYTES]);
    output.append(Source::Stdout, b"the end");
    assert_eq!(watcher.look(&output, true).await.unwrap().end, 2 * TAIL_BYTES as u64 + 8);
    assert_eq!(watcher.missed(), (TAIL_BYTES - HEAD_BYTES) as u64 + 8);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_wakes_for_a_prompt_that_stays() {
    let output = std::sync::Arc::new(OutputBuffer::new(SpillStore::off()));
    let pattern = regex("word: $");
    let writer = output.clone();
    tokio::spawn(async move {
        for piece in ["Pass", "w", "ord", ": "] {
            sleep(Duration::from_secs(1)).await;
            writer.append(Source::Stderr, piece.as_bytes());
        }
    });
    let found = Watcher::new(&pattern, Some(0), Some(0)).appears(&output).await;
    assert_eq!((found.source, found.line.as_str()), (Source::Stderr, "Password: "));
}

#[tokio::test]
async fn a_waiter_that_was_dropped_goes_on_where_it_was() {
    let output = OutputBuffer::new(SpillStore::off());
    let pattern = Pattern::text("ab").unwrap();
    let mut watcher = Watcher::new(&pattern, Some(0), None);
    output.append(Source::Stdout, b"a");
    assert!(tokio::time::timeout(Duration::from_millis(1), watcher.appears(&output)).await.is_err());
    output.append(Source::Stdout, b"b");
    assert_eq!(watcher.appears(&output).await.end, 2);
}
