//! Why a session was closed.

use std::fmt;

/// Why a session was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// `ssh_disconnect`.
    Disconnected,
    /// Nobody used it for the inactivity timeout.
    Idle,
    /// The connection was lost and not replaced.
    Lost(String),
    /// This process ended.
    Shutdown,
}

impl EndReason {
    /// The wire form.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            EndReason::Disconnected => "disconnected",
            EndReason::Idle => "idle",
            EndReason::Lost(_) => "connection_lost",
            EndReason::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Disconnected => f.write_str("ssh_disconnect was called"),
            EndReason::Idle => f.write_str("it was idle for the inactivity timeout"),
            EndReason::Lost(cause) => write!(f, "the connection was lost ({cause})"),
            EndReason::Shutdown => f.write_str("the server ended"),
        }
    }
}
