//! Verbs on sessions and forwards.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{App, ConnectRequest, Connected, Disconnected, gate::Act};
use crate::config::vars;
use crate::ssh::{
    Error,
    client::{self, ClientError, ConnectSpec, RetryPolicy, Target, address},
    error::Candidate,
    forward::{Forward, ForwardInfo, ForwardSpec},
    ids::{Owner, SessionId},
    quota::{Full, Held, Limit, Scope, Thing},
    session::{Choices, EndReason, HEALTH_CHECK_TIMEOUT, Session, SessionInfo},
};

/// Longest label, in characters.
const MAX_NAME_CHARS: usize = 64;
/// Sessions that an error suggests.
const MAX_CANDIDATES: usize = 10;

impl App {
    /// Opens a session, or reuses one.
    ///
    /// # Errors
    ///
    /// Bad arguments, limits, and why connecting failed.
    pub async fn connect(self: &Arc<Self>, owner: &Owner, request: ConnectRequest) -> Result<Connected, Error> {
        let target = address::parse_target(&request.address, request.username.as_deref())?;
        check_label("name", request.name.as_deref())?;
        check_label("agent_id", request.agent_id.as_deref())?;
        self.check_secrets(&request)?;
        let admitted = self.admit(owner, Act::Connect(&target))?;
        match self.connect_to(owner, request, target).await {
            Ok(connected) => admitted.on(connected.session.id).record(Ok(connected)),
            Err(error) => admitted.record(Err(error)),
        }
    }

    async fn connect_to(
        self: &Arc<Self>,
        owner: &Owner,
        request: ConnectRequest,
        target: Target,
    ) -> Result<Connected, Error> {
        let mut notices = Vec::new();
        let timeout = self.connect_timeout(request.timeout, &mut notices);
        let deadline = Instant::now() + timeout;
        let reuse_refused = match &request.session_id {
            None => None,
            Some(id) => match self.reusable(owner, id, &target, timeout / 2).await {
                Ok((session, reconnected)) => {
                    let connected = self.connected(&session, None, timeout, notices);
                    return Ok(Connected { reused: true, reconnected, ..connected });
                }
                Err(why) => Some(why),
            },
        };
        self.check_name(owner, request.name.as_deref(), &target)?;
        let held = self.quotas.sessions.reserve(owner, Thing::Session)?;
        let session = tokio::select! {
            opened = self.open_session(owner, request, (target, held), deadline) => opened?,
            // Nothing that is opened now would be closed in order.
            () = self.shutdown.cancelled() => return Err(Error::Stopping),
        };
        notices.extend(session.facts.host_key.warnings.iter().cloned());
        Ok(self.connected(&session, reuse_refused, timeout, notices))
    }

    fn connect_timeout(&self, asked: Option<Duration>, notices: &mut Vec<String>) -> Duration {
        let (asked, limit) = (asked.unwrap_or(self.settings.ssh.connect_timeout), self.settings.answers.limit);
        if asked > limit {
            notices.push(format!("timeout_secs was cut to {}: no call lasts longer", limit.as_secs()));
        }
        asked.min(limit)
    }

    async fn open_session(
        self: &Arc<Self>,
        owner: &Owner,
        request: ConnectRequest,
        (target, held): (Target, Held),
        deadline: Instant,
    ) -> Result<Arc<Session>, Error> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let late = ClientError::Timeout { target: target.clone(), after: timeout, last: None };
        // A key file may lie on a file system that hangs.
        let spec = tokio::time::timeout_at(deadline, self.connect_spec(&request, target, timeout)).await;
        let mut spec = spec.unwrap_or_else(|_| Err(Error::Client(Arc::new(late), 0)))?;
        let (connection, retries) = client::connect(&spec, deadline).await;
        // It stands in the file now; whoever connects again finds it there, or asks anew.
        spec.approved_key = None;
        spec.credentials.forget_answers();
        let connection = connection.map_err(|error| Error::Client(Arc::new(error), retries))?;
        let choices = Choices {
            name: request.name,
            agent_id: request.agent_id,
            persistent: request.persistent,
            inactivity_timeout: self.settings.ssh.inactivity_timeout,
            command_timeout: self.settings.ssh.command_timeout,
        };
        let session = Arc::new(Session::new(owner.clone(), choices, spec, connection, retries).holding(held));
        self.keep_session(&session)?;
        tracing::debug!(session = %session.id, host = %session.target(), retries, "connected");
        Ok(session)
    }

    async fn connect_spec(
        &self,
        request: &ConnectRequest,
        target: Target,
        timeout: Duration,
    ) -> Result<ConnectSpec, Error> {
        let ssh = &self.settings.ssh;
        let credentials = self.credentials(request, &target).await?;
        let retry = RetryPolicy {
            max_retries: request.max_retries.unwrap_or(ssh.max_retries),
            first_delay: request.retry_delay.unwrap_or(ssh.retry_delay),
        };
        let compression = request.compression.unwrap_or(ssh.compression);
        Ok(ConnectSpec {
            target,
            credentials,
            retry,
            compression,
            known_hosts: self.known_hosts.clone(),
            approved_key: request.approved_key.clone(),
            timeout,
            reconnect: ssh.reconnect,
            max_connections: ssh.max_connections,
        })
    }

    /// Checks before connecting what [`App::keep_session`] checks again for sure.
    fn check_name(&self, owner: &Owner, name: Option<&str>, target: &Target) -> Result<(), Error> {
        let open = self.sessions.list(Session::is_open);
        name_is_free(owner, name, target, &mut open.iter())
    }

    fn keep_session(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), Error> {
        let name = session.choices.name.as_deref();
        self.sessions.insert_if(session.id, session.clone(), |others| {
            name_is_free(&session.owner, name, session.target(), &mut others.filter(|other| other.is_open()))
        })?;
        self.tasks.spawn(session.clone().watch());
        session.tasks.spawn(session.clone().learn_shell());
        if self.shutdown.is_cancelled() {
            let late = session.clone();
            self.tasks.spawn(async move { late.close(EndReason::Shutdown).await });
        }
        Ok(())
    }

    /// The session named by `id`, if it can serve for `target`, and whether it had to connect anew;
    /// else why not. `bound` leaves time to open another.
    async fn reusable(
        &self,
        owner: &Owner,
        id: &str,
        target: &Target,
        bound: Duration,
    ) -> Result<(Arc<Session>, bool), &'static str> {
        let session = SessionId::parse(id).and_then(|id| self.sessions.get(owner, &id)).ok_or("unknown")?;
        if !session.is_open() {
            return Err("dead");
        }
        if session.target() != target {
            return Err("other_target");
        }
        session.touch();
        let ready = async {
            let reconnected = session.connections.ensure().await.ok()?;
            session.check_health().await.then_some(reconnected)
        };
        match tokio::time::timeout(bound, ready).await {
            Ok(Some(reconnected)) => Ok((session, reconnected)),
            _ => Err("dead"),
        }
    }

    fn connected(
        &self,
        session: &Arc<Session>,
        reuse_refused: Option<&'static str>,
        timeout: Duration,
        notices: Vec<String>,
    ) -> Connected {
        let others = self.sessions.list(|other| {
            other.is_open()
                && other.owner == session.owner
                && other.id != session.id
                && other.target() == session.target()
        });
        Connected {
            session: self.session_info(session),
            reused: false,
            reconnected: false,
            reuse_refused,
            auth_method: session.facts.auth_method.clone(),
            host_key: session.facts.host_key.clone(),
            server_version: session.facts.server_version.clone(),
            other_sessions: others.iter().map(|other| other.id).collect(),
            timeout,
            notices,
        }
    }

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

    fn session_info(&self, session: &Session) -> SessionInfo {
        let forwards = self.forwards_of(session.id).iter().map(|forward| forward.info()).collect();
        session.info(forwards)
    }

    fn forwards_of(&self, session: SessionId) -> Vec<Arc<Forward>> {
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

    /// Opens a local forward, or gives the one that is there already.
    ///
    /// # Errors
    ///
    /// Bad arguments, limits, `PortInUse`, `PortPermission`, and why connecting failed.
    pub async fn forward(
        &self,
        owner: &Owner,
        session: &str,
        spec: ForwardSpec,
    ) -> Result<(ForwardInfo, SessionInfo), Error> {
        let session = self.session(owner, session)?;
        let admitted = self.admit(owner, Act::Forward(&session, &spec))?;
        admitted.record(self.forward_on(&session, spec).await)
    }

    async fn forward_on(&self, session: &Arc<Session>, spec: ForwardSpec) -> Result<(ForwardInfo, SessionInfo), Error> {
        let timeout = self.settings.ssh.connect_timeout.min(self.settings.answers.limit);
        let deadline = Instant::now() + timeout;
        // One at a time, so that two equal requests give one forward.
        let _forwarding = session.forwarding.lock().await;
        if !session.connections.is_connected() {
            // A use of the session like any other: one that was lost connects again, for all its forwards.
            let connected = tokio::time::timeout_at(deadline, session.connections.ensure()).await;
            let target = session.target().clone();
            let timed_out = |_| ClientError::Timeout { target, after: timeout, last: None };
            connected.map_err(|elapsed| Error::Client(Arc::new(timed_out(elapsed)), 0))??;
        }
        let open = self.forwards_of(session.id);
        if let Some(same) = open.iter().find(|forward| forward.serves(&spec)) {
            return Ok((same.info(), self.session_info(session)));
        }
        let limit = Limit { count: self.settings.ssh.limits.session_forwards, setting: vars::MAX_FORWARDS.env };
        if open.len() >= limit.count {
            return Err(Full { thing: Thing::Forward, scope: Scope::Session, limit, in_use: open.len() }.into());
        }
        let held = self.quotas.forwards.reserve(&session.owner, Thing::Forward)?;
        let forward = Forward::open(session, spec, held, deadline).await?;
        self.forwards.insert(forward.id, forward.clone());
        Ok((forward.info(), self.session_info(session)))
    }
}

/// A label is for people: printable, short, and not to be mistaken for an id.
fn check_label(field: &'static str, label: Option<&str>) -> Result<(), Error> {
    let Some(label) = label else { return Ok(()) };
    let printable = |c: char| c == ' ' || c.is_alphanumeric() || c.is_ascii_graphic();
    let valid = !label.trim().is_empty()
        && label.chars().count() <= MAX_NAME_CHARS
        && label.chars().all(printable)
        && SessionId::parse(label).is_none();
    if valid { Ok(()) } else { Err(Error::InvalidName { field, value: address::shorten(label) }) }
}

/// A name is unique among the owner's own sessions: another owner's take none.
fn name_is_free(
    owner: &Owner,
    name: Option<&str>,
    target: &Target,
    open: &mut dyn Iterator<Item = &Arc<Session>>,
) -> Result<(), Error> {
    let Some(name) = name else { return Ok(()) };
    let same_name = |other: &&Arc<Session>| other.choices.name.as_deref() == Some(name) && other.owner == *owner;
    match open.filter(same_name).find(|other| other.target() != target) {
        Some(other) => Err(Error::NameInUse { name: name.to_owned(), session_id: other.id }),
        None => Ok(()),
    }
}
