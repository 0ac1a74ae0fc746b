//! MCP over HTTP: what a client sees on the wire.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use ssh_mcp::{
    config::{HttpSettings, NamedToken},
    secret::Secret,
    transport::{Error, http::Server},
};
use tokio::{
    io::AsyncReadExt,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    sse::OldClient,
    wire::{Ask, Process, Reply, SOON, TestResult, Tools, call, initialize, line_with, modern_call, ping},
};

pub(crate) const EVENTS_TOO: &str = "application/json, text/event-stream";

/// A server in this process, on a port of its own.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) tools: Tools,
    process: Arc<Process>,
    stop: CancellationToken,
    server: JoinHandle<Result<(), Error>>,
}

pub(crate) fn settings(tokens: &[(&str, &str)]) -> HttpSettings {
    let token = |(name, token): &(&str, &str)| NamedToken { name: (*name).to_owned(), token: Secret::from(*token) };
    HttpSettings {
        port: 0,
        bind: std::net::Ipv4Addr::LOCALHOST.into(),
        tokens: tokens.iter().map(token).collect(),
        tls: None,
        insecure_http: false,
        socket: None,
        allowed_hosts: Vec::new(),
        allowed_origins: Vec::new(),
        max_connections: 512,
        header_timeout: SOON,
        body_timeout: SOON,
    }
}

impl Running {
    pub(crate) async fn new(tokens: &[(&str, &str)]) -> Result<Self, Error> {
        Self::with(settings(tokens)).await
    }

    pub(crate) async fn with(settings: HttpSettings) -> Result<Self, Error> {
        let server = Server::bind(&settings).await?;
        let (tools, process, stop) = (Tools::default(), Arc::new(Process::default()), CancellationToken::new());
        let address = server.local_addr();
        let server = tokio::spawn(server.run(tools.clone(), process.clone(), stop.clone()));
        Ok(Self { address, tools, process, stop, server })
    }

    /// Stops it; tells how long that takes.
    pub(crate) async fn end(self) -> Result<Duration, Box<dyn std::error::Error>> {
        let begin = Instant::now();
        self.stop.cancel();
        timeout(SOON, self.server).await.map_err(|_| "the server did not end")???;
        assert!(self.process.was_shut_down());
        Ok(begin.elapsed())
    }

    /// Opens an MCP session.
    async fn session(&self) -> Result<String, Box<dyn std::error::Error>> {
        let ask = Ask::post("/mcp", &initialize(0)).header("Accept", EVENTS_TOO);
        let reply = ask.send(self.address).await?;
        assert_eq!(reply.events().len(), 1, "{reply:?}");
        Ok(reply.header("mcp-session-id").ok_or("no session")?.to_owned())
    }
}

fn in_session(session: &str, message: &Value) -> Ask {
    Ask::post("/mcp", message).header("Accept", EVENTS_TOO).header("Mcp-Session-Id", session)
}

fn modern(message: &Value) -> Ask {
    let ask = Ask::post("/mcp", message).header("MCP-Protocol-Version", "2026-07-28");
    ask.header("Mcp-Method", "tools/call").header("Mcp-Name", "sleep")
}

#[track_caller]
fn assert_one_object(reply: &Reply, id: i64) {
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
    assert_eq!(reply.json().ok().map(|message| message["id"].clone()), Some(json!(id)), "{reply:?}");
}

#[tokio::test]
async fn bare_call_of_three_seconds_gets_one_json_object() -> TestResult {
    let server = Running::new(&[]).await?;
    let reply = Ask::post("/mcp", &call(1, "sleep", json!({"ms": 3000}))).send(server.address).await?;
    assert_eq!(reply.status, 200);
    assert_one_object(&reply, 1);
    let silent = Ask::new("POST", "/mcp").header("Host", "localhost").header("Content-Type", "application/json");
    let reply = silent.body(&ping(2).to_string()).send(server.address).await?;
    assert_one_object(&reply, 2);
    let reply = Ask::post("/sse", &ping(3)).send(server.address).await?;
    assert_one_object(&reply, 3);
    Ok(())
}

#[tokio::test]
async fn ping_behind_a_slow_call_of_one_session_is_answered_at_once() -> TestResult {
    let server = Running::new(&[]).await?;
    let session = server.session().await?;
    let slow = in_session(&session, &call(1, "sleep", json!({"ms": 1500}))).send(server.address);
    let quick = async {
        server.tools.seen.wait_for("begun").await?;
        let reply = in_session(&session, &ping(2)).send(server.address).await?;
        // An id in use would mix up two answers.
        let twice = in_session(&session, &ping(1)).send(server.address).await?;
        assert_eq!((twice.status, &twice.json()?["error"]["code"]), (400, &json!(-32600)));
        assert!(!server.tools.seen.has("slept"));
        Ok::<_, Box<dyn std::error::Error>>(reply)
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!(quick?.events()[0]["id"], 2);
    assert_eq!(slow?.events()[0]["id"], 1);
    Ok(())
}

#[tokio::test]
async fn a_session_client_that_asks_for_json_alone_gets_one_object() -> TestResult {
    let server = Running::new(&[]).await?;
    let reply = Ask::post("/mcp", &initialize(0)).send(server.address).await?;
    assert_one_object(&reply, 0);
    let session = reply.header("mcp-session-id").ok_or("no session")?;
    let reply =
        Ask::post("/mcp", &call(1, "sleep", json!({}))).header("Mcp-Session-Id", session).send(server.address).await?;
    assert_one_object(&reply, 1);
    let gone = Ask::new("DELETE", "/mcp").header("Host", "localhost").header("Mcp-Session-Id", session);
    assert_eq!(gone.send(server.address).await?.status, 202);
    assert_eq!(in_session(session, &ping(2)).send(server.address).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn broken_bodies_are_answered_as_json_rpc() -> TestResult {
    let server = Running::new(&[]).await?;
    for (body, code) in [("hello", -32700), ("{\"jsonrpc\":", -32700), ("", -32700), ("[]", -32600), ("{}", -32600)] {
        for path in ["/mcp", "/sse"] {
            let reply = Ask::post(path, &Value::Null).body(body).send(server.address).await?;
            let message = reply.json()?;
            assert_eq!(reply.status, 400);
            assert_eq!((&message["error"]["code"], message.get("id")), (&json!(code), Some(&Value::Null)), "{body}");
        }
    }
    let unknown = json!({"jsonrpc": "2.0", "id": 5, "method": "no/such"});
    let reply = Ask::post("/mcp", &unknown).send(server.address).await?;
    assert_eq!((reply.status, reply.json()?["error"]["code"].clone()), (200, json!(-32601)));
    let marked = Ask::post("/mcp", &Value::Null).body(&format!("\u{feff}{}", ping(6)));
    assert_eq!(marked.send(server.address).await?.json()?["id"], 6, "a byte order mark is passed over");
    let huge = Ask::post("/mcp", &Value::Null).body(&"x".repeat(4 * 1024 * 1024 + 1));
    assert_eq!(huge.send(server.address).await?.status, 413);
    Ok(())
}

#[tokio::test]
async fn a_stateless_call_whose_client_is_gone_is_cancelled() -> TestResult {
    for stream_has_begun in [false, true] {
        let server = Running::new(&[]).await?;
        let slow = modern(&modern_call(1, "sleep", json!({"ms": 60_000})));
        let ask = slow.header("Accept", EVENTS_TOO);
        let mut stream = ask.open(server.address).await?;
        server.tools.seen.wait_for("begun").await?;
        if stream_has_begun {
            line_with(&mut stream, ": still running").await?;
        }
        drop(stream);
        let begin = Instant::now();
        server.tools.seen.wait_for("cancelled").await?;
        assert!(begin.elapsed() < Duration::from_secs(3));
    }
    Ok(())
}

#[tokio::test]
async fn a_slow_stateless_call_answers_in_a_stream_only_where_that_was_asked_for() -> TestResult {
    let server = Running::new(&[]).await?;
    let slow = || modern(&modern_call(1, "sleep", json!({"ms": 900})));
    let reply = slow().header("Accept", EVENTS_TOO).send(server.address).await?;
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    assert_eq!(reply.events()[0]["result"]["content"][0]["text"], "slept");
    assert_one_object(&slow().send(server.address).await?, 1);
    let quick = modern(&modern_call(1, "sleep", json!({}))).header("Accept", EVENTS_TOO);
    assert_one_object(&quick.send(server.address).await?, 1);
    Ok(())
}

#[tokio::test]
async fn older_calls_go_on_without_their_client() -> TestResult {
    for bare in [true, false] {
        let server = Running::new(&[]).await?;
        let slow = call(1, "sleep", json!({"ms": 1500}));
        let ask = if bare { Ask::post("/mcp", &slow) } else { in_session(&server.session().await?, &slow) };
        let stream = ask.open(server.address).await?;
        server.tools.seen.wait_for("begun").await?;
        drop(stream);
        server.tools.seen.wait_for("slept").await?;
        assert!(!server.tools.seen.has("cancelled"));
    }
    Ok(())
}

#[tokio::test]
async fn a_panic_in_a_handler_is_answered() -> TestResult {
    let server = Running::new(&[]).await?;
    let session = server.session().await?;
    let reply = in_session(&session, &call(1, "panic", json!({}))).send(server.address).await?;
    assert_eq!(reply.events()[0]["error"]["code"], -32603);
    let reply = Ask::post("/mcp", &call(2, "panic", json!({}))).send(server.address).await?;
    assert_eq!(reply.json()?["error"]["code"], -32603);
    let reply = in_session(&session, &ping(3)).send(server.address).await?;
    assert_eq!(reply.events()[0]["id"], 3);
    Ok(())
}

#[tokio::test]
async fn health_tells_counts_and_needs_no_token() -> TestResult {
    let server = Running::new(&[("alice", "secret-token")]).await?;
    let reply = Ask::get("/health").send(server.address).await?;
    let expected = json!({"status": "ok", "version": env!("CARGO_PKG_VERSION"), "uptime_secs": 7,
        "sessions": 1, "running_commands": 2, "forwards": 3});
    assert_eq!((reply.status, reply.json()?), (200, expected));
    Ok(())
}

#[tokio::test]
async fn an_mcp_session_belongs_to_the_principal_that_opened_it() -> TestResult {
    let server = Running::new(&[("alice", "token-a"), ("bob", "token-b")]).await?;
    let of = |ask: Ask, token: &str| ask.header("Authorization", &format!("Bearer {token}"));
    let opened = of(Ask::post("/mcp", &initialize(0)), "token-a").send(server.address).await?;
    let session = opened.header("mcp-session-id").ok_or("no session")?;
    let who = call(1, "whoami", json!({}));
    let reply = of(in_session(session, &who), "token-a").send(server.address).await?;
    assert_eq!(reply.events()[0]["result"]["content"][0]["text"], "alice");
    assert_eq!(of(in_session(session, &who), "token-b").send(server.address).await?.status, 404);
    let reply = of(Ask::post("/mcp", &who), "token-b").send(server.address).await?;
    assert_eq!(reply.json()?["result"]["content"][0]["text"], "bob");
    Ok(())
}

#[tokio::test]
async fn what_runs_in_the_session_of_another_principal_is_not_told() -> TestResult {
    let server = Running::new(&[("alice", "token-a"), ("bob", "token-b")]).await?;
    let of = |ask: Ask, token: &str| ask.header("Authorization", &format!("Bearer {token}"));
    let opened = of(Ask::post("/mcp", &initialize(0)), "token-a").send(server.address).await?;
    let session = opened.header("mcp-session-id").ok_or("no session")?;
    let slow = call(5, "sleep", json!({"ms": 60_000}));
    let _running = of(in_session(session, &slow), "token-a").open(server.address).await?;
    server.tools.seen.wait_for("begun").await?;
    assert_eq!(of(in_session(session, &ping(5)), "token-a").send(server.address).await?.status, 400);
    let foreign = of(in_session(session, &ping(5)), "token-b").send(server.address).await?;
    let missing = of(in_session("no-such-session", &ping(5)), "token-b").send(server.address).await?;
    assert_eq!((foreign.status, foreign.body), (missing.status, missing.body));
    assert_eq!(missing.status, 404);
    Ok(())
}

#[tokio::test]
async fn the_end_of_the_server_has_a_bound() -> TestResult {
    let idle = Running::new(&[]).await?;
    let session = idle.session().await?;
    let events = Ask::get("/mcp").header("Accept", "text/event-stream").header("Mcp-Session-Id", &session);
    let mut stream = events.open(idle.address).await?;
    let client = OldClient::open(idle.address).await?;
    assert!(idle.end().await? < Duration::from_secs(1));
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await??;
    drop(client);

    let slow = json!({"ms": 60_000});
    for ask in [Ask::post("/mcp", &call(1, "sleep", slow.clone())), modern(&modern_call(1, "sleep", slow))] {
        let busy = Running::new(&[]).await?;
        let mut stream = ask.open(busy.address).await?;
        busy.tools.seen.wait_for("begun").await?;
        assert!(busy.end().await? < Duration::from_secs(5));
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await??;
        assert!(answer.contains("the server stopped before this call had its answer"), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_ends_with_the_server_is_answered() -> TestResult {
    let server = Running::new(&[]).await?;
    let slow = Ask::post("/mcp", &call(1, "sleep", json!({"ms": 500}))).send(server.address);
    let stop = async {
        server.tools.seen.wait_for("begun").await?;
        server.stop.cancel();
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let (slow, stopped) = tokio::join!(slow, stop);
    stopped?;
    assert_one_object(&slow?, 1);
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_and_a_public_bind_without_token_are_refused() -> TestResult {
    let server = Running::new(&[]).await?;
    let taken = HttpSettings { port: server.address.port(), ..settings(&[]) };
    assert!(matches!(Server::bind(&taken).await, Err(Error::PortInUse(_))));
    let public = HttpSettings { bind: std::net::Ipv4Addr::UNSPECIFIED.into(), ..settings(&[]) };
    assert!(matches!(Server::bind(&public).await, Err(Error::NoToken(_))));
    let readable = HttpSettings { tokens: settings(&[("alice", "token-a")]).tokens, ..public };
    assert!(matches!(Server::bind(&readable).await, Err(Error::NoTls(_))));
    assert!(Server::bind(&HttpSettings { insecure_http: true, ..readable }).await.is_ok());
    Ok(())
}
