//! What was made, by id and owner. Ended things stay readable for a while, then make room.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use super::ids::Owner;

/// How long records stay readable after the end.
pub const RECORDS_KEPT_FOR: Duration = Duration::from_secs(30 * 60);
/// How many ended records of one owner are kept; the newest push out the oldest.
pub const RECORDS_KEPT: usize = 200;

/// Something that belongs to an owner and ends.
pub trait Entry {
    /// Whose it is.
    fn owner(&self) -> &Owner;
    /// When it ended; none while it lives.
    fn ended_at(&self) -> Option<Instant>;
}

/// Entries by id, in the order of their insertion.
#[derive(Debug)]
pub struct Registry<I, T> {
    entries: RwLock<Entries<I, T>>,
}

#[derive(Debug)]
struct Entries<I, T> {
    by_id: HashMap<I, (u64, Arc<T>)>,
    inserted: u64,
}

impl<I, T> Default for Registry<I, T> {
    fn default() -> Self {
        Self { entries: RwLock::new(Entries { by_id: HashMap::new(), inserted: 0 }) }
    }
}

impl<I: Copy + Eq + Hash, T: Entry> Registry<I, T> {
    /// Adds an entry, and lets go of what has been ended for long.
    pub fn insert(&self, id: I, entry: Arc<T>) {
        // The check cannot fail.
        let _ = self.insert_if(id, entry, |_| Ok::<_, std::convert::Infallible>(()));
    }

    /// Adds an entry if `allow`, which sees all others under the same lock, agrees.
    ///
    /// # Errors
    ///
    /// What `allow` gives.
    pub fn insert_if<E>(
        &self,
        id: I,
        entry: Arc<T>,
        allow: impl FnOnce(&mut dyn Iterator<Item = &Arc<T>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        allow(&mut entries.by_id.values().map(|(_, entry)| entry))?;
        entries.evict(entry.owner(), Instant::now());
        entries.inserted += 1;
        let order = entries.inserted;
        entries.by_id.insert(id, (order, entry));
        Ok(())
    }

    /// The entry, if it is `owner`'s. Another's reads like a missing one.
    #[must_use]
    pub fn get(&self, owner: &Owner, id: &I) -> Option<Arc<T>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let (_, entry) = entries.by_id.get(id)?;
        (entry.owner() == owner && !is_expired(entry.as_ref(), Instant::now())).then(|| entry.clone())
    }

    /// All entries that `keep` takes, newest first.
    #[must_use]
    pub fn list(&self, keep: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let now = Instant::now();
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = entries
            .by_id
            .values()
            .filter(|(_, entry)| !is_expired(entry.as_ref(), now) && keep(entry))
            .cloned()
            .collect();
        drop(entries);
        found.sort_unstable_by_key(|(order, _)| std::cmp::Reverse(*order));
        found.into_iter().map(|(_, entry)| entry).collect()
    }
}

fn is_expired<T: Entry>(entry: &T, now: Instant) -> bool {
    entry.ended_at().is_some_and(|at| now.saturating_duration_since(at) > RECORDS_KEPT_FOR)
}

impl<I: Copy + Eq + Hash, T: Entry> Entries<I, T> {
    fn evict(&mut self, owner: &Owner, now: Instant) {
        self.by_id.retain(|_, (_, entry)| !is_expired(entry.as_ref(), now));
        let mut ended: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, (_, entry))| entry.owner() == owner)
            .filter_map(|(id, (_, entry))| entry.ended_at().map(|at| (at, *id)))
            .collect();
        if ended.len() > RECORDS_KEPT {
            ended.sort_unstable_by_key(|(at, _)| *at);
            for (_, id) in &ended[..ended.len() - RECORDS_KEPT] {
                self.by_id.remove(id);
            }
        }
    }
}
