//! Connections to jump hosts, shared between the sessions of one principal.

use std::sync::Arc;

use crate::ssh::ids::Owner;

/// Most SSH servers on the way to one server.
pub const MAX_HOPS: usize = 8;

/// There are more than [`MAX_HOPS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} jump hosts are named; at most {MAX_HOPS} are taken")]
pub struct TooManyHops {
    /// How many.
    pub count: usize,
}

/// Every connection to a jump host. One per process.
#[derive(Debug, Default)]
pub struct JumpPool {}

impl JumpPool {
    /// The part of one principal: its connections serve nobody else.
    #[must_use]
    pub fn of(self: &Arc<Self>, owner: &Owner) -> Jumps {
        Jumps { _pool: self.clone(), _owner: owner.clone() }
    }
}

/// The connections to jump hosts of one principal.
#[derive(Clone, Debug)]
pub struct Jumps {
    _pool: Arc<JumpPool>,
    _owner: Owner,
}
