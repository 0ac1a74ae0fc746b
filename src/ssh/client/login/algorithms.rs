//! What a key may sign with, and what can be seen of a certificate from here.

use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::{Algorithm, HashAlg};

use super::{attempt::Login, candidates::Candidate, prompt};
use crate::ssh::client::ClientError;

/// What RSA keys sign with; the others stand for themselves.
const RSA: [&str; 2] = ["rsa-sha2-512", "rsa-sha2-256"];
/// RSA with SHA-1, where the user's configuration or settings ask for it.
const RSA_SHA1: &str = "ssh-rsa";
const SHA1_WARNING: &str =
    "An RSA key signed the login with SHA-1 (ssh-rsa), which is weak; this server has nothing better.";
impl Login<'_, '_> {
    /// Whether the plan and the server allow the algorithm of a key; and for RSA, with which hash it signs. SHA-1 only
    /// where the user's configuration names it and the server has nothing better.
    pub(super) async fn accepted_hash(
        &mut self,
        candidate: &Candidate,
    ) -> Result<Option<Option<HashAlg>>, ClientError> {
        let suffix = if candidate.certificate().is_some() { "-cert-v01@openssh.com" } else { "" };
        let algorithms = &self.progress.plan().algorithms;
        let allows = |name: &str| algorithms.may_sign(&format!("{name}{suffix}"));
        let algorithm = candidate.algorithm();
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            let name = algorithm.as_str();
            // A certificate of a security key keeps no `@openssh.com` before its suffix.
            let name = if suffix.is_empty() { name } else { name.trim_end_matches("@openssh.com") };
            return Ok(allows(name).then_some(None));
        }
        let best = self.handle.best_supported_rsa_hash().await.map_err(|error| self.lost(&error))?;
        let only_sha1 = best == Some(None);
        let hash = match best.flatten() {
            Some(HashAlg::Sha256) if allows(RSA[1]) => Some(HashAlg::Sha256),
            // A server that does not say what it takes gets SHA-512.
            _ if allows(RSA[0]) && !only_sha1 => Some(HashAlg::Sha512),
            _ if allows(RSA[1]) && !only_sha1 => Some(HashAlg::Sha256),
            _ if allows(RSA_SHA1) => {
                self.link.warn(SHA1_WARNING);
                None
            }
            _ => return Ok(None),
        };
        Ok(Some(hash))
    }

    /// The server does not say why it refuses a certificate. What can be seen from here is told.
    pub(super) fn explain_certificate(&mut self, candidate: &Candidate) {
        let Some(certificate) = candidate.certificate() else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let principals = certificate.valid_principals();
        let seen = if now >= certificate.valid_before() {
            "it has expired".to_owned()
        } else if now < certificate.valid_after() {
            "it is not valid yet".into()
        } else if !principals.is_empty() && !principals.contains(&self.target.username) {
            let listed = principals.iter().take(8).cloned().collect::<Vec<_>>().join(",");
            format!("it is for {}, not for {}", prompt::shown(&listed), self.target.username)
        } else {
            return;
        };
        self.progress.notes.push(format!("{}: {seen}", candidate.describe()));
    }
}
