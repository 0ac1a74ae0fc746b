//! What one principal has does not exist for another.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    embedded_host::EmbeddedHost,
    mcp_client::{HttpReply, HttpServer},
    session::{Session, text},
};

/// A server with two principals, and a host for both.
pub(crate) struct Two {
    pub(crate) server: HttpServer,
    pub(crate) host: EmbeddedHost,
    home: TempDir,
}

/// One of them.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    two: &'a Two,
    token: &'static str,
}

impl Two {
    pub(crate) async fn start(env: &[(&str, &str)]) -> Self {
        let (home, host) = (tempfile::tempdir().unwrap(), EmbeddedHost::start().await.unwrap());
        let (tokens, key) = (home.path().join("tokens"), home.path().join("key"));
        std::fs::write(&tokens, "a:aaaaaaaaaaaaaaaaaaaaaaaa\nb:bbbbbbbbbbbbbbbbbbbbbbbb\n").unwrap();
        private(&tokens);
        host.write_client_key(&key).unwrap();
        let server = HttpServer::start(&[env, &[("MCP_TOKEN_FILE", tokens.to_str().unwrap())]].concat()).await;
        Self { server, host, home }
    }

    pub(crate) fn callers(&self) -> (Caller<'_>, Caller<'_>) {
        let caller = |token| Caller { two: self, token };
        (caller("Bearer aaaaaaaaaaaaaaaaaaaaaaaa"), caller("Bearer bbbbbbbbbbbbbbbbbbbbbbbb"))
    }

    pub(crate) fn login(&self) -> Value {
        let key = self.home.path().join("key");
        json!({"address": format!("127.0.0.1:{}", self.host.port()), "username": "anyone", "key_path": key})
    }
}

fn private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Caller<'_> {
    async fn post(&self, more: &[(&str, &str)], request: &Value) -> HttpReply {
        let accept = ("Accept", "application/json, text/event-stream");
        let headers = [&[("Content-Type", "application/json"), ("Authorization", self.token), accept], more].concat();
        self.two.server.post(&headers, &request.to_string()).await
    }

    pub(crate) async fn request(&self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let headers = [("Content-Type", "application/json"), ("Authorization", self.token)];
        self.two.server.post(&headers, &request.to_string()).await.json()
    }

    /// The result of a tool; an error is one too.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let reply = self.request("tools/call", json!({"name": tool, "arguments": arguments})).await;
        reply.get("result").unwrap_or_else(|| panic!("{tool}: {reply}")).clone()
    }

    pub(crate) async fn does(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_ne!(result["isError"], true, "{tool}: {result}");
        result["structuredContent"].clone()
    }

    pub(crate) async fn refused(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_eq!(result["isError"], true, "{tool}: {result}");
        result["structuredContent"].clone()
    }

    pub(crate) async fn connect(&self, more: &[(&str, Value)]) -> Value {
        let mut login = self.two.login();
        for (name, value) in more {
            login[name] = value.clone();
        }
        self.does("ssh_connect", login).await
    }
}

/// With every id in it made the same.
fn without_ids(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_hexdigit() || c == '-';
    let words: BTreeSet<_> = text.split(|c| !is_part(c)).filter(|word| word.len() == 36).collect();
    words.into_iter().fold(text.to_owned(), |text, id| text.replace(id, "ID"))
}

/// What a principal has: live and ended things, by the parameter that names them.
struct Things {
    sessions: [String; 2],
    commands: [String; 2],
    forward: String,
}

async fn things_of(caller: &Caller<'_>) -> Things {
    let live = text(&caller.connect(&[("name", json!("mine"))]).await["session_id"]);
    let closed = text(&caller.connect(&[]).await["session_id"]);
    let command = async |line: &str| {
        let arguments = json!({"session_id": live, "command": line});
        text(&caller.does("ssh_execute_async", arguments).await["command_id"])
    };
    let (running, ended) = (command("sleep 600").await, command("echo secret-output").await);
    caller.does("ssh_get_command_output", json!({"command_id": ended, "wait": true})).await;
    let forward = json!({"session_id": live, "local_port": 0, "remote_address": "localhost", "remote_port": 7});
    let forward = text(&caller.does("ssh_forward", forward).await["forward_id"]);
    caller.does("ssh_disconnect", json!({"session_id": closed})).await;
    Things { sessions: [live, closed], commands: [running, ended], forward }
}

/// Ids for a parameter of a tool. One that is not known here fails the test: it has to be added.
fn ids_for(tool: &str, parameter: &str, things: &Things) -> Vec<String> {
    match parameter {
        "session_id" => things.sessions.to_vec(),
        "command_id" => things.commands.to_vec(),
        "forward_id" => vec![things.forward.clone()],
        other => panic!("{tool} takes an id, {other}, that this test does not know"),
    }
}

/// Arguments that are right but for the id.
fn arguments_for(two: &Two, tool: &str, schema: &Value) -> Value {
    let mut arguments = if tool == "ssh_connect" { two.login() } else { json!({}) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let value = match name {
            "address" | "session_id" | "command_id" | "forward_id" => continue,
            "command" => json!("echo reached"),
            "local_port" => json!(0),
            "remote_address" => json!("localhost"),
            "remote_port" => json!(7),
            other => panic!("{tool} requires {other}, which this test does not know"),
        };
        arguments[name] = value;
    }
    arguments
}

/// The whole answer, ids made the same. A session that it opened is closed, so that the next answer can be the same.
async fn answer(caller: &Caller<'_>, tool: &str, arguments: Value) -> String {
    let answer = caller.call(tool, arguments).await;
    if tool == "ssh_connect" && answer["isError"] != true {
        caller.does("ssh_disconnect", json!({"session_id": answer["structuredContent"]["session_id"]})).await;
    }
    without_ids(&answer.to_string())
}

#[tokio::test]
async fn an_id_of_another_principal_reads_like_a_missing_one_in_every_tool() {
    let two = Two::start(&[]).await;
    let (a, b) = two.callers();
    let things = things_of(&a).await;
    // B has something of its own, so that lists of candidates are not empty.
    b.connect(&[("name", json!("mine"))]).await;
    let tools = b.request("tools/list", json!({})).await["result"]["tools"].clone();
    let mut compared = BTreeSet::new();
    for tool in tools.as_array().unwrap() {
        let (name, schema) = (text(&tool["name"]), &tool["inputSchema"]);
        // The label of a caller's sessions is no id of ours.
        let parameters =
            schema["properties"].as_object().unwrap().keys().filter(|p| p.ends_with("_id") && *p != "agent_id");
        for parameter in parameters {
            for foreign in ids_for(&name, parameter, &things) {
                for foreign in [foreign.clone(), foreign.to_uppercase()] {
                    let mut with = arguments_for(&two, &name, schema);
                    with[parameter] = json!(foreign);
                    let theirs = answer(&b, &name, with.clone()).await;
                    let missing = uuid::Uuid::new_v4().to_string();
                    let upper = foreign.chars().any(|c| c.is_ascii_uppercase());
                    with[parameter] = json!(if upper { missing.to_uppercase() } else { missing });
                    assert_eq!(theirs, answer(&b, &name, with).await, "{name} {parameter}");
                    assert!(
                        theirs.contains("_not_found") || theirs.contains("\"reuse_refused\":\"unknown\""),
                        "{theirs}"
                    );
                    compared.insert(name.clone());
                }
            }
        }
    }
    assert!(compared.len() >= 8, "{compared:?}");

    // Nothing of A's was touched, and for A all of it is there.
    let list = a.does("ssh_list_sessions", json!({})).await;
    assert_eq!((&list["count"], &list["sessions"][0]["running_commands"]), (&json!(1), &json!(1)));
    let ended = a.does("ssh_get_command_output", json!({"command_id": things.commands[1]})).await;
    assert_eq!(ended["stdout"], "secret-output\n");
    assert_eq!(
        a.refused("ssh_execute", json!({"session_id": things.sessions[1], "command": "true"})).await["code"],
        "session_closed"
    );
}

#[tokio::test]
async fn lists_and_candidates_hold_the_callers_own_only() {
    let two = Two::start(&[]).await;
    let (a, b) = two.callers();
    let things = things_of(&a).await;
    assert_eq!(b.does("ssh_list_sessions", json!({})).await["count"], 0);
    assert_eq!(b.does("ssh_list_commands", json!({})).await["count"], 0);
    assert_eq!(b.request("resources/list", json!({})).await["result"]["resources"], json!([]));
    // Not by name or the beginning of an id either.
    for likely in ["mine", &things.sessions[0][..8], &things.sessions[0]] {
        let refused = b.refused("ssh_disconnect", json!({"session_id": likely})).await;
        assert_eq!((&refused["code"], &refused["candidates"]), (&json!("session_not_found"), &json!([])), "{likely}");
    }
    let own = b.connect(&[]).await;
    assert_eq!(own["other_sessions"], json!([]), "A is on the same host as the same user");
    let refused = b.refused("ssh_disconnect", json!({"session_id": things.sessions[0]})).await;
    assert_eq!(refused["candidates"].as_array().unwrap().len(), 1);
    assert_eq!(refused["candidates"][0]["session_id"], own["session_id"]);
}

#[tokio::test]
async fn names_are_unique_for_one_principal_and_not_between_them() {
    let (two, elsewhere) = (Two::start(&[]).await, EmbeddedHost::start().await.unwrap());
    let (a, b) = two.callers();
    a.connect(&[("name", json!("prod"))]).await;
    b.connect(&[("name", json!("prod"))]).await;
    let key = two.home.path().join("other-key");
    elsewhere.write_client_key(&key).unwrap();
    let other = json!({"address": format!("127.0.0.1:{}", elsewhere.port()), "username": "anyone", "key_path": key, "name": "prod"});
    let refused = a.refused("ssh_connect", other).await;
    assert_eq!(refused["code"], "name_in_use");
}

#[tokio::test]
async fn resources_of_another_principal_read_like_missing_ones() {
    let two = Two::start(&[]).await;
    let (a, b) = two.callers();
    let things = things_of(&a).await;
    let start =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let start = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": start});
    let session = b.post(&[], &start).await.header("mcp-session-id").expect("a session").to_owned();
    let more = [("Mcp-Session-Id", session.as_str()), ("MCP-Protocol-Version", "2025-06-18")];
    b.post(&more, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    let ask = async |method: &str, id: &str, stream: &str| {
        let uri = format!("ssh-mcp://command/{id}/{stream}");
        let request = json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": {"uri": uri}});
        // What is echoed of the id is cut.
        b.post(&more, &request).await.body.replace(id, "ID").replace(&id[..21], "ID")
    };
    for foreign in &things.commands {
        for stream in ["stdout", "stderr", "stdout?offset=0"] {
            for method in ["resources/read", "resources/subscribe"] {
                let missing = ask(method, &uuid::Uuid::new_v4().to_string(), stream).await;
                let theirs = ask(method, foreign, stream).await;
                // Stream events have a number of their own.
                let plain = |body: &str| body.lines().filter(|line| line.contains("jsonrpc")).collect::<String>();
                assert_eq!(plain(&theirs), plain(&missing), "{method} {stream}");
                assert!(theirs.contains("not found"), "{theirs}");
            }
        }
    }
    let uri = format!("ssh-mcp://command/{}/stdout", things.commands[1]);
    let own = a.request("resources/read", json!({"uri": uri})).await;
    assert_eq!(own["result"]["contents"][0]["text"], "secret-output\n", "{own}");
}

#[tokio::test]
async fn what_is_no_id_is_not_found_and_the_next_call_is_answered() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let command = session.start("true").await;
    session.ended(&command).await;
    let (huge, id) = ("x".repeat(10 << 20), session.id.clone());
    let wrong = ["0", "../x", "..", "mine", "null", "%", "\u{202e}x", "a\0b", &id[..35], huge.as_str()];
    for bad in wrong.into_iter().chain([command.as_str()]) {
        let answer = session.client.call("ssh_execute", json!({"session_id": bad, "command": "true"})).await;
        assert_eq!(answer.code(), "session_not_found", "{:.60}", answer.text);
        assert!(answer.text.len() < 2_000 && !answer.text.contains('\u{202e}'), "{:.2000}", answer.text);
    }
    for bad in wrong.into_iter().chain([id.as_str()]) {
        let answer = session.client.call("ssh_get_command_output", json!({"command_id": bad})).await;
        assert_eq!(answer.code(), "command_not_found", "{:.60}", answer.text);
    }
    let upper = json!({"session_id": id.to_uppercase(), "command": "echo fine"});
    assert_eq!(session.client.call("ssh_execute", upper).await.success()["stdout"], "fine\n");
    session.disconnect().await;
    let ended = session.call("ssh_execute", json!({"command": "true"})).await;
    assert_eq!(ended.code(), "session_closed");
}

#[tokio::test]
async fn names_and_timeouts_out_of_bounds_have_their_codes() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let long = "n".repeat(10_000);
    for name in [long.as_str(), "a\u{1b}[31m", "a\u{202e}b", "  \u{a0}", "a\nb", session.id.as_str()] {
        let mut login = session.login().clone();
        login["name"] = json!(name);
        let answer = session.client.call("ssh_connect", login).await;
        assert_eq!(answer.code(), "invalid_name", "{name:.40?}: {}", answer.text);
        assert!(!answer.text.contains(['\u{202e}', '\u{1b}']), "{}", answer.text);
    }
    for (value, code) in [
        (json!(-1), "out_of_range"),
        (json!(86_401), "out_of_range"),
        (json!(u64::MAX), "out_of_range"),
        (json!(1e308), "out_of_range"),
        (json!("18446744073709551616"), "out_of_range"),
        (json!("5s"), "invalid_argument"),
        (json!("NaN"), "invalid_argument"),
        (json!(1.5), "invalid_argument"),
    ] {
        let answer = session.call("ssh_execute", json!({"command": "true", "timeout_secs": value})).await;
        assert_eq!(answer.code(), code, "{value}: {}", answer.text);
    }
    assert_eq!(session.run("echo fine").await["stdout"], "fine\n");
}
