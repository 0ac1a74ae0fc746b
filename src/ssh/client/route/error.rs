//! Why the way to a server is closed, as far as it is not a failure of TCP or of an SSH server.

use std::{io, process::ExitStatus, sync::Arc};

use super::super::{ClientError, Target, error::io_code};
use crate::error::{Code, Details, Explain};

/// A failure on the way to a server.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum RouteError {
    #[error("it is an address of the family that AddressFamily leaves out")]
    Family,
    #[error("the address {address:?} that it is to come from cannot be used{}", .source.as_ref().map(|e| format!(" ({e})")).unwrap_or_default())]
    Bind { address: String, source: Option<Arc<io::Error>> },
    #[error("the jump host {via} (hop {hop}) could not connect to it")]
    JumpUnreached { via: Target, hop: usize },
    #[error("the jump host {via} (hop {hop}) does not allow connections to it")]
    JumpDenied { via: Target, hop: usize },
    #[error("ProxyCommand cannot be started ({0})")]
    CommandStart(Arc<io::Error>),
    #[error("ProxyCommand ended ({status}){}", and_said(.said))]
    CommandEnded { status: ExitStatus, said: String },
    #[error("the proxy {proxy}: {fault}")]
    Proxy { proxy: String, fault: ProxyFault },
}

/// What went wrong at a proxy.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum ProxyFault {
    #[error("cannot be reached: {0}")]
    Unreached(Box<ClientError>),
    #[error("the connection was lost ({0})")]
    Lost(Arc<io::Error>),
    #[error("it wants a user name and password")]
    LoginWanted,
    #[error("it refused the user name and password")]
    LoginRefused,
    #[error("it does not allow this connection ({0})")]
    Denied(String),
    #[error("the server refused the connection")]
    TargetRefused,
    #[error("it cannot reach the server ({0})")]
    TargetUnreached(String),
    #[error("it failed ({0})")]
    Failed(String),
    #[error("it does not speak {0}")]
    NotAProxy(&'static str),
}

fn and_said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; it said: {text}") }
}

impl RouteError {
    /// The failure to connect that this is.
    pub(super) fn at(self, target: &Target) -> ClientError {
        ClientError::Route { target: target.clone(), source: Box::new(self) }
    }

    /// Whether trying again may help by itself.
    pub(in super::super) fn is_transient(&self) -> bool {
        match self {
            RouteError::JumpUnreached { .. } => true,
            RouteError::Proxy { fault, .. } => fault.is_transient(),
            _ => false,
        }
    }
}

impl ProxyFault {
    fn is_transient(&self) -> bool {
        match self {
            ProxyFault::Unreached(error) => error.is_transient(),
            ProxyFault::Lost(_) | ProxyFault::TargetRefused | ProxyFault::TargetUnreached(_) => true,
            _ => false,
        }
    }
}

impl Explain for RouteError {
    fn code(&self) -> Code {
        match self {
            RouteError::Family => Code::ResolveFailed,
            RouteError::Bind { .. } => Code::Unreachable,
            RouteError::JumpUnreached { .. } => Code::ConnectRefused,
            RouteError::JumpDenied { .. } => Code::ForwardDenied,
            RouteError::CommandStart(_) | RouteError::CommandEnded { .. } => Code::ProxyFailed,
            RouteError::Proxy { fault, .. } => match fault {
                ProxyFault::Unreached(error) => error.code(),
                ProxyFault::Lost(error) => io_code(error.kind()),
                ProxyFault::LoginWanted | ProxyFault::LoginRefused => Code::ProxyAuthFailed,
                ProxyFault::TargetRefused => Code::ConnectRefused,
                ProxyFault::TargetUnreached(_) => Code::Unreachable,
                ProxyFault::Denied(_) | ProxyFault::Failed(_) | ProxyFault::NotAProxy(_) => Code::ProxyFailed,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            RouteError::Family => "Use a name or address of the other family, or ask the user to change AddressFamily.",
            RouteError::Bind { .. } => "Ask the user: BindAddress names no address of this machine.",
            RouteError::JumpUnreached { .. } => {
                "Check with the user that the name is known on the jump host, and that sshd runs there on that port."
            }
            RouteError::JumpDenied { .. } => {
                "Ask the user: the jump host forbids forwarding (AllowTcpForwarding, PermitOpen)."
            }
            RouteError::CommandStart(_) | RouteError::CommandEnded { .. } => {
                "Ask the user to run the ProxyCommand of this host in a terminal."
            }
            RouteError::Proxy { fault: ProxyFault::LoginWanted | ProxyFault::LoginRefused, .. } => {
                "Ask the user to correct the user name and password in the setting SSH_PROXY."
            }
            RouteError::Proxy { fault: ProxyFault::TargetRefused | ProxyFault::TargetUnreached(_), .. } => {
                "Check the address with the user; SSH_NO_PROXY names hosts that are reached without the proxy."
            }
            RouteError::Proxy { .. } => {
                "Ask the user to check the setting SSH_PROXY; SSH_NO_PROXY names hosts that do not need it."
            }
        };
        Some(hint.into())
    }

    fn retryable(&self) -> bool {
        self.is_transient()
    }

    fn details(&self) -> Details {
        let details = Details::new();
        match self {
            RouteError::JumpUnreached { via, hop } | RouteError::JumpDenied { via, hop } => {
                details.text("via", via.host_port()).number("via_hop", *hop as u64)
            }
            RouteError::Proxy { proxy, .. } => details.text("proxy", proxy),
            _ => details,
        }
    }
}
