//! Calls that wait for a connection when the program, or their session, ends.

use serde_json::{Value, json};

use crate::support::{
    fake_server::{FakeServer, Play},
    home::with,
    mcp_client::RawStdio,
    openssh::Sshd,
    session::{login, text},
    wait::eventually,
};

/// A session whose host lets in no further connection, and maybe has lost its first one.
struct Waiting {
    client: RawStdio,
    session: Value,
    login: Value,
    relay: FakeServer,
    _sshd: Sshd,
}

impl Waiting {
    async fn start(lost: bool) -> Option<Self> {
        let sshd = Sshd::start().await?;
        let relay = FakeServer::start(Play::Once(sshd.port())).await;
        let login = with(login(&sshd, &sshd.user().name), json!({"address": relay.address()}));
        let mut client = RawStdio::initialized(&[]).await;
        let opened = client.request(1, "tools/call", tool("ssh_connect", &login)).await;
        let session = opened["result"]["structuredContent"]["session_id"].clone();
        let ran = json!({"session_id": session, "command": "true"});
        client.request(2, "tools/call", tool("ssh_execute", &ran)).await;
        if lost {
            sshd.signal_connections("KILL");
        }
        Some(Self { client, session, login, relay, _sshd: sshd })
    }

    /// Makes a call, which waits for a connection.
    async fn begin(&mut self, name: &str, more: Value) {
        let params = tool(name, &with(json!({"session_id": self.session}), more));
        self.client
            .send(&json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": params}).to_string())
            .await;
        eventually("it connects", async || self.relay.connections() == 2).await;
    }

    /// Its answer.
    async fn told(&mut self) -> Value {
        loop {
            let message = self.client.message().await;
            if message["id"] == 3 {
                return message["result"]["structuredContent"].clone();
            }
        }
    }
}

fn tool(name: &str, arguments: &Value) -> Value {
    json!({"name": name, "arguments": arguments})
}

#[tokio::test]
async fn calls_that_wait_for_a_connection_are_told_that_the_server_stops() {
    let forward = json!({"local_port": 0, "remote_address": "127.0.0.1", "remote_port": 9});
    for (name, lost) in [("ssh_forward", false), ("ssh_forward", true), ("ssh_connect", true)] {
        let Some(mut waiting) = Waiting::start(lost).await else { return };
        let more = if name == "ssh_connect" { waiting.login.clone() } else { forward.clone() };
        waiting.begin(name, more).await;
        waiting.client.process().signal("TERM");
        let told = waiting.told().await;
        assert_eq!((&told["code"], &told["retryable"]), (&json!("busy"), &json!(true)), "{name}: {told}");
        assert!(text(&told["message"]).contains("stopping"), "{name}: {told}");
    }
    let Some(mut waiting) = Waiting::start(true).await else { return };
    waiting.begin("ssh_execute", json!({"command": "true"})).await;
    waiting.client.process().signal("TERM");
    let told = waiting.told().await;
    assert_eq!((&told["status"], &told["stdout"]), (&json!("cancelled"), &json!("")), "{told}");
}

#[tokio::test]
async fn a_forward_that_waits_for_a_connection_is_told_that_its_session_was_closed() {
    let Some(mut waiting) = Waiting::start(false).await else { return };
    waiting.begin("ssh_forward", json!({"local_port": 0, "remote_address": "127.0.0.1", "remote_port": 9})).await;
    let close = json!({"jsonrpc": "2.0", "id": 4, "method": "tools/call",
        "params": tool("ssh_disconnect", &json!({"session_id": waiting.session}))});
    waiting.client.send(&close.to_string()).await;
    let told = waiting.told().await;
    assert_eq!(told["code"], "session_closed", "{told}");
}
