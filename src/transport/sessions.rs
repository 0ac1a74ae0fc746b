//! MCP sessions of `/mcp`: how many there are, whose they are, and when they end.
//!
//! rmcp's own keep-alive counts events: it ends a session in the middle of a silent call. So it is switched off, and idle
//! sessions are closed here. An MCP session is not an SSH session: those belong to the app and outlive it.

mod counted;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use http::request::Parts;
use rmcp::{
    model::{ClientJsonRpcMessage, GetExtensions, RequestId, ServerJsonRpcMessage},
    transport::streamable_http_server::{
        SessionId, SessionManager,
        session::{
            ServerSseMessage,
            local::{LocalSessionManager, LocalSessionManagerError},
        },
    },
};
use tokio::time::Instant;

use self::counted::Counted;
use super::calls::{Calls, NotAdmitted};
use crate::ssh::ids::Owner;

/// MCP sessions that are kept in all.
pub(super) const MAX_SESSIONS: usize = 1024;

/// MCP sessions of one principal. For one more, its own that is idle for longest is closed, and never another's.
pub(super) const MAX_SESSIONS_OF_ONE: usize = 256;

/// A session without a request, a running call or an open stream for this long is closed.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(60 * 60);

/// How often idle sessions are looked for.
pub(super) const REAP_EVERY: Duration = Duration::from_secs(60);

/// The first revision whose clients expect an empty event that names the stream (SEP-1699). Older ones take it for a
/// broken message.
const FIRST_WITH_PRIMING: &str = "2025-11-25";

/// The sessions of one server.
#[derive(Default)]
pub(super) struct Sessions {
    inner: LocalSessionManager,
    open: Arc<Mutex<HashMap<SessionId, Session>>>,
    /// Those that are being opened, by owner: rmcp tells of a session before it tells whose it is.
    opening: Arc<Mutex<HashMap<Option<Owner>, usize>>>,
}

/// Room for one session, held while it is being opened.
pub(super) struct Place {
    owner: Option<Owner>,
    opening: Arc<Mutex<HashMap<Option<Owner>, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = opening.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                opening.remove(&self.owner);
            }
        }
    }
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

    /// Whether nobody waits for anything that it might say.
    fn is_unused(&self) -> bool {
        self.calls.is_idle() && !self.is_listening()
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

    /// Whether a call may begin in the session. With the id of one that runs it may not: rmcp would send the answer of
    /// one to the other.
    pub(super) fn check_call(&self, id: &str, call: &RequestId) -> Result<(), NotAdmitted> {
        match self.open().get(id).map(|session| &session.calls) {
            Some(calls) if calls.is_running(call) => Err(NotAdmitted::SameId),
            Some(calls) if calls.is_full() => Err(NotAdmitted::TooMany),
            _ => Ok(()),
        }
    }

    /// Makes room for one more session of `owner`. None where all that it may close are in use.
    pub(super) async fn make_room(&self, owner: Option<&Owner>) -> Option<Place> {
        let (place, oldest) = self.find_room(owner)?;
        if let Some(oldest) = oldest {
            // It fails only for a session that has just ended.
            let _ = self.inner.close_session(&oldest).await;
        }
        Some(place)
    }

    /// A place, and the session that has to be closed for it.
    fn find_room(&self, owner: Option<&Owner>) -> Option<(Place, Option<SessionId>)> {
        let mut open = self.open();
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let owned = |session: &Session| session.owner.as_ref() == owner;
        let key = owner.cloned();
        let own = open.values().filter(|session| owned(session)).count() + opening.get(&key).copied().unwrap_or(0);
        let all = open.len() + opening.values().sum::<usize>();
        let oldest = if own >= MAX_SESSIONS_OF_ONE || all >= MAX_SESSIONS {
            let unused = open.iter().filter(|(_, session)| owned(session) && session.is_unused());
            let oldest = unused.min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone())?;
            open.remove(&oldest);
            Some(oldest)
        } else {
            None
        };
        *opening.entry(key.clone()).or_default() += 1;
        Some((Place { owner: key, opening: self.opening.clone() }, oldest))
    }

    /// Closes sessions that have been idle for [`MAX_IDLE`].
    pub(super) async fn reap(&self) {
        let idle: Vec<SessionId> = {
            let open = self.open();
            let idle = open.iter().filter(|(_, session)| session.used.elapsed() >= MAX_IDLE && session.is_unused());
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

#[cfg(test)]
mod tests {
    use rmcp::transport::Transport;
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

    /// A session of `owner`, as `initialize` leaves it.
    async fn owned(sessions: &Sessions, owner: &Owner) -> (SessionId, Counted) {
        let opened = opened(sessions).await;
        if let Some(session) = sessions.open().get_mut(&opened.0) {
            session.owner = Some(owner.clone());
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        opened
    }

    #[tokio::test(start_paused = true)]
    async fn the_own_session_that_is_unused_for_longest_makes_room() {
        let (sessions, alice, bob) = (Sessions::new(), Owner::new("alice"), Owner::new("bob"));
        let (of_bob, _bobs) = owned(&sessions, &bob).await;
        let mut kept = Vec::new();
        for _ in 0..MAX_SESSIONS_OF_ONE {
            kept.push(owned(&sessions, &alice).await);
        }
        assert_eq!(kept[0].1.calls.admit(&ping()), Ok(()));
        let _listens = sessions.listening(&kept[1].0, futures_util::stream::pending::<()>());
        assert!(sessions.make_room(Some(&alice)).await.is_some());
        let open = |id: &SessionId| sessions.open().contains_key(id);
        assert!(open(&of_bob) && open(&kept[0].0) && open(&kept[1].0) && !open(&kept[2].0));
        // A request to it counts as use.
        assert!(sessions.touch(&kept[3].0, Some(&alice)));
        let place = sessions.make_room(Some(&alice)).await;
        assert!(place.is_some() && open(&kept[3].0), "room was left: the place of before is free again");
        assert!(sessions.make_room(Some(&alice)).await.is_some());
        assert!(open(&kept[3].0) && !open(&kept[4].0), "a place that is held counts");
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_taken_nobody_loses_a_session_to_another() {
        let (sessions, mut kept) = (Sessions::new(), Vec::new());
        for n in 0..MAX_SESSIONS {
            kept.push(owned(&sessions, &Owner::new(&format!("p{}", n / MAX_SESSIONS_OF_ONE))).await);
        }
        assert!(sessions.make_room(Some(&Owner::new("late"))).await.is_none());
        assert!(sessions.make_room(None).await.is_none());
        assert_eq!(sessions.open().len(), MAX_SESSIONS);
        assert!(sessions.make_room(Some(&Owner::new("p0"))).await.is_some());
        assert!(!sessions.open().contains_key(&kept[0].0));
    }

    #[tokio::test]
    async fn an_id_is_free_before_its_answer_can_be_seen() {
        let sessions = Sessions::new();
        let (id, mut transport) = opened(&sessions).await;
        assert_eq!(transport.calls.admit(&ping()), Ok(()));
        assert_eq!(sessions.check_call(&id, &RequestId::Number(1)), Err(NotAdmitted::SameId));
        let _sent = transport.send(super::super::calls::panicked(RequestId::Number(1)));
        assert_eq!(sessions.check_call(&id, &RequestId::Number(1)), Ok(()));
    }

    #[tokio::test]
    async fn a_session_whose_calls_are_full_takes_no_more() {
        let sessions = Sessions::new();
        let (id, transport) = opened(&sessions).await;
        for call in 0..super::super::calls::MAX_CALLS {
            let ping = json!({"jsonrpc": "2.0", "id": call, "method": "ping"});
            let ping = serde_json::from_value(ping).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(transport.calls.admit(&ping), Ok(()));
        }
        assert_eq!(sessions.check_call(&id, &RequestId::Number(1)), Err(NotAdmitted::SameId));
        assert_eq!(sessions.check_call(&id, &RequestId::Number(-1)), Err(NotAdmitted::TooMany));
        assert!(transport.calls.end(&RequestId::Number(1)));
        assert_eq!(sessions.check_call(&id, &RequestId::Number(-1)), Ok(()));
    }
}
