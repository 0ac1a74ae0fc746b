//! What a server asks for, as far as its words tell. They are data: bounded, made harmless, never obeyed.

use crate::ssh::output::neutralise;

/// The most that is shown of one text of a server, in characters.
const SHOWN: usize = 1_000;

/// What a prompt asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The password.
    Password,
    /// Another password than the one that there is: it has expired.
    NewPassword,
    /// A one-time code.
    Code,
    /// Anything else.
    Other,
}

const NEW_PASSWORD: &[&str] = &["new password", "new unix password", "current password", "current unix password"];
const CODE: &[&str] =
    &["code", "token", "otp", "verification", "one-time", "one time", "2fa", "mfa", "authenticator", "passcode"];
const PASSWORD: &[&str] = &["password", "passwort", "mot de passe", "contraseña", "kennwort"];
const EXPIRED: &[&str] = &[
    "password has expired",
    "password expired",
    "change your password",
    "required to change",
    "password change required",
];
const LOCKED: &[&str] = &[
    "account locked",
    "account is locked",
    "account has been locked",
    "account temporarily locked",
    "account has expired",
    "account is expired",
    "account expired",
    "account is disabled",
    "account disabled",
];

fn has(text: &str, words: &[&str]) -> bool {
    let text = text.to_lowercase();
    words.iter().any(|word| text.contains(word))
}

impl Wanted {
    /// What `prompt` asks for. `echo`: what is typed would be seen, so it is no password.
    pub(super) fn of(prompt: &str, echo: bool) -> Self {
        match () {
            () if has(prompt, NEW_PASSWORD) => Wanted::NewPassword,
            // "One-time password" is a code.
            () if has(prompt, CODE) => Wanted::Code,
            () if !echo && has(prompt, PASSWORD) => Wanted::Password,
            () => Wanted::Other,
        }
    }
}

/// Whether the text says that the password has to be changed.
pub(super) fn says_expired(text: &str) -> bool {
    has(text, EXPIRED)
}

/// Whether the text says that nobody gets in here for now, or for good.
pub(super) fn says_locked(text: &str) -> bool {
    has(text, LOCKED)
}

/// Whether the text says that the server takes no further attempt on this connection.
pub(super) fn says_too_many(text: &str) -> bool {
    has(text, &["too many authentication failures", "too many bad authentication attempts"])
}

/// A text of the server as a person or a model may read it.
pub(in crate::ssh::client) fn shown(text: &str) -> String {
    let bounded: String = text.chars().take(SHOWN).collect();
    let harmless = neutralise(bounded.as_bytes());
    let mut shown: String = harmless.trim().chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_usual_servers_are_told_apart() {
        let cases = [
            ("Password: ", Wanted::Password),
            ("(deploy@db) Password: ", Wanted::Password),
            ("Passwort: ", Wanted::Password),
            ("Verification code: ", Wanted::Code),
            ("One-time password (OATH) for `deploy': ", Wanted::Code),
            ("Passcode or option (1-3): ", Wanted::Code),
            ("Enter PASSCODE: ", Wanted::Code),
            ("OTP: ", Wanted::Code),
            ("New password: ", Wanted::NewPassword),
            ("Retype new password: ", Wanted::NewPassword),
            ("Current password: ", Wanted::NewPassword),
            ("Favourite colour? ", Wanted::Other),
        ];
        for (prompt, wanted) in cases {
            assert_eq!(Wanted::of(prompt, false), wanted, "{prompt}");
        }
        assert_eq!(Wanted::of("Password: ", true), Wanted::Other, "nobody types a password in the open");
    }
}
