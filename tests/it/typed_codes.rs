//! Sessions whose login cost a person a code: they keep to what was opened, and never ask in the middle of the work.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use russh::MethodKind;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    embedded_host::{
        EmbeddedHost, Options,
        factors::{Ask, Factors},
    },
    home::{Home, with},
    mcp_client::{Does, Human, McpClient},
    session::text,
    wait::{bounded, eventually},
};

const CODE: &str = "canary-typed-5512";

/// A session on a host that wants a code, with three channels on a connection.
struct Scene {
    host: EmbeddedHost,
    home: Home,
    human: Human,
    client: Arc<McpClient>,
    id: Value,
}

impl Scene {
    async fn start() -> Self {
        let rounds = vec![vec![Ask::new("Verification code: ", CODE)]];
        let chain = vec![MethodKind::PublicKey, MethodKind::KeyboardInteractive];
        let factors = Factors { chain, rounds, ..Factors::default() };
        let host = Options::default().factors(factors).max_sessions(3).start().await.unwrap();
        let (home, human) = (Home::new(), Human::who(Does::Accept(json!({"answer_1": CODE}))));
        host.write_client_key(&home.path().join("key")).unwrap();
        let env = [("HOME", home.path().to_str().unwrap()), ("SSH_KEY_ROOTS", "/")];
        let client = Arc::new(McpClient::stdio_with(&env, &human, false).await);
        let mut scene = Self { host, home, human, client, id: Value::Null };
        scene.id = scene.connect(json!({})).await["session_id"].clone();
        assert_eq!(scene.spent(), (1, 2), "one question, and the connection that it cost");
        scene
    }

    async fn connect(&self, more: Value) -> Value {
        let to =
            json!({"address": format!("u@127.0.0.1:{}", self.host.port()), "key_path": self.home.path().join("key")});
        self.client.call_and_answer("ssh_connect", with(to, more)).await.success()
    }

    /// Questions and connections so far.
    fn spent(&self) -> (usize, usize) {
        (self.human.asked().len(), self.host.connections())
    }

    async fn call(&self, tool: &str, arguments: Value) -> crate::support::mcp_client::ToolAnswer {
        self.client.call(tool, with(json!({"session_id": self.id}), arguments)).await
    }

    async fn echo(&self) -> Value {
        self.call("ssh_execute", json!({"command": "echo here"})).await.success()["stdout"].clone()
    }

    async fn forward(&self, port: u16) -> Value {
        let forward = json!({"local_port": 0, "remote_address": "localhost", "remote_port": port});
        self.call("ssh_forward", forward).await.success()
    }
}

async fn local(forward: &Value) -> TcpStream {
    TcpStream::connect(text(&forward["local_address"])).await.unwrap()
}

/// A service on the remote side that sends for ever, and one that answers a byte with a byte.
async fn services() -> (u16, u16) {
    let serve = async |answer: bool| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let block = vec![b'x'; 64 << 10];
                    if answer {
                        let (mut from, mut to) = socket.split();
                        let _ = tokio::io::copy(&mut from, &mut to).await;
                    } else {
                        while socket.write_all(&block).await.is_ok() {}
                    }
                });
            }
        });
        port
    };
    (serve(false).await, serve(true).await)
}

async fn answers(socket: &mut TcpStream) {
    let mut byte = [0];
    socket.write_all(b"y").await.unwrap();
    bounded("an answer", socket.read_exact(&mut byte)).await.unwrap();
}

#[tokio::test]
async fn forwards_share_the_connection_and_say_so() {
    let scene = Scene::start().await;
    let (_, echo) = services().await;
    let forward = scene.forward(echo).await;
    assert!(forward["notices"].to_string().contains("shares a connection"), "{forward}");
    let mut sockets = [local(&forward).await, local(&forward).await];
    for socket in &mut sockets {
        answers(socket).await;
    }
    assert_eq!(scene.echo().await, "here\n");
    assert_eq!(scene.spent(), (1, 2));
}

#[tokio::test]
async fn a_local_program_that_does_not_read_is_cut_off_and_holds_up_nothing_for_long() {
    let scene = Scene::start().await;
    let (flood, echo) = services().await;
    let (flood, echo) = (scene.forward(flood).await, scene.forward(echo).await);
    let mut stuck = local(&flood).await;
    let mut byte = [0];
    bounded("the flood", stuck.read_exact(&mut byte)).await.unwrap();
    // Nothing is read from here on. What the session does waits until that program is cut off, and no longer.
    assert_eq!(bounded("a command beside it", scene.echo()).await, "here\n");
    let mut rest = Vec::new();
    let _ = bounded("the end of that connection", stuck.read_to_end(&mut rest)).await;
    answers(&mut local(&echo).await).await;
    assert_eq!(scene.spent(), (1, 2));
}

#[tokio::test]
async fn a_local_program_that_reads_slowly_is_served_and_the_session_is_not_given_up() {
    let scene = Scene::start().await;
    let (flood, _) = services().await;
    let mut slow = local(&scene.forward(flood).await).await;
    let (pauses, mut seen) = tokio::sync::watch::channel(0);
    let reading = tokio::spawn(async move {
        let mut block = vec![0; 64 << 10];
        while slow.read_exact(&mut block).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
            pauses.send_modify(|pauses| *pauses += 1);
        }
    });
    // Longer than one that reads nothing is let alone.
    bounded("it is served", seen.wait_for(|pauses| *pauses >= 25)).await.unwrap();
    // A ping stands behind the flood now: what comes of that is the sign of life.
    let again = scene.connect(json!({"session_id": scene.id})).await;
    assert_eq!((&again["reused"], &again["session_id"]), (&json!(true), &scene.id), "{again}");
    let before = *seen.borrow();
    bounded("it is served still", seen.wait_for(|pauses| *pauses > before + 2)).await.unwrap();
    reading.abort();
    let _ = reading.await;
    assert_eq!(bounded("a command", scene.echo()).await, "here\n");
    assert_eq!(scene.spent(), (1, 2));
}

#[tokio::test]
async fn commands_beyond_the_channels_of_the_connection_wait_for_a_place() {
    let scene = Scene::start().await;
    let go = scene.home.path().join("go");
    let command = format!("echo here; until [ -e {} ]; do sleep 0.05; done; echo done", go.display());
    for _ in 0..2 {
        // Once it says something it has its place.
        scene.call("ssh_execute_async", json!({"command": command, "until": "here"})).await.success();
    }
    let more = (0..3).map(|_| {
        let (client, id, command) = (scene.client.clone(), scene.id.clone(), command.clone());
        tokio::spawn(async move {
            client.call("ssh_execute", json!({"session_id": id, "command": command})).await.success()
        })
    });
    let more: Vec<_> = more.collect();
    // One that may not wait for long has looked for a place, on this connection or a further one.
    let short = scene.call("ssh_execute", json!({"command": "true", "timeout_secs": 2})).await;
    assert_eq!(short.code(), "busy", "{}", short.text);
    let listed = || async { scene.call("ssh_list_commands", json!({})).await.success()["count"].clone() };
    eventually("all are there", async || listed().await == 6).await;
    std::fs::write(&go, "").unwrap();
    for waiting in more {
        assert_eq!(bounded("a command that waited", waiting).await.unwrap()["stdout"], "here\ndone\n");
    }
    assert_eq!(scene.spent(), (1, 2), "no further login was tried");
}

#[tokio::test]
async fn a_lost_connection_is_not_opened_anew_without_the_person_and_the_error_says_how() {
    let scene = Scene::start().await;
    let (_, echo) = services().await;
    let forward = scene.forward(echo).await;
    let lost = scene.call("ssh_execute", json!({"command": "@drop-connection"})).await.success();
    assert_eq!(lost["error"]["code"], "outcome_unknown", "{lost}");
    let needs = scene.call("ssh_execute", json!({"command": "echo here"})).await;
    assert_eq!(
        (needs.code(), needs.structured["why"].as_str()),
        ("auth_failed", Some("needs_answers")),
        "{}",
        needs.text
    );
    assert_eq!(needs.structured["prompts"], json!(["Verification code:"]));
    assert_eq!(needs.structured["retryable"], false);
    assert!(text(&needs.structured["hint"]).contains("ssh_connect again"), "{}", needs.text);
    eventually("the session is closed", async || {
        let closed = scene.call("ssh_execute", json!({"command": "echo here"})).await;
        closed.code() == "session_closed"
    })
    .await;
    assert!(TcpStream::connect(text(&forward["local_address"])).await.is_err(), "its forward too");
    assert_eq!(scene.spent(), (1, 3), "one try, since a server may ask no more, and no question");
    let again = scene.connect(json!({"session_id": scene.id})).await;
    assert_eq!((&again["reuse_refused"], scene.human.asked().len()), (&json!("dead"), 2));
    let run = json!({"session_id": again["session_id"], "command": "echo here"});
    assert_eq!(scene.client.call("ssh_execute", run).await.success()["stdout"], "here\n");
}
