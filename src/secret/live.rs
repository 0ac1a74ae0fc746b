//! The secrets that this process holds just now, for the log to mask.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{
    Held, Secret, forms,
    redact::{Patterns, Redactor},
};

/// Knows every secret in use, as long as somebody holds it, and no longer.
#[derive(Default)]
pub struct LiveSecrets {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: Vec<Weak<Held>>,
    /// None until the log needs them.
    patterns: Option<Arc<Patterns>>,
}

impl LiveSecrets {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on the secret is masked, until its last holder lets go of it.
    pub fn watch(self: &Arc<Self>, secret: &Secret) {
        if secret.0.watched_by.set(Arc::downgrade(self)).is_ok() {
            let mut state = self.state();
            state.watched.push(Arc::downgrade(&secret.0));
            state.patterns = None;
        }
    }

    /// Masks one text, such as a log line, with what is known at its beginning.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self.patterns())
    }

    /// How many secrets are watched.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().watched.iter().filter(|held| held.strong_count() > 0).count()
    }

    fn patterns(&self) -> Arc<Patterns> {
        let mut state = self.state();
        if let Some(patterns) = &state.patterns {
            return patterns.clone();
        }
        let held: Vec<Arc<Held>> = state.watched.iter().filter_map(Weak::upgrade).collect();
        let forms: Vec<_> = held.iter().flat_map(|held| forms::of(Secret(held.clone()).expose())).collect();
        let patterns = Arc::new(Patterns::new(forms.iter().map(|form| form.as_slice())));
        state.patterns = Some(patterns.clone());
        // Not before: the last holder of a secret calls `forget`, which takes the lock.
        drop(state);
        drop(held);
        patterns
    }

    /// A secret is gone: so are its patterns.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.watched.retain(|held| held.strong_count() > 0);
        state.patterns = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for LiveSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveSecrets").field("count", &self.count()).finish_non_exhaustive()
    }
}
