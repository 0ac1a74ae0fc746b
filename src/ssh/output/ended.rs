//! Output of commands that have ended: it makes room in the spill files for that of commands that run.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{NotKept, Streams};
use crate::ssh::ids::Owner;

/// What has ended and has a file, in the order of the ends.
#[derive(Debug, Default)]
pub(super) struct Ended(Mutex<Vec<(Owner, Weak<Mutex<Streams>>)>>);

impl Ended {
    fn list(&self) -> MutexGuard<'_, Vec<(Owner, Weak<Mutex<Streams>>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, owner: &Owner, streams: &Arc<Mutex<Streams>>) {
        let mut list = self.list();
        list.retain(|(_, streams)| streams.strong_count() > 0);
        list.push((owner.clone(), Arc::downgrade(streams)));
    }

    /// Takes the file of the oldest of whoever has most there, so that one who has much pushes out nobody else's. False
    /// where there is none.
    ///
    /// Locks the streams of others: the caller holds its own no more.
    pub(super) fn make_room(&self) -> bool {
        let list = self.list();
        let mut of: HashMap<&Owner, (u64, Arc<Mutex<Streams>>)> = HashMap::new();
        for (owner, streams) in list.iter() {
            let Some(streams) = streams.upgrade() else { continue };
            let pieces = locked(&streams).pieces();
            if pieces > 0 {
                // The first of an owner is the oldest.
                of.entry(owner).or_insert((0, streams)).0 += pieces;
            }
        }
        let most = of.into_values().max_by_key(|(pieces, _)| *pieces);
        most.inspect(|(_, oldest)| locked(oldest).lose_files(&NotKept::MadeRoom)).is_some()
    }
}

fn locked(streams: &Mutex<Streams>) -> MutexGuard<'_, Streams> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}
