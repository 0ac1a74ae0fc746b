//! An open session, and what a caller does with it: where most tests begin.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    embedded_host::EmbeddedHost,
    mcp_client::{McpClient, ToolAnswer},
    openssh::Sshd,
    wait::eventually,
};

/// A session of a client. Clones are the same session.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) client: Arc<McpClient>,
    /// Its `session_id`.
    pub(crate) id: String,
    /// The arguments that opened it.
    login: Value,
    _key: Option<Arc<TempDir>>,
}

impl Session {
    /// The ordinary user's session on a real sshd, over stdio.
    pub(crate) async fn on_sshd(sshd: &Sshd, env: &[(&str, &str)]) -> Self {
        Self::open(McpClient::stdio(env).await, login(sshd, &sshd.user().name)).await
    }

    /// A session on the embedded host, over stdio.
    pub(crate) async fn on_host(host: &EmbeddedHost, env: &[(&str, &str)]) -> Self {
        let (directory, key) = host_key(host);
        let login = json!({"address": address(host.port()), "username": "anyone", "key_path": key});
        Self { _key: Some(Arc::new(directory)), ..Self::open(McpClient::stdio(env).await, login).await }
    }

    /// Opens a session over any transport.
    pub(crate) async fn open(client: McpClient, login: Value) -> Self {
        Self::open_with(Arc::new(client), login, None).await
    }

    /// One more session of the same client, with these arguments instead of, or besides, those of this one.
    pub(crate) async fn another(&self, arguments: Value) -> Self {
        Self::open_with(Arc::clone(&self.client), merged(self.login.clone(), arguments), self._key.clone()).await
    }

    async fn open_with(client: Arc<McpClient>, login: Value, key: Option<Arc<TempDir>>) -> Self {
        let opened = client.call("ssh_connect", login.clone()).await.success();
        Self { id: text(&opened["session_id"]), client, login, _key: key }
    }

    /// The arguments that opened it.
    pub(crate) fn login(&self) -> &Value {
        &self.login
    }

    /// Calls a tool with this session's id besides the arguments.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> ToolAnswer {
        self.client.call(tool, merged(json!({"session_id": self.id}), arguments)).await
    }

    /// `ssh_execute`.
    pub(crate) async fn run(&self, command: &str) -> Value {
        self.call("ssh_execute", json!({"command": command})).await.success()
    }

    /// `ssh_execute_async`; gives the `command_id`.
    pub(crate) async fn start(&self, command: &str) -> String {
        text(&self.call("ssh_execute_async", json!({"command": command})).await.success()["command_id"])
    }

    /// `ssh_get_command_output` with these arguments besides the id.
    pub(crate) async fn output(&self, command_id: &str, arguments: Value) -> Value {
        let arguments = merged(json!({"command_id": command_id}), arguments);
        self.client.call("ssh_get_command_output", arguments).await.success()
    }

    /// Waits for the end of a command.
    pub(crate) async fn ended(&self, command_id: &str) -> Value {
        loop {
            let view = self.output(command_id, json!({"wait": true})).await;
            if view["status"] != "running" {
                return view;
            }
        }
    }

    /// Polls until stdout holds this text; gives the view that shows it.
    pub(crate) async fn shows(&self, command_id: &str, wanted: &str) -> Value {
        let mut view = Value::Null;
        eventually(wanted, async || {
            view = self.output(command_id, json!({})).await;
            view["stdout"].as_str().is_some_and(|shown| shown.contains(wanted))
        })
        .await;
        view
    }

    /// The process id that a command writes as its first line (`echo $$`).
    pub(crate) async fn pid(&self, command_id: &str) -> u32 {
        let view = self.shows(command_id, "\n").await;
        view["stdout"].as_str().and_then(|shown| shown.lines().next()?.parse().ok()).expect("a process id")
    }

    /// `ssh_cancel_command`.
    pub(crate) async fn cancel(&self, command_id: &str) -> Value {
        self.client.call("ssh_cancel_command", json!({"command_id": command_id})).await.success()
    }

    /// `ssh_disconnect`.
    pub(crate) async fn disconnect(&self) -> Value {
        self.call("ssh_disconnect", json!({})).await.success()
    }

    /// This session's row of `ssh_list_sessions`; none once it is closed.
    pub(crate) async fn listed(&self) -> Option<Value> {
        let list = self.client.call("ssh_list_sessions", json!({})).await.success();
        list["sessions"].as_array().expect("a list").iter().find(|row| row["session_id"] == self.id).cloned()
    }
}

/// The arguments of `ssh_connect` for an account of this sshd.
pub(crate) fn login(sshd: &Sshd, user: &str) -> Value {
    json!({"address": address(sshd.port()), "username": user, "key_path": sshd.client_key()})
}

/// A JSON string.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn host_key(host: &EmbeddedHost) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key");
    host.write_client_key(&key).expect("a key file");
    (directory, key)
}

/// The members of both; those of `more` win.
fn merged(mut arguments: Value, more: Value) -> Value {
    let (Some(all), Value::Object(more)) = (arguments.as_object_mut(), more) else { panic!("arguments are an object") };
    all.extend(more);
    arguments
}
