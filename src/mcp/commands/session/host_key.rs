//! A host key that a person has to approve.

use std::time::Duration;

use crate::{
    app::{ApprovedKey, Error},
    mcp::{
        ask::{Form, NoConsent, Question},
        commands::tool::Call,
        failure::Failure,
    },
    secret::Secret,
    ssh::client::{Target, host_key::UnknownKey, route::MAX_HOPS},
};

/// Names of the questions: the target's, then those of the jump hosts by their place on the way.
const KEYS: [&str; 1 + MAX_HOPS] = [
    "host_key",
    "host_key_1",
    "host_key_2",
    "host_key_3",
    "host_key_4",
    "host_key_5",
    "host_key_6",
    "host_key_7",
    "host_key_8",
];

/// Asks for a yes to the key that `error` is about.
pub(super) async fn approve(
    call: &Call,
    error: &Error,
    (target, hop, key): (&Target, Option<usize>, &UnknownKey),
    (carried, within): (Option<Secret>, Duration),
) -> Result<ApprovedKey, Failure> {
    let question = Question { carried, ..question(target, hop, key) };
    match call.asker.consent(question, within).await {
        Ok(()) => Ok(ApprovedKey { of: target.clone(), fingerprint: key.offered.clone() }),
        Err(why) => Err(refusal(error, why)),
    }
}

/// Nothing in it is the model's to choose but the address, which was parsed.
fn question(target: &Target, hop: Option<usize>, key: &UnknownKey) -> Question {
    let Target { host, port, .. } = target;
    Question {
        key: KEYS.get(hop.unwrap_or(0)).copied().unwrap_or(KEYS[0]),
        about: format!("{} {} {}", key.host, key.algorithm, key.offered),
        message: format!(
            "The SSH server {host}, port {port}, is not known yet. It shows this host key:\n{} {}\nCompare it with \
             what ssh-keygen -l -f shows on the server itself, or with what its administrator says. Trust this key?",
            key.algorithm, key.offered
        ),
        form: Form::Consent,
        carried: None,
    }
}

fn refusal(error: &Error, why: NoConsent) -> Failure {
    let mut failure = Failure::from(error.clone());
    let hint = match why {
        // The core's own words.
        NoConsent::CannotAsk => None,
        NoConsent::Declined => Some("The user does not trust this key. Do not ask again unless the user says so."),
        NoConsent::Cancelled => Some("The user closed the question. Ask what to do before you connect again."),
        NoConsent::TimedOut => Some("The user did not answer in time. Connect again when the user is ready."),
        NoConsent::OtherThing => {
            Some("Stop and tell the user: the server shows another key than the one that was approved.")
        }
    };
    failure.hint = hint.map(Into::into).or(failure.hint);
    failure.details.put("why", why.as_str());
    failure
}
