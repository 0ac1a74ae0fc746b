//! What a person has to say before a host can be reached: connect, ask, connect again.
//!
//! Nothing is kept open while the human thinks.

use std::time::{Duration, Instant};

use super::{host_key, login};
use crate::{
    app::{ConnectRequest, Connected, Error},
    mcp::{commands::tool::Call, failure::Failure},
    ssh::client::route::MAX_HOPS,
};

/// The least that is kept, of the time that a call has, for connecting again after the answer.
const RESERVE: Duration = Duration::from_secs(5);
/// Questions in one call: the host key of each server on the way, a passphrase, and a few rounds of the server.
const QUESTIONS: usize = 6 + MAX_HOPS;

pub(super) async fn connect_or_ask(call: &Call, mut request: ConnectRequest) -> Result<Connected, Failure> {
    let settings = call.app.settings();
    let (started, limit) = (Instant::now(), settings.answers.limit);
    let timeout = request.timeout.unwrap_or(settings.ssh.connect_timeout);
    request.answers = login::returned(call).map_err(login::unanswered)?;
    for _ in 0..QUESTIONS {
        let begun = Instant::now();
        let error = match call.app.connect(&call.owner, request.clone()).await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        // Connecting again takes about as long as it took; human time does not count as connecting.
        let reserve = (2 * begun.elapsed()).max(RESERVE).min(limit / 2);
        let within = limit.saturating_sub(started.elapsed() + reserve);
        if let Some(unknown) = error.key_to_approve() {
            request.approved_key = Some(host_key::approve(call, &error, unknown, within).await?);
        } else if let Some(wanted) = error.to_answer() {
            let answers = login::answers(call, &request, (&error, wanted), within).await?;
            request.answers.extend(answers);
        } else {
            return Err(error.into());
        }
        request.timeout = Some(timeout.min(limit.saturating_sub(started.elapsed())));
    }
    Err(Error::Internal("the host asks more questions than are put to a person".into()).into())
}
