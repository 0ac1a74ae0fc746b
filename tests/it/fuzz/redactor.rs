//! The redactor, with secrets, text and chunks all from arbitrary bytes.

use std::sync::Arc;

use ssh_mcp::secret::redact::{Patterns, Redactor};

/// Secrets are drawn from the beginning of the data; a few bytes only, so that they occur in the rest.
pub fn check(data: &[u8]) {
    let Some((&[count, step], rest)) = data.split_first_chunk::<2>() else { return };
    let mut rest = rest;
    let mut secrets = Vec::new();
    for _ in 0..count % 5 {
        let Some((&length, more)) = rest.split_first() else { break };
        let (secret, more) = more.split_at(usize::from(length % 9).min(more.len()));
        if !secret.is_empty() {
            secrets.push(secret);
        }
        rest = more;
    }
    // Secrets stand in the text for sure, whole, doubled and cut.
    let mut text = rest.to_vec();
    for secret in &secrets {
        text.extend_from_slice(secret);
        text.extend_from_slice(secret);
        text.extend_from_slice(&secret[..secret.len() / 2]);
        text.extend_from_slice(rest.get(..3).unwrap_or_default());
    }
    let patterns = Arc::new(Patterns::new(&secrets));
    let whole = redacted(&patterns, [text.as_slice()]);
    for secret in &secrets {
        assert!(!holds(&whole, secret), "{secret:?} is in {whole:?}");
    }
    for size in [1, 2, 3, usize::from(step) + 1] {
        assert_eq!(redacted(&patterns, text.chunks(size)), whole, "in chunks of {size}");
    }
    assert_rest_is_unchanged(&text, &whole, &secrets);
}

/// Without the masks, what is left is the text without the bytes of secrets.
fn assert_rest_is_unchanged(text: &[u8], whole: &[u8], secrets: &[&[u8]]) {
    let mut covered = vec![false; text.len()];
    for secret in secrets {
        for at in (0..text.len()).filter(|at| text[*at..].starts_with(secret)) {
            covered[at..at + secret.len()].fill(true);
        }
    }
    let mut parts = Vec::new();
    for (byte, secret) in text.iter().zip(&covered) {
        match (secret, parts.last_mut()) {
            (true, Some(None)) => {}
            (true, _) => parts.push(None),
            (false, Some(Some(part))) => Vec::push(part, *byte),
            (false, _) => parts.push(Some(vec![*byte])),
        }
    }
    // The mask is what stands between the parts: the same text each time.
    let masks = parts.iter().filter(|part| part.is_none()).count();
    let plain: usize = parts.iter().flatten().map(Vec::len).sum();
    let mask_bytes = whole.len() - plain;
    assert_eq!(mask_bytes % masks.max(1), 0);
    let length = mask_bytes.checked_div(masks).unwrap_or(0);
    let (mut at, mut mask) = (0, None);
    for part in parts {
        let wanted = part.unwrap_or_else(|| mask.get_or_insert_with(|| whole[at..at + length].to_vec()).clone());
        assert_eq!(&whole[at..at + wanted.len()], wanted);
        at += wanted.len();
    }
    assert_eq!(at, whole.len());
}

fn redacted<'a>(patterns: &Arc<Patterns>, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut redactor = Redactor::new(patterns.clone());
    let mut out: Vec<u8> = chunks.into_iter().flat_map(|chunk| redactor.push(chunk)).collect();
    out.extend(redactor.finish());
    out
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
