//! Keys as `ssh-keygen` makes them, and an agent that holds them.

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use russh::keys::{encode_pkcs8_pem, load_secret_key};
use tempfile::TempDir;

use crate::support::wait::eventually;

/// What kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyType {
    Ed25519,
    Ecdsa,
    Rsa,
}

/// How its private half is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyFormat {
    /// `BEGIN OPENSSH PRIVATE KEY`
    OpenSsh,
    /// PKCS#1 for RSA, SEC1 for ECDSA; ed25519 has no such form and is written as [`KeyFormat::OpenSsh`].
    Pem,
    /// `BEGIN PRIVATE KEY`
    Pkcs8,
}

/// Makes a key without passphrase, `name` and `name.pub` in the directory; gives the private half's path.
pub(crate) fn ssh_keygen(dir: &Path, name: &str, kind: KeyType, format: KeyFormat) -> PathBuf {
    ssh_keygen_with_passphrase(dir, name, kind, format, "")
}

/// Makes a key that is encrypted with a passphrase.
pub(crate) fn ssh_keygen_with_passphrase(
    dir: &Path,
    name: &str,
    kind: KeyType,
    format: KeyFormat,
    passphrase: &str,
) -> PathBuf {
    let path = dir.join(name);
    let kind_arguments: &[&str] = match kind {
        KeyType::Ed25519 => &["-t", "ed25519"],
        KeyType::Ecdsa => &["-t", "ecdsa"],
        KeyType::Rsa => &["-t", "rsa", "-b", "2048"],
    };
    let format_name = match format {
        KeyFormat::OpenSsh => "RFC4716",
        KeyFormat::Pem => "PEM",
        KeyFormat::Pkcs8 => "PKCS8",
    };
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-C", name, "-N", passphrase, "-m", format_name]).args(kind_arguments);
    let made = command.arg("-f").arg(&path).stdin(Stdio::null()).output().expect("ssh-keygen starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    if (kind, format) == (KeyType::Ed25519, KeyFormat::Pkcs8) {
        rewrite_as_pkcs8(&path);
    }
    path
}

/// ssh-keygen before 9.6 ignores `-m PKCS8` for ed25519.
fn rewrite_as_pkcs8(path: &Path) {
    let key = load_secret_key(path, None).expect("a key without passphrase");
    encode_pkcs8_pem(&key, File::create(path).expect("the file")).expect("a PKCS#8 key");
}

/// The line of the public half that stands beside a private key.
pub(crate) fn public_key(private_key: &Path) -> String {
    let path = format!("{}.pub", private_key.display());
    fs::read_to_string(path).expect("a public key").trim().to_owned()
}

/// A running `ssh-agent`; killed when dropped.
pub(crate) struct Agent {
    process: Child,
    dir: TempDir,
}

impl Agent {
    /// An agent that holds these private keys, in this order.
    pub(crate) async fn start(keys: &[&Path]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(dir.path().join("socket"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let agent = Self { process: command.spawn().expect("ssh-agent starts"), dir };
        let socket = agent.socket();
        eventually("ssh-agent listens", async || UnixStream::connect(&socket).is_ok()).await;
        for key in keys {
            agent.add(key);
        }
        agent
    }

    /// What `SSH_AUTH_SOCK` has to be.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Adds one more private key.
    pub(crate) fn add(&self, key: &Path) {
        let mut command = Command::new("ssh-add");
        command.arg("-q").arg(key).env("SSH_AUTH_SOCK", self.socket()).stdin(Stdio::null());
        let added = command.output().expect("ssh-add starts");
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
