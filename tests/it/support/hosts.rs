//! Every login that behaves in its own way: OpenSSH and Dropbear, root and the ordinary user.

use serde_json::{Value, json};

use super::{
    dropbear::Dropbear,
    home::logins,
    mcp_client::McpClient,
    openssh::Sshd,
    session::{Session, login},
};

/// The servers that can run here.
pub(crate) struct Hosts {
    pub(crate) sshd: Option<Sshd>,
    pub(crate) dropbear: Option<Dropbear>,
}

impl Hosts {
    pub(crate) async fn start() -> Self {
        let (sshd, dropbear) = tokio::join!(Sshd::start(), Dropbear::start());
        Self { sshd, dropbear }
    }

    /// The same, where sshd itself writes nothing into a command's stderr, as it does for root at its log level here.
    pub(crate) async fn start_quiet() -> Self {
        let (sshd, dropbear) = tokio::join!(Sshd::builder().config("LogLevel INFO").start(), Dropbear::start());
        Self { sshd, dropbear }
    }

    /// Loses every connection; commands live on.
    pub(crate) fn kill_connections(&self) {
        if let Some(sshd) = &self.sshd {
            sshd.signal_connections("KILL");
        }
        if let Some(dropbear) = &self.dropbear {
            dropbear.kill_connections();
        }
    }

    /// A name for messages, and the arguments of `ssh_connect`.
    pub(crate) fn logins(&self) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        if let Some(sshd) = &self.sshd {
            all.extend(logins(sshd).into_iter().map(|user| (format!("OpenSSH, {user}"), login(sshd, user))));
        }
        if let Some(dropbear) = &self.dropbear {
            let login = |user: &str| {
                let address = format!("127.0.0.1:{}", dropbear.port());
                json!({"address": address, "username": user, "key_path": dropbear.client_key()})
            };
            let users = [dropbear.user().name.as_str(), "root"];
            all.extend(users.map(|user| (format!("Dropbear, {user}"), login(user))));
        }
        all
    }

    /// A session on each, all of one client. Nothing where no server can run.
    pub(crate) async fn sessions(&self, env: &[(&str, &str)]) -> Vec<(String, Session)> {
        let mut sessions: Vec<(String, Session)> = Vec::new();
        for (name, login) in self.logins() {
            let session = match sessions.first() {
                None => Session::open(McpClient::stdio(env).await, login).await,
                Some((_, first)) => first.another(login).await,
            };
            sessions.push((name, session));
        }
        sessions
    }
}
