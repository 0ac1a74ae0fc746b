//! What to make of a login that ended.

use super::{AuthFailure, Why, attempt::Login, prompt};
use crate::ssh::client::ClientError;

impl Login<'_, '_> {
    pub(super) fn refused(&self) -> ClientError {
        self.failed(self.why)
    }

    /// russh reports a connection that was lost meanwhile as a refusal with no methods left.
    pub(super) fn failed(&self, why: Why) -> ClientError {
        let none_left = self.offered.as_ref().is_none_or(|offered| offered.is_empty());
        if none_left && self.handle.is_closed() && !self.link.disconnected_by_server() {
            let cause = self.link.cause().unwrap_or_else(|| "while authenticating".into());
            return self.hung_up(cause);
        }
        let names: Vec<&str> = self.offered.iter().flat_map(|offered| offered.iter()).map(Into::into).collect();
        let cause = self.link.cause().filter(|_| self.handle.is_closed());
        let banner = self.link.banner();
        let said = [banner.as_slice(), self.said.as_slice()].concat().join("\n");
        let heard = format!("{said}\n{}", cause.as_deref().unwrap_or_default());
        let why = match why {
            _ if prompt::says_locked(&heard) => Why::LockedOut,
            _ if prompt::says_expired(&heard) => Why::PasswordExpired,
            // One wrong password may be too many; it is the password all the same.
            Why::KeysRefused | Why::NothingToOffer if prompt::says_too_many(&heard) => Why::TooManyFailures,
            why => why,
        };
        ClientError::AuthFailed(Box::new(AuthFailure {
            target: self.target.clone(),
            tried: if self.progress.tried.is_empty() { "nothing".into() } else { self.progress.tried.join(", ") },
            offered: cause.filter(|_| names.is_empty()).unwrap_or_else(|| names.join(",")),
            why,
            server_says: (!said.is_empty()).then(|| prompt::shown(&said)),
            notes: self.progress.notes.clone(),
        }))
    }

    pub(super) fn lost(&self, error: &russh::Error) -> ClientError {
        let cause = self.link.cause().unwrap_or_else(|| error.to_string());
        self.hung_up(cause)
    }

    /// Once anything was tried, to try again could be one more failed login in the server's books.
    fn hung_up(&self, cause: String) -> ClientError {
        let target = self.target.clone();
        if self.progress.tried.is_empty() {
            return ClientError::Lost { target, cause };
        }
        ClientError::LostInLogin { target, tried: self.progress.tried.join(", "), cause }
    }
}
