//! The server's end of an MCP session, with its calls counted.

use std::future::Future;

use futures_util::future::BoxFuture;
use rmcp::{
    ErrorData, RoleServer,
    model::{ClientJsonRpcMessage, RequestId, ServerJsonRpcMessage},
    transport::{Transport, streamable_http_server::session::local::SessionTransport},
};
use tokio::sync::mpsc;

use crate::transport::calls::{Calls, NotAdmitted, PanicWatch, answered, panicked};

/// Panics of one session that may wait to be answered.
const PANICS: usize = 16;

/// A session's transport that keeps count of its calls and answers those whose handler panics.
pub(in crate::transport) struct Counted {
    inner: SessionTransport,
    pub(super) calls: Calls,
    panics: (mpsc::Sender<RequestId>, mpsc::Receiver<RequestId>),
    /// An answer on its way. Kept here because rmcp drops the future of `receive` whenever something else happens.
    answering: Option<BoxFuture<'static, ()>>,
}

impl Counted {
    pub(super) fn new(inner: SessionTransport, calls: Calls) -> Self {
        Self { inner, calls, panics: mpsc::channel(PANICS), answering: None }
    }

    fn watch(&self, message: &mut ClientJsonRpcMessage) {
        let ClientJsonRpcMessage::Request(request) = &*message else {
            return;
        };
        let (id, alarm) = (request.id.clone(), self.panics.0.clone());
        message.insert_extension(PanicWatch::new(move || {
            let _ = alarm.try_send(id.clone());
        }));
    }

    fn answer_panic(&mut self, id: RequestId) {
        if self.calls.end(&id) {
            self.answer(panicked(id));
        }
    }

    fn refuse(&mut self, message: &ClientJsonRpcMessage) {
        if let ClientJsonRpcMessage::Request(request) = message {
            let error = ErrorData::invalid_request(NotAdmitted::TooMany.message(), None);
            self.answer(ServerJsonRpcMessage::error(error, Some(request.id.clone())));
        }
    }

    fn answer(&mut self, answer: ServerJsonRpcMessage) {
        let sent = self.inner.send(answer);
        self.answering = Some(Box::pin(async move {
            let _ = sent.await;
        }));
    }
}

impl Transport<RoleServer> for Counted {
    type Error = <SessionTransport as Transport<RoleServer>>::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        // Before its client can see the answer: with the answer, the id is free for the next call.
        if let Some(id) = answered(&message) {
            self.calls.end(id);
        }
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            if let Some(answering) = &mut self.answering {
                answering.await;
                self.answering = None;
            }
            tokio::select! {
                Some(id) = self.panics.1.recv() => self.answer_panic(id),
                message = self.inner.receive() => {
                    let mut message = message?;
                    // What is not admitted was refused before it came here, but for a race that its client lost.
                    if self.calls.admit(&message) == Err(NotAdmitted::TooMany) {
                        self.refuse(&message);
                        continue;
                    }
                    self.watch(&mut message);
                    return Some(message);
                }
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
