//! Why nobody got in, as far as the server tells.

use std::path::PathBuf;

use super::Asked;
use crate::{
    error::{Detail, Details},
    ssh::{client::Target, error::target_details},
};

/// A refused login.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{target} refused to log in (tried: {tried}; the server offers: {offered})")]
pub struct AuthFailure {
    /// Who was to be logged in where.
    pub target: Target,
    /// Methods and keys that were tried, in order.
    pub tried: String,
    /// Methods that the server would take, or what it said when it hung up.
    pub offered: String,
    /// What was wrong.
    pub why: Why,
    /// What the server said to whoever logs in, bounded and made harmless. Its words, not ours.
    pub server_says: Option<String>,
    /// What could not be used, and did not end the login by itself.
    pub notes: Vec<String>,
}

/// What was wrong with a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The server took none of the keys.
    KeysRefused,
    /// The server took a key, and its private half did not sign.
    NotSigned,
    /// The server offers only methods for which there is nothing here.
    NothingToOffer,
    /// The server asks for a password, and none was given.
    PasswordWanted,
    /// The password is wrong.
    WrongPassword,
    /// The one-time code, or another answer, is wrong.
    WrongCode,
    /// One of the two is wrong.
    WrongPasswordOrCode,
    /// The password has to be changed first.
    PasswordExpired,
    /// The server did not answer to the password.
    Unanswered,
    /// The account is locked, disabled or expired.
    LockedOut,
    /// The server hung up because of too many failures.
    TooManyFailures,
    /// The server asked more questions than are answered.
    TooManyPrompts,
}

impl Why {
    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Why::KeysRefused => "keys_refused",
            Why::NotSigned => "not_signed",
            Why::NothingToOffer => "nothing_to_offer",
            Why::PasswordWanted => "password_wanted",
            Why::WrongPassword => "wrong_password",
            Why::WrongCode => "wrong_code",
            Why::WrongPasswordOrCode => "wrong_password_or_code",
            Why::PasswordExpired => "password_expired",
            Why::Unanswered => "unanswered",
            Why::LockedOut => "locked_out",
            Why::TooManyFailures => "too_many_failures",
            Why::TooManyPrompts => "too_many_prompts",
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Why::KeysRefused => {
                "Do not guess. Check username and key with the user; RSA keys are signed with SHA-2 only."
            }
            Why::NotSigned => {
                "The server took a key, but nothing signed with it: a security key may have waited for a touch, or the \
                 agent for a person. Ask the user, then connect again."
            }
            Why::NothingToOffer | Why::PasswordWanted => {
                "Do not guess. The server wants one of the methods in offered: ask the user for a key (agent or \
                 key_path) or a password_ref."
            }
            Why::WrongPassword => {
                "Do not guess, and do not repeat it: hosts lock accounts. Ask the user for the password."
            }
            Why::WrongCode | Why::WrongPasswordOrCode => {
                "Do not guess. Ask the user to check the code, the clock of this machine and the password."
            }
            Why::PasswordExpired => {
                "The password has to be changed first. Ask the user to log in by hand and to change it there."
            }
            Why::Unanswered => {
                "Do not guess. The server may want a new password, or be slow: ask the user to log in by hand once."
            }
            Why::LockedOut => "Do not try again. The account is locked or expired: ask the user or the administrator.",
            Why::TooManyFailures => {
                "Do not guess. The server takes no further attempt on a connection: name the right key in key_path, \
                 or ask the user."
            }
            Why::TooManyPrompts => "The server asks more than can be answered here. Ask the user to look at it.",
        }
    }
}

impl AuthFailure {
    pub(in crate::ssh::client) fn hint(&self) -> String {
        self.why.hint().into()
    }

    pub(in crate::ssh::client) fn details(&self) -> Details {
        let details = target_details(Details::new(), &self.target);
        let details = details.text("why", self.why.as_str()).text("tried", &self.tried).text("offered", &self.offered);
        let details = match &self.server_says {
            Some(text) => details.text("server_says", text),
            None => details,
        };
        if self.notes.is_empty() { details } else { details.with("notes", Detail::Texts(self.notes.clone())) }
    }
}

/// A login that ended with questions for a person. Nothing was sent in answer to them.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{target} asks for what only a person can answer")]
pub struct NeedsAnswers {
    /// Who is to be logged in where.
    pub target: Target,
    /// Jump hosts on the whole way, where it is one of them that asks.
    pub hops: usize,
    /// What the server says about its questions; its words, bounded and made harmless.
    pub instructions: String,
    /// The questions, in order. All are [`Asked::Prompt`].
    pub asked: Vec<Asked>,
}

impl NeedsAnswers {
    pub(in crate::ssh::client) fn details(&self) -> Details {
        target_details(Details::new(), &self.target)
            .text("why", "needs_answers")
            .with("prompts", Detail::Texts(self.prompts()))
    }

    /// What is asked, in the words of the server.
    pub(in crate::ssh) fn prompts(&self) -> Vec<String> {
        self.asked.iter().map(Asked::text).collect()
    }
}

impl Asked {
    /// What it is about: the words of the server, or the path of the key file.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Asked::Prompt { text, .. } => text.clone(),
            Asked::Passphrase(path) => PathBuf::from(path).to_string_lossy().into_owned(),
        }
    }
}
