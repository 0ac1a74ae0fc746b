//! How many of a thing one principal may have, and all principals together.
//!
//! A place is taken before the thing is made and is free again when the thing has gone, so no two callers can both
//! take the last one. What one principal holds takes nothing from the share of another.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::{
    counter::{Counted, Counter},
    ids::Owner,
};
use crate::error::{Code, Detail, Details};

/// A limit and the setting that a human can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub count: usize,
    /// The environment variable of the setting.
    pub setting: &'static str,
}

/// What there are too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// Open sessions, those included that are being connected or closed.
    Session,
    /// Running commands, for one that is to run in the background.
    Background,
    /// Running commands, for one that a caller waits for.
    Foreground,
    /// Open forwards.
    Forward,
    /// Tool calls in flight.
    Call,
}

/// Whose things are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of one session.
    Session,
    /// Those of the caller.
    Principal,
    /// Those of everybody.
    Server,
}

/// A limit is reached; nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{in_use} {} {}, which is the limit ({setting}={limit})", .thing.stand(), .scope.where_(), limit = .limit.count, setting = .limit.setting)]
pub struct Full {
    /// What there are too many of.
    pub thing: Thing,
    /// Whose.
    pub scope: Scope,
    /// The limit.
    pub limit: Limit,
    /// How many there are.
    pub in_use: usize,
}

impl Thing {
    const fn stand(self) -> &'static str {
        match self {
            Thing::Session => "sessions are open",
            Thing::Background | Thing::Foreground => "commands are running",
            Thing::Forward => "forwards are open",
            Thing::Call => "tool calls are being served",
        }
    }
}

impl Scope {
    const fn where_(self) -> &'static str {
        match self {
            Scope::Session => "on this session",
            Scope::Principal => "for this caller",
            Scope::Server => "on this server",
        }
    }

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Session => "session",
            Scope::Principal => "principal",
            Scope::Server => "server",
        }
    }
}

impl Full {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self.thing {
            Thing::Session => Code::TooManySessions,
            Thing::Background => Code::TooManyCommands,
            Thing::Forward => Code::TooManyForwards,
            Thing::Foreground | Thing::Call => Code::Busy,
        }
    }

    /// True for what ends by itself. The refusal came before anything was done.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        !matches!(self.thing, Thing::Session | Thing::Forward)
    }

    /// One next step, and the setting that a human can raise.
    #[must_use]
    pub fn hint(&self) -> String {
        let step = match self.thing {
            Thing::Session => "Reuse a session of ssh_list_sessions, or close those that are done with ssh_disconnect.",
            Thing::Background | Thing::Foreground => {
                "Nothing was run. Wait for a running command with ssh_get_command_output wait=true, or stop one with \
                 ssh_cancel_command."
            }
            Thing::Forward => "Reuse a forward of ssh_list_sessions, or close its session with ssh_disconnect.",
            Thing::Call => "Nothing was done. Repeat this call in a moment, with fewer at the same time.",
        };
        format!("{step} The user can raise {}.", self.limit.setting)
    }

    /// The limit, its setting, and what is in use.
    #[must_use]
    pub fn details(&self) -> Details {
        Details::new()
            .number("limit", self.limit.count as u64)
            .number("in_use", self.in_use as u64)
            .with("scope", Detail::Text(self.scope.as_str().into()))
            .with("setting", Detail::Text(self.limit.setting.into()))
    }
}

/// One kind of thing with its two limits.
#[derive(Debug)]
pub struct Quota {
    own: Limit,
    total: Limit,
    all: Counter,
    /// By principal. There are as many as the server has names for: tokens, and the user of the machine.
    by_owner: Mutex<HashMap<Owner, Counter>>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "only its drop matters")] [Counted; 2]);

impl Quota {
    /// So many for each principal, and so many for all together.
    #[must_use]
    pub fn new(own: Limit, total: Limit) -> Self {
        Self { own, total, all: Counter::default(), by_owner: Mutex::default() }
    }

    /// Takes a place for one more `thing` of `owner`.
    ///
    /// # Errors
    ///
    /// The limit that is reached; the caller's own before that of all.
    pub fn reserve(&self, owner: &Owner, thing: Thing) -> Result<Held, Full> {
        let own =
            self.by_owner.lock().unwrap_or_else(PoisonError::into_inner).entry(owner.clone()).or_default().clone();
        let full = |scope, limit: Limit| Full { thing, scope, limit, in_use: limit.count };
        let held = own.reserve(self.own.count).ok_or_else(|| full(Scope::Principal, self.own))?;
        // Without a place among all, the own one is free again.
        let all = self.all.reserve(self.total.count).ok_or_else(|| full(Scope::Server, self.total))?;
        Ok(Held([held, all]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(own: usize, total: usize) -> Quota {
        let limit = |count| Limit { count, setting: "SETTING" };
        Quota::new(limit(own), limit(total))
    }

    fn refused(quota: &Quota, owner: &str) -> Option<(Scope, usize)> {
        quota.reserve(&Owner::new(owner), Thing::Call).err().map(|full| (full.scope, full.in_use))
    }

    #[test]
    fn a_full_principal_takes_nothing_from_another() {
        let quota = quota(2, 3);
        let a = Owner::new("a");
        let held: Vec<_> = (0..2).map(|_| quota.reserve(&a, Thing::Call)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(refused(&quota, "a"), Some((Scope::Principal, 2)));
        let b = quota.reserve(&Owner::new("b"), Thing::Call);
        assert!(b.is_ok());
        assert_eq!(refused(&quota, "b"), Some((Scope::Server, 3)));
        drop(held);
        assert_eq!(refused(&quota, "b"), None, "the refusal above left no place taken");
    }

    #[test]
    fn threads_that_race_for_the_last_places_get_exactly_those() {
        let quota = quota(100, 150);
        let held: Vec<_> = std::thread::scope(|scope| {
            let racing: Vec<_> = (0..8)
                .map(|n| {
                    let (quota, owner) = (&quota, Owner::new(if n % 2 == 0 { "a" } else { "b" }));
                    scope.spawn(move || {
                        (0..100).filter_map(|_| quota.reserve(&owner, Thing::Call).ok()).collect::<Vec<_>>()
                    })
                })
                .collect();
            racing.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        assert_eq!(held.len(), 150);
    }
}
