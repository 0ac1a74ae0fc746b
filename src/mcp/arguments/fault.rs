//! One thing that is wrong with the arguments, and the answer that tells all of them.

use crate::{
    error::{Code, Detail, Details},
    mcp::failure::{Failure, clip, escaped, shown},
};

/// Characters that a refusal has at most.
const REFUSAL_LIMIT: usize = 300;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The stable code.
    pub code: Code,
    /// The argument, escaped and shortened.
    pub argument: String,
    /// What is wrong.
    pub message: String,
    /// What to send instead.
    pub hint: String,
    /// The name that was meant.
    pub did_you_mean: Option<String>,
    /// Least and greatest value that is taken.
    pub limits: Option<(u64, u64)>,
    /// The words that are taken.
    pub allowed: Vec<String>,
}

impl Fault {
    /// A fault of `argument`; `message` and `hint` never hold a secret.
    pub(super) fn new(code: Code, argument: &str, message: String, hint: impl Into<String>) -> Self {
        let argument = clip(&escaped(&clip(argument, 60)), 60);
        Self { code, argument, message, hint: hint.into(), did_you_mean: None, limits: None, allowed: Vec::new() }
    }

    pub(super) fn unknown(argument: &str, meant: Option<&str>, hint: impl Into<String>) -> Self {
        let message = format!("unknown argument {}", shown(argument));
        let did_you_mean = meant.map(ToOwned::to_owned);
        Self { did_you_mean, ..Self::new(Code::UnknownArgument, argument, message, hint) }
    }

    pub(super) fn not_an_object(kind: &str) -> Self {
        let message = format!("arguments must be an object, not {kind}");
        Self::new(Code::InvalidArgument, "arguments", message, "Send arguments as a JSON object: {\"name\": value}.")
    }

    fn details(&self) -> Details {
        let mut details = Details::new().text("argument", &self.argument);
        if let Some(meant) = &self.did_you_mean {
            details = details.text("did_you_mean", meant);
        }
        if let Some((least, greatest)) = self.limits {
            details = details.number("minimum", least).number("maximum", greatest);
        }
        if !self.allowed.is_empty() {
            details = details.with("allowed", Detail::Texts(self.allowed.clone()));
        }
        details
    }

    fn record(&self) -> Details {
        let mut record = Details::new().text("code", self.code).text("message", &self.message).text("hint", &self.hint);
        record.0.extend(self.details().0);
        record
    }
}

/// The one answer for all faults.
#[must_use]
pub fn failure(faults: &[Fault]) -> Failure {
    match faults {
        [] => Failure::new(Code::Internal, "the arguments were refused without a reason", "Report this as a bug."),
        [fault] => {
            Failure { details: fault.details(), ..Failure::new(fault.code, fault.message.clone(), fault.hint.clone()) }
        }
        [first, ..] => {
            let all: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
            let message = format!("{} faults in the arguments: {}", faults.len(), all.join("; "));
            let records = faults.iter().map(Fault::record).collect();
            let details = Details::new().with("faults", Detail::Records(records));
            let hint = format!("Correct everything in faults, then call again. First: {}", first.hint);
            Failure { details, ..Failure::new(first.code, clip(&message, REFUSAL_LIMIT), hint) }
        }
    }
}
