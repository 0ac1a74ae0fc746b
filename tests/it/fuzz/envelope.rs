//! JSON-RPC: one answer for each request, none for a notification, and the next request is always served.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rmcp::{
    ServerHandler,
    model::{ClientJsonRpcMessage, ServerCapabilities, ServerConfig},
};
use serde_json::{Value, json};
use ssh_mcp::{
    app::Health,
    transport::{Backend, message, stdio::serve_on},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// Lines of one run.
const LINES: usize = 32;
/// What a broken envelope, an unknown method and bad parameters are answered with.
const CODES: [i64; 5] = [-32700, -32600, -32601, -32602, -32603];
/// The id of the request that follows whatever was sent.
const LAST: &str = "the last one";

/// Lines as a client sends them.
pub fn check(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').take(LINES).collect();
    let mut expected = Expected::default();
    for line in &lines {
        expected.add(line);
    }
    let answers = super::block_on(talk(&lines));
    expected.meet(&answers);
}

/// How many answers each id may get.
#[derive(Default)]
struct Expected {
    by_id: HashMap<String, usize>,
    all: usize,
    /// A cancelled request is not answered; some that wait are not either.
    open: bool,
}

impl Expected {
    fn add(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let id = match message::parse(line) {
            Ok(ClientJsonRpcMessage::Request(request)) => {
                let read: Value = read(line);
                assert_eq!(json!(request.id), read["id"], "the id that was sent");
                self.open |= read["method"] == "subscriptions/listen";
                read["id"].clone()
            }
            Ok(ClientJsonRpcMessage::Notification(_)) => {
                self.open |= read(line)["method"] == "notifications/cancelled";
                return;
            }
            Ok(_) => return,
            Err(refused) => {
                let answer: Value = serde_json::from_slice(&refused.encode()).expect("JSON");
                assert_error(&answer);
                answer["id"].clone()
            }
        };
        *self.by_id.entry(id.to_string()).or_default() += 1;
        self.all += 1;
    }

    fn meet(mut self, answers: &[Value]) {
        let mut count = 0;
        for answer in answers {
            assert_eq!(answer["jsonrpc"], "2.0");
            if answer.get("method").is_some() {
                continue;
            }
            if answer.get("error").is_some() {
                assert_error(answer);
            }
            count += 1;
            let id = answer.get("id").expect("an answer has an id");
            // A request whose id is in use by another that waits is refused without one.
            if !id.is_null() && id != LAST {
                let left = self.by_id.get_mut(&id.to_string()).unwrap_or_else(|| panic!("nobody asked: {answer}"));
                *left = left.checked_sub(1).unwrap_or_else(|| panic!("answered twice: {answer}"));
            }
        }
        assert!(answers.iter().any(|answer| answer["id"] == LAST), "the last request is answered: {answers:?}");
        assert!(count <= self.all + 1, "{count} answers to {} requests", self.all);
        assert!(self.open || count == self.all + 1, "{count} answers to {} requests: {answers:?}", self.all);
    }
}

fn assert_error(answer: &Value) {
    let code = answer["error"]["code"].as_i64().expect("a code");
    assert!(CODES.contains(&code), "{answer}");
    assert!(answer["error"]["message"].as_str().is_some_and(|message| message.len() <= 300), "{answer}");
    assert!(answer.get("id").is_some(), "{answer}");
}

fn read(line: &[u8]) -> Value {
    serde_json::from_slice(line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)).expect("it was read before")
}

/// Sends the lines after a handshake, then a ping, and gives all answers until the server has ended.
async fn talk(lines: &[&[u8]]) -> Vec<Value> {
    let (mut to, input) = tokio::io::duplex(64 << 10);
    let (output, mut from) = tokio::io::duplex(64 << 10);
    let server = tokio::spawn(serve_on((input, output), Nothing, Arc::new(Nothing), CancellationToken::new()));
    let info = json!({"name": "fuzz", "version": "0"});
    let initialize = json!({"jsonrpc": "2.0", "id": "handshake", "method": "initialize", "params":
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}});
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let ping = json!({"jsonrpc": "2.0", "id": LAST, "method": "ping"});
    let mut sent = format!("{initialize}\n{initialized}\n").into_bytes();
    for line in lines {
        sent.extend_from_slice(line);
        sent.push(b'\n');
    }
    sent.extend_from_slice(format!("{ping}\n").as_bytes());
    let writing = async move {
        to.write_all(&sent).await.expect("the server reads");
        // The end of the input: what waits is answered first, then the server ends.
        drop(to);
    };
    let mut received = Vec::new();
    let (read, ()) = tokio::join!(from.read_to_end(&mut received), writing);
    read.expect("a pipe");
    server.await.expect("the server does not panic");
    let lines = received.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut answers: Vec<Value> = lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect();
    let handshake = answers.iter().position(|answer| answer["id"] == "handshake").expect("the handshake is answered");
    answers.remove(handshake);
    answers
}

/// A server without tools, of a process without state.
#[derive(Clone)]
struct Nothing;

impl ServerHandler for Nothing {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

impl Backend for Nothing {
    fn health(&self) -> Health {
        Health { uptime: Duration::ZERO, sessions: 0, running_commands: 0, forwards: 0 }
    }

    async fn shutdown(&self, _: Duration) {}
}
