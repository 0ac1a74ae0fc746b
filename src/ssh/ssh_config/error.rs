//! What is wrong with a configuration, and where.

use std::{fmt, path::PathBuf};

use super::options::Origin;
use crate::error::{Code, Details, Explain};

/// How much of a value stands in a message.
const MAX_SHOWN: usize = 200;

/// How many faults one error lists.
pub(super) const MAX_FAULTS: usize = 20;

/// Why a configuration cannot be used.
///
/// `ssh` refuses to start in the same cases: a line that is skipped in silence could be the one that protects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SshConfigError {
    /// Lines that do not parse.
    #[error("{}", list(.0))]
    Faults(Vec<Fault>),
    /// A file that cannot be read.
    #[error("{} cannot be read: {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// As the operating system says it.
        why: String,
    },
    /// A file that others may write to, or that belongs to somebody else.
    #[error("bad owner or permissions on {}", .path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
    },
    /// A bound of this resolver.
    #[error("{what} in {}: at most {limit} are taken", .path.display())]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
        /// The file at which it was reached.
        path: PathBuf,
    },
    /// A name that cannot be a host or a user.
    #[error("{what} {name:?} contains characters that ssh refuses")]
    Name {
        /// `host name` or `user name`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// `CanonicalizeFallbackLocal no`, and no domain knows the host.
    #[error("host {host:?} is in none of the CanonicalDomains")]
    NotCanonical {
        /// The host.
        host: String,
    },
    /// The last jump host is the host itself.
    #[error("{host:?} is its own jump host")]
    JumpLoop {
        /// The host.
        host: String,
    },
}

/// One line that does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// File and line, or the caller's parameter.
    pub origin: Origin,
    /// In lower case.
    pub keyword: String,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin, shorten(&self.keyword), self.problem)
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum Problem {
    #[error("is not a keyword of ssh_config")]
    UnknownKeyword,
    #[error("has no value")]
    Missing,
    #[error("has an unclosed quote")]
    Quotes,
    #[error("has more values than it takes")]
    Extra,
    #[error("has the value {value:?}; allowed: {allowed}")]
    Bad { value: String, allowed: String },
    #[error("is said more often than the {limit} times that count")]
    TooMany { limit: usize },
    #[error("has a value longer than {limit} bytes once expanded")]
    TooLong { limit: usize },
    #[error("%{token} is no token of this keyword")]
    UnknownToken { token: char },
    #[error("ends in a lone %")]
    LonePercent,
    #[error("names the variable {name:?}, which is not set")]
    NoVariable { name: String },
    #[error("has a ${{ that is empty or not closed")]
    BrokenVariable,
    #[error("names the user {name:?}, who does not exist")]
    NoSuchUser { name: String },
    #[error("has the criterion {name:?}; allowed: all canonical exec final host localuser originalhost user")]
    UnknownCriterion { name: String },
    #[error("has no criterion")]
    NoCriterion,
    #[error("has \"all\" together with other criteria")]
    AllWithOthers,
    #[error("exec could not be run: {why}")]
    Exec { why: String },
    #[error("may not begin with ~ in a system file")]
    SystemTilde,
    #[error("has %r for a shell, which would act on the user name {name:?}")]
    UserInShell { name: String },
}

impl Problem {
    pub(super) fn bad(value: &str, allowed: impl Into<String>) -> Self {
        Problem::Bad { value: shorten(value).into(), allowed: allowed.into() }
    }

    pub(super) fn at(self, origin: Origin, keyword: &str) -> SshConfigError {
        SshConfigError::Faults(vec![Fault { origin, keyword: shorten(keyword).into(), problem: self }])
    }
}

/// The beginning of a text, cut between characters.
pub(super) fn shorten(text: &str) -> &str {
    let mut end = text.len().min(MAX_SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The file is right, the user name of the call is not.
fn is_of_the_name(faults: &[Fault]) -> bool {
    faults.iter().all(|fault| matches!(fault.problem, Problem::UserInShell { .. }))
}

impl Explain for SshConfigError {
    fn code(&self) -> Code {
        match self {
            SshConfigError::Name { what: "user name", .. } => Code::InvalidUsername,
            SshConfigError::Faults(faults) if is_of_the_name(faults) => Code::InvalidUsername,
            SshConfigError::Name { .. } => Code::InvalidAddress,
            SshConfigError::NotCanonical { .. } => Code::ResolveFailed,
            _ => Code::SshConfigInvalid,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            SshConfigError::Faults(faults) if is_of_the_name(faults) => {
                "Ask the user to write it as User into that Host block, or to take %r out of the command.".into()
            }
            SshConfigError::Faults(_) => {
                "Nothing was connected: ssh refuses this file too. Ask the user to mend it.".into()
            }
            SshConfigError::Unreadable { .. } => {
                "Ask the user to make it readable, or to take its Include away.".into()
            }
            SshConfigError::Permissions { path } => {
                format!("Ask the user to run: chmod go-w {}, and to own the file.", path.display())
            }
            SshConfigError::TooMuch { .. } => "Ask the user to look for an Include that includes itself.".into(),
            SshConfigError::Name { .. } => "Give a host name or alias without shell characters.".into(),
            SshConfigError::NotCanonical { .. } => "Give the full host name.".into(),
            SshConfigError::JumpLoop { .. } => "Ask the user to exclude the jump host from its own Host block.".into(),
        })
    }

    fn retryable(&self) -> bool {
        false
    }

    fn details(&self) -> Details {
        let SshConfigError::Faults(faults) = self else { return Details::new() };
        let Some(Fault { origin: Origin::File { path, line }, keyword, .. }) = faults.first() else {
            return Details::new();
        };
        Details::new().text("file", path.display()).number("line", *line as u64).text("keyword", keyword)
    }
}
