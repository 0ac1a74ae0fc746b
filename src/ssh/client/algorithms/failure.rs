//! What to say when client and server share no algorithm: both offers, and the line that would allow it.

use super::{Algorithms, Kind};
use crate::ssh::client::Target;

/// Longest list that an error shows, in characters.
const LIST: usize = 600;
/// Both names of the host, in bytes, that leave room for the rest of a hint.
const MAX_NAMES: usize = 110;

/// A negotiation that failed.
#[derive(Clone, Debug)]
pub struct Shortfall {
    /// Who was connected to.
    pub target: Target,
    /// What there is no common one of.
    pub kind: Kind,
    /// What this side offered.
    pub ours: String,
    /// What the server offered, neutralised.
    pub theirs: String,
    /// The best of theirs that is here and was not offered.
    off_here: Option<&'static str>,
    /// What ssh_config calls the host.
    alias: String,
    /// `SSH_LEGACY_HOSTS` holds the host already.
    legacy: bool,
}

impl Shortfall {
    pub(in crate::ssh::client) fn new(
        target: &Target,
        algorithms: &Algorithms,
        kind: Kind,
        (ours, theirs): (&[String], &[String]),
    ) -> Self {
        let off_here = kind.all().into_iter().find(|name| theirs.iter().any(|their| their == name));
        let alias = algorithms.alias.clone().unwrap_or_else(|| target.host.clone());
        let legacy = algorithms.legacy;
        Self { target: target.clone(), kind, ours: listed(ours), theirs: listed(theirs), off_here, alias, legacy }
    }

    /// What a person may do about it.
    pub(in crate::ssh::client) fn hint(&self) -> String {
        let Some(name) = self.off_here else {
            return "Nothing here can speak to this server: the user would have to update it.".into();
        };
        if self.kind == Kind::Compression {
            return "The server insists on compression: leave out compress, or set SSH_COMPRESSION=auto.".into();
        }
        let (keyword, host) = (self.kind.keyword(), &self.target.host);
        let line = format!("\nHost {}\n    {keyword} +{name}\n", self.alias);
        let Some(weakness) = self.kind.weakness(name) else {
            return format!("{name} is off here. To allow it, the user puts this first in ~/.ssh/config:{line}");
        };
        let hint = format!(
            "The server knows only weak ones ({weakness}). If the user accepts that, put first in ~/.ssh/config:{line}"
        );
        if self.legacy || self.alias.len() + host.len() > MAX_NAMES {
            return hint.trim_end().to_owned();
        }
        format!("{hint}or set SSH_LEGACY_HOSTS={host} for this server.")
    }
}

/// Whether it is in the list of key exchanges and is none: it says what else the peer can do.
fn is_signal(name: &str) -> bool {
    name.starts_with("ext-info-") || name.starts_with("kex-strict-")
}

/// Names as an error may show them: a peer chose them.
pub(super) fn listed(names: &[String]) -> String {
    let mut list = String::new();
    for name in names.iter().filter(|name| !is_signal(name)) {
        let plain: String = name.chars().filter(char::is_ascii_graphic).take(LIST).collect();
        if list.len() + plain.len() > LIST {
            list.push('…');
            break;
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&plain);
    }
    list
}
