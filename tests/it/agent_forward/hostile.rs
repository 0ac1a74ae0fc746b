//! Hosts that misuse what they are lent.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

use crate::{
    alias::home_with,
    support::{
        fake_server::{
            HostileServer,
            wire::{Channels, Exchange, Payload, Wire, msg},
        },
        home::Home,
        mcp_client::McpClient,
        wait::eventually,
    },
};

/// What the server under test lets in at once.
const MAX_CHANNELS: usize = 16;
const WINDOW: u32 = 2 << 20;
const PACKET: u32 = 32 << 10;
/// The kind of channel that a host opens to use the agent.
const AGENT: &str = "auth-agent@openssh.com";
/// `SSH_AGENTC_REQUEST_IDENTITIES`.
const LIST: [u8; 5] = [0, 0, 0, 1, 11];

/// An agent that answers each request with a failure, or with nothing; it counts who is connected.
struct FakeAgent {
    folder: TempDir,
    connected: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl FakeAgent {
    /// With `answers` unset only the word about the connection is answered.
    fn start(answers: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let connected = Arc::new(AtomicUsize::new(0));
        let counted = connected.clone();
        let task = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let counted = counted.clone();
                counted.fetch_add(1, Ordering::SeqCst);
                serving.spawn(async move {
                    let _ = answer(socket, answers).await;
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { folder, connected, task }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut socket: UnixStream, answers: bool) -> io::Result<()> {
    const EXTENSION: u8 = 27;
    loop {
        let length = socket.read_u32().await?;
        let mut request = vec![0; length as usize];
        socket.read_exact(&mut request).await?;
        if answers || request.first() == Some(&EXTENSION) {
            socket.write_all(&[0, 0, 0, 1, 5]).await?;
        }
    }
}

/// A host that plays this script, and a client whose setting lends it the agent.
struct Scene {
    client: McpClient,
    agent: FakeAgent,
    _home: Home,
    _server: HostileServer,
}

impl Scene {
    async fn of<F>(answers: bool, script: impl Fn(Wire) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (server, agent) = (HostileServer::start(script).await, FakeAgent::start(answers));
        let port = server.address().split_once(':').unwrap().1.to_owned();
        let home =
            home_with(&format!("Host evil\n  HostName 127.0.0.1\n  Port {port}\n  User u\n  ForwardAgent yes\n"));
        let client = super::client(&home, &agent.socket(), "evil").await;
        Self { client, agent, _home: home, _server: server }
    }

    async fn connect(&self) -> Value {
        let arguments = json!({"address": "evil", "password": "p", "max_retries": 0, "timeout_secs": 10});
        self.client.call("ssh_connect", arguments).await.success()
    }

    async fn run(&self, session: &Value) -> Value {
        let arguments = json!({"session_id": session["session_id"], "command": "true", "timeout_secs": 10});
        self.client.call("ssh_execute", arguments).await.structured
    }
}

/// Takes the agent, and then the command.
async fn begin(wire: &mut Wire) -> io::Result<Channels> {
    let channels = wire.until_command(&Exchange::default(), WINDOW, PACKET).await?;
    wire.receive_number(msg::CHANNEL_REQUEST).await?;
    wire.send(&Payload::new(msg::CHANNEL_SUCCESS).u32(channels.command)).await?;
    Ok(channels)
}

/// Opens a channel to the agent; the number that the client gave it, none where it is refused.
async fn open(wire: &mut Wire, number: u32) -> io::Result<Option<u32>> {
    let open = Payload::new(msg::CHANNEL_OPEN).string(AGENT).u32(number).u32(WINDOW).u32(PACKET);
    wire.send(&open).await?;
    loop {
        let message = wire.receive().await?;
        match message[0] {
            msg::CHANNEL_OPEN_FAILURE => return Ok(None),
            msg::CHANNEL_OPEN_CONFIRMATION => {
                return Ok(Some(u32::from_be_bytes(message[5..9].try_into().expect("4 bytes"))));
            }
            _ => {}
        }
    }
}

fn data(channel: u32, bytes: impl AsRef<[u8]>) -> Payload {
    Payload::new(msg::CHANNEL_DATA).u32(channel).string(bytes)
}

#[tokio::test]
async fn no_more_channels_are_let_in_than_the_limit_and_the_end_of_one_makes_room() {
    let script = |mut wire: Wire| async move {
        let channels = begin(&mut wire).await?;
        let mut opened = Vec::new();
        for number in 100..140 {
            opened.extend(open(&mut wire, number).await?);
        }
        let refused_all = opened.len() == MAX_CHANNELS && open(&mut wire, 140).await?.is_none();
        wire.send(&Payload::new(msg::CHANNEL_CLOSE).u32(opened[0])).await?;
        wire.receive_number(msg::CHANNEL_CLOSE).await?;
        // The client closes its half before it counts the channel as gone.
        let mut room = false;
        for number in 141..200 {
            room = room || open(&mut wire, number).await?.is_some();
        }
        wire.exit(channels.command, u32::from(!(refused_all && room))).await?;
        wire.hold().await
    };
    let scene = Scene::of(true, script).await;
    let session = scene.connect().await;
    let view = scene.run(&session).await;
    assert_eq!(view["exit_code"], 0, "{view}");
    assert_eq!(scene.agent.connected(), MAX_CHANNELS);
    // With the connection everything ends that was lent on it.
    scene.client.call("ssh_disconnect", json!({"session_id": session["session_id"]})).await.success();
    eventually("nobody is connected to the agent", async || scene.agent.connected() == 0).await;
}

#[tokio::test]
async fn a_connection_that_the_host_cuts_leaves_nothing_at_the_agent() {
    let script = |mut wire: Wire| async move {
        begin(&mut wire).await?;
        for number in 100..104 {
            let channel = open(&mut wire, number).await?.expect("let in");
            wire.send(&data(channel, LIST)).await?;
        }
        // Asked, and never answered: the connection ends in the midst of it.
        Ok(())
    };
    let scene = Scene::of(false, script).await;
    let session = scene.connect().await;
    let view = scene.run(&session).await;
    assert_eq!(view["error"]["code"], "outcome_unknown", "{view}");
    eventually("nobody is connected to the agent", async || scene.agent.connected() == 0).await;
}

#[tokio::test]
async fn nothing_is_let_in_before_a_command_has_asked() {
    let script = |mut wire: Wire| async move {
        wire.log_in(&Exchange::default()).await?;
        let early = open(&mut wire, 100).await?;
        let message = if early.is_some() { "let in" } else { "refused" };
        let goodbye = Payload::new(msg::DISCONNECT).u32(11).string(message).string("");
        wire.send(&goodbye).await?;
        wire.hold().await
    };
    let scene = Scene::of(true, script).await;
    let session = scene.connect().await;
    scene.run(&session).await;
    assert_eq!(scene.agent.connected(), 0);
    let log = scene.client.stderr();
    assert!(log.contains("a channel to the SSH agent is refused") && !log.contains("let in"), "{log}");
}

#[tokio::test]
async fn a_flood_on_the_channel_of_a_slow_agent_does_not_hold_up_the_command() {
    let script = |mut wire: Wire| async move {
        let channels = begin(&mut wire).await?;
        let channel = open(&mut wire, 100).await?.expect("let in");
        wire.send(&data(channel, LIST)).await?;
        // More than the queue of a channel, and than what is kept of it: it is closed for that.
        for _ in 0..64 {
            wire.send(&data(channel, vec![0; 32 << 10])).await?;
        }
        wire.send(&data(channels.command, "output")).await?;
        loop {
            let message = wire.receive().await?;
            if message[0] == msg::CHANNEL_CLOSE && message[1..5] == 100_u32.to_be_bytes() {
                break;
            }
        }
        wire.exit(channels.command, 0).await?;
        wire.hold().await
    };
    let scene = Scene::of(false, script).await;
    let session = scene.connect().await;
    let view = scene.run(&session).await;
    assert_eq!((&view["exit_code"], &view["stdout"]), (&json!(0), &json!("output")), "{view}");
    eventually("nobody is connected to the agent", async || scene.agent.connected() == 0).await;
}

#[tokio::test]
async fn requests_that_no_agent_takes_end_their_channel_and_changes_never_reach_it() {
    let script = |mut wire: Wire| async move {
        let channels = begin(&mut wire).await?;
        let channel = open(&mut wire, 100).await?.expect("let in");
        // REMOVE_ALL_IDENTITIES in two pieces: a failure comes back, although the agent never answers.
        wire.send(&data(channel, [0, 0, 0])).await?;
        wire.send(&data(channel, [1, 19])).await?;
        let answer = wire.receive_number(msg::CHANNEL_DATA).await?;
        let refused = answer.ends_with(&[0, 0, 0, 5, 0, 0, 0, 1, 5]);
        wire.send(&data(channel, u32::MAX.to_be_bytes())).await?;
        wire.receive_number(msg::CHANNEL_CLOSE).await?;
        wire.exit(channels.command, u32::from(!refused)).await?;
        wire.hold().await
    };
    let scene = Scene::of(false, script).await;
    let session = scene.connect().await;
    let view = scene.run(&session).await;
    assert_eq!(view["exit_code"], 0, "{view}");
}

#[tokio::test]
async fn a_server_that_says_nothing_about_the_agent_gets_the_command_all_the_same() {
    let script = |mut wire: Wire| async move {
        wire.log_in(&Exchange::default()).await?;
        let mut asked = 0;
        loop {
            let message = wire.receive().await?;
            match message[0] {
                msg::CHANNEL_OPEN => {
                    let kind = u32::from_be_bytes(message[1..5].try_into().expect("4 bytes")) as usize;
                    let channel = u32::from_be_bytes(message[5 + kind..9 + kind].try_into().expect("4 bytes"));
                    let confirmed = Payload::new(msg::CHANNEL_OPEN_CONFIRMATION).u32(channel).u32(channel);
                    wire.send(&confirmed.u32(WINDOW).u32(PACKET)).await?;
                }
                msg::CHANNEL_REQUEST => {
                    let channel = u32::from_be_bytes(message[1..5].try_into().expect("4 bytes"));
                    let of_agent = message.windows(14).any(|part| part == b"auth-agent-req");
                    asked += u32::from(of_agent);
                    if !of_agent {
                        wire.send(&Payload::new(msg::CHANNEL_SUCCESS).u32(channel)).await?;
                        wire.exit(channel, asked).await?;
                    }
                }
                _ => {}
            }
        }
    };
    let scene = Scene::of(true, script).await;
    let session = scene.connect().await;
    let view = scene.run(&session).await;
    assert_eq!(view["exit_code"], 1, "{view}");
    assert!(view["notices"].to_string().contains("does not take the SSH agent"), "{view}");
}
