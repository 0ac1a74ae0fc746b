//! A panic, a hang or a caller that gives up ends its call only.
//!
//! The call stays on the task that rmcp gave it: a question to the client finds its way by that task, onto the stream
//! that the call is answered on.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error};

use crate::{
    error::Code,
    mcp::{commands::tool::Answer, failure::Failure, schema::Object},
};

/// Beyond the answer limit, which every verb keeps by itself: only a fault of ours gets here.
const GRACE: Duration = Duration::from_secs(2);

/// Runs a call. It is dropped when `given_up` fires or `limit` has passed by far.
pub(super) async fn guarded(
    answer: Answer,
    given_up: Option<CancellationToken>,
    limit: Duration,
) -> Result<Object, Failure> {
    let given_up = async {
        match given_up {
            Some(token) => token.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // What a panic leaves half-done is behind locks, which are taken all the same after one.
        ended = AssertUnwindSafe(answer.in_current_span()).catch_unwind() => ended.unwrap_or_else(|_| {
            error!("a call panicked");
            Err(internal("an internal error ended this call"))
        }),
        // Either may be it; only in the second case somebody reads this.
        () = given_up => Err(internal("this call was cancelled by its client or by the end of the server")),
        () = tokio::time::sleep(limit + GRACE) => {
            error!("a call went over the answer limit");
            Err(internal(&format!("no answer within {} s; the call was given up", limit.as_secs())))
        }
    }
}

fn internal(message: &str) -> Failure {
    let hint = "Look at what was done with ssh_list_sessions and ssh_list_commands before you repeat it.";
    Failure::new(Code::Internal, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(45);

    fn message(outcome: Result<Object, Failure>) -> String {
        outcome.err().map(|failure| failure.message).unwrap_or_default()
    }

    async fn for_ever() -> Result<Object, Failure> {
        std::future::pending().await
    }

    async fn panics() -> Result<Object, Failure> {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn a_panic_ends_only_its_call() {
        let outcome = guarded(Box::pin(panics()), None, LIMIT).await;
        assert_eq!(message(outcome), "an internal error ended this call");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_given_up() {
        let outcome = guarded(Box::pin(for_ever()), None, LIMIT).await;
        assert!(message(outcome).starts_with("no answer within 45 s"));
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_ends_its_call() {
        let token = CancellationToken::new();
        token.cancel();
        let outcome = guarded(Box::pin(for_ever()), Some(token), LIMIT).await;
        assert!(message(outcome).starts_with("this call was cancelled"));
    }
}
