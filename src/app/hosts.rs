//! The hosts that the configuration of `ssh` names.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    App,
    agent::Lending,
    connect::Where,
    plan::{self, Plan, Reader, ResolvedRow},
};
use crate::ssh::{
    Error,
    client::{Target, address},
    ids::{Owner, SessionId},
    session::Session,
};

/// Rows that `hosts` returns at most.
pub const HOSTS_PER_PAGE: usize = 100;
/// How long aliases are looked at: what one means takes a walk over the whole configuration.
const LOOK_TIME: Duration = Duration::from_secs(5);

/// A name that a person could connect to.
#[derive(Clone, Debug)]
pub struct HostRow {
    /// The name.
    pub alias: String,
    /// What it means.
    pub target: Target,
    /// Names of the hosts on the way, the nearest first.
    pub jump: Vec<String>,
    /// The caller's open sessions to it.
    pub sessions: Vec<SessionId>,
}

/// Hosts, in the order of the configuration.
#[derive(Debug)]
pub struct HostPage {
    /// At most [`HOSTS_PER_PAGE`].
    pub hosts: Vec<HostRow>,
    /// There are more that match.
    pub more: bool,
}

/// One host with what lines of the configuration say about it.
#[derive(Debug)]
pub struct HostView {
    /// The host.
    pub host: HostRow,
    /// What was taken from where.
    pub resolved: Vec<ResolvedRow>,
    /// What `ssh` would do and is not done here.
    pub notices: Vec<String>,
}

impl App {
    /// Hosts whose alias, host name, user or jump host holds `filter`. Nothing is run or looked up for it.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub async fn hosts(&self, owner: &Owner, filter: Option<&str>) -> Result<HostPage, Error> {
        let admitted = self.read(owner, "hosts")?;
        let filter = filter.unwrap_or_default().to_ascii_lowercase();
        let found = self.blocking(move |reader| look(reader, &filter)).await;
        admitted.record(found.map(|(plans, more)| HostPage {
            hosts: plans.iter().map(|plan| self.host_row(owner, plan)).collect(),
            more,
        }))
    }

    /// What one alias means; none where there is no such alias.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub async fn host(&self, owner: &Owner, alias: &str) -> Result<Option<HostView>, Error> {
        let admitted = self.read(owner, "host")?;
        let alias = alias.to_owned();
        let found = self.blocking(move |reader| {
            let config = reader.load()?;
            let known = config.aliases().contains(&alias);
            known.then(|| reader.glance(&config, &alias)).transpose()
        });
        admitted.record(found.await.map(|plan| {
            plan.map(|plan| HostView {
                host: self.host_row(owner, &plan),
                resolved: plan::rows(&plan),
                notices: self.notices_of(&plan),
            })
        }))
    }

    /// Aliases that begin with `text`, then those that hold it.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub async fn complete_host(&self, owner: &Owner, text: &str) -> Result<Vec<String>, Error> {
        let admitted = self.read(owner, "host names")?;
        let text = text.to_ascii_lowercase();
        let found = self.blocking(move |reader| {
            let mut aliases = usable(reader.load()?.aliases());
            aliases.retain(|alias| alias.to_ascii_lowercase().contains(&text));
            aliases.sort_by_key(|alias| !alias.to_ascii_lowercase().starts_with(&text));
            Ok(aliases)
        });
        admitted.record(found.await)
    }

    fn notices_of(&self, plan: &Plan) -> Vec<String> {
        let lending = self.lending(&plan.end);
        let lent = matches!(lending, Lending::Lent(_)).then(|| plan::AGENT_IS_LENT.to_owned());
        plan::notices(plan, self.known_hosts.policy(), &lending).into_iter().chain(lent).collect()
    }

    async fn blocking<T, F>(&self, read: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Reader) -> Result<T, Error> + Send + 'static,
    {
        let reader = self.reader(LOOK_TIME);
        let reading = tokio::task::spawn_blocking(move || read(&reader));
        match tokio::time::timeout(self.settings.answers.limit, reading).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => Err(Error::Internal(error.to_string())),
            Err(_) => Err(Error::Internal("the configuration of ssh could not be read in time".into())),
        }
    }

    fn host_row(&self, owner: &Owner, plan: &Plan) -> HostRow {
        let place = Where::of(plan);
        let open = self.sessions.list(|session: &Session| {
            session.is_open() && session.owner == *owner && Where::of_session(session) == place
        });
        HostRow {
            alias: plan.end.alias.clone(),
            target: plan.end.target.clone(),
            jump: plan.hops.iter().map(|hop| hop.alias.clone()).collect(),
            sessions: open.iter().map(|session: &Arc<Session>| session.id).collect(),
        }
    }
}

fn look(reader: &Reader, filter: &str) -> Result<(Vec<Plan>, bool), Error> {
    let (config, end) = (reader.load()?, Instant::now() + LOOK_TIME);
    let mut found = Vec::new();
    for alias in usable(config.aliases()) {
        if found.len() == HOSTS_PER_PAGE || Instant::now() > end {
            return Ok((found, true));
        }
        let plan = match reader.glance(&config, &alias) {
            Ok(plan) => plan,
            Err(error @ Error::SshConfig(_)) => return Err(error),
            // Its own line is at fault: connecting to it says so.
            Err(_) => continue,
        };
        if holds(&plan, filter) {
            found.push(plan);
        }
    }
    Ok((found, false))
}

fn holds(plan: &Plan, filter: &str) -> bool {
    let Target { host, username, .. } = &plan.end.target;
    let hops = plan.hops.iter().map(|hop| &hop.alias);
    let mut texts = [&plan.end.alias, host, username].into_iter().chain(hops);
    texts.any(|text| text.to_ascii_lowercase().contains(filter))
}

/// Without those that cannot stand in `address`.
fn usable(aliases: Vec<String>) -> Vec<String> {
    aliases.into_iter().filter(|alias| address::parse(alias, None).is_ok_and(|asked| asked.host == *alias)).collect()
}
