//! The secrets that this process holds just now, for the log to mask.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{
    Held, Secret, forms,
    redact::{MAX_NODES, Patterns, Redactor},
};

/// There is no room to mask one more secret: those in use are too many or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secrets in use are too many or too long to mask one more in the log")]
pub struct NoRoom;

/// Knows every secret in use, as long as somebody holds it, and no longer.
///
/// Their forms together stay below what one automaton takes, so that the log can always be masked and never stops.
#[derive(Default)]
pub struct LiveSecrets {
    state: Mutex<State>,
    /// Held by whoever builds the patterns, so that one does it; never taken by those who watch and let go.
    building: Mutex<()>,
    /// Texts are told apart by a keyed hash: no second copy of them is kept.
    texts: RandomState,
}

#[derive(Default)]
struct State {
    watched: Vec<Weak<Held>>,
    /// By the hash of the text: equal ones take room once.
    room: HashMap<u64, Taken>,
    /// Bytes of all forms of all texts, at most [`MAX_NODES`].
    bytes: usize,
    /// None until the log needs them.
    patterns: Option<Arc<Patterns>>,
    /// Which secrets are watched; what was built for another value is not kept.
    generation: u64,
}

/// What the forms of one text take.
struct Taken {
    bytes: usize,
    holders: usize,
}

/// Who watches a secret, and by which hash.
pub(super) struct Watch {
    live: Weak<LiveSecrets>,
    text: u64,
}

impl LiveSecrets {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on the secret is masked, until its last holder lets go of it.
    ///
    /// # Errors
    ///
    /// The secret is not watched and must not be used: an automaton with its forms too would be too large.
    pub fn watch(self: &Arc<Self>, secret: &Secret) -> Result<(), NoRoom> {
        let text = self.texts.hash_one(secret.expose());
        // Before the lock: a long text has long forms.
        let bytes = forms::of(secret.expose()).iter().map(|form| form.len()).sum();
        let mut state = self.state();
        if secret.0.watch.get().is_some() {
            return Ok(());
        }
        state.take(text, bytes)?;
        state.watched.push(Arc::downgrade(&secret.0));
        state.changed();
        // Set under the lock, after the check under the same lock.
        let _ = secret.0.watch.set(Watch { live: Arc::downgrade(self), text });
        Ok(())
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
        let known = || self.state().patterns.clone();
        if let Some(patterns) = known() {
            return patterns;
        }
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(patterns) = known() {
            return patterns;
        }
        let state = self.state();
        let generation = state.generation;
        let held: Vec<Arc<Held>> = state.watched.iter().filter_map(Weak::upgrade).collect();
        // The last holder of a secret calls `forget`, which takes this lock; and to build may take long.
        drop(state);
        let mut forms: Vec<_> = held.iter().flat_map(|held| forms::of(Secret(held.clone()).expose())).collect();
        forms::each_once(&mut forms);
        let patterns = Arc::new(Patterns::new(forms.iter().map(|form| form.as_slice())));
        drop(held);
        let mut state = self.state();
        if state.generation == generation {
            state.patterns = Some(patterns.clone());
        }
        patterns
    }

    fn forget(&self, text: u64) {
        let mut state = self.state();
        state.watched.retain(|held| held.strong_count() > 0);
        state.leave(text);
        state.changed();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, text: u64, bytes: usize) -> Result<(), NoRoom> {
        if let Some(taken) = self.room.get_mut(&text) {
            taken.holders += 1;
            return Ok(());
        }
        if bytes > MAX_NODES - self.bytes {
            return Err(NoRoom);
        }
        self.bytes += bytes;
        self.room.insert(text, Taken { bytes, holders: 1 });
        Ok(())
    }

    fn leave(&mut self, text: u64) {
        let Some(taken) = self.room.get_mut(&text) else { return };
        taken.holders -= 1;
        if taken.holders == 0 {
            self.bytes -= taken.bytes;
            self.room.remove(&text);
        }
    }

    fn changed(&mut self) {
        self.patterns = None;
        self.generation += 1;
    }
}

impl Watch {
    /// The secret is gone: so are its patterns, and its room is free.
    pub(super) fn end(&self) {
        if let Some(live) = self.live.upgrade() {
            live.forget(self.text);
        }
    }
}

impl std::fmt::Debug for LiveSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveSecrets").field("count", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A password whose forms are as long as they can be: each of its bytes is written in 19.
    fn costly(number: usize) -> Secret {
        Secret::from(format!("{number:04}{}", "\u{1}".repeat(1020)))
    }

    fn masked(live: &LiveSecrets, line: &str) -> String {
        let mut redactor = live.redactor();
        let mut out = redactor.push(line.as_bytes());
        out.extend(redactor.finish());
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn secrets_beyond_the_room_are_refused_and_the_log_goes_on() {
        let live = LiveSecrets::new();
        let mut held: Vec<_> = (0..300).map(costly).map(|secret| (live.watch(&secret), secret)).collect();
        let taken = held.iter().filter(|(watched, _)| watched.is_ok()).count();
        assert!((50..300).contains(&taken), "{taken}");
        assert_eq!(live.count(), taken);
        assert_eq!(masked(&live, "the log goes on"), "the log goes on");
        assert_eq!(masked(&live, &format!("a {} z", costly(0).expose())), "a [redacted] z");
        // Whoever lets go makes room.
        let late = costly(300);
        assert_eq!(live.watch(&late), Err(NoRoom));
        drop(held.remove(0));
        assert_eq!(live.watch(&late), Ok(()));
        assert_eq!(masked(&live, &format!("a {} z", late.expose())), "a [redacted] z");
        drop((held, late));
        let state = live.state();
        assert_eq!((state.bytes, state.room.len(), state.watched.len()), (0, 0, 0));
    }

    #[test]
    fn equal_secrets_take_room_once_until_the_last_is_gone() {
        let live = LiveSecrets::new();
        let mut held: Vec<_> = (0..300).map(|_| costly(7)).collect();
        assert!(held.iter().all(|secret| live.watch(secret).is_ok() && live.watch(secret).is_ok()));
        let bytes = live.state().bytes;
        assert!(bytes < 20 << 10, "{bytes}");
        held.truncate(1);
        assert_eq!(live.state().bytes, bytes);
        assert_eq!(masked(&live, costly(7).expose()), "[redacted]");
        held.clear();
        assert_eq!(live.state().bytes, 0);
    }

    #[test]
    fn who_watches_or_lets_go_does_not_wait_for_whoever_builds() {
        let live = LiveSecrets::new();
        let [first, second, third] = ["first-canary", "second-canary", "third-canary"].map(Secret::from);
        assert_eq!(live.watch(&first), Ok(()));
        let building = live.building.lock();
        std::thread::scope(|scope| {
            let line = scope.spawn(|| masked(&live, "first-canary second-canary"));
            assert_eq!((live.watch(&second), live.watch(&third)), (Ok(()), Ok(())));
            drop(third);
            drop(building);
            assert!(line.join().is_ok_and(|line| !line.contains("first-canary")));
            assert_eq!(masked(&live, "first-canary second-canary"), "[redacted] [redacted]");
        });
    }
}
