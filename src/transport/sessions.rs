//! MCP sessions of `/mcp`: how many there are, whose they are, and when they end.
//!
//! rmcp's own keep-alive counts events: it ends a session in the middle of a silent call. So it is switched off, and idle
//! sessions are closed here. An MCP session is not an SSH session: those belong to the app and outlive it.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt, future::BoxFuture};
use http::request::Parts;
use rmcp::{
    RoleServer,
    model::{ClientJsonRpcMessage, GetExtensions, RequestId, ServerJsonRpcMessage},
    transport::{
        Transport,
        streamable_http_server::{
            SessionId, SessionManager,
            session::{
                ServerSseMessage,
                local::{LocalSessionManager, LocalSessionManagerError, SessionTransport},
            },
        },
    },
};
use tokio::{sync::mpsc, time::Instant};

use super::calls::{Calls, PanicWatch, answered, panicked};
use crate::ssh::ids::Owner;

/// MCP sessions that are kept. For one more, the one that is idle for longest is closed.
pub(super) const MAX_SESSIONS: usize = 1024;

/// A session without a request, a running call or an open stream for this long is closed.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(60 * 60);

/// How often idle sessions are looked for.
pub(super) const REAP_EVERY: Duration = Duration::from_secs(60);

/// The first revision whose clients expect an empty event that names the stream (SEP-1699). Older ones take it for a
/// broken message.
const FIRST_WITH_PRIMING: &str = "2025-11-25";

/// Panics of one session that may wait to be answered.
const PANICS: usize = 16;

/// The sessions of one server.
#[derive(Default)]
pub(super) struct Sessions {
    inner: LocalSessionManager,
    open: Arc<Mutex<HashMap<SessionId, Session>>>,
}

struct Session {
    /// Who opened it. None until `initialize`, and where nobody is asked for a token.
    owner: Option<Owner>,
    calls: Calls,
    used: Instant,
    /// Open event streams. A client that listens is not gone.
    streams: Arc<()>,
}

impl Session {
    fn new(calls: Calls) -> Self {
        Self { owner: None, calls, used: Instant::now(), streams: Arc::default() }
    }

    fn is_listening(&self) -> bool {
        Arc::strong_count(&self.streams) > 1
    }
}

impl Sessions {
    pub(super) fn new() -> Self {
        let mut sessions = Self::default();
        sessions.inner.session_config.keep_alive = None;
        sessions
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SessionId, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request of `owner` to a session. False where the session is unknown or somebody else's.
    pub(super) fn touch(&self, id: &str, owner: Option<&Owner>) -> bool {
        match self.open().get_mut(id) {
            Some(session) if session.owner.as_ref() == owner => {
                session.used = Instant::now();
                true
            }
            _ => false,
        }
    }

    /// Whether a call with this id of its own runs in the session. rmcp would send the answer of one to the other.
    pub(super) fn is_running(&self, id: &str, call: &RequestId) -> bool {
        self.open().get(id).is_some_and(|session| session.calls.is_running(call))
    }

    /// Makes room for one more session. False where all that there can be are busy.
    pub(super) async fn make_room(&self) -> bool {
        let oldest = {
            let open = self.open();
            if open.len() < MAX_SESSIONS {
                return true;
            }
            let idle = open.iter().filter(|(_, session)| session.calls.is_idle());
            idle.min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone())
        };
        match oldest {
            Some(id) => self.close_session(&id).await.is_ok(),
            None => false,
        }
    }

    /// Closes sessions that have been idle for [`MAX_IDLE`].
    pub(super) async fn reap(&self) {
        let idle: Vec<SessionId> = {
            let open = self.open();
            let idle = open.iter().filter(|(_, session)| {
                session.used.elapsed() >= MAX_IDLE && session.calls.is_idle() && !session.is_listening()
            });
            idle.map(|(id, _)| id.clone()).collect()
        };
        for id in idle {
            tracing::info!("closing an idle MCP session");
            // It fails only for a session that has just ended.
            let _ = self.close_session(&id).await;
        }
    }

    /// Keeps `stream` counted as open for as long as it lives.
    fn listening<S: Stream>(&self, id: &SessionId, stream: S) -> impl Stream<Item = S::Item> + use<S> {
        let held = self.open().get(id).map(|session| session.streams.clone());
        stream.inspect(move |_| {
            let _ = &held;
        })
    }
}

/// Whether the client that sent `message` knows what a priming event is.
fn knows_priming(message: &ClientJsonRpcMessage) -> bool {
    let version = parts(message).and_then(|parts| parts.headers.get("mcp-protocol-version")?.to_str().ok());
    version.is_some_and(|version| version >= FIRST_WITH_PRIMING)
}

fn parts(message: &ClientJsonRpcMessage) -> Option<&Parts> {
    match message {
        ClientJsonRpcMessage::Request(request) => request.request.extensions().get(),
        _ => None,
    }
}

impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = Counted;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let (id, transport) = self.inner.create_session().await?;
        let calls = Calls::default();
        self.open().insert(id.clone(), Session::new(calls.clone()));
        Ok((id, Counted::new(transport, calls)))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        let owner = parts(&message).and_then(|parts| parts.extensions.get::<Owner>().cloned());
        if let Some(session) = self.open().get_mut(id) {
            session.owner = owner;
        }
        self.inner.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.inner.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.open().remove(id);
        self.inner.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let primed = knows_priming(&message);
        let stream = self.inner.create_stream(id, message).await?;
        Ok(stream.filter(move |event| std::future::ready(primed || event.message.is_some())))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        self.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let stream = self.inner.create_standalone_stream(id).await?;
        Ok(self.listening(id, stream))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let stream = self.inner.resume(id, last_event_id).await?;
        Ok(self.listening(id, stream))
    }
}

/// A session's transport that keeps count of its calls and answers those whose handler panics.
pub(super) struct Counted {
    inner: SessionTransport,
    calls: Calls,
    panics: (mpsc::Sender<RequestId>, mpsc::Receiver<RequestId>),
    /// An answer on its way. Kept here because rmcp drops the future of `receive` whenever something else happens.
    answering: Option<BoxFuture<'static, ()>>,
}

impl Counted {
    fn new(inner: SessionTransport, calls: Calls) -> Self {
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
            let sent = self.inner.send(panicked(id));
            self.answering = Some(Box::pin(async move {
                let _ = sent.await;
            }));
        }
    }
}

impl Transport<RoleServer> for Counted {
    type Error = <SessionTransport as Transport<RoleServer>>::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let (calls, id) = (self.calls.clone(), answered(&message).cloned());
        let sent = self.inner.send(message);
        async move {
            let result = sent.await;
            id.inspect(|id| {
                calls.end(id);
            });
            result
        }
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
                    let _ = self.calls.admit(&message);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ping() -> ClientJsonRpcMessage {
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        serde_json::from_value(ping).unwrap_or_else(|error| panic!("{error}"))
    }

    async fn opened(sessions: &Sessions) -> (SessionId, Counted) {
        sessions.create_session().await.unwrap_or_else(|error| panic!("{error}"))
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_session_is_closed_but_never_one_with_a_running_call() {
        let sessions = Sessions::new();
        let (idle, _idle) = opened(&sessions).await;
        let (busy, transport) = opened(&sessions).await;
        assert_eq!(transport.calls.admit(&ping()), Ok(()));
        tokio::time::advance(MAX_IDLE).await;
        sessions.reap().await;
        assert!(!sessions.touch(&idle, None) && sessions.touch(&busy, None));
        tokio::time::advance(MAX_IDLE - REAP_EVERY).await;
        transport.calls.end(&RequestId::Number(1));
        sessions.reap().await;
        assert!(sessions.touch(&busy, None));
    }

    #[tokio::test(start_paused = true)]
    async fn the_session_that_is_idle_for_longest_makes_room() {
        let sessions = Sessions::new();
        let mut kept = Vec::new();
        for _ in 0..MAX_SESSIONS {
            kept.push(opened(&sessions).await);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(kept[0].1.calls.admit(&ping()), Ok(()));
        assert!(sessions.make_room().await);
        assert!(sessions.touch(&kept[0].0, None) && !sessions.touch(&kept[1].0, None));
        assert!(sessions.make_room().await);
        assert!(sessions.touch(&kept[2].0, None));
    }
}
