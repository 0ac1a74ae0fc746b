//! Host keys: known_hosts as OpenSSH reads it, host certificates, and first use as the policy says.
//!
//! russh's own check differs from OpenSSH's on revoked keys, wildcards, several keys of one type and
//! more, so the reading is ours. A key that differs from a known one is always refused: there is no
//! policy, and no parameter of any call, that accepts it.

mod certificate;
mod error;
mod file;
mod revoked;
mod store;

use std::path::{Path, PathBuf};

use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};

pub use self::{
    error::{Evidence, HostKeyError, UnknownKey, Unrecorded},
    file::{HostLine, HostLines, Marker, lines_of, record_line},
};
use super::{Trust, address::DEFAULT_PORT, handler::same_type};
use crate::config::HostKeyPolicy;

/// The system-wide file of OpenSSH.
const SYSTEM_FILE: &str = "/etc/ssh/ssh_known_hosts";
/// Largest known_hosts file that is read.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// The known_hosts files that decide, and what becomes of a key that they do not speak of.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownHosts {
    own: Option<PathBuf>,
    others: Vec<PathBuf>,
    /// Keys that no host may show, one a line.
    revoked: Option<PathBuf>,
    /// Names are recorded as hashes (`HashKnownHosts`).
    hashes: bool,
    policy: HostKeyPolicy,
}

/// What a server shows, and what was approved for it.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The host as it was asked for.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// The key, or a certificate for it.
    pub key: &'a PublicKeyOrCertificate,
    /// SHA-256 fingerprint that a person approved: no other key will do.
    pub approved: Option<&'a str>,
}

/// Why a key is trusted, and what was odd about the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// Why.
    pub trust: Trust,
    /// For the caller: lines that were skipped.
    pub warnings: Vec<String>,
}

/// Algorithms that a server is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Types of the keys that are known for the host: they go first.
    pub known: Vec<Algorithm>,
    /// Whether certificates are asked for.
    pub certificates: Certificates,
}

/// Which certificates can make a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificates {
    /// None: no line speaks of an authority or a revoked key.
    #[default]
    Unasked,
    /// Those of known types: the authority of a certificate may be revoked.
    OfKnownTypes,
    /// All: an authority is known for the host.
    OfAllTypes,
}

/// What the files say of a key.
enum Verdict {
    Trusted(Trust),
    Unknown { certified: bool },
    Refused(HostKeyError),
}

impl KnownHosts {
    /// `own` takes new keys; the user's `~/.ssh/known_hosts` and the system's are read only.
    #[must_use]
    pub fn new(own: Option<PathBuf>, home: Option<&Path>, policy: HostKeyPolicy) -> Self {
        let user = home.map(|home| home.join(".ssh/known_hosts"));
        let others = user.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect();
        Self { own, others, revoked: None, hashes: false, policy }
    }

    /// The same for one host: with other files beside our own, and a policy that is as strict or stricter.
    #[must_use]
    pub fn for_host(&self, others: Vec<PathBuf>, policy: HostKeyPolicy, revoked: Option<PathBuf>) -> Self {
        Self { own: self.own.clone(), others, revoked, hashes: self.hashes, policy: self.policy.max(policy) }
    }

    /// Records names as hashes, or as they are.
    #[must_use]
    pub fn hashing(self, hashes: bool) -> Self {
        Self { hashes, ..self }
    }

    /// What becomes of unknown keys.
    #[must_use]
    pub const fn policy(&self) -> HostKeyPolicy {
        self.policy
    }

    /// Which algorithms to ask for, by what is known of a host.
    ///
    /// # Errors
    ///
    /// [`HostKeyError::Unreadable`].
    pub fn wanted(&self, host: &str, port: u16) -> Result<Wanted, HostKeyError> {
        let found = self.lookup(host, port)?;
        let plain = |lines: &[Found]| {
            let plain = lines.iter().filter(|found| found.line.marker == Marker::None);
            plain.map(|found| found.line.key.algorithm()).collect::<Vec<_>>()
        };
        let mut known = plain(&found.lines);
        if known.is_empty() {
            known = plain(&found.without_port);
        }
        let marked = |marker| found.marked(marker).next().is_some();
        let certificates = match (marked(Marker::CertAuthority), marked(Marker::Revoked)) {
            (true, _) => Certificates::OfAllTypes,
            (false, true) => Certificates::OfKnownTypes,
            (false, false) => Certificates::Unasked,
        };
        Ok(Wanted { known, certificates })
    }

    /// Trusts a known key, refuses one that differs from a known one, and does with an unknown one as
    /// the policy says.
    ///
    /// # Errors
    ///
    /// Every [`HostKeyError`].
    pub fn check_or_record(&self, offer: &Offer<'_>) -> Result<Trusted, HostKeyError> {
        let key = offer.key.public_key();
        let offered = fingerprint(&key);
        if let Some(approved) = offer.approved.filter(|approved| *approved != offered) {
            let (host, approved) = (file::name(offer.host, offer.port), approved.to_owned());
            return Err(HostKeyError::NotApproved { host, offered, approved });
        }
        let found = self.lookup(offer.host, offer.port)?;
        if let Some(list) = &self.revoked
            && let Some(line) = revoked::line_of(list, offer.key)?
        {
            return Err(HostKeyError::Revoked(evidence(&found.name, list, line, &key)));
        }
        let trust = match found.judge(offer) {
            Verdict::Trusted(trust) => trust,
            Verdict::Refused(error) => return Err(error),
            Verdict::Unknown { certified } => {
                if let Some(why) = self.unrecorded(offer, certified) {
                    let (host, algorithm) = (found.name, key.algorithm().to_string());
                    return Err(HostKeyError::Unknown(Box::new(UnknownKey { host, algorithm, offered, why })));
                }
                self.record(offer, &key)?
            }
        };
        Ok(Trusted { trust, warnings: found.warnings })
    }

    /// Why an unknown key is not to be recorded; none where it may be.
    fn unrecorded(&self, offer: &Offer<'_>, certified: bool) -> Option<Unrecorded> {
        match self.policy {
            HostKeyPolicy::Strict => Some(Unrecorded::Strict),
            // OpenSSH would record it: whoever stands in between need only show no certificate. Nor is it a question
            // for the human, who was told whom to trust by whoever wrote that line.
            _ if certified => Some(Unrecorded::NotCertified),
            _ if offer.approved.is_some() => None,
            HostKeyPolicy::Ask => Some(Unrecorded::Unasked),
            HostKeyPolicy::AcceptNew => None,
        }
    }

    fn lookup(&self, host: &str, port: u16) -> Result<Lookup, HostKeyError> {
        let name = file::name(host, port);
        let mut lookup = Lookup { name, lines: Vec::new(), without_port: Vec::new(), warnings: Vec::new() };
        for path in self.own.iter().chain(&self.others) {
            let Some(text) = store::read(path)? else { continue };
            let HostLines { lines, malformed } = lines_of(&text, host, port);
            let located = |line| Found { file: path.clone(), line };
            lookup.lines.extend(lines.into_iter().map(located));
            if port != DEFAULT_PORT {
                let lines = lines_of(&text, host, DEFAULT_PORT).lines;
                lookup.without_port.extend(lines.into_iter().map(located));
            }
            lookup.warnings.extend(skipped(path, &malformed));
        }
        Ok(lookup)
    }

    fn record(&self, offer: &Offer<'_>, key: &PublicKey) -> Result<Trust, HostKeyError> {
        let (host, port, offered) = (offer.host, offer.port, fingerprint(key));
        let cannot = |why: String| HostKeyError::CannotRecord { host: host.into(), offered: offered.clone(), why };
        let own = self.own.as_deref().ok_or_else(|| cannot("no file is configured and there is no home".into()))?;
        let line = record_line(host, port, key);
        let line = line.ok_or_else(|| cannot("such a name cannot stand in a known_hosts file".into()))?;
        let line =
            if self.hashes { file::hashed(&line).ok_or_else(|| cannot("there is no salt".into()))? } else { line };
        let mut file = store::open_own(own).map_err(|error| cannot(error.to_string()))?;
        store::lock(&file, store::LOCK_LIMIT).map_err(|error| cannot(error.to_string()))?;
        // Another process may have recorded a key while this one waited for the lock.
        match self.lookup(host, port)?.judge(offer) {
            Verdict::Trusted(trust) => return Ok(trust),
            Verdict::Refused(error) => return Err(error),
            Verdict::Unknown { .. } => {}
        }
        store::append(&mut file, &line).map_err(|error| cannot(error.to_string()))?;
        tracing::info!(host, port, fingerprint = %offered, "host key recorded on first use");
        Ok(if offer.approved.is_some() { Trust::Approved } else { Trust::AcceptedNew })
    }
}

/// Malformed lines of which a warning gives the numbers.
const SHOWN_LINES: usize = 5;

fn skipped(path: &Path, malformed: &[usize]) -> Option<String> {
    let mut numbers: Vec<_> = malformed.iter().take(SHOWN_LINES).map(ToString::to_string).collect();
    if numbers.is_empty() {
        return None;
    }
    if malformed.len() > SHOWN_LINES {
        numbers.push("...".into());
    }
    let (path, numbers) = (crate::ssh::error::shown_path(path), numbers.join(", "));
    tracing::warn!(file = %path, lines = numbers, "known_hosts lines that cannot be read were skipped");
    Some(format!("{path}: {} lines cannot be read and were skipped (line {numbers})", malformed.len()))
}

/// A line that names the host.
struct Found {
    file: PathBuf,
    line: HostLine,
}

/// What all files say of a host.
struct Lookup {
    /// The host, as known_hosts names it.
    name: String,
    lines: Vec<Found>,
    /// As OpenSSH does: a key that is known without the port is the host's too.
    without_port: Vec<Found>,
    warnings: Vec<String>,
}

impl Lookup {
    fn all(&self) -> impl Iterator<Item = &Found> {
        self.lines.iter().chain(&self.without_port)
    }

    fn marked(&self, marker: Marker) -> impl Iterator<Item = &Found> {
        self.all().filter(move |found| found.line.marker == marker)
    }

    /// A revoked key is refused whatever else stands there, with or without a port; then comes a
    /// certificate of a known authority; then an equal key is known; then any other key, of whatever
    /// type, means that this one is not the host's.
    fn judge(&self, offer: &Offer<'_>) -> Verdict {
        let key = &offer.key.public_key();
        let certificate = offer.key.certificate();
        let equal = |found: &&Found| found.line.key.key_data() == key.key_data();
        let signs = |found: &&Found| certificate.is_some_and(|c| found.line.key.key_data() == c.signature_key());
        if let Some(found) = self.marked(Marker::Revoked).find(|found| equal(found) || signs(found)) {
            return Verdict::Refused(HostKeyError::Revoked(self.evidence(found, key)));
        }
        let authority = self.marked(Marker::CertAuthority).find(signs);
        let invalid = match (authority, certificate) {
            (Some(found), Some(certificate)) => {
                match certificate::check(certificate, &offer.host.to_ascii_lowercase()) {
                    Ok(()) => return Verdict::Trusted(Trust::Certified),
                    Err(why) => Some((found, why)),
                }
            }
            _ => None,
        };
        // As OpenSSH does: a certificate that does not help leaves the key in it.
        let plain = || self.lines.iter().filter(|found| found.line.marker == Marker::None);
        let mut without_port = self.without_port.iter().filter(|found| found.line.marker == Marker::None);
        if plain().any(|found| equal(&found)) {
            return Verdict::Trusted(Trust::Known);
        }
        let same = plain().find(|found| same_type(&found.line.key.algorithm(), &key.algorithm()));
        if let Some(found) = same.or_else(|| plain().next()) {
            let known = fingerprint(&found.line.key);
            return Verdict::Refused(HostKeyError::Changed { found: self.evidence(found, key), known });
        }
        if without_port.any(|found| equal(&found)) {
            return Verdict::Trusted(Trust::Known);
        }
        if let Some((found, why)) = invalid {
            return Verdict::Refused(HostKeyError::Certificate { found: self.evidence(found, key), why });
        }
        Verdict::Unknown { certified: self.marked(Marker::CertAuthority).next().is_some() }
    }

    fn evidence(&self, found: &Found, key: &PublicKey) -> Box<Evidence> {
        evidence(&self.name, &found.file, found.line.number, key)
    }
}

fn evidence(host: &str, file: &Path, line: usize, key: &PublicKey) -> Box<Evidence> {
    Box::new(Evidence {
        host: host.to_owned(),
        algorithm: key.algorithm().to_string(),
        offered: fingerprint(key),
        file: file.to_owned(),
        line,
    })
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
