//! Host certificates (PROTOCOL.certkeys): what OpenSSH's client asks of them.

use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::{
    Algorithm, Certificate, HashAlg,
    ssh_key::{Fingerprint, certificate::CertType},
};

/// Checks a certificate whose authority is trusted for `host`.
///
/// As in OpenSSH 9.2, one without principals is valid for every host of its authority, and
/// principals are names, not patterns. Serial numbers are not checked: they mean something only to a
/// revocation list (`RevokedHostKeys`), which is no part of known_hosts.
pub(super) fn check(certificate: &Certificate, host: &str) -> Result<(), &'static str> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    check_at(certificate, host, now)
}

fn check_at(certificate: &Certificate, host: &str, now: u64) -> Result<(), &'static str> {
    if certificate.cert_type() != CertType::Host {
        return Err("it is no host certificate");
    }
    if now < certificate.valid_after() {
        return Err("it is not valid yet");
    }
    if now >= certificate.valid_before() {
        return Err("it has expired");
    }
    let principals = certificate.valid_principals();
    if !principals.is_empty() && !principals.iter().any(|principal| principal == host) {
        return Err("it is for other hosts");
    }
    if certificate.critical_options().iter().next().is_some() {
        return Err("it has a critical option, and none is known for hosts");
    }
    // RSA with SHA-1 is off, for authorities too.
    if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None }) {
        return Err("it is signed with SHA-1");
    }
    // russh verifies that the server holds the key, and leaves the authority's signature to us.
    let authority: Fingerprint = certificate.signature_key().fingerprint(HashAlg::Sha256);
    certificate.validate_at(now, [&authority]).map_err(|_| "its signature is wrong")
}
