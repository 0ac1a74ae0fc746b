//! Any range comes back to the byte, wherever it lies.

use super::{super::random::Random, *};

#[tokio::test]
async fn any_range_is_the_one_of_the_model_across_every_seam() {
    let mut random = Random::new(1);
    let (buffer, _store, _directory) = spilling(64, 64);
    let mut model = Vec::new();
    while model.len() < 2_000_000 {
        let count = random.below(90_000);
        let packet = random.bytes(count);
        pump(&buffer, Source::Stdout, &packet).await;
        model.extend(packet);
        for _ in 0..10 {
            let from = random.below(model.len() + 1);
            let budget = 4 + random.below(40_000);
            let (shown, bytes) = exact(&buffer, from as u64, budget).await;
            assert_eq!((shown.offset, shown.omitted), (from as u64, None));
            let expected = &model[from..model.len().min(from + (budget / 4 * 3).max(4))];
            assert!(bytes == expected, "{} bytes from {from} of {}", bytes.len(), model.len());
            assert!(shown.text.len() <= budget.max(8));
        }
    }
    let view = buffer.view(View::Tail, Form::Base64, 40_000, true).await;
    assert_eq!(view.stdout.total_bytes, model.len() as u64);
    assert!(view.stdout.lost.is_none());
}

#[tokio::test]
async fn seams_of_head_file_and_tail_are_not_seen() {
    let (buffer, _store, _directory) = spilling(64, 64);
    let model = Random::new(2).bytes(2 << 20);
    pump(&buffer, Source::Stdout, &model).await;
    let file_end = buffer.streams().stdout.tail_start();
    for seam in [HEAD_BYTES as u64, HEAD_BYTES as u64 + PIECE_BYTES as u64, file_end] {
        for from in seam - 5..seam + 5 {
            let (_, bytes) = exact(&buffer, from, 16).await;
            assert_eq!(bytes, model[index(from)..index(from) + 12], "{from}");
        }
    }
}

#[tokio::test]
async fn both_streams_are_kept_apart() {
    let (buffer, _store, _directory) = spilling(64, 64);
    let (out, err) = (Random::new(3).bytes(1 << 20), Random::new(4).bytes(1 << 20));
    for (out, err) in out.chunks(10_000).zip(err.chunks(10_000)) {
        pump(&buffer, Source::Stdout, out).await;
        pump(&buffer, Source::Stderr, err).await;
    }
    let view = View::From { stdout: Some(100_000), stderr: Some(200_000) };
    let shown = buffer.view(view, Form::Base64, 40_000, true).await;
    let decode = |stream: StreamView| data_encoding::BASE64.decode(stream.shown.unwrap().text.as_bytes()).unwrap();
    assert_eq!(decode(shown.stdout)[..1000], out[100_000..101_000]);
    assert_eq!(decode(shown.stderr)[..1000], err[200_000..201_000]);
}

#[tokio::test]
async fn reading_on_gives_every_character_once_through_the_file() {
    let (buffer, _store, _directory) = spilling(64, 64);
    let text = "aé€😀\n".repeat(120_000);
    pump(&buffer, Source::Stdout, text.as_bytes()).await;
    let (mut from, mut read) = (0, String::new());
    while from < text.len() as u64 {
        let shown = view(&buffer, stdout_from(from), 39_999).await;
        assert_eq!(shown.offset, from);
        read.push_str(&shown.text);
        from = shown.next_offset;
    }
    assert!(read == text);
}

/// A reader that is slow, and one that never comes, change nothing for the pump.
#[tokio::test]
async fn readers_and_the_pump_go_on_at_the_same_time() {
    let (buffer, _store, _directory) = spilling(64, 64);
    let model = Random::new(5).bytes(8 << 20);
    let read = async {
        let mut random = Random::new(6);
        let mut read = 0;
        loop {
            let total = buffer.streams().stdout.total();
            let from = random.below(index(total) + 1);
            let (_, bytes) = exact(&buffer, from as u64, 4_000).await;
            assert!(model[from..].starts_with(&bytes), "{from}");
            read += 1;
            if total == model.len() as u64 && read > 100 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let pump = async {
        for packet in model.chunks(32 << 10) {
            pump(&buffer, Source::Stdout, packet).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(read, pump);
}
