//! Where a command stands.

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not ended.
    Running,
    /// It ended: exit status, exit signal, or timed out.
    Completed,
    /// It was stopped by a cancel or a disconnect.
    Cancelled,
    /// It did not start, or the connection was lost.
    Failed,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 4] = [Status::Running, Status::Completed, Status::Cancelled, Status::Failed];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Cancelled => "cancelled",
            Status::Failed => "failed",
        }
    }
}
