//! MCP over a pair of streams, and over the real process's stdin and stdout.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use ssh_mcp::transport::stdio::{MAX_LINE_BYTES, serve_on};
use tokio::{
    io::{AsyncWriteExt, BufReader, DuplexStream},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::wire::{Process, SOON, TestResult, Tools, call, initialize, line_with, modern_call, ping};

/// A client of a server that runs in this process.
struct Client {
    to: Option<DuplexStream>,
    from: BufReader<DuplexStream>,
    server: JoinHandle<()>,
    tools: Tools,
    process: Arc<Process>,
    stop: CancellationToken,
}

impl Client {
    fn new() -> Self {
        let (to, input) = tokio::io::duplex(64 * 1024);
        let (output, from) = tokio::io::duplex(64 * 1024);
        let (tools, process, stop) = (Tools::default(), Arc::new(Process::default()), CancellationToken::new());
        let server = tokio::spawn(serve_on((input, output), tools.clone(), process.clone(), stop.clone()));
        Self { to: Some(to), from: BufReader::new(from), server, tools, process, stop }
    }

    async fn initialized() -> Result<Self, Box<dyn std::error::Error>> {
        let mut client = Self::new();
        client.send(&initialize(0)).await?;
        client.answer().await?;
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
        Ok(client)
    }

    async fn write(&mut self, bytes: &[u8]) -> TestResult {
        Ok(self.to.as_mut().ok_or("the input is closed")?.write_all(bytes).await?)
    }

    async fn send(&mut self, message: &Value) -> TestResult {
        self.write(format!("{message}\n").as_bytes()).await
    }

    async fn answer(&mut self) -> Result<Value, Box<dyn std::error::Error>> {
        Ok(serde_json::from_str(&line_with(&mut self.from, "").await?)?)
    }

    /// How long the server takes to end.
    async fn end(self) -> Result<Duration, Box<dyn std::error::Error>> {
        let begin = Instant::now();
        timeout(SOON, self.server).await.map_err(|_| "the server did not end")??;
        assert!(self.process.was_shut_down());
        Ok(begin.elapsed())
    }
}

#[tokio::test]
async fn ping_behind_a_slow_call_is_answered_at_once() -> TestResult {
    let mut client = Client::initialized().await?;
    client.send(&call(1, "sleep", json!({"ms": 1000}))).await?;
    client.send(&ping(2)).await?;
    assert_eq!(client.answer().await?["id"], 2);
    assert!(!client.tools.seen.has("slept"));
    assert_eq!(client.answer().await?["id"], 1);
    Ok(())
}

#[tokio::test]
async fn garbage_is_answered_and_the_next_request_is_served() -> TestResult {
    let mut client = Client::initialized().await?;
    let cases: [(&[u8], i64, Value); 6] = [
        (b"hello\n", -32700, Value::Null),
        (b"{\"jsonrpc\":\"2.0\",\n", -32700, Value::Null),
        (b"\xff\xfe{}\n", -32700, Value::Null),
        (b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]\n", -32600, Value::Null),
        (b"{\"id\":7,\"method\":\"ping\"}\n", -32600, json!(7)),
        (b"{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"no/such\"}\n", -32601, json!(8)),
    ];
    for (bytes, code, id) in cases {
        client.write(bytes).await?;
        let answer = client.answer().await?;
        assert_eq!((&answer["error"]["code"], answer.get("id")), (&json!(code), Some(&id)), "{answer}");
    }
    client.write(b"\r\n \n").await?;
    client.send(&ping(9)).await?;
    assert_eq!(client.answer().await?["id"], 9);
    Ok(())
}

#[tokio::test]
async fn a_line_beyond_the_bound_is_read_over_and_answered() -> TestResult {
    let mut client = Client::initialized().await?;
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..=MAX_LINE_BYTES / piece.len() {
        client.write(&piece).await?;
    }
    client.write(b"\n").await?;
    assert_eq!(client.answer().await?["error"]["code"], -32700);
    client.send(&ping(1)).await?;
    assert_eq!(client.answer().await?["id"], 1);
    Ok(())
}

#[tokio::test]
async fn newer_clients_are_served_without_a_handshake() -> TestResult {
    let mut client = Client::new();
    // Before the handshake neither a notification nor a request of an older revision ends the connection.
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
    client.send(&call(1, "sleep", json!({}))).await?;
    assert_eq!(client.answer().await?["error"]["code"], -32602);
    let mut discover = modern_call(2, "", json!({}));
    discover["method"] = json!("server/discover");
    client.send(&discover).await?;
    assert!(client.answer().await?["result"]["supportedVersions"].is_array());
    client.send(&modern_call(3, "sleep", json!({}))).await?;
    assert_eq!(client.answer().await?["result"]["content"][0]["text"], "slept");
    Ok(())
}

#[tokio::test]
async fn a_panic_in_a_handler_ends_one_request_only() -> TestResult {
    let mut client = Client::initialized().await?;
    client.send(&call(1, "panic", json!({}))).await?;
    let answer = client.answer().await?;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(-32603)));
    client.send(&call(2, "sleep", json!({}))).await?;
    assert_eq!(client.answer().await?["id"], 2);
    Ok(())
}

#[tokio::test]
async fn calls_that_are_about_to_end_are_answered_after_the_end_of_input() -> TestResult {
    let mut client = Client::initialized().await?;
    client.send(&call(1, "sleep", json!({"ms": 50}))).await?;
    // No line end: the end of the input is the end of the line.
    client.write(call(2, "sleep", json!({})).to_string().as_bytes()).await?;
    client.to = None;
    let mut ids = [client.answer().await?["id"].clone(), client.answer().await?["id"].clone()];
    ids.sort_by_key(Value::to_string);
    assert_eq!(ids, [json!(1), json!(2)]);
    client.end().await?;
    Ok(())
}

#[tokio::test]
async fn end_of_input_ends_the_server_at_once_where_nothing_runs() -> TestResult {
    let mut client = Client::initialized().await?;
    client.to = None;
    assert!(client.end().await? < Duration::from_millis(500));
    let mut fresh = Client::new();
    fresh.to = None;
    assert!(fresh.end().await? < Duration::from_millis(500));
    Ok(())
}

#[tokio::test]
async fn a_long_call_does_not_hold_the_server_after_the_end_of_input() -> TestResult {
    let mut client = Client::initialized().await?;
    client.send(&call(1, "sleep", json!({"ms": 60_000}))).await?;
    client.tools.seen.wait_for("begun").await?;
    client.to = None;
    assert!(client.end().await? < Duration::from_secs(2));
    Ok(())
}

#[tokio::test]
async fn stop_ends_the_server_though_its_input_is_open() -> TestResult {
    let mut client = Client::initialized().await?;
    client.send(&call(1, "sleep", json!({"ms": 60_000}))).await?;
    client.tools.seen.wait_for("begun").await?;
    client.stop.cancel();
    assert!(client.end().await? < Duration::from_secs(2));
    Ok(())
}
