//! The program under test, on either transport, and its end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::mcp_client::{HttpServer, RawStdio, ServerProcess};

/// A program under test that runs commands, on either transport.
pub(super) enum Program {
    Stdio(RawStdio, u64),
    Http(HttpServer),
}

impl Program {
    pub(super) async fn stdio() -> Self {
        Self::Stdio(RawStdio::initialized(&[]).await, 0)
    }

    pub(super) async fn http() -> Self {
        Self::Http(HttpServer::start(&[]).await)
    }

    pub(super) async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let reply = match self {
            Self::Stdio(client, id) => {
                *id += 1;
                client.request(*id, "tools/call", json!({"name": tool, "arguments": arguments})).await
            }
            Self::Http(server) => server.curl(tool, arguments).await,
        };
        assert_eq!(reply["result"]["isError"], false, "{reply}");
        reply["result"]["structuredContent"].clone()
    }

    pub(super) async fn session(&mut self, login: Value) -> Value {
        self.call("ssh_connect", login).await["session_id"].clone()
    }

    pub(super) async fn start(&mut self, session: &Value, command: &str) {
        self.call("ssh_execute_async", json!({"session_id": session, "command": command})).await;
    }

    /// Ends it by a signal, or by the end of its stdin, and waits.
    pub(super) async fn end(&mut self, by: &str) {
        match self {
            Self::Stdio(client, _) if by == "EOF" => client.close(),
            _ => self.process().signal(by),
        }
        let process = self.process();
        let status = process.wait().await;
        assert!(status.success(), "{by}: {status}\n{}", process.stderr());
    }

    pub(super) fn process(&mut self) -> &mut ServerProcess {
        match self {
            Self::Stdio(client, _) => client.process(),
            Self::Http(server) => server.process(),
        }
    }

    pub(super) fn stderr(&mut self) -> String {
        self.process().stderr()
    }

    /// How long its end may take while commands run.
    pub(super) fn budget(&self) -> Duration {
        Duration::from_secs(if matches!(self, Self::Stdio(..)) { 2 } else { 5 })
    }
}
