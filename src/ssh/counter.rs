//! Counts things in use; the count goes down when the thing is dropped.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A count that can be reserved up to a limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

/// One counted thing.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counter {
    /// How many there are.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// One more.
    pub(crate) fn add(&self) -> Counted {
        self.0.fetch_add(1, Ordering::AcqRel);
        Counted(self.0.clone())
    }

    /// One more, unless there are `limit` already.
    pub(crate) fn reserve(&self, limit: usize) -> Option<Counted> {
        let reserved =
            self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < limit).then_some(count + 1));
        reserved.is_ok().then(|| Counted(self.0.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
