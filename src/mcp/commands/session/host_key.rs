//! A host key that a person has to approve: connect, ask, connect again.
//!
//! Nothing is kept open while the human thinks. The second connection takes the approved key alone.

use std::time::{Duration, Instant};

use crate::{
    app::{ApprovedKey, ConnectRequest, Connected, Error},
    error::Detail,
    mcp::{
        ask::{NoConsent, Question},
        commands::tool::Call,
        failure::Failure,
    },
    ssh::client::{Target, host_key::UnknownKey, route::MAX_HOPS},
};

/// The least that is kept, of the time that a call has, for connecting again after the answer.
const RESERVE: Duration = Duration::from_secs(5);

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

pub(super) async fn connect_or_ask(call: &Call, mut request: ConnectRequest) -> Result<Connected, Failure> {
    let settings = call.app.settings();
    let (started, limit) = (Instant::now(), settings.answers.limit);
    let asked = request.timeout.unwrap_or(settings.ssh.connect_timeout);
    // Each server on the way may be unknown; none is asked about twice.
    for _ in KEYS {
        let begun = Instant::now();
        let error = match call.app.connect(&call.owner, request.clone()).await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        let Some((target, hop, key)) = error.key_to_approve() else { return Err(error.into()) };
        // Connecting again takes about as long as it took; human time does not count as connecting.
        let reserve = (2 * begun.elapsed()).max(RESERVE).min(limit / 2);
        let within = limit.saturating_sub(started.elapsed() + reserve);
        if let Err(why) = call.asker.consent(question(target, hop, key), within).await {
            return Err(refusal(&error, why));
        }
        request.timeout = Some(asked.min(limit.saturating_sub(started.elapsed())));
        request.approved_key = Some(ApprovedKey { of: target.clone(), fingerprint: key.offered.clone() });
    }
    Ok(call.app.connect(&call.owner, request).await?)
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
    let details = failure.details.0.iter_mut();
    for (_, detail) in details.filter(|(name, _)| *name == "why") {
        *detail = Detail::Text(why.as_str().into());
    }
    failure
}
