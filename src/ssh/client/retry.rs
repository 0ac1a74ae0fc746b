//! Retries of connecting: exponential back-off with jitter, on transient failures, under a deadline.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use super::{ClientError, Target};

/// How transient failures are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// Delay before the first retry; doubles from there.
    pub first_delay: Duration,
}

/// The longest pause between two attempts.
const MAX_DELAY: Duration = Duration::from_secs(10);

impl RetryPolicy {
    fn backoff(self) -> ExponentialBuilder {
        // Jitter adds up to the delay itself, so half of the cap keeps the sum under it.
        let half = MAX_DELAY / 2;
        ExponentialBuilder::default()
            .with_min_delay(self.first_delay.min(half))
            .with_max_delay(half)
            .with_factor(2.0)
            .with_jitter()
            .with_max_times(self.max_retries as usize)
    }
}

/// Runs `attempt` until it succeeds, fails for good, or `deadline` has passed; gives the number of
/// retries with either outcome.
pub(super) async fn until<T, F>(
    target: &Target,
    deadline: Instant,
    policy: RetryPolicy,
    mut attempt: impl FnMut() -> F,
) -> (Result<T, ClientError>, u32)
where
    F: Future<Output = Result<T, ClientError>>,
{
    // Counted where they begin: the deadline may fall into the pause before one.
    let (begun, attempts) = (Instant::now(), AtomicU32::new(0));
    let last = Mutex::new(None);
    let counted = || {
        attempts.fetch_add(1, Ordering::Relaxed);
        attempt()
    };
    let retrying = counted.retry(policy.backoff()).when(ClientError::is_transient).notify(|error, delay| {
        tracing::debug!(%error, ?delay, "connecting failed, trying again");
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(error.clone()));
    });
    let outcome = tokio::time::timeout_at(deadline, retrying).await;
    let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
    let timed_out = |_| Err(ClientError::Timeout { target: target.clone(), after: deadline - begun, last });
    (outcome.unwrap_or_else(timed_out), attempts.into_inner().saturating_sub(1))
}
