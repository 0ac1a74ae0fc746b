//! ONE table of every setting. The resolver, `--help` and `docs/CONFIGURATION.md` are made from it.

use std::fmt;

mod http;

/// One setting and everything that is said about it.
#[derive(Clone, Copy, Debug)]
pub struct Var {
    /// Section of the TOML file.
    pub section: &'static str,
    /// Key in that section.
    pub key: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Command-line option without its dashes. Only `ssh-mcp` has options for settings.
    pub option: Option<&'static str>,
    /// What holds when nobody says otherwise.
    pub default: DefaultValue,
    /// Unit of the value, where it has one.
    pub unit: Option<&'static str>,
    /// Which values are allowed.
    pub kind: Kind,
    /// What it does, in one sentence or two.
    pub doc: &'static str,
}

/// What holds when no source has a value.
#[derive(Clone, Copy, Debug)]
pub enum DefaultValue {
    /// This text, read like any other value.
    Value(&'static str),
    /// Found out at the start; the text describes how.
    Computed(&'static str),
    /// Nothing.
    Absent,
}

/// Which values a setting allows.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number in this range, ends included.
    Whole {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A boolean word or `auto`.
    BoolOrAuto,
    /// Yes or no.
    Bool,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An IP address, or `localhost` for 127.0.0.1.
    Address,
    /// An absolute path; `~/` is expanded. The working directory of a server is an accident of its client.
    AbsolutePath,
    /// As [`Kind::AbsolutePath`], or `none`.
    PathOrNone,
    /// Absolute paths with `:` between them (`;` on Windows); `~/` is expanded.
    PathList,
    /// A path or pipe name that other software sets: taken as it stands.
    AnyPath,
    /// Names that may stand in a Host header, with commas between them.
    Hosts,
    /// Origins of web pages, with commas between them.
    Origins,
    /// A bearer token. Never shown.
    Token,
    /// Targets of forwards: `host:port`, separated by commas.
    Targets,
    /// Hosts with or without a port, separated by commas; never all of them.
    SomeHosts,
    /// Patterns of hosts as in `Host` lines, with or without a port; never all of them.
    HostPatterns,
    /// URL of a proxy. It may hold a password: never shown.
    Proxy,
    /// A log filter.
    LogFilter,
}

/// The shortest bearer token that is accepted, in characters.
pub const MIN_TOKEN_CHARS: usize = 16;
/// The longest bearer token that is accepted, in characters.
pub const MAX_TOKEN_CHARS: usize = 512;

/// A tebibyte: the most that may be spilled, in MiB.
const MOST_SPILLED_MIB: u64 = 1 << 20;

/// A day: the longest time-out.
const DAY_SECS: u64 = 86_400;

impl Var {
    /// The key as it is spoken of: `ssh.connect_timeout`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// True when the value must not appear in any message.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Token | Kind::Proxy)
    }

    /// True when every source is taken as text, also in the TOML file.
    pub(super) const fn is_quoted(&self) -> bool {
        !matches!(self.kind, Kind::Whole { .. })
    }
}

impl fmt::Display for Kind {
    /// Completes the sentence "the value is not ...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::BoolOrAuto => f.write_str("`true`, `false` or `auto` (or 1/0, yes/no, on/off)"),
            Self::Bool => f.write_str("`true` or `false` (or 1/0, yes/no, on/off)"),
            Self::OneOf(words) => write!(f, "one of `{}`", words.join("`, `")),
            Self::Address => f.write_str("an IP address or `localhost`"),
            Self::AbsolutePath => f.write_str("an absolute path or one that begins with `~/`"),
            Self::PathOrNone => f.write_str("`none`, an absolute path or one that begins with `~/`"),
            Self::PathList => {
                f.write_str("a list of absolute paths or ones that begin with `~/`, with `:` between them")
            }
            Self::AnyPath => f.write_str("a path"),
            Self::Hosts => f.write_str("a list such as `mcp.example.org, 10.0.0.5:8443`"),
            Self::Origins => f.write_str("a list such as `https://app.example.org, http://10.0.0.5:3000`"),
            Self::Token => write!(f, "{MIN_TOKEN_CHARS} to {MAX_TOKEN_CHARS} visible ASCII characters"),
            Self::Targets => f.write_str("a list of `host:port` such as `*.internal:*, 10.0.0.0/8:5432`"),
            Self::SomeHosts => {
                f.write_str("a list of hosts such as `old-switch, *.lab.internal, 10.9.0.0/16:2222`, but not all hosts")
            }
            Self::HostPatterns => {
                f.write_str("a list of hosts such as `build, *.lab.internal, !old.lab.internal`, but not all hosts")
            }
            Self::Proxy => f.write_str("`socks5://[user:password@]host:port` or `http://[user:password@]host:port`"),
            Self::LogFilter => f.write_str("a log filter such as `info` or `warn,ssh_mcp=debug`"),
        }
    }
}

#[expect(missing_docs, reason = "the doc field of each row says it")]
mod limits;
#[expect(missing_docs, reason = "the doc field of each row says it")]
mod proxy;
#[expect(missing_docs, reason = "the doc field of each row says it")]
mod ssh_config;
#[expect(missing_docs, reason = "the doc field of each row says it")]
mod rows {
    use super::{DAY_SECS, DefaultValue, Kind, MOST_SPILLED_MIB, Var};

    pub const CONNECT_TIMEOUT: Var = Var {
        section: "ssh",
        key: "connect_timeout",
        env: "SSH_CONNECT_TIMEOUT",
        option: None,
        default: DefaultValue::Value("30"),
        unit: Some("seconds"),
        kind: Kind::Whole { min: 1, max: DAY_SECS },
        doc: "The whole of connecting: name look-up, dial, handshake, authentication and all retries.",
    };
    pub const COMMAND_TIMEOUT: Var = Var {
        section: "ssh",
        key: "command_timeout",
        env: "SSH_COMMAND_TIMEOUT",
        option: None,
        default: DefaultValue::Value("180"),
        unit: Some("seconds"),
        kind: Kind::Whole { min: 1, max: DAY_SECS },
        doc: "How long a command may run before it is ended, unless the call says otherwise.",
    };
    pub const MAX_RETRIES: Var = Var {
        section: "ssh",
        key: "max_retries",
        env: "SSH_MAX_RETRIES",
        option: None,
        default: DefaultValue::Value("3"),
        unit: None,
        kind: Kind::Whole { min: 0, max: 100 },
        doc: "Retries after the first attempt to connect. Only failures that may pass are retried.",
    };
    pub const RETRY_DELAY: Var = Var {
        section: "ssh",
        key: "retry_delay_ms",
        env: "SSH_RETRY_DELAY_MS",
        option: None,
        default: DefaultValue::Value("1000"),
        unit: Some("milliseconds"),
        kind: Kind::Whole { min: 0, max: 600_000 },
        doc: "Delay before the first retry. It doubles from there, with jitter, up to 10 s.",
    };
    pub const COMPRESSION: Var = Var {
        section: "ssh",
        key: "compression",
        env: "SSH_COMPRESSION",
        option: None,
        default: DefaultValue::Value("auto"),
        unit: None,
        kind: Kind::BoolOrAuto,
        doc: "`true` asks for zlib, `false` refuses it, `auto` offers it after `none`: it is used only where the \
              server insists.",
    };
    pub const INACTIVITY_TIMEOUT: Var = Var {
        section: "ssh",
        key: "inactivity_timeout",
        env: "SSH_INACTIVITY_TIMEOUT",
        option: None,
        default: DefaultValue::Value("300"),
        unit: Some("seconds"),
        kind: Kind::Whole { min: 1, max: DAY_SECS },
        doc: "A session idle for this long is closed unless it is persistent.",
    };
    pub const ANSWER_LIMIT: Var = Var {
        section: "ssh",
        key: "answer_limit",
        env: "SSH_ANSWER_LIMIT",
        option: None,
        default: DefaultValue::Value("45"),
        unit: Some("seconds"),
        kind: Kind::Whole { min: 1, max: 3_600 },
        doc: "The longest that any call waits. A command that runs longer goes on in the background.",
    };
    pub const MAX_COMMANDS: Var = Var {
        section: "ssh",
        key: "max_commands",
        env: "SSH_MAX_COMMANDS",
        option: None,
        default: DefaultValue::Value("30"),
        unit: None,
        kind: Kind::Whole { min: 1, max: 1_000 },
        doc: "Background commands that may run at the same time per session.",
    };
    pub const MAX_CONNECTIONS: Var = Var {
        section: "ssh",
        key: "max_connections",
        env: "SSH_MAX_CONNECTIONS",
        option: None,
        default: DefaultValue::Value("16"),
        unit: None,
        kind: Kind::Whole { min: 1, max: 100 },
        doc: "Connections that one session opens for its commands when the server limits the channels of one \
              (`MaxSessions`). Each forward has one more.",
    };
    pub const RECONNECT: Var = Var {
        section: "ssh",
        key: "reconnect",
        env: "SSH_RECONNECT",
        option: None,
        default: DefaultValue::Value("true"),
        unit: None,
        kind: Kind::Bool,
        doc: "A session whose connection was lost connects again at its next use. Nothing is ever run twice. \
              `false`: the session ends.",
    };
    pub const OUTPUT_LIMIT: Var = Var {
        section: "ssh",
        key: "output_limit",
        env: "SSH_OUTPUT_LIMIT",
        option: None,
        default: DefaultValue::Value("16000"),
        unit: Some("bytes"),
        kind: Kind::Whole { min: 1_000, max: 40_000 },
        doc: "Output text in one answer, both streams together. The rest is read by offset.",
    };
    pub const SPILL_DIR: Var = Var {
        section: "ssh",
        key: "spill_dir",
        env: "SSH_SPILL_DIR",
        option: None,
        default: DefaultValue::Computed("`$XDG_CACHE_HOME/ssh-mcp`, else `~/.cache/ssh-mcp`"),
        unit: None,
        kind: Kind::AbsolutePath,
        doc: "Directory of the files that take output too long for the memory. It is made when needed; one that is \
              there needs mode 0700.",
    };
    pub const SPILL_LIMIT: Var = Var {
        section: "ssh",
        key: "spill_limit",
        env: "SSH_SPILL_LIMIT",
        option: None,
        default: DefaultValue::Value("1024"),
        unit: Some("MiB"),
        kind: Kind::Whole { min: 0, max: MOST_SPILLED_MIB },
        doc: "What one command may write into such files. 0 turns them off.",
    };
    pub const SPILL_TOTAL: Var = Var {
        section: "ssh",
        key: "spill_total",
        env: "SSH_SPILL_TOTAL",
        option: None,
        default: DefaultValue::Value("4096"),
        unit: Some("MiB"),
        kind: Kind::Whole { min: 0, max: MOST_SPILLED_MIB },
        doc: "What all commands together may have in them. A command's part is free again when its record goes, or after its end when others need the room.",
    };
    pub const KNOWN_HOSTS_FILE: Var = Var {
        section: "ssh",
        key: "known_hosts_file",
        env: "SSH_KNOWN_HOSTS_FILE",
        option: None,
        default: DefaultValue::Computed(
            "`$XDG_STATE_HOME/ssh-mcp/known_hosts`, else `~/.local/state/ssh-mcp/known_hosts`",
        ),
        unit: None,
        kind: Kind::AbsolutePath,
        doc: "Host keys that ssh-mcp has accepted. New keys are written here only; `~/.ssh/known_hosts` is read too.",
    };
    pub const KEY_ROOTS: Var = Var {
        section: "ssh",
        key: "key_roots",
        env: "SSH_KEY_ROOTS",
        option: None,
        default: DefaultValue::Computed("`~/.ssh`"),
        unit: None,
        kind: Kind::PathList,
        doc: "Directories that `key_path` may lead into. Below them no link is followed.",
    };
    pub const LOG_FILTER: Var = Var {
        section: "log",
        key: "filter",
        env: "RUST_LOG",
        option: None,
        default: DefaultValue::Value("info"),
        unit: None,
        kind: Kind::LogFilter,
        doc: "What is logged, in the syntax of tracing-subscriber's `EnvFilter`.",
    };
}
pub use self::{http::*, limits::*, proxy::*, rows::*, ssh_config::*};

/// Every setting, in the order of the documentation.
pub const ALL: &[Var] = &[
    CONNECT_TIMEOUT,
    COMMAND_TIMEOUT,
    MAX_RETRIES,
    RETRY_DELAY,
    COMPRESSION,
    INACTIVITY_TIMEOUT,
    ANSWER_LIMIT,
    MAX_COMMANDS,
    MAX_COMMANDS_PER_PRINCIPAL,
    MAX_COMMANDS_TOTAL,
    MAX_SESSIONS,
    MAX_SESSIONS_TOTAL,
    MAX_FORWARDS,
    MAX_FORWARDS_PER_PRINCIPAL,
    MAX_FORWARDS_TOTAL,
    FORWARD_ALLOW,
    FORWARD_DENY,
    MAX_CONNECTIONS,
    RECONNECT,
    OUTPUT_LIMIT,
    OUTPUT_MEMORY,
    OUTPUT_MEMORY_TOTAL,
    SPILL_DIR,
    SPILL_LIMIT,
    SPILL_TOTAL,
    KNOWN_HOSTS_FILE,
    KEY_ROOTS,
    HOST_KEY_POLICY,
    LEGACY_HOSTS,
    PROXY,
    NO_PROXY,
    AUTH_SOCK,
    FORWARD_AGENT_HOSTS,
    CONFIG_FILE,
    CONFIG_EXEC,
    PORT,
    BIND,
    TOKEN,
    TOKEN_FILE,
    TLS_CERT,
    TLS_KEY,
    INSECURE_HTTP,
    SOCKET,
    ALLOWED_HOSTS,
    ALLOWED_ORIGINS,
    MAX_HTTP_CONNECTIONS,
    HEADER_TIMEOUT,
    BODY_TIMEOUT,
    MAX_CALLS,
    MAX_CALLS_TOTAL,
    LOG_FILTER,
];

/// The sections of the TOML file, in the order of the table.
#[must_use]
pub fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = ALL.iter().map(|var| var.section).collect();
    sections.dedup();
    sections
}
