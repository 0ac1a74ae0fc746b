//! What was made, by id and owner. Ended things stay readable for a while, then make room.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use super::ids::Owner;
use crate::config::Share;

/// How long records stay readable after the end.
pub const RECORDS_KEPT_FOR: Duration = Duration::from_secs(30 * 60);
/// How many ended records of one owner are kept; the newest push out the oldest.
pub const RECORDS_KEPT: usize = 200;
/// So many more there may be until all are looked through: doing so for each command was a fifth of its cost.
const SLACK: usize = 50;
/// How long what has expired, and is shown to nobody, may take up room.
const LOOKED_THROUGH_EVERY: Duration = Duration::from_secs(60);

/// Something that belongs to an owner and ends.
pub trait Entry {
    /// Whose it is.
    fn owner(&self) -> &Owner;
    /// When it ended; none while it lives.
    fn ended_at(&self) -> Option<Instant>;
    /// Bytes that are kept for it, where they are worth counting.
    fn retained(&self) -> usize {
        0
    }
}

/// Entries by id, in the order of their insertion.
#[derive(Debug)]
pub struct Registry<I, T> {
    /// Bytes that ended entries may keep.
    bytes: Share,
    entries: RwLock<Entries<I, T>>,
}

#[derive(Debug)]
struct Entries<I, T> {
    by_id: HashMap<I, (u64, Arc<T>)>,
    inserted: u64,
    /// When all were looked through, and what has come since.
    looked_through: Instant,
    since: usize,
    /// What ended entries keep is no more than this.
    bytes: usize,
}

impl<I, T> Default for Registry<I, T> {
    fn default() -> Self {
        Self::keeping(Share { own: usize::MAX, total: usize::MAX })
    }
}

impl<I, T> Registry<I, T> {
    /// An empty one, whose ended entries may keep this many bytes for one owner, and for all.
    #[must_use]
    pub fn keeping(bytes: Share) -> Self {
        let entries =
            Entries { by_id: HashMap::new(), inserted: 0, looked_through: Instant::now(), since: 0, bytes: 0 };
        Self { bytes, entries: RwLock::new(entries) }
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
        entries.since += 1;
        if entries.since >= SLACK {
            entries.look_through(self.bytes, Instant::now());
        }
        entries.inserted += 1;
        let order = entries.inserted;
        entries.by_id.insert(id, (order, entry));
        Ok(())
    }

    /// Counts in what an entry keeps now that it has ended. The oldest of what keeps too much make room.
    pub fn ended(&self, entry: &T) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.bytes = entries.bytes.saturating_add(entry.retained());
        let now = Instant::now();
        let late = now.saturating_duration_since(entries.looked_through) >= LOOKED_THROUGH_EVERY;
        if late || entries.bytes > self.bytes.own.min(self.bytes.total) {
            entries.look_through(self.bytes, now);
        }
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
    /// Removes what has expired, and of each owner the oldest ended entries that are too many; then the oldest until
    /// nobody keeps more bytes than their share; then of whoever keeps most, so that one who keeps much pushes out
    /// nobody else's.
    fn look_through(&mut self, bytes: Share, now: Instant) {
        self.by_id.retain(|_, (_, entry)| !is_expired(entry.as_ref(), now));
        let mut kept: HashMap<Owner, Kept<I>> = HashMap::new();
        for (id, (_, entry)) in &self.by_id {
            let Some(at) = entry.ended_at() else { continue };
            let own = kept.entry(entry.owner().clone()).or_default();
            let size = entry.retained();
            own.bytes += size;
            own.ended.push((at, *id, size));
        }
        for own in kept.values_mut() {
            // The oldest is the last.
            own.ended.sort_unstable_by_key(|(at, ..)| std::cmp::Reverse(*at));
            while (own.ended.len() > RECORDS_KEPT || own.bytes > bytes.own) && own.drop_oldest(&mut self.by_id) {}
        }
        while kept.values().map(|own| own.bytes).sum::<usize>() > bytes.total {
            let most = kept.values_mut().max_by_key(|own| own.bytes);
            if !most.is_some_and(|own| own.drop_oldest(&mut self.by_id)) {
                break;
            }
        }
        self.bytes = kept.values().map(|own| own.bytes).sum();
        (self.looked_through, self.since) = (now, 0);
    }
}

/// What one owner keeps of ended entries.
struct Kept<I> {
    bytes: usize,
    ended: Vec<(Instant, I, usize)>,
}

impl<I> Default for Kept<I> {
    fn default() -> Self {
        Self { bytes: 0, ended: Vec::new() }
    }
}

impl<I: Eq + Hash> Kept<I> {
    fn drop_oldest<E>(&mut self, entries: &mut HashMap<I, E>) -> bool {
        let Some((_, id, bytes)) = self.ended.pop() else { return false };
        self.bytes -= bytes;
        entries.remove(&id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Record {
        owner: Owner,
        ended: Option<Instant>,
        bytes: usize,
    }

    impl Entry for Record {
        fn owner(&self) -> &Owner {
            &self.owner
        }

        fn ended_at(&self) -> Option<Instant> {
            self.ended
        }

        fn retained(&self) -> usize {
            self.bytes
        }
    }

    /// Ids that are left of records `(id, owner, seconds after the start of its end, bytes)`.
    fn left(bytes: Share, records: &[(u32, &str, Option<u64>, usize)]) -> Vec<u32> {
        let (registry, start) = (Registry::keeping(bytes), Instant::now());
        for (id, owner, ended, bytes) in records {
            let ended = ended.map(|secs| start + Duration::from_secs(secs));
            let record = Arc::new(Record { owner: Owner::new(owner), ended, bytes: *bytes });
            registry.insert(*id, record.clone());
            if ended.is_some() {
                registry.ended(&record);
            }
        }
        records
            .iter()
            .map(|(id, owner, ..)| (*id, Owner::new(owner)))
            .filter(|(id, owner)| registry.get(owner, id).is_some())
            .map(|(id, _)| id)
            .collect()
    }

    #[test]
    fn the_oldest_that_have_ended_make_room_and_what_runs_stays() {
        let bytes = Share { own: 10, total: 100 };
        let records = [
            (1, "a", None, 50),
            (2, "a", Some(9), 4),
            (3, "a", Some(7), 4),
            (4, "a", Some(8), 4),
            (5, "b", Some(1), 10),
        ];
        assert_eq!(left(bytes, &records), [1, 2, 4, 5]);
    }

    #[test]
    fn only_so_many_of_those_that_have_ended_are_kept() {
        let bytes = Share { own: usize::MAX, total: usize::MAX };
        let records: Vec<_> = (1..1_000).map(|id| (id, "a", Some(u64::from(id)), 0)).collect();
        let left = left(bytes, &records);
        assert!((RECORDS_KEPT..=RECORDS_KEPT + SLACK).contains(&left.len()), "{}", left.len());
        assert!(left.contains(&999) && !left.contains(&1));
    }

    #[test]
    fn who_keeps_most_makes_room_for_all() {
        let bytes = Share { own: 10, total: 12 };
        let records = [(1, "b", Some(1), 4), (2, "a", Some(2), 5), (3, "a", Some(3), 5), (4, "c", Some(4), 2)];
        assert_eq!(left(bytes, &records), [1, 3, 4]);
    }
}
