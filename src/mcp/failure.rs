//! A failed call as the caller sees it: `{code, message, hint, retryable, ..details}`.

use serde_json::{Value, json};

use super::schema::Object;
use crate::{
    error::{Code, Details, Explain},
    ssh::output::acts_or_hides,
};

/// Characters that a message, or a hint, has at most. A net: errors are written to be shorter.
const TEXT_LIMIT: usize = 300;
/// Characters of the caller's own input that a message repeats at most.
const SHOWN_LIMIT: usize = 40;

/// A failure, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stable code.
    pub code: Code,
    /// What failed, on what.
    pub message: String,
    /// One next step.
    pub hint: Option<String>,
    /// This same call may be repeated unchanged without doing anything twice.
    pub retryable: bool,
    /// Context.
    pub details: Details,
}

impl Failure {
    /// A failure without context that a retry does not cure.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let (message, hint) = (message.into(), Some(hint.into()));
        Self { code, message, hint, retryable: false, details: Details::new() }
    }

    /// The wire form.
    #[must_use]
    pub fn into_object(self) -> Object {
        let mut object = Object::new();
        object.insert("code".into(), json!(self.code));
        object.insert("message".into(), clip(&self.message, TEXT_LIMIT).into());
        if let Some(hint) = &self.hint {
            object.insert("hint".into(), clip(hint, TEXT_LIMIT).into());
        }
        object.insert("retryable".into(), self.retryable.into());
        if let Value::Object(details) = json!(self.details) {
            for (name, value) in details {
                // A detail never replaces a field that every failure has.
                object.entry(name).or_insert(value);
            }
        }
        object
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            hint: error.hint(),
            retryable: error.retryable(),
            details: error.details(),
        }
    }
}

/// At most `limit` characters of `text`; where something is cut off, the last one is `…`.
#[must_use]
pub fn clip(text: &str, limit: usize) -> String {
    if text.chars().nth(limit).is_none() {
        return text.into();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// The caller's own input as a message may repeat it: quoted, escaped, shortened.
#[must_use]
pub fn shown(text: &str) -> String {
    // Escaping lengthens; what is shown stays bounded all the same.
    clip(&format!("\"{}\"", escaped(&clip(text, SHOWN_LIMIT))), 3 * SHOWN_LIMIT)
}

/// The text as Rust writes it, and without what Rust takes for printable though nobody sees it, such as U+3164.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.escape_debug() {
        if acts_or_hides(c) { escaped.extend(c.escape_unicode()) } else { escaped.push(c) }
    }
    escaped
}
