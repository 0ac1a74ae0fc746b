//! Owns all state; one verb per use case: check, act, record.

mod commands;
mod sessions;
mod types;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::types::{
    Awaited, COMMANDS_PER_PAGE, Cancelled, CommandFilter, CommandPage, CommandRequest, CommandView, ConnectRequest,
    Connected, Disconnected, Health, OutputRequest, Until, Waiter,
};
/// Every failure of the core and of the verbs.
pub use crate::ssh::Error;
use crate::{
    config::Settings,
    ssh::{
        async_command::Command,
        client::host_key::KnownHosts,
        forward::Forward,
        ids::{CommandId, ForwardId, SessionId},
        output::SpillStore,
        registry::Registry,
        session::{EndReason, Session},
    },
};

/// Open sessions in the whole process.
pub const MAX_SESSIONS: usize = 1_000;
/// Open forwards per session.
pub const MAX_FORWARDS: usize = 50;

/// All state of the process. Built once and shared by every MCP connection of every transport.
#[derive(Debug)]
pub struct App {
    settings: Settings,
    /// Sessions by id, the closed ones as records.
    sessions: Registry<SessionId, Session>,
    /// Commands by id, the ended ones as records.
    commands: Registry<CommandId, Command>,
    /// Forwards by id, the closed ones as records.
    forwards: Registry<ForwardId, Forward>,
    /// Room on the disk for long output, which all commands share.
    spill: Arc<SpillStore>,
    /// Shared, since its files are written under one lock.
    known_hosts: Arc<KnownHosts>,
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
            settings,
            spill,
            sessions: Registry::default(),
            commands: Registry::default(),
            forwards: Registry::default(),
            known_hosts: Arc::new(known_hosts),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            started: Instant::now(),
        })
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
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

    /// Ends all sessions with their commands and forwards, within `budget`.
    pub async fn shutdown(&self, budget: Duration) {
        self.shutdown.cancel();
        let open = self.sessions.list(Session::is_open);
        let closing = open.iter().map(|session| session.close(EndReason::Shutdown));
        let ended = async {
            futures_util::future::join_all(closing).await;
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
