//! What an address means: a host, the way to it and how it is trusted, from the caller's words and, after them, from
//! the configuration of `ssh`.

mod read;
mod said;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use tokio::time::Instant;

pub use self::said::ResolvedRow;
pub(super) use self::{
    read::{Reader, Step},
    said::{AGENT_IS_LENT, notices, rows},
};
use super::{App, ConnectRequest};
use crate::{
    config::{Compression, HostKeyPolicy},
    secret::named::SecretSource,
    ssh::{
        Error,
        client::{
            Algorithms, ClientError, Environment, RetryPolicy, Target, address,
            host_key::KnownHosts,
            route::{AddressFamily, Dial, ProxyCommand, Route, hops},
        },
        ssh_config::{self, Hop, Origin, Proxy, Resolved, Setting, StrictHostKeyChecking},
    },
};

/// Variables that one command is given at most.
const MAX_VARIABLES: usize = 128;

/// Where to, and through which hosts.
#[derive(Debug)]
pub(super) struct Plan {
    /// The host.
    pub(super) end: Step,
    /// The jump hosts, the nearest first.
    pub(super) hops: Vec<Step>,
}

impl Plan {
    /// What two sessions to one target through the same jump hosts must share besides to be sessions to one machine.
    pub(super) fn way(&self) -> String {
        let first = self.hops.first().unwrap_or(&self.end);
        let command = match &first.resolved.proxy.value {
            Proxy::Command { command, .. } => command.as_str(),
            Proxy::Direct | Proxy::Jump(_) => "",
        };
        let alias = self.end.resolved.host_key_alias.as_ref().map_or("", |alias| &alias.value);
        format!("{command}\0{alias}")
    }

    /// Who is reached on the way, the nearest first.
    pub(super) fn hop_targets(&self) -> Vec<Target> {
        self.hops.iter().map(|hop| hop.target.clone()).collect()
    }
}

impl App {
    /// Reads the configuration anew: an edit counts from the next connect.
    pub(super) async fn plan(&self, request: &ConnectRequest, deadline: Instant) -> Result<Plan, Error> {
        let asked = address::parse(&request.address, request.username.as_deref())?;
        let target = Target {
            host: asked.host.clone(),
            port: asked.port.unwrap_or(address::DEFAULT_PORT),
            username: asked.username.clone().unwrap_or_default(),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        // Told in the words of the parameter, hop by hop.
        let hops = request.jump.as_deref().map(hops::parse).transpose()?;
        let jump = hops.filter(|hops| !hops.is_empty()).map(|hops| hops.iter().map(Hop::text).collect::<Vec<_>>());
        let (reader, jump) = (self.reader(left), jump.map(|hops| hops.join(",")));
        let reading = tokio::task::spawn_blocking(move || reader.plan(&asked, jump));
        match tokio::time::timeout_at(deadline, reading).await {
            Ok(Ok(plan)) => plan,
            Ok(Err(error)) => Err(Error::Internal(error.to_string())),
            // A file system that hangs, or a command of `Match exec`.
            Err(_) => Err(Error::Client(ClientError::Timeout { target, after: left, last: None }.into(), 0)),
        }
    }

    /// The known_hosts files of a host, and how strictly they are held: at least as this server wants it.
    pub(super) fn known_hosts_of(&self, resolved: &Resolved) -> KnownHosts {
        let user = &resolved.user_known_hosts_files;
        // Without a home the usual places of the user are nowhere.
        let user = (said(user) || self.settings.ssh.home.is_some()).then_some(&user.value);
        let files = user.into_iter().flatten().chain(&resolved.global_known_hosts_files.value);
        let files = files.filter(|file| file.as_os_str() != "/dev/null").cloned().collect();
        let checking = &resolved.strict_host_key_checking;
        let policy = match checking.value {
            StrictHostKeyChecking::Yes => HostKeyPolicy::Strict,
            StrictHostKeyChecking::Ask if said(checking) => HostKeyPolicy::Ask,
            StrictHostKeyChecking::Ask | StrictHostKeyChecking::AcceptNew | StrictHostKeyChecking::No => {
                HostKeyPolicy::AcceptNew
            }
        };
        let revoked = resolved.revoked_host_keys.as_ref().map(|list| list.value.clone());
        self.known_hosts.for_host(files, policy, revoked).hashing(resolved.hash_known_hosts.value)
    }

    /// The way to the first host that is dialled.
    pub(super) fn first_route(&self, step: &Step) -> Route {
        let Step { target, resolved, .. } = step;
        if let Proxy::Command { command, .. } = &resolved.proxy.value {
            let environment = self.variables().map(|(name, value)| (name.into(), value.into())).collect();
            return Route::Command(ProxyCommand { line: command.clone(), environment });
        }
        let family = match resolved.address_family.value {
            ssh_config::AddressFamily::Any => AddressFamily::Any,
            ssh_config::AddressFamily::Inet => AddressFamily::Inet,
            ssh_config::AddressFamily::Inet6 => AddressFamily::Inet6,
        };
        let bind = resolved.bind_address.as_ref().map(|bind| bind.value.clone());
        let dial = Dial { family, bind, tcp_keepalive: resolved.tcp_keep_alive.value };
        let ssh = &self.settings.ssh;
        let address: Option<IpAddr> = target.host.parse().ok();
        let excepted = ssh.no_proxy.iter().any(|pattern| pattern.matches(&target.host, address, target.port));
        match &ssh.proxy {
            Some(proxy) if !excepted => Route::Proxy(proxy.clone(), dial),
            _ => Route::Direct(dial),
        }
    }

    /// What may be negotiated. A person may have named the host or its alias as an old one.
    pub(super) fn algorithms_of(&self, step: &Step) -> Algorithms {
        let (ssh, port) = (&self.settings.ssh, step.target.port);
        let legacy = [&step.target.host, &step.alias].iter().any(|name| ssh.is_legacy(name, port));
        Algorithms::from_config(&step.resolved, legacy)
    }

    pub(super) fn compression(&self, request: Option<&ConnectRequest>, resolved: &Resolved) -> Compression {
        let asked = request.and_then(|request| request.compression);
        let configured = match (said(&resolved.compression), resolved.compression.value) {
            (true, true) => Some(Compression::On),
            // `Compression no` is what ssh does by itself: `none` first.
            (true, false) => Some(Compression::Auto),
            (false, _) => None,
        };
        asked.or(configured).unwrap_or(self.settings.ssh.compression)
    }

    pub(super) fn retries(&self, request: &ConnectRequest, resolved: &Resolved) -> RetryPolicy {
        let ssh = &self.settings.ssh;
        let attempts = &resolved.connection_attempts;
        let configured = said(attempts).then(|| attempts.value.saturating_sub(1).min(MAX_RETRIES));
        RetryPolicy {
            max_retries: request.max_retries.or(configured).unwrap_or(ssh.max_retries),
            first_delay: request.retry_delay.unwrap_or(ssh.retry_delay),
        }
    }

    /// `SetEnv`, then what `SendEnv` names and this process has.
    pub(super) fn environment_of(&self, resolved: &Resolved) -> Environment {
        let mut all: Vec<(String, crate::secret::Secret)> = Vec::new();
        let set = resolved.set_env.iter().map(|set| (&set.value.0, secrecy::ExposeSecret::expose_secret(&set.value.1)));
        let sent =
            self.variables().filter(|(name, _)| resolved.sends(name)).map(|(name, value)| (name, value.as_str()));
        for (name, value) in set.chain(sent) {
            if all.len() < MAX_VARIABLES && !all.iter().any(|(known, _)| known == name) {
                all.push((name.clone(), value.into()));
            }
        }
        Environment(all.into())
    }

    /// What reads the configuration, within a time.
    pub(super) fn reader(&self, within: Duration) -> Reader {
        Reader::new(&self.settings.ssh, self.variables(), within)
    }

    /// The environment, as far as others may see it: without what the settings call a secret.
    fn variables(&self) -> impl Iterator<Item = (&String, &String)> {
        let secret = |name: &str| {
            let mut sources = self.settings.secrets.named.values().map(|secret| &secret.source);
            sources.any(|source| matches!(source, SecretSource::Environment { variable, .. } if variable == name))
        };
        self.settings.ssh.config.account.variables.iter().filter(move |(name, _)| !secret(name))
    }

    /// The socket that a variable of `IdentityAgent` names; the setting goes before the environment.
    pub(super) fn agent_socket_of(&self, variable: &str) -> Option<PathBuf> {
        let ssh = &self.settings.ssh;
        let own = ssh.agent_socket.clone().filter(|_| variable == "SSH_AUTH_SOCK");
        own.or_else(|| ssh.config.account.variables.get(variable).map(PathBuf::from))
    }
}

/// As many as the setting of that name allows.
const MAX_RETRIES: u32 = 100;

/// Whether a line of the configuration says it.
pub(super) fn said<T>(setting: &Setting<T>) -> bool {
    matches!(setting.origin, Origin::File { .. })
}
