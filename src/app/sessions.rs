//! Verbs on sessions that are open.

use std::sync::Arc;

use super::{App, Disconnected, gate::Act};
use crate::ssh::{
    Error,
    client::address,
    error::Candidate,
    forward::Forward,
    ids::{Owner, SessionId},
    session::{EndReason, HEALTH_CHECK_TIMEOUT, Session, SessionInfo},
};

/// Sessions that an error suggests.
const MAX_CANDIDATES: usize = 10;

impl App {
    /// The caller's open session of that id. Using it keeps it from being idle.
    pub(super) fn session(&self, owner: &Owner, id: &str) -> Result<Arc<Session>, Error> {
        let session = self.session_or_record(owner, id)?;
        match session.closed_error() {
            Some(error) => Err(error),
            None => {
                session.touch();
                Ok(session)
            }
        }
    }

    /// The caller's session of that id, open or closed.
    pub(super) fn session_or_record(&self, owner: &Owner, id: &str) -> Result<Arc<Session>, Error> {
        let found = SessionId::parse(id).and_then(|id| self.sessions.get(owner, &id));
        found.ok_or_else(|| self.session_not_found(owner, id))
    }

    fn session_not_found(&self, owner: &Owner, id: &str) -> Error {
        let id = id.trim();
        let mut open = self.sessions.list(|session| session.is_open() && session.owner == *owner);
        let likely = |session: &Session| {
            session.choices.name.as_deref() == Some(id) || (id.len() >= 4 && session.id.to_string().starts_with(id))
        };
        open.sort_by_key(|session| !likely(session));
        let candidate = |session: &Arc<Session>| Candidate {
            id: session.id,
            name: session.choices.name.clone(),
            target: session.target().clone(),
        };
        let candidates = open.iter().take(MAX_CANDIDATES).map(candidate).collect();
        Error::SessionNotFound { id: address::shorten(id), candidates }
    }

    pub(super) fn session_info(&self, session: &Session) -> SessionInfo {
        let forwards = self.forwards_of(session.id).iter().map(|forward| forward.info()).collect();
        session.info(forwards)
    }

    pub(super) fn forwards_of(&self, session: SessionId) -> Vec<Arc<Forward>> {
        self.forwards.list(|forward| forward.session_id == session && forward.is_active())
    }

    /// Lists open sessions after a health check of all at once.
    ///
    /// # Errors
    ///
    /// What the gate refuses.
    pub async fn sessions(&self, owner: &Owner, agent_id: Option<&str>) -> Result<Vec<SessionInfo>, Error> {
        let admitted = self.read(owner, "sessions")?;
        let wanted = |session: &Session| {
            session.is_open()
                && session.owner == *owner
                && agent_id.is_none_or(|wanted| session.choices.agent_id.as_deref() == Some(wanted))
        };
        let open = self.sessions.list(wanted);
        let checks = futures_util::future::join_all(open.iter().map(|session| session.check_health()));
        // Each check has a bound of its own; this one says so for all of them.
        let _ = tokio::time::timeout(2 * HEALTH_CHECK_TIMEOUT, checks).await;
        let open = open.iter().filter(|session| session.is_open()).map(|session| self.session_info(session));
        admitted.record(Ok(open.collect()))
    }

    /// Closes a session with all that belongs to it. A closed session: nothing more to do.
    ///
    /// # Errors
    ///
    /// `SessionNotFound`.
    pub async fn disconnect(&self, owner: &Owner, id: &str) -> Result<Disconnected, Error> {
        let session = self.session_or_record(owner, id)?;
        let admitted = self.admit(owner, Act::Disconnect(&session))?;
        let was_open = session.is_open();
        let (commands, forwards) = (session.running.get(), self.forwards_of(session.id).len());
        session.close(EndReason::Disconnected).await;
        admitted.record(Ok(Disconnected {
            session_id: session.id,
            was_open,
            commands_cancelled: if was_open { commands } else { 0 },
            forwards_closed: if was_open { forwards } else { 0 },
        }))
    }
}
