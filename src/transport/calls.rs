//! The calls of one MCP connection that wait for their answer.
//!
//! Three things need to know: the end of a connection lets calls finish first, the reaper never closes a session that has
//! one, and a handler that panics still owes an answer.

use std::{collections::HashSet, sync::Arc};

use rmcp::{
    ErrorData,
    model::{ClientJsonRpcMessage, ClientNotification, RequestId, ServerJsonRpcMessage},
};
use tokio::sync::watch;

/// Calls of one connection that may wait at the same time. Above it a call is refused.
pub(super) const MAX_CALLS: usize = 4096;

/// Why a call is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotAdmitted {
    /// A call with this id still runs: nobody could tell the answers apart.
    SameId,
    /// [`MAX_CALLS`] run.
    TooMany,
}

impl NotAdmitted {
    /// What the caller reads.
    pub(super) fn message(&self) -> &'static str {
        match self {
            Self::SameId => "a request with this id is still running: every request needs an id of its own",
            Self::TooMany => "too many requests are running on this connection: wait for some of them",
        }
    }
}

/// The running calls of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    running: Arc<watch::Sender<HashSet<RequestId>>>,
}

impl Calls {
    /// Notes what `message` means for the running calls: a request begins one, a cancellation ends one.
    pub(super) fn admit(&self, message: &ClientJsonRpcMessage) -> Result<(), NotAdmitted> {
        match message {
            ClientJsonRpcMessage::Request(request) => self.begin(request.id.clone()),
            ClientJsonRpcMessage::Notification(note) => {
                if let ClientNotification::CancelledNotification(cancelled) = &note.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    // rmcp drops the answer of a cancelled call.
                    self.end(id);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&self, id: RequestId) -> Result<(), NotAdmitted> {
        let mut admitted = Ok(());
        self.running.send_if_modified(|running| {
            admitted = match running.len() {
                full if full >= MAX_CALLS => Err(NotAdmitted::TooMany),
                _ if running.insert(id) => Ok(()),
                _ => Err(NotAdmitted::SameId),
            };
            admitted.is_ok()
        });
        admitted
    }

    /// Ends a call. False where it had ended before: then it needs no answer any more.
    pub(super) fn end(&self, id: &RequestId) -> bool {
        self.running.send_if_modified(|running| running.remove(id))
    }

    /// Whether `id` waits for its answer.
    pub(super) fn is_running(&self, id: &RequestId) -> bool {
        self.running.borrow().contains(id)
    }

    /// Whether as many wait as may.
    pub(super) fn is_full(&self) -> bool {
        self.running.borrow().len() >= MAX_CALLS
    }

    /// Whether no call waits.
    pub(super) fn is_idle(&self) -> bool {
        self.running.borrow().is_empty()
    }

    /// Waits until no call waits.
    pub(super) async fn idle(&self) {
        // The sender lives in `self`: the wait cannot fail.
        let _ = self.running.subscribe().wait_for(HashSet::is_empty).await;
    }
}

/// The call that `message` answers.
pub(super) fn answered(message: &ServerJsonRpcMessage) -> Option<&RequestId> {
    match message {
        ServerJsonRpcMessage::Response(response) => Some(&response.id),
        ServerJsonRpcMessage::Error(error) => error.id.as_ref(),
        _ => None,
    }
}

/// The answer that a call gets whose handler panicked. The panic itself is in the log.
pub(super) fn panicked(id: RequestId) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::internal_error("the server failed to handle this request", None), Some(id))
}

/// The answer that a call gets which has none when the server is at its end.
pub(super) fn stopped(id: RequestId) -> ServerJsonRpcMessage {
    let message = "the server stopped before this call had its answer; what it did is not known";
    ServerJsonRpcMessage::error(ErrorData::internal_error(message, None), Some(id))
}

/// Travels in a request's extensions and tells when its handler panics.
///
/// rmcp runs each handler in a task of its own and forgets a request whose task panics, so its client would wait for
/// ever. The context that owns this value is dropped while the panic unwinds, which is how it is noticed.
#[derive(Clone)]
pub(super) struct PanicWatch(#[expect(dead_code, reason = "only its drop matters")] Arc<Alarm>);

struct Alarm(Box<dyn Fn() + Send + Sync>);

impl PanicWatch {
    /// Calls `alarm` once if a panic drops the last clone. It must not block.
    pub(super) fn new(alarm: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(Alarm(Box::new(alarm))))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(value: serde_json::Value) -> ClientJsonRpcMessage {
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}"))
    }

    fn request(id: i64) -> ClientJsonRpcMessage {
        message(json!({"jsonrpc": "2.0", "id": id, "method": "ping"}))
    }

    #[test]
    fn an_id_in_use_is_refused_and_free_again_after_its_answer() {
        let calls = Calls::default();
        assert_eq!(calls.admit(&request(1)), Ok(()));
        assert_eq!(calls.admit(&request(1)), Err(NotAdmitted::SameId));
        assert!(calls.end(&RequestId::Number(1)));
        assert!(!calls.end(&RequestId::Number(1)));
        assert_eq!(calls.admit(&request(1)), Ok(()));
    }

    #[test]
    fn a_cancelled_call_waits_no_longer() {
        let calls = Calls::default();
        assert_eq!(calls.admit(&request(1)), Ok(()));
        let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
        assert_eq!(calls.admit(&message(cancelled)), Ok(()));
        assert!(calls.is_idle());
    }
}
