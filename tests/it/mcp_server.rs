//! The server as a client meets it: JSON-RPC lines over a pipe in memory.

use std::time::Duration;

use rmcp::ServiceExt;
use serde_json::{Value, json};
use ssh_mcp::{app::App, mcp::server::Server, ssh::ids::Owner};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};

use crate::samples;

/// A client that speaks raw JSON-RPC.
struct Client {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    input: WriteHalf<DuplexStream>,
    next: u64,
}

impl Client {
    /// A client of a fresh server, before any handshake.
    fn raw() -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let server = Server::new(App::new(samples::settings()), Owner::new("test"));
        tokio::spawn(async move {
            let served = server.serve(tokio::io::split(theirs)).await.expect("a handshake");
            served.waiting().await
        });
        let (output, input) = tokio::io::split(ours);
        Self { lines: BufReader::new(output).lines(), input, next: 0 }
    }

    /// A client that has initialized.
    async fn new() -> Self {
        let mut client = Self::raw();
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" } });
        let answer = client.request("initialize", params).await;
        assert_eq!(answer["result"]["serverInfo"]["name"], "ssh-mcp", "{answer}");
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        client
    }

    async fn send(&mut self, message: &Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn request(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        let line = tokio::time::timeout(Duration::from_secs(5), self.lines.next_line()).await;
        let answer: Value = serde_json::from_str(&line.expect("no answer").unwrap().unwrap()).unwrap();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    async fn call(&mut self, name: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({ "name": name, "arguments": arguments })).await
    }
}

#[tokio::test]
async fn initialize_tells_name_version_tools_and_instructions() {
    let mut client = Client::raw();
    let params =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" } });
    let result = client.request("initialize", params).await["result"].clone();
    assert_eq!(result["protocolVersion"], "2025-06-18");
    assert_eq!(result["serverInfo"], json!({ "name": "ssh-mcp", "version": env!("CARGO_PKG_VERSION") }));
    assert_eq!(
        result["capabilities"],
        json!({ "tools": { "listChanged": false }, "resources": { "subscribe": true }, "completions": {} })
    );
    assert!(result["instructions"].as_str().unwrap().contains("No call lasts over 45 s"));
}

#[tokio::test]
async fn the_newer_era_is_served_without_a_handshake() {
    let mut client = Client::raw();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let answer = client.request("server/discover", json!({ "_meta": meta })).await;
    assert!(answer["result"]["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")), "{answer}");
    let answer =
        client.request("tools/call", json!({ "_meta": meta, "name": "ssh_list_sessions", "arguments": {} })).await;
    assert_eq!(answer["result"]["structuredContent"]["count"], 0, "{answer}");
    let answer =
        client.request("tools/call", json!({ "_meta": meta, "name": "ssh_list_sessions", "arguments": [] })).await;
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
}

/// Whatever their parameters are: rmcp takes them for unknown methods where it cannot read them.
#[tokio::test]
async fn methods_that_the_newer_era_has_removed_are_unknown_there() {
    let mut client = Client::raw();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    client.request("server/discover", json!({ "_meta": meta })).await;
    for method in ["initialize", "ping", "resources/subscribe", "resources/unsubscribe"] {
        let answer = client.request(method, json!({ "_meta": meta })).await;
        assert_eq!(answer["error"]["code"], -32601, "{method}: {answer}");
    }
    let mut older = Client::new().await;
    assert_eq!(older.request("resources/subscribe", json!({})).await["error"]["code"], -32602);
}

#[tokio::test]
async fn the_list_of_tools_is_always_the_same() {
    let (mut one, mut other) = (Client::new().await, Client::new().await);
    let list = one.request("tools/list", json!({})).await["result"].to_string();
    assert_eq!(list, other.request("tools/list", json!({})).await["result"].to_string());
    assert!(list.len() <= 20_000, "{}", list.len());
}

#[tokio::test]
async fn both_places_of_a_result_hold_the_same_json() {
    let mut client = Client::new().await;
    let result = client.call("ssh_list_sessions", json!({})).await["result"].clone();
    assert_eq!(result["isError"], false);
    assert_eq!(result["structuredContent"]["count"], 0);
    assert_eq!(result["content"].as_array().unwrap().len(), 1);
    assert_eq!(result["content"][0]["text"], result["structuredContent"].to_string());
    assert_eq!(result.get("resultType"), None);
}

#[tokio::test]
async fn arguments_may_be_left_out() {
    let mut client = Client::new().await;
    for params in [json!({ "name": "ssh_list_sessions" }), json!({ "name": "ssh_list_sessions", "arguments": null })] {
        let answer = client.request("tools/call", params).await;
        assert_eq!(answer["result"]["isError"], false, "{answer}");
    }
}

#[tokio::test]
async fn bad_arguments_are_results_with_the_same_json_in_both_places() {
    let mut client = Client::new().await;
    let result = client.call("ssh_execute", json!({ "cmd": "ls" })).await["result"].clone();
    assert_eq!(result["isError"], true);
    assert_eq!(result["structuredContent"]["code"], "unknown_argument");
    assert_eq!(result["structuredContent"]["faults"].as_array().unwrap().len(), 3);
    assert_eq!(result["content"][0]["text"], result["structuredContent"].to_string());
}

#[tokio::test]
async fn arguments_that_are_no_object_are_results_too() {
    let mut client = Client::new().await;
    for arguments in [json!([]), json!("{}"), json!(7)] {
        let result = client.call("ssh_list_sessions", arguments).await["result"].clone();
        assert_eq!(
            (&result["isError"], &result["structuredContent"]["code"]),
            (&json!(true), &json!("invalid_argument"))
        );
        assert_eq!(result.get("resultType"), None);
    }
}

#[tokio::test]
async fn an_unknown_tool_is_an_error_of_the_protocol() {
    let mut client = Client::new().await;
    let answer = client.call("ssh_explode\u{1b}", json!({})).await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    let answer = client.call("ssh_explode", json!([])).await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
}

#[tokio::test]
async fn methods_that_are_not_declared_do_not_exist() {
    let mut client = Client::new().await;
    let methods = [
        ("prompts/list", json!({})),
        ("prompts/get", json!({ "name": "x" })),
        ("subscriptions/listen", json!({ "notifications": {} })),
        ("logging/setLevel", json!({ "level": "info" })),
        ("tasks/get", json!({ "taskId": "x" })),
        ("no/such/method", json!({})),
    ];
    for (method, params) in methods {
        let answer = client.request(method, params).await;
        assert_eq!(answer["error"]["code"], -32601, "{method}: {answer}");
    }
}

#[tokio::test]
async fn parameters_that_cannot_be_read_are_invalid_and_the_next_request_is_served() {
    let mut client = Client::new().await;
    for params in [json!({}), json!({ "name": 5 }), json!({ "arguments": {} })] {
        let answer = client.request("tools/call", params).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    assert_eq!(client.request("ping", json!({})).await["result"], json!({}));
}
