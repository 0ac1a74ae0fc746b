//! From names to what russh offers, with its limits.

use std::{borrow::Cow, time::Duration};

use russh::{Limits, Preferred, cipher, client::GexParams, kex, keys::Algorithm, mac};

use super::{Algorithms, KEEPALIVE, Kind};
use crate::ssh::{
    client::{ClientError, Negotiated},
    ssh_config::{AlgorithmEdit, AlgorithmMode},
};

/// How the names of certificates end; without it they name the key in them.
const CERTIFICATE: &str = "-cert-v01@openssh.com";
/// Names that one notice shows.
const SHOWN: usize = 20;
/// Longest name in a notice, in characters. RFC 4251 (section 6) allows 64.
const MAX_NAME: usize = 64;
/// Bytes in one direction between two key exchanges: russh allows no more, and less would do little else.
const REKEY_BYTES: (u64, u64) = (1 << 20, 1 << 30);
/// Time between two key exchanges.
const REKEY_AFTER: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));
/// Both, where nothing asks for less: OpenSSH's own amount with AES, and it has no time. A packet has over 16 bytes, so the
/// count of packets, which is the nonce of chacha20-poly1305, does not come round before.
const REKEY_UNASKED: (u64, Duration) = (64 << 30, Duration::from_secs(30 * 86_400));
/// Longest silence before a probe, and the most unanswered ones: a dead link is noticed some day.
const MAX_INTERVAL: Duration = Duration::from_secs(3_600);
const MAX_PROBES: u32 = 30;

/// What one connection offers, and what is to be said about it.
#[derive(Debug)]
pub(in crate::ssh::client) struct Offer {
    kex: Vec<kex::Name>,
    /// Plain keys; certificates stand apart in russh.
    host_keys: Vec<Algorithm>,
    certificates: Vec<Algorithm>,
    ciphers: Vec<cipher::Name>,
    macs: Vec<mac::Name>,
    /// Names that somebody asked for in vain.
    pub(in crate::ssh::client) notices: Vec<String>,
}

impl Algorithms {
    /// What is offered.
    ///
    /// # Errors
    ///
    /// `ClientError::NoAlgorithmLeft`: nothing of a list of ssh_config's is known here.
    pub(in crate::ssh::client) fn offer(&self) -> Result<Offer, ClientError> {
        let kex = self.chosen(Kind::Kex)?;
        let keys = self.chosen(Kind::HostKey)?;
        let (ciphers, macs) = (self.chosen(Kind::Cipher)?, self.chosen(Kind::Mac)?);
        self.chosen(Kind::PublicKey)?;
        let plain = |name: &String| !name.ends_with(CERTIFICATE);
        let algorithm = |name: &String| Algorithm::new(name.strip_suffix(CERTIFICATE).unwrap_or(name)).ok();
        let (host_keys, certificates): (Vec<String>, Vec<String>) = keys.into_iter().partition(plain);
        Ok(Offer {
            kex: known(&kex),
            host_keys: host_keys.iter().filter_map(algorithm).collect(),
            certificates: certificates.iter().filter_map(algorithm).collect(),
            ciphers: known(&ciphers),
            macs: known(&macs),
            notices: self.unknown(),
        })
    }

    const fn edit(&self, kind: Kind) -> Option<&AlgorithmEdit> {
        match kind {
            Kind::Kex => self.kex.as_ref(),
            Kind::HostKey => self.host_keys.as_ref(),
            Kind::Cipher => self.ciphers.as_ref(),
            Kind::Mac => self.macs.as_ref(),
            Kind::PublicKey => self.public_keys.as_ref(),
            Kind::Compression => None,
        }
    }

    pub(super) fn chosen(&self, kind: Kind) -> Result<Vec<String>, ClientError> {
        let names = kind.choose(self.edit(kind), self.legacy);
        if names.is_empty() {
            let list = self.edit(kind).map(AlgorithmEdit::text).unwrap_or_default();
            return Err(ClientError::NoAlgorithmLeft { kind, list: super::failure::listed(&[list]) });
        }
        Ok(names)
    }

    /// One notice about all names that were asked for and that there are none of.
    fn unknown(&self) -> Vec<String> {
        let mut lists = Vec::new();
        for kind in [Kind::Kex, Kind::HostKey, Kind::Cipher, Kind::Mac, Kind::PublicKey] {
            let all = kind.all();
            // What is not there need not be taken away.
            let Some(edit) = self.edit(kind).filter(|edit| edit.mode != AlgorithmMode::Remove) else { continue };
            let own = edit.names.iter().map(String::as_str);
            let unknown: Vec<_> = own.filter(|name| !is_pattern(name) && !all.contains(name)).collect();
            if !unknown.is_empty() {
                lists.push(format!("{} {}", kind.keyword(), shown(&unknown)));
            }
        }
        if lists.is_empty() {
            return lists;
        }
        vec![format!("algorithms that ssh-mcp does not have were left out: {}", lists.join("; "))]
    }

    /// When keys are exchanged anew, within bounds.
    ///
    /// Unless the user says so, later than a server does it: where we begin, russh 0.65.1 ends a connection on which over
    /// 4 MiB of several channels are under way (`Error::Pending`).
    pub(in crate::ssh::client) fn limits(&self) -> Limits {
        let bytes = self.rekey.bytes.map_or(REKEY_UNASKED.0, |bytes| bytes.clamp(REKEY_BYTES.0, REKEY_BYTES.1));
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let after = self.rekey.after.map_or(REKEY_UNASKED.1, |after| after.clamp(REKEY_AFTER.0, REKEY_AFTER.1));
        Limits { rekey_write_limit: bytes, rekey_read_limit: bytes, rekey_time_limit: after }
    }

    /// Silence before a probe, and unanswered probes that end the connection.
    pub(in crate::ssh::client) fn probes(&self) -> (Duration, usize) {
        let asked = self.keepalive.interval;
        let interval = if asked.is_zero() { KEEPALIVE.interval } else { asked.min(MAX_INTERVAL) };
        // russh takes 0 for "never end it".
        (interval, self.keepalive.count.clamp(1, MAX_PROBES) as usize)
    }
}

impl Offer {
    /// russh's lists, without compression. `order` puts what known_hosts knows first, `certificates` leaves those that
    /// can make a difference.
    pub(in crate::ssh::client) fn preferred(
        mut self,
        order: impl Fn(&mut Vec<Algorithm>),
        certificates: impl Fn(&mut Vec<Algorithm>),
    ) -> Preferred {
        let all = self.certificates.clone();
        order(&mut self.host_keys);
        order(&mut self.certificates);
        certificates(&mut self.certificates);
        if self.host_keys.is_empty() && self.certificates.is_empty() {
            // ssh_config names certificates alone: so they are asked for, whoever may have signed them.
            self.certificates = all;
        }
        self.kex.extend([kex::EXTENSION_SUPPORT_AS_CLIENT, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT]);
        Preferred {
            kex: Cow::Owned(self.kex),
            key: Cow::Owned(self.host_keys),
            host_key_certificates: Cow::Owned(self.certificates),
            cipher: Cow::Owned(self.ciphers),
            mac: Cow::Owned(self.macs),
            ..Preferred::DEFAULT
        }
    }

    /// Sizes of the groups that the server may choose. Old ones have none above 2048 bits; below that it is no use.
    pub(in crate::ssh::client) fn group_sizes(&self) -> GexParams {
        let old = self.kex.contains(&kex::DH_GEX_SHA1);
        old.then(|| GexParams::new(2048, 3072, 8192).ok()).flatten().unwrap_or_default()
    }
}

impl Negotiated {
    /// What the caller should know: nothing, or which weak algorithms protect this connection.
    pub(in crate::ssh::client) fn warnings(&self) -> Vec<String> {
        let parts = [
            (Kind::Kex, Some(&self.kex)),
            (Kind::HostKey, Some(&self.host_key)),
            (Kind::Cipher, Some(&self.cipher)),
            (Kind::Mac, self.mac.as_ref()),
        ];
        let weak = parts.into_iter().filter_map(|(kind, name)| {
            let name = name?;
            Some(format!("{} {name} ({})", kind.noun(), kind.weakness(name)?))
        });
        let weak: Vec<_> = weak.collect();
        if weak.is_empty() {
            return weak;
        }
        vec![format!(
            "weak algorithms protect this connection, as SSH_LEGACY_HOSTS or ssh_config allows: {}. Tell the user; the \
             server should be updated",
            weak.join(", ")
        )]
    }
}

fn known<'a, T: TryFrom<&'a str>>(names: &'a [String]) -> Vec<T> {
    names.iter().filter_map(|name| T::try_from(name).ok()).collect()
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

fn shown(names: &[&str]) -> String {
    let cut = |name: &&str| name.chars().filter(char::is_ascii_graphic).take(MAX_NAME).collect::<String>();
    let mut text = names.iter().take(SHOWN).map(cut).collect::<Vec<_>>().join(",");
    if names.len() > SHOWN {
        text.push_str(",…");
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A server begins earlier, and has to: see [`Algorithms::limits`].
    #[test]
    fn keys_are_exchanged_anew_late_unless_something_asks_for_it() {
        let limits = Algorithms::default().limits();
        assert!(limits.rekey_read_limit > 1 << 32 && limits.rekey_write_limit > 1 << 32);
        assert!(limits.rekey_time_limit > Duration::from_secs(86_400));
        let asked = super::super::Rekey { bytes: Some(1), after: Some(Duration::from_secs(7_200)) };
        let limits = Algorithms { rekey: asked, ..Algorithms::default() }.limits();
        let bytes = (limits.rekey_read_limit, limits.rekey_write_limit);
        assert_eq!((bytes, limits.rekey_time_limit), ((1 << 20, 1 << 20), Duration::from_secs(7_200)));
    }

    #[test]
    fn every_name_is_one_that_russh_has() {
        let all = Algorithms { legacy: true, ..Algorithms::default() }.offer().unwrap();
        assert_eq!(all.kex.len(), Kind::Kex.all().len());
        assert_eq!(all.host_keys.len() + all.certificates.len(), Kind::HostKey.all().len());
        assert_eq!(all.ciphers.len(), Kind::Cipher.all().len());
        assert_eq!(all.macs.len(), Kind::Mac.all().len());
    }
}
