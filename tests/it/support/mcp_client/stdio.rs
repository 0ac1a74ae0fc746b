//! `ssh-mcp-stdio` line by line.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout},
};

use super::ServerProcess;
use crate::support::wait::bounded;

/// Sends any line and reads any line.
pub(crate) struct RawStdio {
    process: ServerProcess,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl RawStdio {
    /// Starts the server; nothing is sent.
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        let mut process = ServerProcess::stdio(env);
        let stdin = Some(process.take_stdin());
        let stdout = BufReader::new(process.take_stdout()).lines();
        Self { process, stdin, stdout }
    }

    /// Starts the server and goes through the handshake.
    pub(crate) async fn initialized(env: &[(&str, &str)]) -> Self {
        let mut client = Self::start(env);
        let client_info = json!({"name": "raw", "version": "0"});
        let parameters = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client_info});
        let reply = client.request(0, "initialize", parameters).await;
        assert!(reply.get("result").is_some(), "{reply}");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string()).await;
        client
    }

    /// Sends a line as it is.
    pub(crate) async fn send(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes()).await;
    }

    /// Sends bytes as they are.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).await.expect("the server reads");
        stdin.flush().await.expect("the server reads");
    }

    /// The next line of stdout; nothing after its end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        bounded("a line on stdout", self.stdout.next_line()).await.expect("text on stdout")
    }

    /// The next line, which must be JSON.
    pub(crate) async fn message(&mut self) -> Value {
        let Some(line) = self.line().await else { panic!("stdout ended\n{}", self.process.stderr()) };
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON: {error}: {line}"))
    }

    /// Sends a request and waits for the reply with its id; what else comes meanwhile is passed over.
    pub(crate) async fn request(&mut self, id: u64, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send(&request.to_string()).await;
        loop {
            let message = self.message().await;
            if message["id"] == id {
                return message;
            }
        }
    }

    /// Ends the server's stdin.
    pub(crate) fn close(&mut self) {
        self.stdin = None;
    }

    /// The process itself.
    pub(crate) fn process(&mut self) -> &mut ServerProcess {
        &mut self.process
    }
}
