//! Which key a host took last time: it is offered first the next time.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use crate::ssh::client::Target;

/// Hosts that are remembered; the one that was used longest ago goes.
const REMEMBERED: usize = 256;

/// In memory only, and public keys only.
#[derive(Debug, Default)]
pub struct WorkedKeys(Mutex<VecDeque<(Target, Vec<u8>)>>);

impl WorkedKeys {
    /// The public key or certificate that this target took.
    pub(super) fn of(&self, target: &Target) -> Option<Vec<u8>> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().find(|(known, _)| known == target).map(|(_, key)| key.clone())
    }

    pub(super) fn remember(&self, target: &Target, key: &[u8]) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|(known, _)| known != target);
        keys.truncate(REMEMBERED - 1);
        keys.push_front((target.clone(), key.to_vec()));
    }
}
