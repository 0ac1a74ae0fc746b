//! What a connection may negotiate: modern algorithms; weak ones only for the hosts that somebody named.
//!
//! Owns the choice, its bounds and what is said about it. The negotiation is russh's.

mod failure;
mod names;
mod offer;

use std::time::Duration;

pub(super) use self::{failure::Shortfall, names::Kind, offer::Offer};
use crate::ssh::ssh_config::{AlgorithmEdit, Origin, Resolved, Setting};

/// How often an idle connection is probed, and how many unanswered probes end it: a dead link is
/// noticed after about 90 s without traffic, and keeps NAT entries alive before that.
const KEEPALIVE: Keepalive = Keepalive { interval: Duration::from_secs(30), count: 3 };

/// What a connection may negotiate and how it is kept up. Default: modern algorithms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// `KexAlgorithms`.
    pub kex: Option<AlgorithmEdit>,
    /// `HostKeyAlgorithms`.
    pub host_keys: Option<AlgorithmEdit>,
    /// `Ciphers`.
    pub ciphers: Option<AlgorithmEdit>,
    /// `MACs`.
    pub macs: Option<AlgorithmEdit>,
    /// `PubkeyAcceptedAlgorithms`: what a key of the user may sign with.
    pub public_keys: Option<AlgorithmEdit>,
    /// Weak algorithms are offered too, after the others: for the hosts of `SSH_LEGACY_HOSTS`.
    pub legacy: bool,
    /// When keys are exchanged anew.
    pub rekey: Rekey,
    /// How a dead link is noticed.
    pub keepalive: Keepalive,
    /// What `ssh_config` calls the host, where that is not its host name: hints write it after `Host`.
    pub alias: Option<String>,
}

/// When keys are exchanged anew; nothing: as russh does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rekey {
    /// After so many bytes in one direction.
    pub bytes: Option<u64>,
    /// After so long.
    pub after: Option<Duration>,
}

/// How a dead link is noticed. It always is: nothing here turns it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence after which the server is asked for a sign of life; zero: the default.
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        KEEPALIVE
    }
}

impl Algorithms {
    /// What ssh_config says for a host. `legacy`: a person named the host in `SSH_LEGACY_HOSTS`.
    #[must_use]
    pub fn from_config(resolved: &Resolved, legacy: bool) -> Self {
        let edit = |setting: &Option<Setting<AlgorithmEdit>>| setting.as_ref().map(|setting| setting.value.clone());
        let Setting { value: interval, origin } = &resolved.server_alive_interval;
        let count = &resolved.server_alive_count_max;
        Self {
            kex: edit(&resolved.kex_algorithms),
            host_keys: edit(&resolved.host_key_algorithms),
            ciphers: edit(&resolved.ciphers),
            macs: edit(&resolved.macs),
            public_keys: edit(&resolved.pubkey_accepted_algorithms),
            legacy,
            alias: Some(resolved.alias.clone()),
            rekey: Rekey {
                bytes: Some(resolved.rekey_bytes.value).filter(|bytes| *bytes > 0),
                after: Some(resolved.rekey_interval.value).filter(|after| !after.is_zero()),
            },
            keepalive: Keepalive {
                interval: if *origin == Origin::Default { KEEPALIVE.interval } else { *interval },
                count: if count.origin == Origin::Default { KEEPALIVE.count } else { count.value },
            },
        }
    }
}

impl Algorithms {
    /// Whether a key of the user may sign in this way, such as `rsa-sha2-512` or, for a certificate,
    /// `rsa-sha2-512-cert-v01@openssh.com`. `ssh-rsa` is RSA with SHA-1: only where it was asked for.
    #[must_use]
    pub fn may_sign(&self, algorithm: &str) -> bool {
        Kind::PublicKey.choose(self.public_keys.as_ref(), self.legacy).iter().any(|name| name == algorithm)
    }
}
