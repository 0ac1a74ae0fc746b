//! What a person has to say before a host can be reached: connect, ask, connect again.
//!
//! Nothing is kept open while the human thinks, but the connections to the jump hosts that have been passed.

use std::time::{Duration, Instant};

use super::{host_key, login};
use crate::{
    app::{ConnectRequest, Connected},
    mcp::{commands::tool::Call, failure::Failure},
    ssh::client::route::MAX_HOPS,
};

/// The least that is kept, of the time that a call has, for connecting again after the answer.
const RESERVE: Duration = Duration::from_secs(5);
/// Questions until a session is open, over all repetitions of the call: the host key of each server on the way, a
/// passphrase, and a few rounds of the servers. Of one login the core takes eight rounds.
const QUESTIONS: usize = 6 + 2 * MAX_HOPS;

pub(super) async fn connect_or_ask(call: &Call, mut request: ConnectRequest) -> Result<Connected, Failure> {
    let settings = call.app.settings();
    let (started, limit) = (Instant::now(), settings.answers.limit);
    let timeout = request.timeout.unwrap_or(settings.ssh.connect_timeout);
    let returned = login::returned(call)?;
    request.answers = returned.answers;
    let mut questions = returned.questions;
    loop {
        let begun = Instant::now();
        let error = match call.app.connect(&call.owner, request.clone()).await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        // Connecting again takes about as long as it took; human time does not count as connecting.
        let reserve = (2 * begun.elapsed()).max(RESERVE).min(limit / 2);
        let within = limit.saturating_sub(started.elapsed() + reserve);
        questions += 1;
        let too_many = questions > QUESTIONS;
        if let Some(unknown) = error.key_to_approve() {
            if too_many {
                return Err(login::too_many(&error));
            }
            let carried = login::carried(&request.answers, questions);
            request.approved_key = Some(host_key::approve(call, &error, unknown, (carried, within)).await?);
        } else if let Some(wanted) = error.to_answer() {
            if too_many {
                return Err(login::too_many(&error));
            }
            let put = login::Put::of(wanted);
            put.forget_others(&mut request.answers);
            let carried = login::carried(&request.answers, questions);
            let answers = login::answers(call, &request.address, (&error, wanted, put), (carried, within)).await?;
            request.answers.extend(answers);
        } else {
            return Err(error.into());
        }
        request.timeout = Some(timeout.min(limit.saturating_sub(started.elapsed())));
    }
}
