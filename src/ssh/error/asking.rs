//! What a person can be asked, so that connecting goes on.

use std::path::Path;

use super::Error;
use crate::ssh::client::{
    ClientError, KeyFileError, Target,
    host_key::{HostKeyError, UnknownKey, Unrecorded},
    login::NeedsAnswers,
};

impl Error {
    /// The host key that a person has to approve before the host can be reached: whose it is, at which hop where it
    /// is a jump host's, and the key.
    #[must_use]
    pub fn key_to_approve(&self) -> Option<(&Target, Option<usize>, &UnknownKey)> {
        let Error::Client(error, _) = self else { return None };
        let hop = error.hop();
        let error = match &**error {
            ClientError::AtHop { source, .. } => source,
            other => other,
        };
        let ClientError::HostKey { target, source } = error else { return None };
        match &**source {
            HostKeyError::Unknown(key) if key.why == Unrecorded::Unasked => Some((target, hop, key)),
            _ => None,
        }
    }
}

/// What a person can be asked, so that a login goes on.
#[derive(Clone, Copy, Debug)]
pub enum ToAnswer<'a> {
    /// What a server asks.
    Prompts {
        /// Which one, and what.
        needed: &'a NeedsAnswers,
        /// Its place on the way, from 1, where it is a jump host.
        hop: Option<usize>,
    },
    /// The passphrase of this key file.
    Passphrase(&'a Path),
}

impl Error {
    /// What a person has to answer before the login can go on.
    #[must_use]
    pub fn to_answer(&self) -> Option<ToAnswer<'_>> {
        let Error::Client(error, _) = self else { return None };
        if let Some((needed, hop)) = error.needed_answers() {
            return Some(ToAnswer::Prompts { needed, hop });
        }
        let error = match &**error {
            ClientError::AtHop { source, .. } => source,
            other => other,
        };
        match error {
            ClientError::Key(KeyFileError::Encrypted { path }) => Some(ToAnswer::Passphrase(path)),
            _ => None,
        }
    }
}
