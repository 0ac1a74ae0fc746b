//! An MCP connection over a pair of queues: what stdio and `/sse` share.

use std::{convert::Infallible, future::Future, sync::Arc};

use rmcp::{
    RoleServer, ServiceExt,
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    service::ServerInitializeError,
    transport::Transport,
};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Handler,
    calls::{Calls, NotAdmitted, PanicWatch, answered, panicked},
};

/// Messages that wait in one direction. A full queue makes its writer wait.
const QUEUE: usize = 64;

/// The client's end: what it sends goes in here.
#[derive(Clone)]
pub(super) struct Inbox {
    incoming: mpsc::Sender<ClientJsonRpcMessage>,
    outgoing: mpsc::WeakSender<ServerJsonRpcMessage>,
    calls: Calls,
}

/// The server's end, an rmcp transport. Clones are one connection.
#[derive(Clone)]
pub(super) struct Channel {
    incoming: Arc<Mutex<mpsc::Receiver<ClientJsonRpcMessage>>>,
    outgoing: mpsc::Sender<ServerJsonRpcMessage>,
    calls: Calls,
}

/// A message that was not taken.
#[derive(Debug)]
pub(super) enum NotDelivered {
    /// It would have been a call too many.
    Refused(NotAdmitted),
    /// The connection has ended.
    Closed,
}

/// Opens a connection: the client's end, the server's end, and what the server sends.
pub(super) fn open() -> (Inbox, Channel, mpsc::Receiver<ServerJsonRpcMessage>) {
    let (incoming, from_client) = mpsc::channel(QUEUE);
    let (outgoing, to_client) = mpsc::channel(QUEUE);
    let calls = Calls::default();
    let inbox = Inbox { incoming, outgoing: outgoing.downgrade(), calls: calls.clone() };
    let channel = Channel { incoming: Arc::new(Mutex::new(from_client)), outgoing, calls };
    (inbox, channel, to_client)
}

impl Inbox {
    /// Hands a message to the server. Waits while the queue is full, and only then: a caller that goes away has left no
    /// call behind, and one that is admitted is on its way.
    pub(super) async fn deliver(&self, mut message: ClientJsonRpcMessage) -> Result<(), NotDelivered> {
        let place = self.incoming.reserve().await.map_err(|_| NotDelivered::Closed)?;
        self.calls.admit(&message).map_err(NotDelivered::Refused)?;
        self.watch(&mut message);
        place.send(message);
        Ok(())
    }

    /// Sees to it that the call is answered even if its handler panics.
    fn watch(&self, message: &mut ClientJsonRpcMessage) {
        let ClientJsonRpcMessage::Request(request) = &*message else {
            return;
        };
        let (id, calls, outgoing) = (request.id.clone(), self.calls.clone(), self.outgoing.clone());
        message.insert_extension(PanicWatch::new(move || {
            if calls.end(&id)
                && let Some(outgoing) = outgoing.upgrade()
            {
                // A full queue loses this answer; a panic cannot wait.
                let _ = outgoing.try_send(panicked(id.clone()));
            }
        }));
    }
}

impl Transport<RoleServer> for Channel {
    type Error = Infallible;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let (outgoing, calls) = (self.outgoing.clone(), self.calls.clone());
        async move {
            let id = answered(&message).cloned();
            if id.as_ref().is_none_or(|id| calls.is_running(id)) {
                // A client that is gone is no error: its calls go on, and their results stay with the app.
                let _ = outgoing.send(message).await;
            }
            // Only now: the end of a connection waits for the answers to be on their way.
            id.inspect(|id| {
                calls.end(id);
            });
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let message = self.incoming.lock().await.recv().await;
        if message.is_none() {
            // rmcp gives handlers five seconds after the end of the input and then cancels them. A client that is gone
            // must not end what it started, so the input ends when the last call has.
            self.calls.idle().await;
        }
        message
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Serves one connection to its end, which is the end of its input or `stop`.
pub(super) async fn converse<S: Handler>(handler: S, channel: Channel, stop: CancellationToken) {
    loop {
        // A child: rmcp cancels its token when one connection ends, and `stop` is everybody's.
        match handler.clone().serve_with_ct(channel.clone(), stop.child_token()).await {
            Ok(running) => {
                let _ = running.waiting().await;
                return;
            }
            Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => {
                return;
            }
            // Before the handshake rmcp gives up on a notification, and on a handshake that it refused. The client may
            // go on. The error is not logged: it holds the message.
            Err(_) => tracing::debug!("waiting for another handshake"),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use rmcp::model::RequestId;
    use serde_json::json;

    use super::*;

    fn ping(id: usize) -> ClientJsonRpcMessage {
        let ping = json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
        serde_json::from_value(ping).unwrap_or_else(|error| panic!("{error}"))
    }

    #[tokio::test]
    async fn a_message_that_is_given_up_in_a_full_queue_leaves_no_call_behind() {
        let (inbox, channel, _answers) = open();
        for id in 0..QUEUE {
            assert!(inbox.deliver(ping(id)).await.is_ok());
        }
        assert!(inbox.deliver(ping(QUEUE)).now_or_never().is_none(), "it waits, and is dropped");
        assert!(!inbox.calls.is_running(&RequestId::Number(QUEUE as i64)));
        assert!(channel.incoming.lock().await.recv().await.is_some());
        assert!(inbox.deliver(ping(QUEUE)).await.is_ok(), "the id is free");
    }
}
