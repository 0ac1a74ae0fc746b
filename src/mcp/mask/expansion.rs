//! Words that hold no password themselves: the shell of the host puts it in.

use std::ops::Range;

use super::judge::is_name;

/// Whether what stands at `span` is nothing but expansions: `$NAME`, `"${NAME}"`, `$1`, `$(command)`; behind a user's name
/// and a colon too.
pub(super) fn only(command: &str, span: &Range<usize>) -> bool {
    let word = &command[span.clone()];
    let mut rest = match word.split_once(':') {
        Some((user, rest)) if user.bytes().all(is_of_user) => rest,
        _ => word,
    };
    let mut any = false;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            // Inside of them it is all the same. Single quotes keep everything as it is.
            '"' | ':' => &rest[1..],
            '$' | '`' => {
                any = true;
                // The reader of the shell's words ends one before a parenthesis.
                let cut = rest == "$" && command[span.end..].starts_with('(');
                match after(rest) {
                    Some(rest) => rest,
                    None => return cut,
                }
            }
            _ => return false,
        };
    }
    any
}

const fn is_of_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'"' | b'_' | b'-' | b'.' | b'@')
}

/// What follows the expansion that `text` begins with.
fn after(text: &str) -> Option<&str> {
    if let Some(command) = text.strip_prefix('`') {
        return command.split_once('`').map(|(_, rest)| rest);
    }
    let text = text.strip_prefix('$')?;
    if let Some(inner) = text.strip_prefix('{') {
        let (inner, rest) = inner.split_once('}')?;
        // `${NAME:-value}` holds a value itself; `${NAME:?}` does not.
        let name = inner.trim_end_matches('?').trim_end_matches(':');
        return (is_name(name) || is_position(name)).then_some(rest);
    }
    if let Some(command) = text.strip_prefix('(') {
        return closing(command).map(|at| &command[at + 1..]);
    }
    let name = text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    match text.bytes().next()? {
        byte if byte.is_ascii_digit() => Some(&text[1..]),
        _ if name > 0 => Some(&text[name..]),
        _ => None,
    }
}

fn is_position(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Where the parenthesis is closed that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    text.bytes().position(|byte| {
        match byte {
            b'(' => open += 1,
            b')' => open -= 1,
            _ => {}
        }
        open == 0
    })
}
