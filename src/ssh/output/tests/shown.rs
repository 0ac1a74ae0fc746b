//! What an answer shows of what is there.

use super::*;

async fn appended(bytes: impl AsRef<[u8]>) -> OutputBuffer {
    let buffer = plain();
    pump(&buffer, Source::Stdout, bytes.as_ref()).await;
    buffer
}

#[tokio::test]
async fn short_output_is_shown_whole() {
    let buffer = plain();
    buffer.append(Source::Stdout, b"out");
    buffer.append(Source::Stderr, b"err");
    let shown = buffer.view(View::HeadAndTail, Form::Text, 16_000, true).await;
    assert!(!shown.truncated());
    assert_eq!(shown.stdout.shown.unwrap().text, "out");
    assert_eq!(shown.stderr.shown.unwrap().next_offset, 3);
}

#[tokio::test]
async fn long_output_is_cut_at_line_ends_and_says_where_to_read_on() {
    let text = lines(100_000);
    let buffer = appended(&text).await;
    let shown = view(&buffer, View::HeadAndTail, 16_000).await;
    let gap = shown.omitted.unwrap();
    let (head, tail) = shown.text.split_once("[...").unwrap();
    let (line, tail) = tail.split_once("...]\n").unwrap();
    assert!(line.contains(&gap.from.to_string()) && line.contains(&gap.bytes.to_string()));
    assert_eq!(head, &text[..head.len()]);
    assert!(head.ends_with('\n') && text.ends_with(tail));
    assert_eq!(text.as_bytes()[text.len() - tail.len() - 1], b'\n', "the tail begins with a whole line");
    assert_eq!(head.len() as u64 + gap.bytes + tail.len() as u64, text.len() as u64);
    assert!(head.len() + tail.len() <= 16_000 && head.len() > 3_900 && tail.len() > 11_900);
}

#[tokio::test]
async fn reading_on_by_offset_gives_every_byte_once() {
    let text = "aé€😀\n".repeat(3_000);
    let buffer = appended(&text).await;
    let (mut from, mut read) = (0, String::new());
    while from < text.len() as u64 {
        let shown = view(&buffer, stdout_from(from), 1_001).await;
        assert_eq!(shown.offset, from);
        read.push_str(&shown.text);
        from = shown.next_offset;
    }
    assert_eq!(read, text);
}

#[tokio::test]
async fn an_offset_in_what_is_not_kept_says_so_and_goes_on_after_it() {
    let buffer = appended(lines(1_000_000)).await;
    let tail = buffer.streams().stdout.tail_start();
    let shown = view(&buffer, stdout_from(100_000), 1_000).await;
    assert_eq!(shown.offset, tail);
    assert_eq!(shown.omitted, Some(Omitted { from: 100_000, bytes: tail - 100_000 }));
    assert!(shown.truncated && shown.text.contains("are not kept"));
}

#[tokio::test]
async fn a_character_in_flight_waits_for_its_rest_until_the_end() {
    let buffer = appended("é€".as_bytes().split_last().unwrap().1).await;
    let tail = async |ended| buffer.view(View::Tail, Form::Text, 4_000, ended).await.stdout.shown.unwrap();
    assert_eq!((tail(false).await.text.as_str(), tail(false).await.next_offset), ("é", 2));
    assert_eq!(tail(true).await.text, "é\u{fffd}");
    buffer.append(Source::Stdout, &"€".as_bytes()[2..]);
    assert_eq!(view(&buffer, stdout_from(2), 4_000).await.text, "€");
}

#[tokio::test]
async fn offsets_are_clamped_and_invalid_bytes_survive() {
    let buffer = appended([0xff, 0xfe, b'a']).await;
    assert_eq!(view(&buffer, stdout_from(99), 10).await.offset, 3);
    assert_eq!(view(&buffer, stdout_from(0), 10).await.text, "\u{fffd}\u{fffd}a");
    assert_eq!(exact(&buffer, 0, 10).await.1, [0xff, 0xfe, b'a']);
    let shown = buffer.view(stdout_from(0), Form::Text, 1, false).await.stdout.shown.unwrap();
    assert_eq!(shown.next_offset, 3, "a reader makes way");
    assert_eq!(view(&buffer, stdout_from(u64::MAX), 10).await.next_offset, 3);
}

#[tokio::test]
async fn escapes_never_make_a_text_longer_than_its_budget() {
    let binary: Vec<u8> = (0..200_000_u32).map(|i| if i < 100_000 { 0 } else { b'a' }).collect();
    let buffer = appended(&binary).await;
    for (which, budget) in [(View::HeadAndTail, 16_000), (stdout_from(99_000), 16_000), (stdout_from(0), 4_000)] {
        let shown = view(&buffer, which, budget).await;
        assert!(shown.text.len() <= budget + 128 && shown.text.len() > budget / 2, "{which:?}: {}", shown.text.len());
        assert!(shown.truncated);
    }
    let shown = view(&buffer, stdout_from(0), 16_000).await;
    assert_eq!(shown.text.matches("\\u{0}").count() as u64, shown.next_offset);
    let zeros = appended(vec![0; 4_000]).await;
    let shown = view(&zeros, View::HeadAndTail, 16_000).await;
    assert!(shown.truncated && shown.text.len() <= 16_128, "{}", shown.text.len());
}

#[tokio::test]
async fn a_sequence_at_the_edge_of_a_window_is_read_whole_with_the_next() {
    let text = "\u{1b}[31mred\u{1b}[0m \u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{7}\n".repeat(500);
    let buffer = appended(&text).await;
    for budget in [7, 24, 100, 1_001] {
        let (mut from, mut read) = (0, String::new());
        while from < text.len() as u64 {
            let shown = view(&buffer, stdout_from(from), budget).await;
            assert!(shown.next_offset > from && !shown.text.contains('\u{1b}'));
            read.push_str(&shown.text);
            from = shown.next_offset;
        }
        if budget >= 24 {
            assert_eq!(read, "red link\n".repeat(500), "{budget}");
        }
    }
}

#[tokio::test]
async fn a_sequence_in_flight_waits_and_hides_no_prompt() {
    let buffer = plain();
    buffer.append(Source::Stdout, b"password: \x1b[");
    let tail = async || buffer.view(View::Tail, Form::Text, 4_000, false).await.stdout.shown.unwrap();
    assert_eq!((tail().await.text.as_str(), tail().await.next_offset), ("password: ", 10));
    buffer.append(Source::Stdout, b"0m");
    assert_eq!((tail().await.text.as_str(), tail().await.next_offset), ("password: ", 14));
}

#[tokio::test]
async fn raw_keeps_what_text_neutralises() {
    let text = "\u{1b}[31mred\u{1b}[0m\u{202e}\r\n";
    let buffer = appended(text).await;
    let shown = async |form| buffer.view(View::HeadAndTail, form, 4_000, true).await.stdout.shown.unwrap();
    assert_eq!(shown(Form::Raw).await.text, text);
    assert_eq!(shown(Form::Text).await.text, "red\\u{202e}\n");
    assert_eq!(shown(Form::Text).await.next_offset, text.len() as u64);
}

#[tokio::test]
async fn base64_is_one_exact_range_without_a_word_of_ours() {
    let text = lines(100_000);
    let buffer = appended(&text).await;
    let shown = async |view, ended| {
        let shown = buffer.view(view, Form::Base64, 16_000, ended).await.stdout.shown.unwrap();
        let bytes = data_encoding::BASE64.decode(shown.text.as_bytes()).unwrap();
        assert!(shown.text.len() <= 16_000 && shown.truncated);
        assert_eq!(bytes, text.as_bytes()[index(shown.offset)..index(shown.next_offset)]);
        shown
    };
    let ended = shown(View::HeadAndTail, true).await;
    assert_eq!((ended.offset, ended.next_offset, ended.omitted), (0, 12_000, None));
    let running = shown(View::Tail, false).await;
    assert_eq!((running.next_offset - running.offset, running.next_offset), (3_000, text.len() as u64));
    let lost = shown(stdout_from(100_000), true).await;
    assert_eq!(lost.offset, (text.len() - TAIL_BYTES) as u64);
}
