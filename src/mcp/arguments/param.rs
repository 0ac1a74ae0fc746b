//! One parameter, as its schema describes it, and how a value for it is read.

use serde_json::{Number, Value};

use super::Fault;
use crate::{
    error::Code,
    mcp::{
        failure::shown,
        schema::{self, Object},
    },
};

/// The greatest integer that every JSON reader keeps exactly (2^53 - 1).
const GREATEST: u64 = 9_007_199_254_740_991;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number from 0 up.
    Integer,
    /// True or false.
    Boolean,
}

/// One parameter of a tool.
///
/// Marks in the schema say what JSON Schema cannot: `x-trim` (white space around it means nothing),
/// `x-zero-unset` (0 stands for the default), `x-cut` (more than the maximum is cut to it), `x-port`
/// (a bad value is `invalid_port`), `x-secret` (its value is never repeated).
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mark of its own")]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// A call without it is refused.
    pub required: bool,
    /// The least value.
    pub minimum: u64,
    /// The greatest value.
    pub maximum: u64,
    /// The words that are taken; any where there are none.
    pub words: Vec<String>,
    trim: bool,
    zero_unset: bool,
    cut: bool,
    port: bool,
    secret: bool,
}

impl Param {
    /// The parameters of a whole input schema.
    #[must_use]
    pub fn all(whole: &Object) -> Vec<Self> {
        schema::properties(whole).map(|(name, node)| Self::new(whole, name, node)).collect()
    }

    fn new(whole: &Object, name: &str, node: &Object) -> Self {
        let marked = |mark: &str| node.contains_key(mark);
        let number = |key: &str| node.get(key).and_then(Value::as_u64);
        let words = node.get("enum").and_then(Value::as_array).into_iter().flatten();
        Self {
            name: name.to_owned(),
            kind: match node.get("type").and_then(Value::as_str) {
                Some("integer") => Kind::Integer,
                Some("boolean") => Kind::Boolean,
                _ => Kind::Text,
            },
            required: schema::requires(whole, name),
            minimum: number("minimum").unwrap_or(0),
            maximum: number("maximum").unwrap_or(GREATEST),
            words: words.filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
            trim: marked("x-trim"),
            zero_unset: marked("x-zero-unset"),
            cut: marked("x-cut"),
            port: marked("x-port"),
            secret: marked("x-secret"),
        }
    }

    /// Reads a value: none where it was left open.
    pub(super) fn read(&self, value: Value) -> Result<Option<Value>, Box<Fault>> {
        match (self.kind, value) {
            (_, Value::Null) => Ok(None),
            (Kind::Text, Value::String(text)) => self.read_text(text),
            (Kind::Integer, Value::Number(number)) => self.read_number(&number),
            (Kind::Integer | Kind::Boolean, Value::String(text)) if is_open(&text) => Ok(None),
            (Kind::Integer, Value::String(text)) => self.read_digits(&text),
            (Kind::Boolean, Value::Bool(truth)) => Ok(Some(truth.into())),
            (Kind::Boolean, Value::String(text)) => self.read_truth(&text),
            (_, value) => Err(self.invalid(&value)),
        }
    }

    /// The fault of leaving it out.
    pub(super) fn missing(&self) -> Fault {
        let hint = format!("Give {}: {}.", self.name, self.expected());
        Fault::new(Code::MissingArgument, &self.name, format!("missing argument \"{}\"", self.name), hint)
    }

    fn read_text(&self, text: String) -> Result<Option<Value>, Box<Fault>> {
        let text = if self.trim { text.trim().to_owned() } else { text };
        if text.is_empty() && !self.required {
            return Ok(None);
        }
        if !self.words.is_empty() && !self.words.contains(&text) {
            return Err(self.invalid(&text.into()));
        }
        Ok(Some(text.into()))
    }

    fn read_number(&self, number: &Number) -> Result<Option<Value>, Box<Fault>> {
        if let Some(whole) = number.as_i128() {
            return self.within(whole, number);
        }
        match number.as_f64() {
            // The cast saturates, so 1e308 is merely too much.
            #[expect(clippy::cast_possible_truncation, reason = "whole by the guard")]
            Some(float) if float.fract() == 0.0 => self.within(float as i128, number),
            _ => Err(self.invalid(&Value::Number(number.clone()))),
        }
    }

    /// Digits only: `1e3`, `60s` and `0x10` say something, but not surely what we would read.
    fn read_digits(&self, text: &str) -> Result<Option<Value>, Box<Fault>> {
        let text = text.trim();
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.invalid(&text.into()));
        }
        // More digits than an i128 holds are out of every range.
        let beyond = if text.starts_with('-') { i128::MIN } else { i128::MAX };
        self.within(text.parse().unwrap_or(beyond), &shown(text))
    }

    fn read_truth(&self, text: &str) -> Result<Option<Value>, Box<Fault>> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(Some(true.into())),
            "false" => Ok(Some(false.into())),
            _ => Err(self.invalid(&text.into())),
        }
    }

    fn within(&self, number: i128, said: &dyn std::fmt::Display) -> Result<Option<Value>, Box<Fault>> {
        if number == 0 && self.zero_unset {
            return Ok(None);
        }
        match u64::try_from(number) {
            Ok(number) if (self.minimum..=self.maximum).contains(&number) => Ok(Some(number.into())),
            _ if self.cut && number > i128::from(self.maximum) => Ok(Some(self.maximum.into())),
            _ => {
                let code = if self.port { Code::InvalidPort } else { Code::OutOfRange };
                Err(self.refused(code, format!("{} is out of range: {said}", self.name)))
            }
        }
    }

    fn invalid(&self, value: &Value) -> Box<Fault> {
        let code = if self.port { Code::InvalidPort } else { Code::InvalidArgument };
        let said = match value {
            _ if self.secret => kind_of(value).to_owned(),
            Value::String(text) => shown(text),
            Value::Number(number) => number.to_string(),
            other => kind_of(other).to_owned(),
        };
        self.refused(code, format!("{} cannot be {said}", self.name))
    }

    fn refused(&self, code: Code, message: String) -> Box<Fault> {
        let limits = (self.kind == Kind::Integer).then_some((self.minimum, self.maximum));
        let hint = format!("Give {}: {}.", self.name, self.expected());
        Box::new(Fault { limits, allowed: self.words.clone(), ..Fault::new(code, &self.name, message, hint) })
    }

    fn expected(&self) -> String {
        match self.kind {
            Kind::Boolean => "true or false".into(),
            Kind::Integer if self.maximum == GREATEST => {
                format!("a whole number, {} or more", self.minimum)
            }
            Kind::Integer => format!("a whole number from {} to {}", self.minimum, self.maximum),
            Kind::Text if self.words.is_empty() => "a string".into(),
            Kind::Text => format!("one of {}", self.words.join(", ")),
        }
    }
}

/// What a value is, where it must not be repeated.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// How models write "nothing" where no text is meant.
fn is_open(text: &str) -> bool {
    matches!(text.trim(), "" | "null")
}
