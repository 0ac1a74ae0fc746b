//! Asking the human about an unknown host key, in both eras of the protocol.

use serde_json::{Value, json};

use crate::support::{
    embedded_host::{EmbeddedHost, Options},
    home::Home,
    mcp_client::{Does, HttpServer, Human, McpClient, RawStdio, ToolAnswer},
    wait::bounded,
};

const ASK: (&str, &str) = ("SSH_HOST_KEY_POLICY", "ask");

struct Scene {
    host: EmbeddedHost,
    home: Home,
}

impl Scene {
    async fn new() -> Self {
        let (host, home) = (Options::default().password("canary-7c1e").start().await.unwrap(), Home::new());
        Self { host, home }
    }

    fn env<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        [&[("HOME", self.home.path().to_str().unwrap()), ASK], more].concat()
    }

    fn arguments(&self) -> Value {
        login(self.host.port())
    }

    async fn client(&self, human: &Human, newer: bool) -> McpClient {
        McpClient::stdio_with(&self.env(&[]), human, newer).await
    }

    /// No key is recorded, and no login was tried.
    #[track_caller]
    fn assert_nothing_was_done(&self) {
        assert_eq!(self.home.recorded(), "");
        assert_eq!(self.host.auth_attempts(), 0);
    }
}

fn login(port: u16) -> Value {
    json!({"address": format!("127.0.0.1:{port}"), "username": "u", "password": "canary-7c1e"})
}

#[track_caller]
fn assert_refused(answer: &ToolAnswer, why: &str) {
    assert_eq!(answer.code(), "host_key_unknown", "{}", answer.text);
    assert_eq!((&answer.structured["why"], &answer.structured["retryable"]), (&json!(why), &json!(false)));
    assert!(!answer.structured["hint"].as_str().unwrap().is_empty());
    assert!(answer.structured["offered_fingerprint"].as_str().unwrap().starts_with("SHA256:"));
}

#[tokio::test]
async fn human_approves_a_key_in_either_era_and_on_every_transport() {
    for (transport, newer) in [("stdio", false), ("stdio", true), ("http", false), ("http", true), ("sse", false)] {
        let (scene, human) = (Scene::new().await, Human::who_trusts());
        let server = HttpServer::start(&scene.env(&[])).await;
        let client = match transport {
            "stdio" => scene.client(&human, newer).await,
            "http" => McpClient::http_with(&server, &human, newer).await,
            _ => McpClient::sse_with(&server, &human).await,
        };
        let session = client.call_and_answer("ssh_connect", scene.arguments()).await.success();
        let case = format!("{transport}, newer: {newer}");
        assert_eq!(session["host_key"]["trust"], "approved", "{case}");
        assert_eq!(session["host_key"]["fingerprint"], scene.host.fingerprint(), "{case}");
        assert_eq!(scene.home.recorded().lines().count(), 1, "{case}");

        let asked = human.asked();
        assert_eq!(asked.len(), 1, "{case}: {asked:?}");
        let message = asked[0]["message"].as_str().unwrap();
        let shown = ["127.0.0.1", &scene.host.port().to_string(), "ssh-ed25519", &scene.host.fingerprint()];
        assert!(shown.iter().all(|what| message.contains(what)), "{message}");
        assert!(!message.contains("canary"), "{message}");

        // From then on the host is known, and nobody is asked.
        let again = client.call_and_answer("ssh_connect", scene.arguments()).await.success();
        assert_eq!((&again["host_key"]["trust"], human.asked().len()), (&json!("known"), 1), "{case}");
    }
}

#[tokio::test]
async fn question_comes_on_the_stream_of_its_call_to_a_client_that_opens_no_other() {
    let scene = Scene::new().await;
    let server = HttpServer::start(&scene.env(&[])).await;
    let headers = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    let client = json!({"protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "t", "version": "1"}});
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client});
    let hello = server.post(&headers, &hello.to_string()).await;
    let session = hello.header("mcp-session-id").unwrap().to_owned();
    let headers =
        [&headers[..], &[("Mcp-Session-Id", session.as_str()), ("MCP-Protocol-Version", "2025-06-18")]].concat();
    server.post(&headers, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string()).await;

    let params = json!({"name": "ssh_connect", "arguments": scene.arguments()});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params});
    let mut answers = server.stream(&headers, &call.to_string()).await;
    let mut next = async || loop {
        let event = bounded("an event", answers.event()).await.unwrap().expect("the stream goes on");
        if let Ok(message) = serde_json::from_str::<Value>(&event.data) {
            return message;
        }
    };
    let question = next().await;
    assert_eq!(question["method"], "elicitation/create", "{question}");
    let yes = json!({"action": "accept", "content": {"trust": true}});
    let yes = json!({"jsonrpc": "2.0", "id": question["id"], "result": yes});
    assert_eq!(server.post(&headers, &yes.to_string()).await.status, 202);
    let answer = next().await;
    assert_eq!(answer["result"]["structuredContent"]["host_key"]["trust"], "approved", "{answer}");
}

#[tokio::test]
async fn without_a_yes_nothing_is_recorded_or_sent_and_the_answer_says_why() {
    let answers = [
        (Does::Decline, "declined"),
        (Does::Cancel, "cancelled"),
        (Does::Accept(json!({"trust": false})), "declined"),
        (Does::Accept(json!({})), "declined"),
        (Does::Accept(json!({"trust": "true"})), "declined"),
    ];
    let scene = Scene::new().await;
    for newer in [false, true] {
        for (does, why) in answers.clone() {
            let human = Human::who(does);
            let client = scene.client(&human, newer).await;
            assert_refused(&client.call_and_answer("ssh_connect", scene.arguments()).await, why);
            assert_eq!(human.asked().len(), 1);
        }
    }
    scene.assert_nothing_was_done();
}

#[tokio::test]
async fn client_that_cannot_ask_is_refused_as_under_strict() {
    let scene = Scene::new().await;
    for newer in [false, true] {
        let client = scene.client(&Human::default(), newer).await;
        assert_refused(&client.call_and_answer("ssh_connect", scene.arguments()).await, "cannot_ask");
    }
    let server = HttpServer::start(&scene.env(&[])).await;
    let bare = server.curl("ssh_connect", scene.arguments()).await;
    assert!(bare.to_string().contains("cannot_ask"), "{bare}");

    let strict = scene.home.client(&[("SSH_HOST_KEY_POLICY", "strict")]).await;
    assert_refused(&strict.call("ssh_connect", scene.arguments()).await, "strict");
    scene.assert_nothing_was_done();
}

#[tokio::test]
async fn human_who_is_away_does_not_hold_the_call_over_the_answer_limit() {
    let (scene, human) = (Scene::new().await, Human::who(Does::Nothing));
    let client = McpClient::stdio_with(&scene.env(&[("SSH_ANSWER_LIMIT", "3")]), &human, false).await;
    let answer = client.call_and_answer("ssh_connect", scene.arguments()).await;
    assert_refused(&answer, "timed_out");
    scene.assert_nothing_was_done();
}

/// Calls of 2026-07-28, as they stand on the wire.
struct Raw(RawStdio, u64);

impl Raw {
    fn start(scene: &Scene) -> Self {
        Self(RawStdio::start(&scene.env(&[])), 0)
    }

    async fn connect(&mut self, arguments: &Value, more: Value) -> Value {
        self.1 += 1;
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
        });
        let mut params = json!({"_meta": meta, "name": "ssh_connect", "arguments": arguments});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.0.request(self.1, "tools/call", params).await["result"].clone()
    }
}

/// A yes, under the state that the server gave.
fn yes(state: &Value) -> Value {
    json!({"requestState": state, "inputResponses": {"host_key": {"action": "accept", "content": {"trust": true}}}})
}

#[tokio::test]
async fn approval_is_good_for_one_host_one_key_and_one_call_only() {
    let (scene, other) = (Scene::new().await, Scene::new().await);
    let mut raw = Raw::start(&scene);
    let question = raw.connect(&scene.arguments(), json!({})).await;
    assert_eq!(question["resultType"], "input_required", "{question}");
    assert_eq!(question["inputRequests"]["host_key"]["method"], "elicitation/create", "{question}");
    let state = &question["requestState"];

    // Another host, another user, no state, a forged one: all of them are asked anew.
    let mut other_user = scene.arguments();
    other_user["username"] = json!("root");
    let mut forged = state.as_str().unwrap().to_owned();
    forged.replace_range(forged.len() - 4.., "AAAA");
    let answered = [
        (other.arguments(), yes(state)),
        (other_user, yes(state)),
        (scene.arguments(), json!({"inputResponses": yes(state)["inputResponses"]})),
        (scene.arguments(), yes(&json!(forged))),
    ];
    for (arguments, answer) in answered {
        let again = raw.connect(&arguments, answer).await;
        assert_eq!(again["resultType"], "input_required", "{again}");
    }
    // So is whoever asks another process.
    let again = Raw::start(&scene).connect(&scene.arguments(), yes(state)).await;
    assert_eq!(again["resultType"], "input_required", "{again}");
    // A state without an answer is no yes.
    let silent = raw.connect(&scene.arguments(), json!({"requestState": state})).await;
    assert_eq!(silent["structuredContent"]["why"], "cannot_ask", "{silent}");
    scene.assert_nothing_was_done();
    other.assert_nothing_was_done();

    let connected = raw.connect(&scene.arguments(), yes(state)).await;
    assert_eq!(connected["structuredContent"]["host_key"]["trust"], "approved", "{connected}");
    assert_eq!(scene.home.recorded().lines().count(), 1);
}

#[tokio::test]
async fn key_that_changes_between_question_and_answer_is_refused() {
    let Some(mut sshd) = crate::support::openssh::Sshd::start().await else { return };
    let scene = Scene::new().await;
    let mut raw = Raw::start(&scene);
    let question = raw.connect(&login(sshd.port()), json!({})).await;
    assert_eq!(question["resultType"], "input_required", "{question}");
    sshd.restart_with_other_host_keys().await;
    let refused = raw.connect(&login(sshd.port()), yes(&question["requestState"])).await;
    let error = &refused["structuredContent"];
    assert_eq!((&error["code"], &error["why"]), (&json!("host_key_unknown"), &json!("other_thing")), "{refused}");
    assert!(error["hint"].as_str().unwrap().starts_with("Stop"), "{refused}");
    assert_eq!(sshd.logged("userauth-request"), 0);
    assert_eq!(scene.home.recorded(), "");
}
