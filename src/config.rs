//! Settings: typed, resolved once; parameter > environment > file > default.
//!
//! Nothing else reads the environment. A value that does not parse stops the start, and every such value is reported
//! at once, with its source.

pub mod cli;
pub mod document;
mod environment;
mod error;
mod file;
mod http;
mod layers;
mod tokens;
pub mod vars;

use std::{path::PathBuf, time::Duration};

use self::layers::Layers;
pub use self::{
    cli::Args,
    environment::Environment,
    error::{ConfigError, ConfigErrors, Source},
    http::{AllowedHost, HttpSettings, NamedToken, TOKEN_PRINCIPAL, TlsSettings},
};

/// Every setting of the process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Defaults and limits of SSH work.
    pub ssh: SshSettings,
    /// Defaults and limits of answers.
    pub answers: AnswerSettings,
    /// The HTTP server.
    pub http: HttpSettings,
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
    /// Socket of the SSH agent (`SSH_AUTH_SOCK`).
    pub agent_socket: Option<PathBuf>,
    /// Home directory: `~` in key paths, `~/.ssh/known_hosts`.
    pub home: Option<PathBuf>,
    /// Our own known_hosts file; new keys are recorded here only.
    pub known_hosts: Option<PathBuf>,
    /// Output that is too long for the memory.
    pub spill: SpillSettings,
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
            log_filter: log_filter(&mut layers),
        };
        if layers.errors.is_empty() { Ok(settings) } else { Err(ConfigErrors(layers.errors)) }
    }
}

impl SshSettings {
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
            agent_socket: layers.path(&vars::AUTH_SOCK),
            home: environment.home(),
            known_hosts: layers.path(&vars::KNOWN_HOSTS_FILE).or_else(|| environment.known_hosts_file()),
            spill: SpillSettings {
                directory: layers.path(&vars::SPILL_DIR).or_else(|| environment.spill_dir()),
                command_bytes: layers.mebibytes(&vars::SPILL_LIMIT),
                total_bytes: layers.mebibytes(&vars::SPILL_TOTAL),
            },
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
