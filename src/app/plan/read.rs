//! From an address to the hosts that it means. Reads files, and may run commands: on a thread that may block.

use std::{net::ToSocketAddrs, path::PathBuf, time::Duration};

use super::Plan;
use crate::{
    config::{SshConfigFiles, SshConfigSettings, SshSettings},
    ssh::{
        Error,
        client::{
            Target,
            address::{self, Asked},
            route::{MAX_HOPS, TooManyHops},
        },
        ssh_config::{
            Exec, Given, Hop, Local, NoProbe, Origin, Places, Probe, Proxy, Resolved, Setting, ShellProbe, SshConfig,
            SshConfigError,
        },
    },
};

/// How long one command of `Match exec` may take.
const EXEC_TIMEOUT: Duration = Duration::from_secs(10);

/// One host on the way.
#[derive(Debug)]
pub(in crate::app) struct Step {
    /// The name that was asked for.
    pub(in crate::app) alias: String,
    /// What it means.
    pub(in crate::app) target: Target,
    /// Everything that the configuration says about it.
    pub(in crate::app) resolved: Resolved,
}

/// Which files are read, and what they may ask.
#[derive(Clone, Debug)]
pub(in crate::app) struct Reader {
    settings: SshConfigSettings,
    home: Option<PathBuf>,
    shell: Option<ShellProbe>,
}

impl Reader {
    /// `environment` is that of the commands of `Match exec`, where they are allowed.
    pub(in crate::app) fn new<'a>(
        ssh: &SshSettings,
        environment: impl Iterator<Item = (&'a String, &'a String)>,
        within: Duration,
    ) -> Self {
        let shell = ssh.config.exec.then(|| ShellProbe {
            shell: ssh.config.account.variables.get("SHELL").map_or_else(|| "/bin/sh".into(), PathBuf::from),
            deadline: within.min(EXEC_TIMEOUT),
            environment: environment.map(|(name, value)| (name.clone(), value.clone())).collect(),
        });
        Self { settings: ssh.config.clone(), home: ssh.home.clone(), shell }
    }

    /// The files as they are now.
    pub(in crate::app) fn load(&self) -> Result<SshConfig, SshConfigError> {
        let account = self.settings.account.clone();
        let home = self.home.clone().unwrap_or_else(|| PathBuf::from("/"));
        let mut places = match &self.settings.files {
            SshConfigFiles::Standard => Places::standard(&home),
            SshConfigFiles::Only(file) => Places::only(file, &home),
            SshConfigFiles::None => Places { user_file: None, system_file: None, ..Places::standard(&home) },
        };
        if self.home.is_none() && !places.exact {
            places.user_file = None;
        }
        let local = Local {
            home,
            user: account.user,
            uid: account.uid,
            host_name: account.host_name,
            variables: account.variables,
        };
        SshConfig::load(&places, local)
    }

    pub(super) fn plan(&self, asked: &Asked, jump: Option<String>) -> Result<Plan, Error> {
        let config = self.load()?;
        let spoken_of = config.speaks_of(&asked.host);
        if !asked.literal {
            refuse_near(&config, &asked.host)?;
        }
        let (given, probe) = (Given { user: asked.username.clone(), port: asked.port, jump }, self.probe());
        let end = step(&config, &asked.host, &given, &probe)?;
        // ssh takes the local user's name for any host. That is a guess where nobody said anything about the host.
        if end.resolved.user.origin == Origin::Default && !spoken_of {
            return Err(Error::MissingUsername);
        }
        let hops = hops(&config, &end, 0, &probe)?;
        Ok(Plan { end, hops })
    }

    /// What an alias means, without running or looking up anything: for lists.
    pub(in crate::app) fn glance(&self, config: &SshConfig, alias: &str) -> Result<Plan, Error> {
        let end = step(config, alias, &Given::default(), &NoProbe)?;
        let hops = hops(config, &end, 0, &NoProbe)?;
        Ok(Plan { end, hops })
    }

    fn probe(&self) -> impl Probe + use<> {
        Outside { shell: self.shell.clone() }
    }
}

fn step(config: &SshConfig, alias: &str, given: &Given, probe: &dyn Probe) -> Result<Step, Error> {
    let resolved = config.resolve(alias, given, probe)?;
    if let Some(refused) = resolved.notices.iter().find(|notice| notice.keyword == "refuseconnection") {
        return Err(Error::RefusedByConfig(refused.origin.to_string()));
    }
    let target = address::target(&resolved.host.value, resolved.port.value, &resolved.user.value)?;
    Ok(Step { alias: alias.to_owned(), target, resolved })
}

/// The jump hosts, the nearest first: each is reached through those before it, the first as its own configuration
/// says, just as `ssh -J` has it.
fn hops(config: &SshConfig, to: &Step, behind: usize, probe: &dyn Probe) -> Result<Vec<Step>, Error> {
    let Setting { value: Proxy::Jump(jump), origin } = &to.resolved.proxy else { return Ok(Vec::new()) };
    let Some((last, before)) = jump.split_last() else { return Ok(Vec::new()) };
    if behind == MAX_HOPS {
        return Err(TooManyHops { count: behind + jump.len() }.into());
    }
    let by_call = *origin == Origin::Given;
    if by_call {
        refuse_near(config, &last.host)?;
    }
    let texts: Vec<_> = before.iter().map(Hop::text).collect();
    let through = (!texts.is_empty()).then(|| texts.join(","));
    let mut given = Given { user: last.user.clone(), port: last.port, jump: through };
    let mut hop = step(config, &last.host, &given, probe)?;
    // The caller knows one user name; ssh would take that of the local user.
    if by_call && hop.resolved.user.origin == Origin::Default && !config.speaks_of(&last.host) {
        given.user = Some(to.target.username.clone());
        hop = step(config, &last.host, &given, probe)?;
    }
    let mut all = hops(config, &hop, behind + 1, probe)?;
    all.push(hop);
    Ok(all)
}

/// A name that is near to an alias and is none was perhaps meant to be it: the wrong host is never reached. A name with
/// a dot is the name of a host.
fn refuse_near(config: &SshConfig, host: &str) -> Result<(), Error> {
    if host.contains(['.', ':']) || host.eq_ignore_ascii_case("localhost") || config.speaks_of(host) {
        return Ok(());
    }
    let candidates = config.near(host);
    if candidates.is_empty() { Ok(()) } else { Err(Error::NearAlias { name: host.to_owned(), candidates }) }
}

/// Commands of `Match exec` where a setting allows them; names are looked up as for any connection.
struct Outside {
    shell: Option<ShellProbe>,
}

impl Probe for Outside {
    fn allows_exec(&self) -> bool {
        self.shell.is_some()
    }

    fn exec(&self, command: &str) -> Exec {
        self.shell.as_ref().map_or(Exec::NotAllowed, |shell| shell.exec(command))
    }

    fn exists(&self, name: &str) -> Option<bool> {
        Some((name, 0).to_socket_addrs().is_ok_and(|mut found| found.next().is_some()))
    }
}
