//! Failures as data: a stable code, a message, the next step, and whether a retry is safe.
//!
//! Each layer has an error type of its own that implements [`Explain`]; the edge renders it once.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap};

macro_rules! codes {
    ($($variant:ident => $text:literal,)*) => {
        /// A stable error code, as callers see it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each variant is its own text, listed in docs/API.md")]
        pub enum Code { $($variant,)* }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The wire form, such as `connect_refused`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }
        }
    };
}

codes! {
    InvalidArgument => "invalid_argument",
    MissingArgument => "missing_argument",
    UnknownArgument => "unknown_argument",
    ConflictingArguments => "conflicting_arguments",
    OutOfRange => "out_of_range",
    InvalidAddress => "invalid_address",
    InvalidUsername => "invalid_username",
    InvalidName => "invalid_name",
    NameInUse => "name_in_use",
    CommandTooLong => "command_too_long",
    NoSuchDirectory => "no_such_directory",
    SshConfigInvalid => "ssh_config_invalid",
    SessionNotFound => "session_not_found",
    SessionClosed => "session_closed",
    CommandNotFound => "command_not_found",
    ForwardNotFound => "forward_not_found",
    TooManyCommands => "too_many_commands",
    TooManySessions => "too_many_sessions",
    TooManyForwards => "too_many_forwards",
    Busy => "busy",
    ResolveFailed => "resolve_failed",
    ConnectRefused => "connect_refused",
    ConnectTimeout => "connect_timeout",
    Unreachable => "unreachable",
    ConnectionLost => "connection_lost",
    ProxyFailed => "proxy_failed",
    ProxyAuthFailed => "proxy_auth_failed",
    NotSsh => "not_ssh",
    NoCommonAlgorithm => "no_common_algorithm",
    HostKeyChanged => "host_key_changed",
    HostKeyUnknown => "host_key_unknown",
    HostKeyRevoked => "host_key_revoked",
    AuthFailed => "auth_failed",
    AgentUnavailable => "agent_unavailable",
    AgentEmpty => "agent_empty",
    KeyNotFound => "key_not_found",
    KeyPermissions => "key_permissions",
    KeyPathNotAllowed => "key_path_not_allowed",
    KeyEncrypted => "key_encrypted",
    NotAPrivateKey => "not_a_private_key",
    SecretNotFound => "secret_not_found",
    SecretNotAllowed => "secret_not_allowed",
    SecretUnavailable => "secret_unavailable",
    ChannelRefused => "channel_refused",
    OutcomeUnknown => "outcome_unknown",
    PortInUse => "port_in_use",
    InvalidPort => "invalid_port",
    PermissionDenied => "permission_denied",
    ForwardDenied => "forward_denied",
    ForwardTargetDenied => "forward_target_denied",
    Internal => "internal",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One piece of context that travels with a failure, in wire form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A text.
    Text(String),
    /// A count, a port, a number of seconds.
    Number(u64),
    /// Several texts, such as ids.
    Texts(Vec<String>),
    /// Several records, such as the sessions a caller may have meant.
    Records(Vec<Details>),
}

/// Named pieces of context, in the order in which they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details(pub Vec<(&'static str, Detail)>);

impl Details {
    /// No context.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, name: &'static str, value: impl fmt::Display) -> Self {
        self.with(name, Detail::Text(value.to_string()))
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, name: &'static str, value: impl Into<u64>) -> Self {
        self.with(name, Detail::Number(value.into()))
    }

    /// Sets a text, in the place of one of that name.
    pub fn put(&mut self, name: &'static str, value: impl fmt::Display) {
        let value = Detail::Text(value.to_string());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    /// Adds any detail.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Detail) -> Self {
        self.0.push((name, value));
        self
    }
}

impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Detail::Text(text) => text.serialize(serializer),
            Detail::Number(number) => number.serialize(serializer),
            Detail::Texts(texts) => texts.serialize(serializer),
            Detail::Records(records) => records.serialize(serializer),
        }
    }
}

impl Serialize for Details {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// What every failure can tell. `Display` is the message: lower case, what failed, on what.
pub trait Explain: fmt::Display {
    /// The stable code.
    fn code(&self) -> Code;

    /// One next step for the caller, where there is one.
    fn hint(&self) -> Option<String>;

    /// True when this same call may be repeated unchanged without doing anything twice.
    fn retryable(&self) -> bool;

    /// Context for the caller. Never a secret.
    fn details(&self) -> Details {
        Details::new()
    }
}
