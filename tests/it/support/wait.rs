//! Waiting for a condition with a bound, in place of sleeping and hoping.

use std::time::Duration;

use tokio::time::Instant;

/// Long enough for a loaded machine; a test that waits this long has failed.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until the condition holds; panics with `what` after [`BOUND`].
pub(crate) async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    assert!(holds_within(BOUND, condition).await, "not within {BOUND:?}: {what}");
}

/// Whether the condition comes to hold within the bound.
pub(crate) async fn holds_within(bound: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + bound;
    loop {
        if condition().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The future's output; panics with `what` after [`BOUND`].
pub(crate) async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {BOUND:?}: {what}"),
    }
}
