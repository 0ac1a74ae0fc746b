//! A home for the server under test: what stands in `~/.ssh`, and where it keeps its own files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    mcp_client::McpClient,
    openssh::{KeyFormat, KeyType, Sshd, is_root, ssh_keygen},
};

/// An empty home; gone when dropped.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a home"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Starts `ssh-mcp-stdio` in this home.
    pub(crate) async fn client(&self, env: &[(&str, &str)]) -> McpClient {
        let home = self.path().to_str().expect("a path in UTF-8");
        McpClient::stdio(&[&[("HOME", home)], env].concat()).await
    }

    /// The file where the server records host keys by default.
    pub(crate) fn own_known_hosts(&self) -> PathBuf {
        self.path().join(".local/state/ssh-mcp/known_hosts")
    }

    /// What the server has recorded; empty if nothing.
    pub(crate) fn recorded(&self) -> String {
        fs::read_to_string(self.own_known_hosts()).unwrap_or_default()
    }

    /// Whether a key is recorded under this name, plain or hashed, as OpenSSH reads the file.
    pub(crate) fn knows(&self, name: &str) -> bool {
        let mut find = Command::new("ssh-keygen");
        find.args(["-F", name, "-f"]).arg(self.own_known_hosts());
        find.output().expect("ssh-keygen starts").status.success()
    }

    /// Writes `~/.ssh/known_hosts`.
    pub(crate) fn write_known_hosts(&self, text: &str) -> PathBuf {
        fs::create_dir_all(self.path().join(".ssh")).expect("~/.ssh");
        let path = self.path().join(".ssh/known_hosts");
        fs::write(&path, text).expect("known_hosts");
        path
    }

    /// Makes a private key in this home.
    pub(crate) fn key(&self, name: &str, kind: KeyType, format: KeyFormat) -> PathBuf {
        ssh_keygen(self.path(), name, kind, format)
    }
}

/// Who may log in: the ordinary user, and root where the tests run as root.
pub(crate) fn logins(sshd: &Sshd) -> Vec<&str> {
    let mut logins = vec![sshd.user().name.as_str()];
    logins.extend(is_root().then_some("root"));
    logins
}

/// Arguments of `ssh_connect` with the key that the server knows; `more` is added or put in place.
pub(crate) fn by_key(sshd: &Sshd, username: &str, more: Value) -> Value {
    let address = format!("127.0.0.1:{}", sshd.port());
    with(json!({"address": address, "username": username, "key_path": sshd.client_key()}), more)
}

/// Both objects in one; the second has precedence.
pub(crate) fn with(mut arguments: Value, more: Value) -> Value {
    let (Value::Object(all), Value::Object(more)) = (&mut arguments, more) else { panic!("two objects") };
    all.extend(more);
    arguments
}
