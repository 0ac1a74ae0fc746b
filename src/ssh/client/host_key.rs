//! Host keys: known_hosts as OpenSSH reads it, and first use recorded in a file of our own.
//!
//! russh's own check differs from OpenSSH's on revoked keys, wildcards, several keys of one type and
//! more, so the reading is ours. A key that differs from a known one is always refused.

mod file;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use russh::keys::{Algorithm, HashAlg, PublicKey};

use self::file::{Line, Marker};
use super::{Trust, handler::same_type};
use crate::{
    error::{Code, Details, Explain},
    ssh::error::shown_path,
};

/// The system-wide file of OpenSSH.
const SYSTEM_FILE: &str = "/etc/ssh/ssh_known_hosts";
/// Largest known_hosts file that is read.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// The known_hosts files that decide.
#[derive(Debug)]
pub struct KnownHosts {
    own: Option<PathBuf>,
    others: Vec<PathBuf>,
}

/// A host key that is not trusted.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is")]
pub enum HostKeyError {
    #[error("host key of {} changed: offered {} {}, known {known} ({} line {})", .found.host, .found.algorithm, .found.offered, shown_path(&.found.file), .found.line)]
    Changed { found: Box<Evidence>, known: String },
    #[error("host key of {} is revoked: {} ({} line {})", .0.host, .0.offered, shown_path(&.0.file), .0.line)]
    Revoked(Box<Evidence>),
    #[error("host key of {host} is unknown and cannot be recorded: {why}")]
    CannotRecord { host: String, offered: String, why: String },
    #[error("{file} cannot be read, so no host key can be checked: {why}", file = shown_path(file))]
    Unreadable { file: PathBuf, why: String },
}

/// The line that speaks against a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The host, as known_hosts names it.
    pub host: String,
    /// Type of the offered key.
    pub algorithm: String,
    /// SHA-256 fingerprint of the offered key.
    pub offered: String,
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
}

impl Evidence {
    fn details(&self) -> Details {
        Details::new()
            .text("algorithm", &self.algorithm)
            .text("offered_fingerprint", &self.offered)
            .text("file", shown_path(&self.file))
            .number("line", self.line as u64)
    }
}

impl Explain for HostKeyError {
    fn code(&self) -> Code {
        match self {
            HostKeyError::Changed { .. } => Code::HostKeyChanged,
            HostKeyError::Revoked(_) => Code::HostKeyRevoked,
            HostKeyError::CannotRecord { .. } | HostKeyError::Unreadable { .. } => Code::HostKeyUnknown,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            HostKeyError::Changed { found, .. } => format!(
                "Stop and tell the user: this may be an attack. If the server was reinstalled, the user can check \
                 the new fingerprint and delete line {} of {}.",
                found.line,
                shown_path(&found.file)
            ),
            HostKeyError::Revoked(_) => "Stop and tell the user: this key must not be trusted.".into(),
            HostKeyError::CannotRecord { .. } => {
                "Ask the user to make the known_hosts file of this server writable, or to add the host there.".into()
            }
            HostKeyError::Unreadable { .. } => "Ask the user to repair that file.".into(),
        })
    }

    fn retryable(&self) -> bool {
        false
    }

    fn details(&self) -> Details {
        match self {
            HostKeyError::Changed { found, known } => found.details().text("known_fingerprint", known),
            HostKeyError::Revoked(found) => found.details(),
            HostKeyError::CannotRecord { offered, .. } => Details::new().text("offered_fingerprint", offered),
            HostKeyError::Unreadable { file, .. } => Details::new().text("file", shown_path(file)),
        }
    }
}

/// What the files say of a key.
enum Verdict {
    Known,
    Unknown,
    Refused(HostKeyError),
}

impl KnownHosts {
    /// `own` takes new keys; the user's `~/.ssh/known_hosts` and the system's are read only.
    #[must_use]
    pub fn new(own: Option<PathBuf>, home: Option<&Path>) -> Self {
        let user = home.map(|home| home.join(".ssh/known_hosts"));
        Self { own, others: user.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect() }
    }

    /// The key algorithms that are known for a host.
    ///
    /// # Errors
    ///
    /// [`HostKeyError::Unreadable`].
    pub fn known_algorithms(&self, host: &str, port: u16) -> Result<Vec<Algorithm>, HostKeyError> {
        let lines = self.matching(&file::name(host, port))?;
        let keys = lines.iter().filter(|found| found.line.marker == Marker::None);
        Ok(keys.map(|found| found.line.key.algorithm()).collect())
    }

    /// Trusts a known key, records the key of an unknown host, and refuses any other.
    ///
    /// # Errors
    ///
    /// Every [`HostKeyError`].
    pub fn check_or_record(&self, host: &str, port: u16, key: &PublicKey) -> Result<Trust, HostKeyError> {
        match self.check(host, port, key)? {
            Verdict::Known => Ok(Trust::Known),
            Verdict::Refused(error) => Err(error),
            Verdict::Unknown => self.record(host, port, key),
        }
    }

    fn check(&self, host: &str, port: u16, key: &PublicKey) -> Result<Verdict, HostKeyError> {
        let name = file::name(host, port);
        let verdict = judge(&name, key, &self.matching(&name)?);
        if matches!(verdict, Verdict::Unknown) && port != super::address::DEFAULT_PORT {
            // As OpenSSH does: a key that is known without the port is the host's too.
            // A revoked one is revoked at every port.
            let without_port = judge(host, key, &self.matching(host)?);
            if matches!(without_port, Verdict::Known | Verdict::Refused(HostKeyError::Revoked(_))) {
                return Ok(without_port);
            }
        }
        Ok(verdict)
    }

    fn matching(&self, name: &str) -> Result<Vec<Found>, HostKeyError> {
        let mut found = Vec::new();
        for path in self.own.iter().chain(&self.others) {
            let Some(text) = read(path)? else { continue };
            for (index, line) in text.lines().enumerate() {
                match Line::parse(line) {
                    Ok(Some(line)) if line.matches(name) => {
                        found.push(Found { file: path.clone(), number: index + 1, line });
                    }
                    Ok(_) => {}
                    Err(why) => {
                        tracing::warn!(file = %path.display(), line = index + 1, why, "known_hosts line skipped");
                    }
                }
            }
        }
        Ok(found)
    }

    fn record(&self, host: &str, port: u16, key: &PublicKey) -> Result<Trust, HostKeyError> {
        let offered = fingerprint(key);
        let cannot = |why: String| HostKeyError::CannotRecord { host: host.into(), offered: offered.clone(), why };
        let own = self.own.as_deref().ok_or_else(|| cannot("no file is configured and there is no home".into()))?;
        let mut file = open_own(own).map_err(|error| cannot(error.to_string()))?;
        file.lock().map_err(|error| cannot(error.to_string()))?;
        // Another process may have recorded a key while this one waited for the lock.
        match self.check(host, port, key)? {
            Verdict::Known => return Ok(Trust::Known),
            Verdict::Refused(error) => return Err(error),
            Verdict::Unknown => {}
        }
        append(&mut file, &file::format(host, port, key)).map_err(|error| cannot(error.to_string()))?;
        tracing::info!(host, port, fingerprint = %offered, "host key recorded on first use");
        Ok(Trust::AcceptedNew)
    }
}

/// A line that names the host.
struct Found {
    file: PathBuf,
    number: usize,
    line: Line,
}

/// A revoked key is refused whatever else stands there; then an equal key is known; then any other
/// key, of whatever type, means that this one is not the host's.
fn judge(name: &str, key: &PublicKey, lines: &[Found]) -> Verdict {
    let equal = |found: &&Found| found.line.key.key_data() == key.key_data();
    let plain = || lines.iter().filter(|found| found.line.marker == Marker::None);
    let evidence = |found: &Found| {
        Box::new(Evidence {
            host: name.into(),
            algorithm: key.algorithm().to_string(),
            offered: fingerprint(key),
            file: found.file.clone(),
            line: found.number,
        })
    };
    if let Some(found) = lines.iter().filter(|found| found.line.marker == Marker::Revoked).find(equal) {
        return Verdict::Refused(HostKeyError::Revoked(evidence(found)));
    }
    if plain().any(|found| equal(&found)) {
        return Verdict::Known;
    }
    let same = plain().find(|found| same_type(&found.line.key.algorithm(), &key.algorithm()));
    match same.or_else(|| plain().next()) {
        None => Verdict::Unknown,
        Some(found) => {
            Verdict::Refused(HostKeyError::Changed { found: evidence(found), known: fingerprint(&found.line.key) })
        }
    }
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The text of a file; none where there is no file.
fn read(path: &Path) -> Result<Option<String>, HostKeyError> {
    let unreadable = |why: String| HostKeyError::Unreadable { file: path.into(), why };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn open_own(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        create_private_folder(folder)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Appends one line in one write, after mending a last line that was cut off.
fn append(file: &mut File, line: &str) -> io::Result<()> {
    let mut text = String::new();
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            text.push('\n');
        }
    }
    text.push_str(line);
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_key_that_is_revoked_without_a_port_is_revoked_at_every_port() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("known_hosts");
        fs::write(&own, format!("@revoked h {KEY}\n")).unwrap();
        let key = PublicKey::from_openssh(KEY).unwrap();
        let known_hosts = KnownHosts { own: Some(own.clone()), others: Vec::new() };
        for port in [22, 2222] {
            let refused = known_hosts.check_or_record("h", port, &key);
            assert!(matches!(refused, Err(HostKeyError::Revoked(_))), "{port}: {refused:?}");
        }
        assert_eq!(fs::read_to_string(&own).unwrap().lines().count(), 1, "nothing was recorded");
    }
}
