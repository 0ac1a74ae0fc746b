//! Opening a session.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    App, ConnectRequest, Connected, ResolvedRow,
    agent::Lending,
    gate::Act,
    plan::{self, Plan, Step},
};
use crate::ssh::{
    Error,
    client::{self, ClientError, ConnectSpec, Target, address, login::AgentUse, route::Route},
    ids::{Owner, SessionId},
    quota::{Held, Thing},
    session::{Choices, EndReason, Session},
};

/// Longest label, in characters.
const MAX_NAME_CHARS: usize = 64;
/// How many other sessions to the same host an answer names, the newest; each is 36 characters for an agent to read.
const OTHER_SESSIONS_TOLD: usize = 20;

impl App {
    /// Opens a session, or reuses one.
    ///
    /// # Errors
    ///
    /// Bad arguments, limits, and why connecting failed.
    pub async fn connect(self: &Arc<Self>, owner: &Owner, request: ConnectRequest) -> Result<Connected, Error> {
        check_label("name", request.name.as_deref())?;
        check_label("agent_id", request.agent_id.as_deref())?;
        self.check_secrets(&request)?;
        let begun = Instant::now();
        let plan = self.plan(&request, begun + self.connect_timeout(&request, None));
        let plan = self.unless_stopping(plan).await?;
        let admitted = self.admit(owner, Act::Connect(&plan.end.target, &plan.hop_targets()))?;
        match self.unless_stopping(self.connect_to(owner, request, plan, begun)).await {
            Ok(connected) => admitted.on(connected.session.id).record(Ok(connected)),
            Err(error) => admitted.record(Err(error)),
        }
    }

    async fn connect_to(
        self: &Arc<Self>,
        owner: &Owner,
        request: ConnectRequest,
        plan: Plan,
        begun: Instant,
    ) -> Result<Connected, Error> {
        let timeout = self.connect_timeout(&request, Some(&plan));
        let (deadline, place) = (begun + timeout, Where::of(&plan));
        let mut notices = plan::notices(&plan, self.known_hosts.policy(), &self.lending(&plan.end));
        if request.timeout.is_some_and(|asked| asked > timeout) {
            notices.push(format!("timeout_secs was cut to {}: no call lasts longer", timeout.as_secs()));
        }
        let about = About { timeout, resolved: plan::rows(&plan), reuse_refused: None, notices };
        let reuse_refused = match &request.session_id {
            None => None,
            Some(id) => match self.reusable(owner, id, &place, timeout / 2).await {
                Ok((session, reconnected)) => {
                    let mut about = about;
                    about.notices.extend(not_applied(&request, &session));
                    return Ok(Connected { reused: true, reconnected, ..self.connected(&session, about) });
                }
                Err(why) => Some(why),
            },
        };
        self.check_name(owner, request.name.as_deref(), &place)?;
        let held = self.quotas.sessions.reserve(owner, Thing::Session)?;
        let session = self.open_session(owner, request, (plan, held), deadline).await?;
        let mut about = About { reuse_refused, ..about };
        about.notices.extend(session.facts.host_key.warnings.iter().chain(&session.facts.warnings).cloned());
        Ok(self.connected(&session, about))
    }

    /// What the caller says goes before the configuration, and that before the setting; no call lasts longer than any.
    fn connect_timeout(&self, request: &ConnectRequest, plan: Option<&Plan>) -> Duration {
        let configured = plan.and_then(|plan| plan.end.resolved.connect_timeout.as_ref());
        let configured = configured.map(|timeout| timeout.value).filter(|timeout| !timeout.is_zero());
        let wanted = request.timeout.or(configured).unwrap_or(self.settings.ssh.connect_timeout);
        wanted.min(self.settings.answers.limit)
    }

    async fn open_session(
        self: &Arc<Self>,
        owner: &Owner,
        request: ConnectRequest,
        (plan, held): (Plan, Held),
        deadline: Instant,
    ) -> Result<Arc<Session>, Error> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let late = ClientError::Timeout { target: plan.end.target.clone(), after: timeout, last: None };
        // A key file may lie on a file system that hangs.
        let spec = tokio::time::timeout_at(deadline, self.connect_spec(owner, &request, &plan, timeout)).await;
        let mut spec = spec.unwrap_or_else(|_| Err(Error::Client(Arc::new(late), 0)))?;
        let (connection, retries) = client::connect(&spec, deadline).await;
        // It stands in the file now; whoever connects again finds it there, or asks anew.
        spec.approved_key = None;
        let connection = connection.map_err(|error| Error::Client(Arc::new(error), retries))?;
        let choices = Choices {
            name: request.name,
            agent_id: request.agent_id,
            persistent: request.persistent,
            inactivity_timeout: self.settings.ssh.inactivity_timeout,
            command_timeout: self.settings.ssh.command_timeout,
            way: plan.way(),
        };
        let session = Arc::new(Session::new(owner.clone(), choices, spec, connection, retries).holding(held));
        self.keep_session(&session)?;
        tracing::debug!(session = %session.id, host = %session.target(), retries, "connected");
        Ok(session)
    }

    async fn connect_spec(
        &self,
        owner: &Owner,
        request: &ConnectRequest,
        plan: &Plan,
        timeout: Duration,
    ) -> Result<ConnectSpec, Error> {
        let mut hops = Vec::with_capacity(plan.hops.len());
        for (index, hop) in plan.hops.iter().enumerate() {
            hops.push(self.spec_of(hop, request, Role::Hop(index + 1), timeout).await?);
        }
        let first = self.first_route(plan.hops.first().unwrap_or(&plan.end));
        let route = match hops.first_mut() {
            None => first,
            Some(nearest) => {
                nearest.route = first;
                Route::through(hops, &self.jumps.of(owner))?
            }
        };
        Ok(ConnectSpec { route, ..self.spec_of(&plan.end, request, Role::End, timeout).await? })
    }

    /// One host on the way or at its end. What the caller says of the login concerns the end alone.
    async fn spec_of(
        &self,
        step: &Step,
        request: &ConnectRequest,
        role: Role,
        timeout: Duration,
    ) -> Result<ConnectSpec, Error> {
        let (ssh, Step { target, resolved, .. }) = (&self.settings.ssh, step);
        let of_end = (role == Role::End).then_some(request);
        let approved = request.approved_key.as_ref().filter(|approved| approved.of == *target);
        Ok(ConnectSpec {
            target: target.clone(),
            route: Route::default(),
            credentials: self.credentials(request, step, role).await?,
            retry: self.retries(request, resolved),
            compression: self.compression(of_end, resolved),
            algorithms: self.algorithms_of(step),
            known_hosts: Arc::new(self.known_hosts_of(resolved)),
            host_key_alias: resolved.host_key_alias.as_ref().map(|alias| alias.value.clone()),
            environment: self.environment_of(resolved),
            forward_agent: self.agent_for(step, role),
            approved_key: approved.map(|approved| approved.fingerprint.clone()),
            timeout,
            reconnect: ssh.reconnect,
            max_connections: ssh.max_connections,
        })
    }

    fn agent_for(&self, step: &Step, role: Role) -> Option<AgentUse> {
        match (role, self.lending(step)) {
            (Role::End, Lending::Lent(agent)) => Some(agent),
            _ => None,
        }
    }

    /// Checks before connecting what [`App::keep_session`] checks again for sure.
    fn check_name(&self, owner: &Owner, name: Option<&str>, place: &Where) -> Result<(), Error> {
        let Some(name) = name else { return Ok(()) };
        let open = self.sessions.list(Session::is_open);
        name_is_free(owner, name, place, &mut open.iter())
    }

    fn keep_session(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), Error> {
        let (name, place) = (session.choices.name.as_deref(), Where::of_session(session));
        self.sessions.insert_if(session.id, session.clone(), |others| {
            let mut open = others.filter(|other| other.is_open());
            name.map_or(Ok(()), |name| name_is_free(&session.owner, name, &place, &mut open))
        })?;
        self.tasks.spawn(session.clone().watch());
        session.tasks.spawn(session.clone().learn_shell());
        if self.shutdown.is_cancelled() {
            let late = session.clone();
            self.tasks.spawn(async move { late.close(EndReason::Shutdown).await });
        }
        Ok(())
    }

    /// The session named by `id`, if it leads to that place, and whether it had to connect anew;
    /// else why not. `bound` leaves time to open another.
    async fn reusable(
        &self,
        owner: &Owner,
        id: &str,
        place: &Where,
        bound: Duration,
    ) -> Result<(Arc<Session>, bool), &'static str> {
        let session = SessionId::parse(id).and_then(|id| self.sessions.get(owner, &id)).ok_or("unknown")?;
        if !session.is_open() {
            return Err("dead");
        }
        if !place.is_of(&session) {
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

    fn connected(&self, session: &Arc<Session>, mut about: About) -> Connected {
        // Of the session, which may be older than the configuration.
        if session.connections.lends_agent() {
            about.notices.push(plan::AGENT_IS_LENT.into());
        }
        let place = Where::of_session(session);
        let others = self.sessions.list(|other| {
            other.is_open() && other.owner == session.owner && other.id != session.id && place.is_of(other)
        });
        let more = others.len().saturating_sub(OTHER_SESSIONS_TOLD);
        if more > 0 {
            let notice = format!("{more} more of your sessions lead to this host: ssh_list_sessions names them.");
            about.notices.push(notice);
        }
        Connected {
            session: self.session_info(session),
            reused: false,
            reconnected: false,
            reuse_refused: about.reuse_refused,
            auth_method: session.facts.auth_method.clone(),
            host_key: session.facts.host_key.clone(),
            server_version: session.facts.server_version.clone(),
            other_sessions: others.iter().take(OTHER_SESSIONS_TOLD).map(|other| other.id).collect(),
            timeout: about.timeout,
            resolved: about.resolved,
            notices: about.notices,
        }
    }
}

/// What is said of a session besides what it knows itself.
struct About {
    timeout: Duration,
    resolved: Vec<ResolvedRow>,
    reuse_refused: Option<&'static str>,
    notices: Vec<String>,
}

/// Which part a host has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A jump host, by its place on the way from 1.
    Hop(usize),
    /// The host that is meant.
    End,
}

/// A host, port and user, and the way to it: behind another jump host the same address is another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Where {
    target: Target,
    hops: Vec<Target>,
    way: String,
}

impl Where {
    pub(super) fn of(plan: &Plan) -> Self {
        Self { target: plan.end.target.clone(), hops: plan.hop_targets(), way: plan.way() }
    }

    pub(super) fn of_session(session: &Session) -> Self {
        let (target, hops) = (session.target().clone(), session.hops().to_vec());
        Self { target, hops, way: session.choices.way.clone() }
    }

    /// Whether that session leads there.
    fn is_of(&self, session: &Session) -> bool {
        self.target == *session.target() && self.hops == session.hops() && self.way == session.choices.way
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

/// What a call asks of a session that is reused, and that is chosen when one is opened.
fn not_applied(request: &ConnectRequest, session: &Session) -> Option<String> {
    let choices = &session.choices;
    let differs = |asked: &Option<String>, kept: &Option<String>| asked.is_some() && asked != kept;
    let asked = [
        ("name", differs(&request.name, &choices.name)),
        ("agent_id", differs(&request.agent_id, &choices.agent_id)),
        ("persistent", request.persistent && !choices.persistent),
    ];
    let names: Vec<_> = asked.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("the session stays as it was opened; not applied: {names}. Leave out session_id to open another")
    })
}

/// A name is unique among the owner's own sessions: another owner's take none.
fn name_is_free(
    owner: &Owner,
    name: &str,
    place: &Where,
    open: &mut dyn Iterator<Item = &Arc<Session>>,
) -> Result<(), Error> {
    let same_name = |other: &&Arc<Session>| other.choices.name.as_deref() == Some(name) && other.owner == *owner;
    match open.filter(same_name).find(|other| !place.is_of(other)) {
        Some(other) => Err(Error::NameInUse { name: name.to_owned(), session_id: other.id }),
        None => Ok(()),
    }
}
