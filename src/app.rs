//! Owns all state; one verb per use case: check, act, record.

mod agent;
mod commands;
mod connect;
mod forwards;
mod gate;
mod hosts;
mod login;
mod plan;
mod sessions;
mod types;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::hosts::{HOSTS_PER_PAGE, HostPage, HostRow, HostView};
pub use self::plan::ResolvedRow;
pub use self::types::{
    ApprovedKey, Asking, Awaited, COMMANDS_PER_PAGE, Cancelled, CommandFilter, CommandPage, CommandRequest,
    CommandView, ConnectRequest, Connected, Disconnected, Health, Offsets, OutputRequest, TypedAnswer, Until, Waiter,
};
/// Every failure of the core and of the verbs.
pub use crate::ssh::Error;
use crate::{
    config::{Limits, Settings, Share, vars},
    ssh::{
        async_command::Command,
        client::{host_key::KnownHosts, login::WorkedKeys, route::JumpPool},
        forward::Forward,
        ids::{CommandId, ForwardId, Owner, SessionId},
        output::{SpillStore, Turn},
        quota::{Held, Limit, Quota, Thing},
        registry::Registry,
        session::{EndReason, Session},
    },
};

/// All state of the process. Built once and shared by every MCP connection of every transport.
#[derive(Debug)]
pub struct App {
    settings: Settings,
    /// Sessions by id, the closed ones as records.
    sessions: Registry<SessionId, Session>,
    /// Commands by id, the ended ones as records.
    commands: Arc<Registry<CommandId, Command>>,
    /// Forwards by id, the closed ones as records.
    forwards: Registry<ForwardId, Forward>,
    /// How much each principal may have.
    quotas: Quotas,
    /// Where this server listens itself; no forward leads back to it.
    own_port: OnceLock<u16>,
    /// Room on the disk for long output, which all commands share.
    spill: Arc<SpillStore>,
    /// The turn of each principal at searching output; there are as many as tokens.
    turns: Mutex<HashMap<Owner, Turn>>,
    /// The files that hold for every host; a host may have others besides.
    known_hosts: KnownHosts,
    /// Connections to jump hosts, shared by the sessions of a principal.
    jumps: Arc<JumpPool>,
    /// Which key was taken where.
    worked_keys: Arc<WorkedKeys>,
    /// Watches over sessions; what a session itself runs is on the session's own tracker.
    tasks: TaskTracker,
    /// Fires when the process ends; nothing new is begun from then on.
    shutdown: CancellationToken,
    started: Instant,
}

impl App {
    /// Builds the state.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        let known_hosts = KnownHosts::new(
            settings.ssh.known_hosts.clone(),
            settings.ssh.home.as_deref(),
            settings.ssh.host_key_policy,
        );
        let spill = &settings.ssh.spill;
        let spill = SpillStore::new(spill.directory.clone(), spill.command_bytes, spill.total_bytes);
        Arc::new(Self {
            spill,
            turns: Mutex::default(),
            sessions: Registry::default(),
            commands: Arc::new(Registry::keeping(settings.ssh.limits.output_bytes)),
            quotas: Quotas::new(&settings.ssh.limits),
            own_port: OnceLock::new(),
            forwards: Registry::default(),
            known_hosts,
            jumps: Arc::default(),
            worked_keys: Arc::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            started: Instant::now(),
            settings,
        })
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Says where this server listens itself.
    pub fn listens_on(&self, port: u16) {
        let _ = self.own_port.set(port);
    }

    /// Takes a place among the calls in flight, for as long as the answer takes.
    ///
    /// # Errors
    ///
    /// `busy`: nothing was done.
    pub fn begin_call(&self, owner: &Owner) -> Result<Held, Error> {
        Ok(self.quotas.calls.reserve(owner, Thing::Call)?)
    }

    /// Counts.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            uptime: self.started.elapsed(),
            sessions: self.sessions.list(Session::is_open).len(),
            running_commands: self.commands.list(Command::is_running).len(),
            forwards: self.forwards.list(Forward::is_active).len(),
        }
    }

    /// What comes of it, unless the server is told to stop first: what is opened then, nobody would close in order.
    async fn unless_stopping<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(Error::Stopping),
            done = work => done,
        }
    }

    /// Ends all sessions with their commands and forwards, within `budget`.
    pub async fn shutdown(&self, budget: Duration) {
        self.shutdown.cancel();
        let open = self.sessions.list(Session::is_open);
        let closing = open.iter().map(|session| session.close(EndReason::Shutdown));
        let ended = async {
            futures_util::future::join_all(closing).await;
            self.jumps.shutdown().await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(budget, ended).await.is_err() {
            let left: usize = open.iter().map(|session| session.running.get()).sum();
            if left > 0 {
                tracing::warn!(left, "commands may still run on their hosts: the time to end them was over");
            }
        }
    }
}

/// How much one principal may have, and all together.
#[derive(Debug)]
struct Quotas {
    sessions: Quota,
    commands: Quota,
    forwards: Quota,
    calls: Quota,
}

impl Quotas {
    fn new(limits: &Limits) -> Self {
        let quota = |share: Share, own: &vars::Var, total: &vars::Var| {
            let limit = |count, var: &vars::Var| Limit { count, setting: var.env };
            Quota::new(limit(share.own, own), limit(share.total, total))
        };
        Self {
            sessions: quota(limits.sessions, &vars::MAX_SESSIONS, &vars::MAX_SESSIONS_TOTAL),
            commands: quota(limits.commands, &vars::MAX_COMMANDS_PER_PRINCIPAL, &vars::MAX_COMMANDS_TOTAL),
            forwards: quota(limits.forwards, &vars::MAX_FORWARDS_PER_PRINCIPAL, &vars::MAX_FORWARDS_TOTAL),
            calls: quota(limits.calls, &vars::MAX_CALLS, &vars::MAX_CALLS_TOTAL),
        }
    }
}
