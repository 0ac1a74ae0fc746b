//! Control sequences in what a host writes, made harmless.
//!
//! A sequence of ECMA-48 is taken out; every other character that a terminal obeys, or that a reader cannot see, is
//! shown as an escape such as `\u{202e}`. Only a complete sequence is taken out: a terminal, and a parser made for
//! terminals such as `vte`, takes everything after an unterminated one for its text, so that three bytes of a host
//! could hide all that follows. The work is linear and nothing is remembered between two answers.

use std::iter::Peekable;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// Longest control sequence (`ESC [ ...`) that is taken out, in bytes.
const SEQUENCE_BYTES: usize = 256;
/// Longest string (a title, a link, a clipboard) that is taken out, in bytes.
const STRING_BYTES: usize = 4_096;
/// Longest beginning of a sequence that is held back until the rest has come, in bytes: what a host leaves
/// unterminated must not hide a prompt.
const HELD_BYTES: usize = 256;

/// The text of `bytes` with nothing in it that acts on a terminal or hides from a reader.
///
/// `\r\n` is a line end; so is a lone `\r`, which would overwrite what stands before it.
#[must_use]
pub fn neutralise(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let plain = rest.iter().position(|b| *b == ESC).unwrap_or(rest.len());
        push_plain(&mut text, &rest[..plain]);
        rest = &rest[plain..];
        rest = match scan(rest) {
            Scan::Sequence(length) => &rest[length..],
            _ if rest.is_empty() => return text,
            _ => {
                push(&mut text, char::from(ESC));
                &rest[1..]
            }
        };
    }
}

/// How many bytes at the end begin a sequence, or a line end, whose rest may follow.
pub(super) fn incomplete_sequence(bytes: &[u8]) -> usize {
    let begin = bytes.len().saturating_sub(HELD_BYTES);
    let mut at = begin;
    while let Some(found) = bytes[at..].iter().position(|b| *b == ESC) {
        at += found;
        at += match scan(&bytes[at..]) {
            Scan::Sequence(length) => length,
            Scan::Incomplete => return bytes.len() - at,
            Scan::Nothing => 1,
        };
    }
    // However many there are, a line end that may follow makes one line end of them.
    bytes[begin..].iter().rev().take_while(|byte| **byte == b'\r').count()
}

/// What begins with an ESC.
enum Scan {
    /// A sequence of this many bytes.
    Sequence(usize),
    /// It may become one.
    Incomplete,
    /// It is none.
    Nothing,
}

fn scan(bytes: &[u8]) -> Scan {
    match bytes.get(1) {
        None => Scan::Incomplete,
        Some(b'[') => control_sequence(bytes),
        Some(introducer @ (b']' | b'P' | b'X' | b'^' | b'_')) => string(bytes, *introducer == b']'),
        Some(b' '..=b'/') => escape_sequence(bytes),
        Some(b'0'..=b'~') => Scan::Sequence(2),
        Some(_) => Scan::Nothing,
    }
}

/// `ESC`, intermediates, final byte (ECMA-35, section 13.2).
fn escape_sequence(bytes: &[u8]) -> Scan {
    let bytes = &bytes[..bytes.len().min(SEQUENCE_BYTES)];
    finish(bytes, 1 + span(&bytes[1..], b' '..=b'/'), b'0'..=b'~')
}

/// `ESC [`, parameters, intermediates, final byte (ECMA-48, section 5.4).
fn control_sequence(bytes: &[u8]) -> Scan {
    let bytes = &bytes[..bytes.len().min(SEQUENCE_BYTES)];
    let parameters = 2 + span(&bytes[2..], b'0'..=b'?');
    let end = parameters + span(&bytes[parameters..], b' '..=b'/');
    finish(bytes, end, b'@'..=b'~')
}

/// Its last byte stands at `end`.
fn finish(bytes: &[u8], end: usize, last: std::ops::RangeInclusive<u8>) -> Scan {
    match bytes.get(end) {
        Some(byte) if last.contains(byte) => Scan::Sequence(end + 1),
        None if bytes.len() < SEQUENCE_BYTES => Scan::Incomplete,
        _ => Scan::Nothing,
    }
}

/// An introducer and its text, up to `ESC \`; for an operating system command also up to BEL.
fn string(bytes: &[u8], bell_ends: bool) -> Scan {
    let bytes = &bytes[..bytes.len().min(STRING_BYTES)];
    let end = bytes.iter().skip(2).position(|b| *b < b' ').map(|at| at + 2);
    match end.map(|end| (end, &bytes[end..])) {
        Some((end, [BEL, ..])) if bell_ends => Scan::Sequence(end + 1),
        Some((end, [ESC, b'\\', ..])) => Scan::Sequence(end + 2),
        Some((_, [ESC])) if bytes.len() < STRING_BYTES => Scan::Incomplete,
        None if bytes.len() < STRING_BYTES => Scan::Incomplete,
        _ => Scan::Nothing,
    }
}

/// How many bytes at the start are in `range`.
fn span(bytes: &[u8], range: std::ops::RangeInclusive<u8>) -> usize {
    bytes.iter().take_while(|b| range.contains(b)).count()
}

fn push_plain(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        let mut chars = chunk.valid().chars().peekable();
        while let Some(c) = chars.next() {
            push_char(text, c, &mut chars);
        }
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

fn push_char(text: &mut String, c: char, rest: &mut Peekable<std::str::Chars<'_>>) {
    match c {
        '\r' if matches!(rest.peek(), Some('\r' | '\n')) => {}
        '\r' => text.push('\n'),
        _ => push(text, c),
    }
}

fn push(text: &mut String, c: char) {
    if acts_or_hides(c) { text.extend(c.escape_unicode()) } else { text.push(c) }
}

/// Control characters, and what Unicode calls default-ignorable (`Default_Ignorable_Code_Point`, Unicode 16): bidi
/// controls, zero-width characters, tags and variation selectors, but for the two that choose between text and emoji.
/// Line and paragraph separators are no line ends to most readers.
#[must_use]
pub const fn acts_or_hides(c: char) -> bool {
    matches!(c,
        '\0'..='\x08' | '\x0b'..='\x1f' | '\x7f'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0d}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows(bytes: impl AsRef<[u8]>, text: &str) {
        assert_eq!(neutralise(bytes.as_ref()), text);
    }

    #[test]
    fn complete_sequences_are_taken_out() {
        shows("\u{1b}[1;31mred\u{1b}[0m \u{1b}[2J\u{1b}[?25l\u{1b}[38:2::1:2:3mx\u{1b}[ q", "red x");
        shows("\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\ \u{1b}]0;title\u{7}x", "link x");
        shows(
            "\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}P1$r0m\u{1b}\\\u{1b}_apc\u{1b}\\\u{1b}^pm\u{1b}\\\u{1b}Xsos\u{1b}\\.",
            ".",
        );
        shows("\u{1b}(B\u{1b}7\u{1b}=\u{1b}cx", "x");
    }

    #[test]
    fn what_is_unterminated_hides_nothing() {
        shows("\u{1b}]0;rm -rf /\nnext", "\\u{1b}]0;rm -rf /\nnext");
        shows("\u{1b}_hidden", "\\u{1b}_hidden");
        shows("\u{1b}[31", "\\u{1b}[31");
        shows("\u{1b}", "\\u{1b}");
        shows("\u{1b}P\u{1b}[31mred\u{7}", "\\u{1b}Pred\\u{7}");
        let long = format!("\u{1b}]52;c;{}\u{7}", "A".repeat(STRING_BYTES));
        shows(&long, &long.escape_debug().to_string());
        shows(format!("\u{1b}[{}m", "1".repeat(300)), &format!("\\u{{1b}}[{}m", "1".repeat(300)));
    }

    #[test]
    fn what_is_left_never_forms_a_sequence() {
        shows("\u{1b}\u{1b}[31m[2J", "\\u{1b}[2J");
        shows("\u{1b}[\u{1b}[0m31m", "\\u{1b}[31m");
        shows("\u{9b}31m\u{9d}0;t\u{9c}", "\\u{9b}31m\\u{9d}0;t\\u{9c}");
    }

    #[test]
    fn control_bidi_and_zero_width_characters_are_shown_as_escapes() {
        shows("a\0b\u{8}c\u{7f}d\u{7}", "a\\u{0}b\\u{8}c\\u{7f}d\\u{7}");
        shows("x\u{202e}y\u{2066}z\u{200b}\u{feff}\u{e0041}", "x\\u{202e}y\\u{2066}z\\u{200b}\\u{feff}\\u{e0041}");
        shows("tab\tand\nline é € 😀 ❤\u{fe0f}", "tab\tand\nline é € 😀 ❤\u{fe0f}");
        shows([b'a', 0xff, 0xc3, b'b', 0x9b], "a\u{fffd}\u{fffd}b\u{fffd}");
    }

    #[test]
    fn carriage_returns_end_lines_and_overwrite_nothing() {
        shows("one\r\ntwo\r\r\n50%\r100%\n", "one\ntwo\n50%\n100%\n");
    }

    #[test]
    fn the_beginning_of_a_sequence_is_held_back_within_bounds() {
        for (bytes, held) in
            [("abc", 0), ("abc\u{1b}", 1), ("\u{1b}[3", 3), ("x\u{1b}]0;t", 5), ("x\u{1b}]0;t\u{1b}", 6)]
        {
            assert_eq!(incomplete_sequence(bytes.as_bytes()), held, "{bytes:?}");
        }
        assert_eq!(incomplete_sequence(b"\x1b[31m\x1b]0;t\x07x"), 0);
        assert_eq!(incomplete_sequence(b"line\r"), 1);
        assert_eq!(incomplete_sequence(b"line\r\r"), 2, "a line end may follow both");
        assert_eq!(incomplete_sequence(format!("\u{1b}]0;{}", "p".repeat(300)).as_bytes()), 0);
    }

    /// Whatever the bytes are, nothing that a terminal obeys comes through, and the size is bounded.
    #[test]
    fn no_bytes_at_all_get_through() {
        const PIECES: [&[u8]; 14] = [
            b"\x1b",
            b"[",
            b"]",
            b"\\",
            b"P",
            b"31",
            b"m",
            b"\x07",
            b"\r",
            b"\n",
            b"\xc2\x9b",
            b"\xe2\x80\xae",
            b"\xff",
            b"x",
        ];
        let mut random = super::super::random::Random::new(7);
        for _ in 0..20_000 {
            let bytes: Vec<u8> =
                (0..random.below(40)).flat_map(|_| PIECES[random.below(PIECES.len())].to_vec()).collect();
            let text = neutralise(&bytes);
            assert!(!text.contains(['\u{1b}', '\r', '\u{7}', '\u{9b}', '\u{202e}']), "{bytes:?}: {text:?}");
            assert!(text.len() <= bytes.len() * 6 && incomplete_sequence(&bytes) <= HELD_BYTES);
        }
    }
}
