//! Logging in, in ssh's order: what may be used, and on one connection after the other what is tried.
//!
//! A [`LoginPlan`] says what may be used. [`LoginPlan::prepare`] reads the key files, once: a session that connects
//! again has them. Nothing is asked of a person here. What only a person knows ends the login with the question; whoever
//! asks comes back with [`Answered`], and the login is done again from its start.

#[cfg(unix)]
mod agent_stream;
mod attempt;
mod plan;

pub(super) use self::attempt::authenticate;
pub use self::{
    attempt::Credentials,
    plan::{AgentUse, Answered, Asked, Given, Identity, LoginPlan, Method},
};
