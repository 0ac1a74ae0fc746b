//! Settings: typed, resolved once; parameter > environment > file > default.
//!
//! Nothing else reads the environment. A value that does not parse stops the start, and every such value is reported
//! at once, with its source.

pub mod cli;
pub mod document;
mod environment;
mod error;
mod file;
mod host_patterns;
mod http;
mod layers;
mod proxy;
mod secrets;
mod ssh_config;
pub mod targets;
mod tokens;
pub mod vars;

use std::{path::PathBuf, time::Duration};

use self::layers::Layers;
pub(crate) use self::proxy::percent_decode;
pub use self::{
    cli::Args,
    environment::Environment,
    error::{ConfigError, ConfigErrors, Source},
    host_patterns::HostPatterns,
    http::{AllowedHost, HttpSettings, LOCAL_PRINCIPAL, NamedToken, TOKEN_PRINCIPAL, TlsSettings},
    proxy::{ProxyKind, ProxyServer},
    ssh_config::{Account, SshConfigFiles, SshConfigSettings},
    targets::TargetPattern,
};
use crate::secret::named::Secrets;

/// Every setting of the process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Defaults and limits of SSH work.
    pub ssh: SshSettings,
    /// Defaults and limits of answers.
    pub answers: AnswerSettings,
    /// The HTTP server.
    pub http: HttpSettings,
    /// Secrets by name, and the watch over those in use.
    pub secrets: Secrets,
    /// Log filter in the syntax of `RUST_LOG`.
    pub log_filter: String,
}

/// Defaults and limits of SSH work.
#[derive(Clone, Debug)]
pub struct SshSettings {
    /// The whole of connecting: resolve, dial, handshake, authentication, retries.
    pub connect_timeout: Duration,
    /// How long a command may run.
    pub command_timeout: Duration,
    /// Retries after the first attempt to connect.
    pub max_retries: u32,
    /// Delay before the first retry; doubles from there, capped at 10 s.
    pub retry_delay: Duration,
    /// zlib compression.
    pub compression: Compression,
    /// An idle session is closed after this time.
    pub inactivity_timeout: Duration,
    /// A lost connection is replaced at the next use of its session.
    pub reconnect: bool,
    /// Connections that one session opens for its commands.
    pub max_connections: usize,
    /// Background commands running at once per session.
    pub max_commands: usize,
    /// What principals may have.
    pub limits: Limits,
    /// Where forwards may lead.
    pub forward: ForwardSettings,
    /// Proxy to SSH servers.
    pub proxy: Option<ProxyServer>,
    /// SSH servers that are reached without it.
    pub no_proxy: Vec<TargetPattern>,
    /// Socket of the SSH agent (`SSH_AUTH_SOCK`).
    pub agent_socket: Option<PathBuf>,
    /// Home directory: `~` in key paths, `~/.ssh/known_hosts`.
    pub home: Option<PathBuf>,
    /// Directories that key files may lie in.
    pub key_roots: Vec<PathBuf>,
    /// Our own known_hosts file; new keys are recorded here only.
    pub known_hosts: Option<PathBuf>,
    /// What becomes of host keys that no known_hosts file speaks of.
    pub host_key_policy: HostKeyPolicy,
    /// What is taken from the configuration of `ssh`.
    pub config: SshConfigSettings,
    /// Hosts that may negotiate weak algorithms.
    pub legacy_hosts: Vec<TargetPattern>,
    /// Hosts whose commands may use the SSH agent, where the configuration of `ssh` asks for it (`ForwardAgent`).
    pub forward_agent_hosts: HostPatterns,
    /// Output that is too long for the memory.
    pub spill: SpillSettings,
}

/// What principals may have, each and all together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Running commands.
    pub commands: Share,
    /// Open sessions.
    pub sessions: Share,
    /// Open forwards.
    pub forwards: Share,
    /// Open forwards of one session.
    pub session_forwards: usize,
    /// Tool calls in flight.
    pub calls: Share,
    /// Bytes in memory of the output of ended commands.
    pub output_bytes: Share,
}

/// How much one principal may have, and all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// One principal.
    pub own: usize,
    /// All principals.
    pub total: usize,
}

/// Where forwards may lead.
#[derive(Clone, Debug, Default)]
pub struct ForwardSettings {
    /// Nowhere else, when it is given.
    pub allow: Option<Vec<TargetPattern>>,
    /// Not there, whatever `allow` says.
    pub deny: Vec<TargetPattern>,
}

/// Where output goes that is too long for the memory.
#[derive(Clone, Debug)]
pub struct SpillSettings {
    /// Directory of the files; made when it is needed. Without one nothing is spilled.
    pub directory: Option<PathBuf>,
    /// Bytes of one command; 0 turns spilling off.
    pub command_bytes: u64,
    /// Bytes of all commands together.
    pub total_bytes: u64,
}

/// What becomes of a host key that no known_hosts file speaks of. None of them accepts every key. The greater one is
/// the stricter one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostKeyPolicy {
    /// The first one of a host is recorded.
    #[default]
    AcceptNew,
    /// A person is asked; where that cannot be, it is refused.
    Ask,
    /// It is refused.
    Strict,
}

impl HostKeyPolicy {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "strict" => Some(Self::Strict),
            "accept-new" => Some(Self::AcceptNew),
            "ask" => Some(Self::Ask),
            _ => None,
        }
    }
}

/// zlib compression of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Offered after `none`: used only where the server insists.
    Auto,
    /// Asked for.
    On,
    /// Refused.
    Off,
}

/// Defaults and limits of answers.
#[derive(Clone, Debug)]
pub struct AnswerSettings {
    /// The longest that any call waits.
    pub limit: Duration,
    /// Bytes of output text in one answer, both streams together.
    pub output_bytes: usize,
}

impl Settings {
    /// Reads every source of every setting.
    ///
    /// # Errors
    ///
    /// All values that cannot be used, not just the first. No message holds a secret.
    pub fn resolve(args: &Args, environment: &Environment) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::new(args, environment);
        let settings = Self {
            ssh: SshSettings::read(&mut layers, environment),
            answers: AnswerSettings {
                limit: layers.seconds(&vars::ANSWER_LIMIT),
                output_bytes: layers.whole(&vars::OUTPUT_LIMIT),
            },
            http: HttpSettings::read(&mut layers),
            secrets: secrets::read(&mut layers),
            log_filter: log_filter(&mut layers),
        };
        let live = &settings.secrets.live;
        if let Err(fault) = settings.http.tokens.iter().try_for_each(|one| live.watch(&one.token)) {
            // What a variable holds has room.
            let source = layers.source(&vars::TOKEN_FILE).or_else(|| layers.source(&vars::TOKEN));
            layers.errors.extend(source.map(|source| ConfigError::new(source, fault.to_string())));
        }
        let login = settings.ssh.proxy.as_ref().and_then(|proxy| proxy.login.as_ref());
        if let Some(Err(fault)) = login.map(|login| live.watch(&login.1)) {
            let source = layers.source(&vars::PROXY);
            layers.errors.extend(source.map(|source| ConfigError::new(source, fault.to_string())));
        }
        if layers.errors.is_empty() { Ok(settings) } else { Err(ConfigErrors(layers.errors)) }
    }
}

impl SshSettings {
    /// Whether a person allowed weak algorithms for this host.
    #[must_use]
    pub fn is_legacy(&self, host: &str, port: u16) -> bool {
        let address = host.parse().ok();
        self.legacy_hosts.iter().any(|pattern| pattern.matches(host, address, port))
    }

    fn read(layers: &mut Layers<'_>, environment: &Environment) -> Self {
        Self {
            connect_timeout: layers.seconds(&vars::CONNECT_TIMEOUT),
            command_timeout: layers.seconds(&vars::COMMAND_TIMEOUT),
            max_retries: layers.whole(&vars::MAX_RETRIES),
            retry_delay: layers.millis(&vars::RETRY_DELAY),
            compression: layers.compression(&vars::COMPRESSION),
            inactivity_timeout: layers.seconds(&vars::INACTIVITY_TIMEOUT),
            reconnect: layers.boolean(&vars::RECONNECT),
            max_connections: layers.whole(&vars::MAX_CONNECTIONS),
            max_commands: layers.whole(&vars::MAX_COMMANDS),
            limits: Limits::read(layers),
            forward: ForwardSettings {
                allow: layers.targets(&vars::FORWARD_ALLOW),
                deny: layers.targets(&vars::FORWARD_DENY).unwrap_or_default(),
            },
            proxy: layers.proxy(&vars::PROXY),
            no_proxy: layers.targets(&vars::NO_PROXY).unwrap_or_default(),
            agent_socket: layers.path(&vars::AUTH_SOCK),
            home: environment.home(),
            key_roots: layers.paths(&vars::KEY_ROOTS).unwrap_or_else(|| environment.key_roots()),
            known_hosts: layers.path(&vars::KNOWN_HOSTS_FILE).or_else(|| environment.known_hosts_file()),
            host_key_policy: layers.word(&vars::HOST_KEY_POLICY, HostKeyPolicy::parse),
            config: SshConfigSettings::read(layers),
            legacy_hosts: layers.hosts(&vars::LEGACY_HOSTS).unwrap_or_default(),
            forward_agent_hosts: layers.host_patterns(&vars::FORWARD_AGENT_HOSTS),
            spill: SpillSettings {
                directory: layers.path(&vars::SPILL_DIR).or_else(|| environment.spill_dir()),
                command_bytes: layers.mebibytes(&vars::SPILL_LIMIT),
                total_bytes: layers.mebibytes(&vars::SPILL_TOTAL),
            },
        }
    }
}

impl Limits {
    fn read(layers: &mut Layers<'_>) -> Self {
        let mut share =
            |own: &vars::Var, total: &vars::Var| Share { own: layers.whole(own), total: layers.whole(total) };
        let output = share(&vars::OUTPUT_MEMORY, &vars::OUTPUT_MEMORY_TOTAL);
        Self {
            commands: share(&vars::MAX_COMMANDS_PER_PRINCIPAL, &vars::MAX_COMMANDS_TOTAL),
            sessions: share(&vars::MAX_SESSIONS, &vars::MAX_SESSIONS_TOTAL),
            forwards: share(&vars::MAX_FORWARDS_PER_PRINCIPAL, &vars::MAX_FORWARDS_TOTAL),
            calls: share(&vars::MAX_CALLS, &vars::MAX_CALLS_TOTAL),
            output_bytes: Share { own: output.own << 20, total: output.total << 20 },
            session_forwards: layers.whole(&vars::MAX_FORWARDS),
        }
    }
}

fn log_filter(layers: &mut Layers<'_>) -> String {
    let filter = layers.get(&vars::LOG_FILTER, |text| {
        let text = text.to_str()?;
        tracing_subscriber::EnvFilter::builder().parse(text).is_ok().then(|| text.to_owned())
    });
    filter.unwrap_or_default()
}
