//! Logging in, in ssh's order: what may be used, and on one connection after the other what is tried.
//!
//! A [`LoginPlan`] says what may be used. [`LoginPlan::prepare`] reads the key files, once: a session that connects
//! again has them. Nothing is asked of a person here. What only a person knows ends the login with the question; whoever
//! asks comes back with [`Answered`], and the login is done again from its start.

mod agent;
mod agent_stream;
mod algorithms;
mod attempt;
mod candidates;
mod failure;
mod interactive;
mod keys;
mod plan;
mod prompt;
mod signer;
mod totp;
mod verdict;
mod worked;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

pub(super) use self::{
    agent::{Socket as AgentSocket, lent as forwarded_agent},
    attempt::{Outcome, Progress, authenticate},
    prompt::shown,
};
pub use self::{
    failure::{AuthFailure, NeedsAnswers, Why},
    plan::{AgentUse, Answered, Asked, Given, Identity, LoginPlan, Method},
    worked::WorkedKeys,
};
use self::{keys::Loaded, totp::Totp};
use super::ClientError;
use crate::secret::Secret;

/// A plan whose files have been read. Wiped when the last copy goes; never shown.
#[derive(Clone)]
pub struct Credentials {
    prepared: Arc<Prepared>,
    /// What a person typed for this one login; every copy forgets it at once.
    answers: Arc<Mutex<Vec<Answered>>>,
}

struct Prepared {
    plan: LoginPlan,
    /// Key files that a person typed the passphrase of.
    unlocked: Vec<PathBuf>,
    loaded: Loaded,
    totp: Option<Totp>,
    /// The step of the last code that was sent: hosts take each code once.
    last_step: AtomicU64,
}

impl LoginPlan {
    /// Reads the key files, and says before anything is dialled what cannot work.
    ///
    /// # Errors
    ///
    /// `ClientError::Key` for the file that the caller named, `ClientError::AgentUnavailable` where there is nothing
    /// else, `ClientError::NotATotpSecret`.
    pub async fn prepare(mut self) -> Result<Credentials, ClientError> {
        let answers = std::mem::take(&mut self.answers);
        let totp = match &self.totp {
            Some(secret) => Some(Totp::parse(secret.expose()).ok_or(ClientError::NotATotpSecret)?),
            None => None,
        };
        let (files, certificates, given) = (self.identities.clone(), self.certificates.clone(), answers.clone());
        let loading = tokio::task::spawn_blocking(move || keys::load(&files, &certificates, &given));
        let loaded = loading.await.map_err(|error| ClientError::Protocol(error.to_string()))??;
        let by_keys = self.methods.contains(&Method::PublicKey);
        let nothing_else = by_keys && loaded.keys.is_empty() && self.password.is_none() && self.totp.is_none();
        if nothing_else && matches!(self.agent, AgentUse::OfEnvironment(_)) && !self.agent.is_named() {
            return Err(agent::missing());
        }
        let unlocked = answers.iter().filter_map(|answered| match &answered.asked {
            Asked::Passphrase(path) => Some(path.clone()),
            Asked::Prompt { .. } => None,
        });
        let unlocked = unlocked.collect();
        let prepared = Prepared { plan: self, unlocked, loaded, totp, last_step: AtomicU64::new(0) };
        Ok(Credentials { prepared: Arc::new(prepared), answers: Arc::new(Mutex::new(answers)) })
    }
}

impl Credentials {
    /// Forgets what a person typed: a code is good for one login.
    pub(super) fn forget_answers(&self) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether both would log in alike: with the same keys by their files, the same agent and the same secrets. A code
    /// that a person typed makes no difference: it proves who they are once, and is no longer there.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.prepared, &other.prepared);
        ours.plan.is_same(&theirs.plan) && ours.unlocked == theirs.unlocked
    }

    /// What a person typed for this one login, in order.
    fn answers(&self) -> Vec<Answered> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn password(&self) -> Option<&Secret> {
        self.prepared.plan.password.as_ref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prepared.plan.fmt(f)
    }
}

/// How long a server may take to answer to a password. One that wants another password says so in a message that the
/// SSH library does not know, and then waits.
const PASSWORD_LIMIT: Duration = Duration::from_secs(20);
/// The part of the time for connecting that is kept, so that what a login waits for is told in its own words.
const KEPT: Duration = Duration::from_millis(500);
