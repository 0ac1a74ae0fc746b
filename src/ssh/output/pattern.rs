//! What a waiter looks for in the output of a command.

use regex::bytes::{Regex, RegexBuilder};

use crate::error::{Code, Details, Explain};

/// Longest text or regular expression that is looked for.
pub const MAX_PATTERN_BYTES: usize = 1_000;

/// Memory that a compiled expression may take: a search may take time in proportion to it. `\w{500}` would take more, a
/// list of a hundred words takes a fifth.
const MAX_COMPILED_BYTES: usize = 256 << 10;
/// Memory that a search may use for its tables.
const TABLE_BYTES: usize = 1 << 20;

/// What is looked for. Cloning is cheap.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// These bytes, wherever they stand: line ends are bytes like others.
    Text(Text),
    /// A regular expression, matched against one line at a time, in linear time.
    Regex(Regex),
}

/// A text with what is needed to find it without ever going back.
#[derive(Clone, Debug)]
pub struct Text {
    bytes: Vec<u8>,
    /// For each length that matched: the longest shorter one that matches too (Knuth, Morris, Pratt).
    fallback: Vec<usize>,
}

/// Why something cannot be looked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum PatternError {
    #[error("{argument} is empty")]
    Empty { argument: &'static str },
    #[error("{argument} is {bytes} bytes long; at most {limit} are taken", limit = MAX_PATTERN_BYTES)]
    TooLong { argument: &'static str, bytes: usize },
    #[error("until_regex is no regular expression: {why} at byte {position}")]
    Syntax { why: String, position: usize },
    #[error("until_regex is too large: it needs over 256 KiB once compiled")]
    TooLarge,
}

impl Pattern {
    /// Looks for `text` as it is.
    ///
    /// # Errors
    ///
    /// `Empty`, `TooLong`.
    pub fn text(text: &str) -> Result<Self, PatternError> {
        check_length("until", text)?;
        Ok(Self::Text(Text::new(text.as_bytes())))
    }

    /// Looks for a regular expression (syntax of the `regex` crate: no look-around, no back-references).
    ///
    /// # Errors
    ///
    /// `Empty`, `TooLong`, `Syntax`, `TooLarge`.
    pub fn regex(expression: &str) -> Result<Self, PatternError> {
        check_length("until_regex", expression)?;
        let mut builder = RegexBuilder::new(expression);
        builder.size_limit(MAX_COMPILED_BYTES).dfa_size_limit(TABLE_BYTES);
        builder.build().map(Self::Regex).map_err(|error| fault(expression, &error))
    }
}

fn check_length(argument: &'static str, text: &str) -> Result<(), PatternError> {
    match text.len() {
        0 => Err(PatternError::Empty { argument }),
        bytes if bytes > MAX_PATTERN_BYTES => Err(PatternError::TooLong { argument, bytes }),
        _ => Ok(()),
    }
}

/// `regex` draws where the fault is; the parser below it knows the place as a number.
fn fault(expression: &str, error: &regex::Error) -> PatternError {
    let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(expression);
    let (why, position) = match parsed {
        Err(regex_syntax::Error::Parse(error)) => (error.kind().to_string(), error.span().start.offset),
        Err(regex_syntax::Error::Translate(error)) => (error.kind().to_string(), error.span().start.offset),
        _ if matches!(error, regex::Error::CompiledTooBig(_)) => return PatternError::TooLarge,
        _ => ("it cannot be compiled".into(), 0),
    };
    PatternError::Syntax { why, position }
}

impl Text {
    fn new(bytes: &[u8]) -> Self {
        let mut fallback = vec![0; bytes.len() + 1];
        let mut matched = 0;
        for at in 1..bytes.len() {
            while matched > 0 && bytes[at] != bytes[matched] {
                matched = fallback[matched];
            }
            matched += usize::from(bytes[at] == bytes[matched]);
            fallback[at + 1] = matched;
        }
        Self { bytes: bytes.to_vec(), fallback }
    }

    /// How many bytes it has.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Reads on after `matched` bytes of the text have been seen. Gives where in `bytes` the text ends,
    /// if it does. Each byte is looked at once, however they are cut into pieces.
    pub(super) fn read_on(&self, matched: &mut usize, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            while *matched > 0 && self.bytes[*matched] != *byte {
                *matched = self.fallback[*matched];
            }
            *matched += usize::from(self.bytes[*matched] == *byte);
            if *matched == self.bytes.len() {
                *matched = 0;
                return Some(at + 1);
            }
        }
        None
    }
}

impl Explain for PatternError {
    fn code(&self) -> Code {
        match self {
            PatternError::TooLong { .. } => Code::OutOfRange,
            _ => Code::InvalidArgument,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            PatternError::Empty { .. } => "Give the text to wait for, or leave it out.".into(),
            PatternError::TooLong { .. } => "Wait for a shorter text: a few words that stand on one line.".into(),
            PatternError::Syntax { .. } => {
                "Correct it there, or use until for plain text. There is no look-around and no back-reference.".into()
            }
            PatternError::TooLarge => "Use smaller repetitions, or until for plain text.".into(),
        })
    }

    fn retryable(&self) -> bool {
        false
    }

    fn details(&self) -> Details {
        let details = Details::new();
        match self {
            PatternError::Empty { argument } => details.text("argument", argument),
            PatternError::TooLong { argument, .. } => {
                details.text("argument", argument).number("limit", MAX_PATTERN_BYTES as u64)
            }
            PatternError::Syntax { position, .. } => {
                details.text("argument", "until_regex").number("position", *position as u64)
            }
            PatternError::TooLarge => details.text("argument", "until_regex"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Where `text` ends in `bytes` that come in pieces of `size`.
    fn end_of(text: &str, bytes: &str, size: usize) -> Option<usize> {
        let text = Text::new(text.as_bytes());
        let mut matched = 0;
        let pieces = bytes.as_bytes().chunks(size).enumerate();
        pieces.into_iter().find_map(|(i, piece)| Some(i * size + text.read_on(&mut matched, piece)?))
    }

    #[test]
    fn a_text_is_found_wherever_its_pieces_are_cut() {
        for (text, bytes) in [
            ("Listening on", "x Listening Listening on 80"),
            ("aab", "aaaaab"),
            ("abab", "abaabab"),
            ("x", "x"),
            ("a\nb", "aa\nba\nb"),
            ("é", "eé"),
        ] {
            let expected = bytes.find(text).map(|at| at + text.len());
            for size in 1..=bytes.len() {
                assert_eq!(end_of(text, bytes, size), expected, "{text:?} in {bytes:?} by {size}");
            }
        }
        assert_eq!(end_of("abc", "ababab", 2), None);
    }

    #[test]
    fn a_bad_expression_names_what_and_where() {
        for (expression, position) in [("a(b", 1), ("ok|[z-a]", 4), ("x{5,2}", 1), ("(?=a)", 0), (r"\pX", 0)] {
            match Pattern::regex(expression).unwrap_err() {
                PatternError::Syntax { position: at, why } => assert_eq!(at, position, "{expression}: {why}"),
                other => panic!("{expression}: {other}"),
            }
        }
    }

    #[test]
    fn an_expression_that_grows_too_large_is_refused() {
        assert_eq!(Pattern::regex(r"(\w{90}){90}").unwrap_err(), PatternError::TooLarge);
        assert!(Pattern::regex("ERROR|Listening on|[Pp]assword: ?$").is_ok());
    }

    #[test]
    fn length_has_limits() {
        assert_eq!(Pattern::text("").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(Pattern::text(&"x".repeat(1_001)).unwrap_err().code(), Code::OutOfRange);
        assert!(Pattern::text(&"x".repeat(1_000)).is_ok());
    }
}
