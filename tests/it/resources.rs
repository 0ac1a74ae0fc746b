//! The output of commands as resources.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    embedded_host::EmbeddedHost,
    mcp_client::{HttpServer, McpClient, RawStdio},
    session::{Session, text},
};

const MISSING: &str = "ssh-mcp://command/6b1f0a52-5d5c-4b8e-9d3a-0c9f5a7e4d21/stdout";

/// A raw client that has initialized, and its open session on `host`.
struct Client {
    stdio: RawStdio,
    session: String,
    next: u64,
}

impl Client {
    async fn new(host: &EmbeddedHost) -> Self {
        let key = tempfile::tempdir().unwrap();
        let path = key.path().join("key");
        host.write_client_key(&path).unwrap();
        let stdio = RawStdio::initialized(&[]).await;
        let mut client = Self { stdio, session: String::new(), next: 1 };
        let opened = client.call("ssh_connect", login(host, &path)).await;
        client.session = text(&opened["session_id"]);
        client
    }

    async fn request(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        self.stdio.request(self.next, method, params).await
    }

    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let reply = self.request("tools/call", json!({"name": tool, "arguments": arguments})).await;
        reply["result"]["structuredContent"].clone()
    }

    /// Starts a command; gives its id.
    async fn start(&mut self, command: &str) -> String {
        let session = self.session.clone();
        text(&self.call("ssh_execute_async", json!({"session_id": session, "command": command})).await["command_id"])
    }

    /// The next notification that a resource was updated.
    async fn updated(&mut self) -> String {
        loop {
            let message = self.stdio.message().await;
            if message["method"] == "notifications/resources/updated" {
                return text(&message["params"]["uri"]);
            }
        }
    }
}

fn login(host: &EmbeddedHost, key: &Path) -> Value {
    json!({"address": format!("127.0.0.1:{}", host.port()), "username": "anyone", "key_path": key})
}

fn address(command_id: &str, stream: &str) -> String {
    format!("ssh-mcp://command/{command_id}/{stream}")
}

#[tokio::test]
async fn commands_are_listed_and_their_streams_are_read() {
    let host = EmbeddedHost::start().await.unwrap();
    let mut client = Client::new(&host).await;
    let id = client.start("echo out; echo err >&2").await;
    client.call("ssh_get_command_output", json!({"command_id": id, "wait": true})).await;
    let listed = client.request("resources/list", json!({})).await;
    let rows = listed["result"]["resources"].as_array().unwrap_or_else(|| panic!("{listed}"));
    let addresses: Vec<_> = rows.iter().map(|row| text(&row["uri"])).collect();
    assert_eq!(addresses, [address(&id, "stdout"), address(&id, "stderr")]);
    assert!(text(&rows[0]["name"]).starts_with("stdout of echo out"), "{listed}");
    for (stream, wanted) in [("stdout", "out\n"), ("stderr", "err\n")] {
        let read = client.request("resources/read", json!({"uri": address(&id, stream)})).await;
        let contents = &read["result"]["contents"][0];
        assert_eq!((&contents["text"], &contents["uri"]), (&json!(wanted), &json!(address(&id, stream))), "{read}");
        assert_eq!(contents["_meta"]["ssh-mcp/total_bytes"], 4, "{read}");
        assert_eq!(contents["_meta"]["ssh-mcp/status"], "completed");
    }
    let templates = client.request("resources/templates/list", json!({})).await;
    let forms = templates["result"]["resourceTemplates"].as_array().unwrap_or_else(|| panic!("{templates}"));
    assert_eq!(forms[1]["uriTemplate"], "ssh-mcp://command/{command_id}/stderr{?offset}");
}

#[tokio::test]
async fn at_most_fifty_commands_are_listed_newest_first() {
    let host = EmbeddedHost::start().await.unwrap();
    let mut client = Client::new(&host).await;
    let mut last = String::new();
    for _ in 0..51 {
        last = text(
            &{
                let session = client.session.clone();
                client.call("ssh_execute", json!({"session_id": session, "command": "true"})).await
            }["command_id"],
        );
    }
    let listed = client.request("resources/list", json!({})).await;
    let rows = listed["result"]["resources"].as_array().unwrap_or_else(|| panic!("{listed}"));
    assert_eq!((rows.len(), text(&rows[0]["uri"])), (100, address(&last, "stdout")));
}

#[tokio::test]
async fn a_long_stream_is_cut_and_read_on_by_offset() {
    let host = EmbeddedHost::start().await.unwrap();
    let mut client = Client::new(&host).await;
    let id = client.start("seq 1 20000").await;
    client.call("ssh_get_command_output", json!({"command_id": id, "wait": true})).await;
    let whole: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    let read = client.request("resources/read", json!({"uri": address(&id, "stdout")})).await;
    let shown = text(&read["result"]["contents"][0]["text"]);
    assert!(shown.len() <= 40_200 && shown.starts_with("1\n2\n") && shown.ends_with("20000\n"), "{}", shown.len());
    assert!(shown.contains("bytes omitted"));
    let (mut from, mut collected) = (0, String::new());
    while from < whole.len() as u64 {
        let uri = format!("{}?offset={from}", address(&id, "stdout"));
        let read = client.request("resources/read", json!({"uri": uri})).await;
        let contents = &read["result"]["contents"][0];
        let part = text(&contents["text"]);
        assert!(part.len() <= 40_000);
        collected.push_str(&part);
        from = contents["_meta"]["ssh-mcp/next_offset"].as_u64().unwrap_or_else(|| panic!("{read}"));
    }
    assert!(collected == whole);
}

#[tokio::test]
async fn a_subscriber_is_told_of_new_output_and_of_the_end() {
    let host = EmbeddedHost::start().await.unwrap();
    let mut client = Client::new(&host).await;
    let gate = tempfile::tempdir().unwrap();
    let open = |name: &str| std::fs::write(gate.path().join(name), "").unwrap();
    let wait = |name: &str| format!("until [ -e {} ]; do sleep 0.02; done", gate.path().join(name).display());
    let id = client.start(&format!("{}; echo out; {}", wait("a"), wait("b"))).await;
    let uri = address(&id, "stdout");
    for _ in 0..2 {
        let subscribed = client.request("resources/subscribe", json!({"uri": uri})).await;
        assert_eq!(subscribed["result"], json!({}), "{subscribed}");
    }
    open("a");
    assert_eq!(client.updated().await, uri);
    let read = client.request("resources/read", json!({"uri": uri})).await;
    assert_eq!(read["result"]["contents"][0]["text"], "out\n", "{read}");
    open("b");
    assert_eq!(client.updated().await, uri);
    let read = client.request("resources/read", json!({"uri": uri})).await;
    assert_eq!(read["result"]["contents"][0]["_meta"]["ssh-mcp/status"], "completed", "{read}");
    let ended = client.request("resources/unsubscribe", json!({"uri": uri})).await;
    assert_eq!(ended["result"], json!({}), "{ended}");
}

#[tokio::test]
async fn an_ended_subscription_is_silent() {
    let host = EmbeddedHost::start().await.unwrap();
    let mut client = Client::new(&host).await;
    let (kept, left) = (client.start("sleep 300").await, client.start("sleep 300").await);
    for id in [&kept, &left] {
        client.request("resources/subscribe", json!({"uri": address(id, "stdout")})).await;
    }
    client.request("resources/unsubscribe", json!({"uri": address(&left, "stdout")})).await;
    for id in [&left, &kept] {
        client
            .stdio
            .send(
                &json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": "ssh_cancel_command", "arguments": {"command_id": id}}})
                .to_string(),
            )
            .await;
    }
    // Both have ended; only one is told of. An update of the other would have come in between.
    let (mut told, mut answered) = (Vec::new(), 0);
    while told.is_empty() || answered < 2 {
        let message = client.stdio.message().await;
        answered += usize::from(message.get("result").is_some());
        if message["method"] == "notifications/resources/updated" {
            told.push(text(&message["params"]["uri"]));
        }
    }
    assert_eq!(told, [address(&kept, "stdout")]);
}

#[tokio::test]
async fn subscriptions_of_a_connection_have_a_limit() {
    let host = EmbeddedHost::start().await.unwrap();
    let mut client = Client::new(&host).await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(client.start("sleep 300").await);
    }
    let mut refused = 0;
    for offset in 0..3 {
        for id in &ids {
            let uri = format!("{}?offset={offset}", address(id, "stdout"));
            let reply = client.request("resources/subscribe", json!({"uri": uri})).await;
            refused += usize::from(reply["error"]["message"].as_str().is_some_and(|why| why.contains("64")));
        }
    }
    assert_eq!(refused, 90 - 64);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let host = EmbeddedHost::start().await.unwrap();
    let mut client = Client::new(&host).await;
    for uri in [MISSING, "ssh-mcp://command/x/stdout", "file:///etc/passwd", ""] {
        for method in ["resources/read", "resources/subscribe"] {
            let reply = client.request(method, json!({"uri": uri})).await;
            assert_eq!(reply["error"]["code"], -32002, "{method} {uri}: {reply}");
            assert_eq!(reply["error"]["data"]["uri"], uri, "{method} {uri}: {reply}");
        }
    }
    let long = format!("file:///{}", "x".repeat(100_000));
    let reply = client.request("resources/read", json!({"uri": long})).await;
    assert_eq!(reply["error"]["code"], -32002);
    assert!(reply.to_string().len() < 2_000, "{} bytes", reply.to_string().len());
}

#[tokio::test]
async fn a_command_of_another_principal_is_not_there() {
    let host = EmbeddedHost::start().await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let (tokens, key) = (files.path().join("tokens"), files.path().join("key"));
    std::fs::write(&tokens, "alice:alice-token-0123456789abcdef0123\nbob:bob-token-0123456789abcdef012345\n").unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&tokens, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    host.write_client_key(&key).unwrap();
    let server = HttpServer::start(&[("MCP_TOKEN_FILE", tokens.to_str().unwrap())]).await;
    let ask = async |token: &str, method: &str, params: Value| {
        let bearer = format!("Bearer {token}");
        let headers = [("Content-Type", "application/json"), ("Accept", "*/*"), ("Authorization", bearer.as_str())];
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        server.post(&headers, &body.to_string()).await.json()
    };
    let (alice, bob) = ("alice-token-0123456789abcdef0123", "bob-token-0123456789abcdef012345");
    let call = |tool: &str, arguments: Value| json!({"name": tool, "arguments": arguments});
    let opened = ask(alice, "tools/call", call("ssh_connect", login(&host, &key))).await;
    let session = opened["result"]["structuredContent"]["session_id"].clone();
    let ran = json!({"session_id": session, "command": "echo secret"});
    let ran = ask(alice, "tools/call", call("ssh_execute", ran)).await;
    let uri = address(&text(&ran["result"]["structuredContent"]["command_id"]), "stdout");
    let read = ask(alice, "resources/read", json!({"uri": uri})).await;
    assert_eq!(read["result"]["contents"][0]["text"], "secret\n", "{read}");
    for method in ["resources/read", "resources/subscribe"] {
        let foreign = ask(bob, method, json!({"uri": uri})).await;
        let missing = ask(bob, method, json!({"uri": MISSING})).await;
        assert_eq!((&foreign["error"]["code"], foreign.get("result")), (&json!(-32002), None), "{foreign}");
        assert_eq!(foreign["error"]["code"], missing["error"]["code"]);
    }
    let listed = ask(bob, "resources/list", json!({})).await;
    assert_eq!(listed["result"]["resources"], json!([]), "{listed}");
}

#[tokio::test]
async fn the_newer_era_listens_on_stdio_and_http() {
    use rmcp::model::{ServerNotification, SubscriptionFilter};
    let host = EmbeddedHost::start().await.unwrap();
    let server = HttpServer::start(&[]).await;
    for client in [McpClient::stdio_discover(&[]).await, McpClient::http_discover(&server).await] {
        let files = tempfile::tempdir().unwrap();
        let key = files.path().join("key");
        host.write_client_key(&key).unwrap();
        let session = Session::open(client, login(&host, &key)).await;
        let id = session.start("sleep 300").await;
        let uri = address(&id, "stderr");
        let wanted = SubscriptionFilter::builder().resource_subscriptions([uri.as_str(), "file:///x"]).build();
        let mut listening = session.client.peer().listen(wanted).await.unwrap();
        assert_eq!(listening.acknowledged().resource_subscriptions, Some(vec![uri.clone()]));
        session.cancel(&id).await;
        match crate::support::wait::bounded("an update", listening.next()).await.unwrap() {
            Some(ServerNotification::ResourceUpdatedNotification(update)) => assert_eq!(update.params.uri, uri),
            other => panic!("{other:?}"),
        }
        assert!(crate::support::wait::bounded("the end", listening.next()).await.unwrap().is_none());
        let missing = session.client.peer().read_resource(rmcp::model::ReadResourceRequestParams::new(MISSING)).await;
        assert!(missing.unwrap_err().to_string().contains("-32602"), "the code of this era");
    }
}
