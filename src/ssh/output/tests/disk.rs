//! Limits of the disk: told, never fatal.

use std::{fs, time::Duration};

use super::{super::random::Random, *};

async fn lost(buffer: &OutputBuffer) -> Option<Lost> {
    buffer.view(View::Tail, Form::Text, 4_000, true).await.stdout.lost
}

fn free(store: &SpillStore) -> Vec<bool> {
    (0..100).map(|_| store.reserve(0)).collect::<Vec<_>>().iter().map(Result::is_ok).collect()
}

#[tokio::test]
async fn memory_stays_bounded_while_everything_is_kept() {
    let (buffer, _store, _directory) = spilling(64, 64);
    for packet in vec![b'x'; 16 << 20].chunks(32 << 10) {
        buffer.append(Source::Stdout, packet);
        assert!(buffer.streams().stdout.in_memory() <= HEAD_BYTES + TAIL_BYTES + (32 << 10));
        buffer.settle().await;
        assert!(!buffer.needs_settling());
    }
    assert!(lost(&buffer).await.is_none());
}

#[tokio::test]
async fn the_limit_of_one_command_counts_both_streams_and_is_told() {
    let (buffer, store, _directory) = spilling(1, 64);
    pump(&buffer, Source::Stderr, &vec![b'e'; HEAD_BYTES + TAIL_BYTES + 1]).await;
    let model = Random::new(8).bytes(4 << 20);
    pump(&buffer, Source::Stdout, &model).await;
    let gone = lost(&buffer).await.unwrap();
    assert!(matches!(gone.why, NotKept::CommandLimit), "{gone:?}");
    // One of the four pieces went to standard error.
    assert_eq!(gone.from, HEAD_BYTES as u64 + 3 * PIECE_BYTES as u64);
    assert_eq!(gone.from + gone.bytes, (model.len() - TAIL_BYTES) as u64);
    for from in [0, HEAD_BYTES as u64 - 3, gone.from - 3, gone.from + gone.bytes, model.len() as u64 - 5] {
        let (shown, bytes) = exact(&buffer, from, 4_000).await;
        assert!(model[index(from)..].starts_with(&bytes) && !bytes.is_empty() && shown.omitted.is_none(), "{from}");
    }
    let (shown, bytes) = exact(&buffer, gone.from + 10, 4_000).await;
    assert_eq!(shown.omitted, Some(Omitted { from: gone.from + 10, bytes: gone.bytes - 10 }));
    assert_eq!(bytes, model[model.len() - TAIL_BYTES..][..3_000]);
    let shown = view(&buffer, stdout_from(gone.from), 4_000).await;
    assert!(shown.text.contains(&format!("{} bytes from offset {} are not kept", gone.bytes, gone.from)));
    drop(buffer);
    assert!(store.reserve(0).is_ok());
}

#[tokio::test]
async fn the_limit_of_all_commands_is_shared_and_freed_with_the_command() {
    let (one, store, _directory) = spilling(64, 2);
    let other = OutputBuffer::new(store.clone());
    pump(&one, Source::Stdout, &vec![b'x'; 4 << 20]).await;
    pump(&other, Source::Stdout, &vec![b'x'; 4 << 20]).await;
    assert!(matches!(lost(&one).await.unwrap().why, NotKept::TotalLimit));
    assert!(matches!(lost(&other).await.unwrap().why, NotKept::TotalLimit));
    assert!(!free(&store)[0]);
    drop(one);
    assert_eq!(free(&store).iter().filter(|free| **free).count(), 8);
}

#[tokio::test]
async fn what_has_ended_makes_room_the_oldest_of_whoever_has_most() {
    let (first, store, _directory) = spilling(64, 3);
    let (second, small) = (OutputBuffer::new(store.clone()), OutputBuffer::new(store.clone()));
    let (alice, bob) = (Owner::new("alice"), Owner::new("bob"));
    let pieces = |pieces: usize| vec![b'x'; HEAD_BYTES + TAIL_BYTES + pieces * PIECE_BYTES];
    for (buffer, count, owner) in [(&small, 2, &bob), (&first, 4, &alice), (&second, 4, &alice)] {
        pump(buffer, Source::Stdout, &pieces(count)).await;
        buffer.seal(owner);
    }
    let running = OutputBuffer::new(store.clone());
    pump(&running, Source::Stdout, &pieces(6)).await;
    assert!(lost(&running).await.is_none() && lost(&small).await.is_none() && lost(&second).await.is_none());
    assert!(matches!(lost(&first).await.unwrap().why, NotKept::MadeRoom));
    // What runs makes no room for others, whoever has it.
    let other = OutputBuffer::new(store.clone());
    pump(&other, Source::Stdout, &pieces(20)).await;
    assert!(lost(&running).await.is_none());
    assert!(matches!(lost(&other).await.unwrap().why, NotKept::TotalLimit));
    let (gone, bytes) = (lost(&first).await.unwrap(), exact(&first, 0, 4_000).await.1);
    assert_eq!((gone.from, bytes.is_empty()), (HEAD_BYTES as u64, false), "head and tail stay");
}

#[tokio::test]
async fn without_room_for_files_head_tail_and_total_stay_exact() {
    let model = Random::new(9).bytes(3 << 20);
    for buffer in [plain(), spilling(0, 64).0, spilling(64, 0).0] {
        pump(&buffer, Source::Stdout, &model).await;
        let gone = lost(&buffer).await.unwrap();
        assert_eq!((gone.from, gone.bytes), (HEAD_BYTES as u64, (model.len() - HEAD_BYTES - TAIL_BYTES) as u64));
        assert!(!buffer.needs_settling());
    }
}

#[tokio::test]
async fn output_that_fits_the_memory_touches_no_disk() {
    let (buffer, _store, directory) = spilling(64, 64);
    pump(&buffer, Source::Stdout, &vec![b'x'; HEAD_BYTES + TAIL_BYTES]).await;
    assert!(!directory.path().join("spill").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn files_have_no_name_and_their_directory_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (buffer, _store, directory) = spilling(64, 64);
    pump(&buffer, Source::Stdout, &vec![b'x'; 2 << 20]).await;
    let directory = directory.path().join("spill");
    assert!(lost(&buffer).await.is_none());
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let other = OutputBuffer::new(buffer.spill.clone());
    pump(&other, Source::Stdout, &vec![b'x'; 2 << 20]).await;
    assert!(matches!(lost(&other).await.unwrap().why, NotKept::Directory));
}

#[tokio::test]
async fn a_directory_that_cannot_be_is_told() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let store = SpillStore::new(Some(directory.path().join("file/below")), 64 * MIB, 64 * MIB);
    let buffer = OutputBuffer::new(store.clone());
    pump(&buffer, Source::Stdout, &vec![b'x'; 2 << 20]).await;
    assert!(matches!(lost(&buffer).await.unwrap().why, NotKept::Disk(_)));
    assert_eq!(free(&store).iter().filter(|free| **free).count(), 100, "what was not written takes no room");
}

/// A command that is cancelled drops the pump in the middle of a write.
#[tokio::test]
async fn settling_that_is_given_up_loses_nothing() {
    let (buffer, store, _directory) = spilling(16, 16);
    let model = Random::new(10).bytes(4 << 20);
    for packet in model.chunks(32 << 10) {
        buffer.append(Source::Stdout, packet);
        let _ = tokio::time::timeout(Duration::ZERO, buffer.settle()).await;
        buffer.settle().await;
    }
    assert!(lost(&buffer).await.is_none());
    for from in (0..model.len()).step_by(100_003) {
        let (_, bytes) = exact(&buffer, from as u64, 8_000).await;
        assert!(model[from..].starts_with(&bytes) && !bytes.is_empty(), "{from}");
    }
    drop(buffer);
    // A write that was given up holds its place only until the disk is done with it.
    for _ in 0..1000 {
        if free(&store).iter().filter(|free| **free).count() == 64 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("room was lost");
}

/// A pump that never settles is a bug; it must cost output, not memory.
#[test]
fn without_settling_the_memory_is_bounded_all_the_same() {
    let (buffer, _store, _directory) = spilling(64, 64);
    for _ in 0..1_000 {
        buffer.append(Source::Stdout, &[b'x'; 32 << 10]);
    }
    assert!(buffer.streams().stdout.in_memory() <= HEAD_BYTES + TAIL_BYTES + (32 << 10));
    assert!(matches!(buffer.streams().stdout.lost().unwrap().why, NotKept::Slow));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_given_up_and_told() {
    let (buffer, _store, _directory) = spilling(64, 64);
    pump(&buffer, Source::Stdout, &vec![b'x'; 2 << 20]).await;
    let broken = Arc::new(spill::SpillFile::broken(&buffer.spill).unwrap());
    buffer.streams().stdout.replace_file(broken);
    let (shown, bytes) = exact(&buffer, HEAD_BYTES as u64 - 10, 4_000).await;
    assert_eq!((bytes.len(), shown.truncated), (10, true));
    let gone = lost(&buffer).await.unwrap();
    assert_eq!(gone.from, HEAD_BYTES as u64);
    assert!(matches!(gone.why, NotKept::Disk(_)));
}
