//! Readers of a connection that wait for something else, so that nothing passes by them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Those of one connection.
#[derive(Debug, Default)]
pub(super) struct Stalls(Arc<AtomicUsize>);

/// One of them, until it is dropped: silence of the connection says nothing of the server meanwhile.
#[derive(Debug)]
pub(crate) struct Stall(Arc<AtomicUsize>);

impl Stalls {
    pub(super) fn begin(&self) -> Stall {
        self.0.fetch_add(1, Ordering::Relaxed);
        Stall(self.0.clone())
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
