//! A line in pieces, as OpenSSH takes it apart (`strdelim` and `argv_split` of `misc.c`).

use super::error::Problem;

const WHITESPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    /// In lower case.
    pub(super) keyword: String,
    /// The text behind the keyword and its `=`.
    pub(super) rest: String,
    /// The same in words, without quotes, escapes and comment.
    pub(super) words: Result<Vec<String>, Problem>,
}

impl Line {
    /// `None` for an empty line and for a comment.
    pub(super) fn parse(number: usize, text: &str) -> Option<Self> {
        // C strings end at the first NUL.
        let text = text.split('\0').next().unwrap_or_default();
        let text = text.trim_end_matches([' ', '\t', '\r', '\n', '\u{c}']);
        let mut rest = Some(text);
        let mut keyword = token(&mut rest)?;
        if keyword.is_empty() {
            keyword = token(&mut rest)?;
        }
        if keyword.is_empty() || keyword.starts_with('#') {
            return None;
        }
        let rest = rest.unwrap_or_default().trim_start_matches(WHITESPACE);
        let words = if rest.is_empty() { Err(Problem::Missing) } else { words(rest).ok_or(Problem::Quotes) };
        Some(Self { number, keyword: keyword.to_ascii_lowercase(), rest: rest.to_owned(), words })
    }
}

/// Takes the next token off: it ends at white space, at one `=` or with a quoted part. `None` at the end, and at an
/// unclosed quote.
pub(super) fn token(rest: &mut Option<&str>) -> Option<String> {
    let text = rest.take()?;
    let Some(at) = text.find([' ', '\t', '\r', '\n', '"', '=']) else { return Some(text.to_owned()) };
    let (head, tail) = text.split_at(at);
    let after = &tail[1..];
    if tail.starts_with('"') {
        let (quoted, after) = after.split_once('"')?;
        *rest = Some(after.trim_start_matches(WHITESPACE));
        return Some(format!("{head}{quoted}"));
    }
    let mut after = after.trim_start_matches(WHITESPACE);
    if !tail.starts_with('=') {
        after = after.strip_prefix('=').map_or(after, |value| value.trim_start_matches(WHITESPACE));
    }
    *rest = Some(after);
    Some(head.to_owned())
}

/// Splits at blanks; quotes and backslashes protect, a `#` that begins a word ends the line. `None` for an unclosed
/// quote.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&first) = chars.peek() {
        if first == ' ' || first == '\t' {
            chars.next();
            continue;
        }
        if first == '#' {
            break;
        }
        words.push(word(&mut chars)?);
    }
    Some(words)
}

fn word(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut word = String::new();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                let escapes = |next: &char| matches!(next, '\'' | '"' | '\\') || (quote.is_none() && *next == ' ');
                word.push(chars.next_if(escapes).unwrap_or('\\'));
            }
            (' ' | '\t', None) => return Some(word),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => word.push(c),
        }
    }
    quote.is_none().then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(String, Vec<String>)> {
        let line = Line::parse(1, text)?;
        Some((line.keyword, line.words.unwrap_or_default()))
    }

    #[test]
    fn a_line_is_split_as_openssh_splits_it() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("Host a b", "host", &["a", "b"]),
            ("\tHostName=x", "hostname", &["x"]),
            ("HostName = x # y", "hostname", &["x"]),
            ("HostName == x", "hostname", &["=", "x"]),
            ("IdentityFile \"a b\"c d", "identityfile", &["a bc", "d"]),
            (r#"X 'a "b' a\ b "a\ b" \"q \n"#, "x", &["a \"b", "a b", "a\\ b", "\"q", "\\n"]),
            ("X a#b #c", "x", &["a#b"]),
            ("\"Host\" a\r", "host", &["a"]),
            ("X a\0b", "x", &["a"]),
        ];
        for (text, keyword, words) in cases {
            let words = words.iter().map(ToString::to_string).collect();
            assert_eq!(parts(text), Some(((*keyword).to_owned(), words)), "{text:?}");
        }
        assert!([" # x", "", "   ", "\"Host a"].iter().all(|text| parts(text).is_none()));
        assert_eq!(Line::parse(1, "X 'a").map(|line| line.words), Some(Err(Problem::Quotes)));
        assert_eq!(Line::parse(1, "X =").map(|line| line.words), Some(Err(Problem::Missing)));
    }
}
