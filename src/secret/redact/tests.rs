use std::sync::Arc;

use super::{Patterns, Redactor};

fn patterns(texts: &[&str]) -> Arc<Patterns> {
    Arc::new(Patterns::new(texts))
}

fn in_chunks<'a>(patterns: &Arc<Patterns>, chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut redactor = Redactor::new(patterns.clone());
    let mut out: Vec<u8> = chunks.into_iter().flat_map(|chunk| redactor.push(chunk)).collect();
    out.extend(redactor.finish());
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn secret_is_masked_wherever_chunks_end() {
    let known = patterns(&["hunter2", "hunter2000", "s3cret", "tersec", "aaaa"]);
    let text = "x hunter2 hunter2000 hunte r2 s3crets3cret huntersec aaaaaaa aaa s3cre";
    let expected = "x [redacted] [redacted] hunte r2 [redacted] hun[redacted] [redacted] aaa s3cre";
    assert_eq!(in_chunks(&known, [text.as_bytes()]), expected);
    for size in 1..text.len() {
        assert_eq!(in_chunks(&known, text.as_bytes().chunks(size)), expected, "in chunks of {size}");
    }
}

#[test]
fn nothing_is_held_back_that_cannot_become_a_secret() {
    let mut redactor = Redactor::new(patterns(&["hunter2"]));
    assert_eq!(redactor.push(b"a prompt: "), b"a prompt: ");
    assert_eq!(redactor.push(b"hunt"), b"");
    assert_eq!(redactor.push(b"ing"), b"hunting");
    assert_eq!(redactor.push(b"the hunter2"), b"the [redacted]");
    assert_eq!(redactor.push(b"!"), b"!");
    assert_eq!(redactor.push(b"hu"), b"");
    assert_eq!(redactor.finish(), b"hu");
}

#[test]
fn mask_never_completes_a_secret() {
    let known = patterns(&["secret", "x[redacted]y", "[redacted]"]);
    let out = in_chunks(&known, [b"xsecrety [redacted]".as_slice()]);
    assert_eq!(out, "x*y *");
    // Every byte stands in some secret: nothing can be written after the first one.
    let all: Vec<u8> = (0..=255).collect();
    let mut redactor = Redactor::new(Arc::new(Patterns::new([all.as_slice(), b"secret"])));
    let mut out = redactor.push(b"a secret and more");
    out.extend(redactor.finish());
    assert_eq!(out, b"a ");
}

#[test]
fn repetitive_text_and_secret_take_linear_time_and_little_memory() {
    let secret = format!("{}b", "a".repeat(60_000));
    let mut redactor = Redactor::new(patterns(&[&secret]));
    let text = vec![b'a'; 4 << 20];
    let out: usize = text.chunks(1000).map(|chunk| redactor.push(chunk).len()).sum();
    assert!(redactor.pending.len() <= 60_001 && redactor.pending.capacity() < 1 << 20);
    assert_eq!(out + redactor.finish().len(), text.len());
}
