//! `RevokedHostKeys`: keys that no host may show. As in ssh, a list that cannot be read refuses every key.

use std::path::Path;

use russh::keys::{PublicKey, PublicKeyOrCertificate};

use super::{HostKeyError, store};

/// What a key revocation list (`ssh-keygen -k`) begins with.
const KRL_MAGIC: &[u8] = b"SSHKRL\n\0";

/// The line that revokes this key, or the authority of its certificate.
pub(super) fn line_of(list: &Path, offered: &PublicKeyOrCertificate) -> Result<Option<usize>, HostKeyError> {
    let unreadable = |why: String| HostKeyError::Unreadable { file: list.into(), why };
    let Some(text) = store::read(list)? else { return Err(unreadable("it does not exist".into())) };
    if text.starts_with(KRL_MAGIC) {
        return Err(unreadable("it is a binary key revocation list; a list of public keys is taken".into()));
    }
    let key = offered.public_key();
    let authority = offered.certificate().map(|certificate| certificate.signature_key().clone());
    let text = String::from_utf8_lossy(&text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        // A line that is passed over could be the one that matters.
        let revoked =
            PublicKey::from_openssh(line).map_err(|_| unreadable(format!("line {number} is no public key")))?;
        if revoked.key_data() == key.key_data() || authority.as_ref() == Some(revoked.key_data()) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}
