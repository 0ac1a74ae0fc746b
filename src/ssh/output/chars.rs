//! Where UTF-8 characters begin and end among bytes that need not be UTF-8.

/// Bytes of the longest character.
pub(super) const LONGEST_CHAR: u64 = 4;

/// Where the character that holds the byte at `at` begins: `at` itself, or up to three bytes before it.
pub(super) fn char_start(bytes: &[u8], at: usize) -> usize {
    if at >= bytes.len() {
        return at;
    }
    let begin = at.saturating_sub(3);
    let start = (begin..at).rev().take_while(|i| is_continuation(bytes[i + 1])).last();
    match start {
        Some(start) if char_covers(&bytes[start..], at - start) => start,
        _ => at,
    }
}

/// How many bytes at the end are the beginning of a character that is not complete.
pub(super) fn incomplete_suffix(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let lead = tail.iter().rposition(|b| !is_continuation(*b));
    match lead.map(|lead| &tail[lead..]) {
        Some(rest) if std::str::from_utf8(rest).is_err_and(|e| e.error_len().is_none()) => rest.len(),
        _ => 0,
    }
}

const fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Whether `bytes` begin with one character that reaches beyond `position`.
fn char_covers(bytes: &[u8], position: usize) -> bool {
    let length = match bytes[0] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return false,
    };
    position < length && bytes.get(..length).is_some_and(|c| std::str::from_utf8(c).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_start_of_a_character() {
        let text = "aé€😀\u{fe}";
        for offset in 0..text.len() {
            assert_eq!(char_start(text.as_bytes(), offset), text.floor_char_boundary(offset), "{offset}");
        }
        assert_eq!(char_start(&[0x80; 5], 3), 3, "bytes that are no character are not skipped");
    }

    #[test]
    fn holds_back_only_the_beginning_of_a_character() {
        assert_eq!(incomplete_suffix(b"abc"), 0);
        assert_eq!(incomplete_suffix(&"é".as_bytes()[..1]), 1);
        assert_eq!(incomplete_suffix(&"😀".as_bytes()[..3]), 3);
        assert_eq!(incomplete_suffix(&[b'a', 0xff]), 0, "never valid: nothing to wait for");
        assert_eq!(incomplete_suffix("é".as_bytes()), 0);
    }
}
