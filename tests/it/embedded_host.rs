//! The embedded host itself, driven by russh's client and by the `ssh` command: other tests rely on it.

use std::{
    net::Ipv4Addr,
    path::Path,
    process::{Output, Stdio},
    sync::Arc,
};

use russh::{
    ChannelMsg, ChannelOpenFailure, Disconnect, Sig,
    client::{self, AuthResult, Handle},
    keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
};

use crate::support::{
    embedded_host::{EmbeddedHost, Options},
    process::alive,
    wait::{bounded, eventually},
};

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

async fn dial(host: &EmbeddedHost) -> Handle<Trusting> {
    let config = client::Config { nodelay: true, ..client::Config::default() };
    client::connect(Arc::new(config), (Ipv4Addr::LOCALHOST, host.port()), Trusting).await.unwrap()
}

async fn connect(host: &EmbeddedHost) -> Handle<Trusting> {
    let mut connection = dial(host).await;
    let key = PrivateKeyWithHashAlg::new(Arc::new(host.client_key().clone()), None);
    assert!(connection.authenticate_publickey("anyone", key).await.unwrap().success());
    connection
}

/// Everything that a channel said, in the order in which it came.
#[derive(Debug, Default)]
struct Transcript {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    events: Vec<String>,
}

async fn transcript(channel: &mut russh::Channel<client::Msg>) -> Transcript {
    let mut heard = Transcript::default();
    while let Some(message) = bounded("a message or the end", channel.wait()).await {
        let event = match message {
            ChannelMsg::Data { data } => {
                heard.stdout.extend_from_slice(&data);
                "data".to_owned()
            }
            ChannelMsg::ExtendedData { data, ext: 1 } => {
                heard.stderr.extend_from_slice(&data);
                "stderr".to_owned()
            }
            ChannelMsg::ExitStatus { exit_status } => format!("status {exit_status}"),
            ChannelMsg::ExitSignal { signal_name, .. } => format!("signal {signal_name:?}"),
            ChannelMsg::Eof => "eof".to_owned(),
            ChannelMsg::Close => "close".to_owned(),
            ChannelMsg::Success => "success".to_owned(),
            ChannelMsg::Failure => "failure".to_owned(),
            _ => continue,
        };
        if heard.events.last() != Some(&event) {
            heard.events.push(event);
        }
    }
    heard
}

async fn exec(connection: &Handle<Trusting>, command: &str, stdin: &[u8]) -> Transcript {
    let mut channel = connection.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    if !stdin.is_empty() {
        channel.data_bytes(stdin.to_vec()).await.unwrap();
    }
    channel.eof().await.unwrap();
    transcript(&mut channel).await
}

/// An `ssh` that insists on the host's key, with what it needs in `home`.
fn ssh(host: &EmbeddedHost, home: &Path) -> Command {
    let (key, known_hosts) = (home.join("key"), home.join("known_hosts"));
    host.write_client_key(&key).unwrap();
    std::fs::write(&known_hosts, host.known_hosts_line().unwrap()).unwrap();
    let mut command = Command::new("ssh");
    command.args(["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=none"]);
    command.arg("-o").arg(format!("UserKnownHostsFile={}", known_hosts.display()));
    command.args(["-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
    command.arg("-i").arg(key).args(["-p", &host.port().to_string(), "anyone@127.0.0.1"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> Output {
    bounded("the end of ssh", command.output()).await.unwrap()
}

#[tokio::test]
async fn command_has_its_streams_apart_and_its_exit_status() {
    let host = EmbeddedHost::start().await.unwrap();
    let connection = connect(&host).await;
    let heard = exec(&connection, "printf out; printf err >&2; exit 7", b"").await;
    assert_eq!((heard.stdout.as_slice(), heard.stderr.as_slice()), (&b"out"[..], &b"err"[..]));
    assert!(heard.events.contains(&"status 7".to_owned()), "{heard:?}");
    assert_eq!(heard.events.last().map(String::as_str), Some("close"));
}

#[tokio::test]
async fn stdin_reaches_the_command_and_its_end_too() {
    let host = EmbeddedHost::start().await.unwrap();
    let connection = connect(&host).await;
    let input = vec![b'x'; 1 << 20];
    let heard = exec(&connection, "cat", &input).await;
    assert!(heard.stdout == input, "{} bytes", heard.stdout.len());
}

#[tokio::test]
async fn large_output_of_both_streams_arrives_whole() {
    let host = EmbeddedHost::start().await.unwrap();
    let connection = connect(&host).await;
    let command = "head -c 10485760 /dev/zero & head -c 10485760 /dev/zero >&2; wait";
    let heard = exec(&connection, command, b"").await;
    assert_eq!((heard.stdout.len(), heard.stderr.len()), (10 << 20, 10 << 20));
}

#[tokio::test]
async fn signal_ends_the_whole_process_group() {
    let host = EmbeddedHost::start().await.unwrap();
    let connection = connect(&host).await;
    let mut channel = connection.channel_open_session().await.unwrap();
    channel.exec(true, "sleep 300 & echo $!; wait").await.unwrap();
    let child = loop {
        match bounded("the pid", channel.wait()).await {
            Some(ChannelMsg::Data { data }) => {
                break pid(&data);
            }
            Some(_) => {}
            None => panic!("the channel ended"),
        }
    };
    channel.signal(Sig::TERM).await.unwrap();
    let heard = transcript(&mut channel).await;
    assert!(heard.events.contains(&"signal TERM".to_owned()), "{heard:?}");
    eventually("the background child is gone", async || !alive(child)).await;
}

#[tokio::test]
async fn exit_status_comes_before_the_end_of_a_background_child() {
    let host = EmbeddedHost::start().await.unwrap();
    let connection = connect(&host).await;
    let mut channel = connection.channel_open_session().await.unwrap();
    channel.exec(true, "sleep 300 & exit 3").await.unwrap();
    loop {
        match bounded("the exit status", channel.wait()).await {
            Some(ChannelMsg::ExitStatus { exit_status }) => break assert_eq!(exit_status, 3),
            Some(ChannelMsg::Close) | None => panic!("closed first"),
            Some(_) => {}
        }
    }
}

fn pid(line: &[u8]) -> u32 {
    String::from_utf8_lossy(line).trim().parse().unwrap()
}

async fn pid_of_a_sleep(connection: &Handle<Trusting>) -> (russh::Channel<client::Msg>, u32) {
    let mut channel = connection.channel_open_session().await.unwrap();
    channel.exec(true, "echo $$; sleep 300; :").await.unwrap();
    loop {
        match bounded("the pid", channel.wait()).await {
            Some(ChannelMsg::Data { data }) => {
                return (channel, pid(&data));
            }
            Some(_) => {}
            None => panic!("the channel ended"),
        }
    }
}

#[tokio::test]
async fn closing_the_channel_the_connection_or_the_host_kills_the_command() {
    let host = EmbeddedHost::start().await.unwrap();
    let connection = connect(&host).await;
    let (channel, pid) = pid_of_a_sleep(&connection).await;
    channel.close().await.unwrap();
    eventually("killed with its channel", async || !alive(pid)).await;

    let (_channel, pid) = pid_of_a_sleep(&connection).await;
    connection.disconnect(Disconnect::ByApplication, "", "").await.unwrap();
    drop(connection);
    eventually("killed with its connection", async || !alive(pid)).await;

    let connection = connect(&host).await;
    let (_channel, pid) = pid_of_a_sleep(&connection).await;
    drop(host);
    eventually("killed with its host", async || !alive(pid)).await;
}

#[tokio::test]
async fn session_beyond_the_limit_is_refused_and_places_free_up() {
    let host = Options::default().max_sessions(2).start().await.unwrap();
    let connection = connect(&host).await;
    let _first = connection.channel_open_session().await.unwrap();
    for _ in 0..20 {
        exec(&connection, "true", b"").await;
    }
    let _second = connection.channel_open_session().await.unwrap();
    let refused = connection.channel_open_session().await;
    assert!(matches!(refused, Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed))));
}

#[tokio::test]
async fn scripts_do_what_no_shell_does() {
    let host = EmbeddedHost::start().await.unwrap();
    let connection = connect(&host).await;
    let events = async |command: &str| exec(&connection, command, b"").await.events.join(", ");
    assert_eq!(events("@no-exit-status").await, "success, data, eof, close");
    assert_eq!(events("@exit-signal KILL").await, "success, signal KILL, eof, close");
    assert_eq!(events("@exit-then-late-data").await, "success, status 0, data, eof, close");

    let mut channel = connection.channel_open_session().await.unwrap();
    channel.exec(true, "@refuse").await.unwrap();
    assert!(matches!(bounded("the refusal", channel.wait()).await, Some(ChannelMsg::Failure) | None));

    let lost = exec(&connection, "@drop-connection", b"").await;
    assert_eq!(lost.stdout, b"partial");
    assert_eq!(lost.events.join(", "), "success, data", "no goodbye");
    eventually("the client notices", async || connection.is_closed()).await;
}

#[tokio::test]
async fn only_its_key_and_its_password_open_it_and_attempts_are_counted() {
    let host = Options::default().password("open sesame").start().await.unwrap();
    let other = EmbeddedHost::start().await.unwrap();
    let mut connection = dial(&host).await;
    assert_eq!((host.connections(), host.auth_attempts()), (1, 0));
    let wrong = PrivateKeyWithHashAlg::new(Arc::new(other.client_key().clone()), None);
    let refused = connection.authenticate_publickey("anyone", wrong).await.unwrap();
    assert!(matches!(refused, AuthResult::Failure { .. }), "{refused:?}");
    assert_eq!(host.auth_attempts(), 1);
    assert!(!connection.authenticate_password("anyone", "wrong").await.unwrap().success());
    assert!(connection.authenticate_password("anyone", "open sesame").await.unwrap().success());
    assert_eq!(host.auth_attempts(), 3);
    connect(&host).await;
    assert_eq!((host.connections(), host.auth_attempts()), (2, 4));
}

#[tokio::test]
async fn forward_carries_half_closed_connections() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Answers only after the end-of-file of the other side: it needs a half-closed connection.
    let target = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut question = Vec::new();
        socket.read_to_end(&mut question).await.unwrap();
        socket.write_all(&question).await.unwrap();
        socket.shutdown().await.unwrap();
    });
    let host = EmbeddedHost::start().await.unwrap();
    let connection = connect(&host).await;
    let channel = connection.channel_open_direct_tcpip("localhost", port.into(), "127.0.0.1", 0).await.unwrap();
    let mut stream = channel.into_stream();
    let (mut sent, mut answer) = (vec![7; 3 << 20], Vec::new());
    sent.extend_from_slice(b"the end");
    stream.write_all(&sent).await.unwrap();
    stream.shutdown().await.unwrap();
    bounded("the answer", stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer == sent, "{} bytes", answer.len());
    target.await.unwrap();
}

#[tokio::test]
async fn forward_goes_to_loopback_only_and_says_when_nobody_listens() {
    let host = EmbeddedHost::start().await.unwrap();
    let connection = connect(&host).await;
    let elsewhere = connection.channel_open_direct_tcpip("192.0.2.1", 80, "127.0.0.1", 0).await;
    let prohibited = ChannelOpenFailure::AdministrativelyProhibited;
    assert!(matches!(elsewhere, Err(russh::Error::ChannelOpenFailure(why)) if why == prohibited));
    let nobody = connection.channel_open_direct_tcpip("127.0.0.1", 1, "127.0.0.1", 0).await;
    assert!(matches!(nobody, Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed))));
}

#[tokio::test]
async fn openssh_client_runs_commands_on_it() {
    let host = EmbeddedHost::start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut command = ssh(&host, home.path());
    command.arg("printf out; printf err >&2; exit 7");
    let ran = output(command).await;
    assert_eq!((ran.stdout.as_slice(), ran.status.code()), (&b"out"[..], Some(7)), "{ran:?}");
    assert_eq!(ran.stderr, b"err");
    let mut command = ssh(&host, home.path());
    command.arg("kill -9 $$");
    assert_eq!(output(command).await.status.code(), Some(255));
}

#[tokio::test]
async fn openssh_client_forwards_through_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut question = Vec::new();
        socket.read_to_end(&mut question).await.unwrap();
        socket.write_all(&question).await.unwrap();
    });
    let host = EmbeddedHost::start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("forward");
    // A Unix socket as the near end: no port to choose.
    let mut command = ssh(&host, home.path());
    command.arg("-N").arg("-L").arg(format!("{}:127.0.0.1:{target}", socket.display()));
    let _ssh = command.spawn().unwrap();
    eventually("ssh listens", async || socket.exists()).await;
    let mut near = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let (sent, mut answer) = (vec![7; 1 << 20], Vec::new());
    near.write_all(&sent).await.unwrap();
    near.shutdown().await.unwrap();
    bounded("the answer", near.read_to_end(&mut answer)).await.unwrap();
    assert!(answer == sent, "{} bytes", answer.len());
}

#[tokio::test]
async fn dropped_host_listens_no_more() {
    let host = EmbeddedHost::start().await.unwrap();
    let port = host.port();
    drop(host);
    let refused = async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err();
    eventually("the port is closed", refused).await;
}
