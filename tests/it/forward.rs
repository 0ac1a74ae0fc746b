//! Local port forwards through OpenSSH.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

use crate::support::{
    openssh::Sshd,
    session::{Session, text},
    wait::{bounded, eventually},
};

/// A listener on the remote side, which is this machine too.
async fn target() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A target that sends back what it gets, connection by connection.
async fn echo() -> (JoinHandle<()>, u16) {
    let (listener, port) = target().await;
    let serve = async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    };
    (tokio::spawn(serve), port)
}

fn request(local_port: u16, remote_port: u16) -> Value {
    json!({"local_port": local_port, "remote_address": "localhost", "remote_port": remote_port})
}

async fn forward(session: &Session, local_port: u16, remote_port: u16) -> Value {
    session.call("ssh_forward", request(local_port, remote_port)).await.success()
}

fn local_port(forward: &Value) -> u16 {
    let address = text(&forward["local_address"]);
    address.strip_prefix("127.0.0.1:").unwrap_or_else(|| panic!("{address}")).parse().unwrap()
}

async fn connect(forward: &Value) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, local_port(forward))).await.unwrap()
}

/// Whether an echo of a few bytes comes back.
async fn answers(socket: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    socket.write_all(b"ping").await.is_ok()
        && bounded("an answer or the end", socket.read_exact(&mut answer)).await.is_ok()
        && &answer == b"ping"
}

/// Waits until the other side has closed the connection.
async fn closed(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = bounded("the end of the connection", socket.read_to_end(&mut rest)).await;
}

/// Bytes in which a lost, doubled or moved piece shows.
fn numbered(bytes: usize) -> Vec<u8> {
    (0..bytes as u64 / 8).flat_map(u64::to_be_bytes).collect()
}

#[tokio::test]
async fn a_forward_is_answered_and_listed_with_both_ends() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (_echo, port) = echo().await;
    let opened = forward(&session, 0, port).await;
    assert_eq!((&opened["active"], &opened["remote_address"]), (&json!(true), &json!(format!("localhost:{port}"))));
    assert_ne!(local_port(&opened), 0, "port 0 is any free one");
    assert_eq!((&opened["session_id"], &opened["host"]), (&json!(session.id), &json!("127.0.0.1")));
    assert_eq!((&opened["port"], &opened["username"]), (&json!(sshd.port()), &session.login()["username"]));
    assert!(answers(&mut connect(&opened).await).await);
    let row = json!({"forward_id": opened["forward_id"], "local_address": opened["local_address"],
        "remote_address": opened["remote_address"]});
    assert_eq!(session.listed().await.unwrap()["forwards"], json!([row]));
}

#[tokio::test]
async fn ten_mebibytes_each_way_at_once_arrive_as_they_were_sent() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (listener, port) = target().await;
    let (down, up) = (numbered(10 << 20), numbered((10 << 20) + 8));
    let sent = down.clone();
    let remote = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut from, mut to) = socket.split();
        let mut received = Vec::new();
        let write = async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        };
        tokio::join!(write, async { from.read_to_end(&mut received).await.unwrap() });
        received
    });
    let mut socket = connect(&forward(&session, 0, port).await).await;
    let (mut from, mut to) = socket.split();
    let mut received = Vec::new();
    let write = async {
        to.write_all(&up).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let both = async { tokio::join!(write, async { from.read_to_end(&mut received).await.unwrap() }) };
    bounded("both directions", both).await;
    assert!(received == down, "{} bytes came down", received.len());
    let arrived = remote.await.unwrap();
    assert!(arrived == up, "{} bytes went up", arrived.len());
}

#[tokio::test]
async fn a_half_closed_connection_goes_on_in_the_other_direction() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (listener, port) = target().await;
    let opened = forward(&session, 0, port).await;

    // The near end is done first: the answer comes after its end-of-file.
    let mut near = connect(&opened).await;
    let (mut far, _) = bounded("the target is reached", listener.accept()).await.unwrap();
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut heard = Vec::new();
    bounded("end-of-file of the near end", far.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"question");
    far.write_all(&numbered(1 << 20)).await.unwrap();
    far.shutdown().await.unwrap();
    let mut answer = Vec::new();
    bounded("the answer", near.read_to_end(&mut answer)).await.unwrap();
    assert!(answer == numbered(1 << 20), "{} bytes", answer.len());

    // The far end is done first: what is sent then still arrives.
    let mut near = connect(&opened).await;
    let (mut far, _) = bounded("the target is reached", listener.accept()).await.unwrap();
    far.write_all(b"greeting").await.unwrap();
    far.shutdown().await.unwrap();
    let mut heard = Vec::new();
    bounded("end-of-file of the far end", near.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"greeting");
    near.write_all(&numbered(1 << 20)).await.unwrap();
    near.shutdown().await.unwrap();
    let mut arrived = Vec::new();
    bounded("the rest", far.read_to_end(&mut arrived)).await.unwrap();
    assert!(arrived == numbered(1 << 20), "{} bytes", arrived.len());
}

#[tokio::test]
async fn the_same_request_again_gives_the_same_forward() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let opened = forward(&session, 0, 7).await;
    assert_eq!(forward(&session, 0, 7).await, opened);
    assert_eq!(forward(&session, local_port(&opened), 7).await, opened);
    let (one, other) = tokio::join!(forward(&session, 0, 9), forward(&session, 0, 9));
    assert_eq!(one, other, "at the same time too");
    let elsewhere = forward(&session, 0, 8).await;
    assert_ne!(elsewhere["forward_id"], opened["forward_id"]);
    assert_eq!(session.listed().await.unwrap()["forwards"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_harms_nobody() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let other = session.another(json!({})).await;
    let (_echo, port) = echo().await;
    let (_taken, taken) = target().await;
    let first = forward(&session, 0, port).await;
    let mut carried = connect(&first).await;
    assert!(answers(&mut carried).await);
    let in_use = local_port(&first);
    for (session, local, remote) in [(&session, in_use, port ^ 1), (&other, in_use, port), (&session, taken, port)] {
        let refused = session.call("ssh_forward", request(local, remote)).await;
        assert_eq!((refused.code(), &refused.structured["retryable"]), ("port_in_use", &json!(false)));
        assert!(text(&refused.structured["hint"]).contains("local_port 0"), "{}", refused.text);
        assert!(text(&refused.structured["message"]).contains(&local.to_string()));
    }
    assert!(answers(&mut carried).await && answers(&mut connect(&first).await).await, "the first goes on");
    assert_eq!(session.listed().await.unwrap()["forwards"].as_array().unwrap().len(), 1);
    assert_eq!(other.run("echo fine").await["stdout"], "fine\n");
}

#[tokio::test]
async fn ports_and_targets_that_cannot_be_are_refused() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    for (member, value, code) in [
        ("local_port", json!(65_536), "invalid_port"),
        ("local_port", json!(-1), "invalid_port"),
        ("remote_port", json!(0), "invalid_port"),
        ("remote_port", json!(70_000), "invalid_port"),
        ("remote_address", json!("local host"), "invalid_address"),
        ("remote_address", json!("-oProxyCommand=x"), "invalid_address"),
        ("remote_address", json!(""), "invalid_address"),
    ] {
        let mut arguments = request(0, 80);
        arguments[member] = value.clone();
        let answer = session.call("ssh_forward", arguments).await;
        assert_eq!(answer.code(), code, "{member} {value}: {}", answer.text);
    }
    assert_eq!(session.listed().await.unwrap()["forwards"], json!([]));
}

#[tokio::test]
async fn a_disconnect_ends_listener_and_connections_and_frees_the_port() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (_echo, port) = echo().await;
    let opened = forward(&session, 0, port).await;
    let mut carried = connect(&opened).await;
    assert!(answers(&mut carried).await);
    assert_eq!(session.disconnect().await["forwards_closed"], 1);
    TcpListener::bind((Ipv4Addr::LOCALHOST, local_port(&opened))).await.expect("the port is free again");
    closed(&mut carried).await;
    eventually("no connection is left", async || sshd.connections().is_empty()).await;
    let again = session.another(json!({})).await;
    assert!(answers(&mut connect(&forward(&again, local_port(&opened), port).await).await).await);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_forward_listens_on_127_0_0_1_and_nowhere_else() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let port = local_port(&forward(&session, 0, 7).await);
    let table =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default()).concat();
    // Address:port in hexadecimal, and the state LISTEN.
    let here = format!(":{port:04X} ");
    let listeners: Vec<_> = table
        .lines()
        .filter_map(|line| line.split_once(": ").map(|(_, rest)| rest))
        .filter(|rest| rest.split_whitespace().nth(2) == Some("0A"))
        .filter_map(|rest| rest.split_whitespace().next())
        .filter(|local| format!("{local} ").ends_with(&here))
        .collect();
    assert_eq!(listeners, [format!("0100007F:{port:04X}")]);
}

#[tokio::test]
async fn a_target_that_refuses_closes_the_local_connection_only() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (listener, port) = target().await;
    drop(listener);
    let opened = forward(&session, 0, port).await;
    closed(&mut connect(&opened).await).await;
    closed(&mut connect(&opened).await).await;
    let row = session.listed().await.unwrap();
    assert_eq!((row["forwards"].as_array().unwrap().len(), &row["healthy"]), (1, &json!(true)));
    // Somebody listens there now: the same forward leads to them.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let mut near = connect(&opened).await;
    let (mut far, _) = bounded("the target is reached", listener.accept()).await.unwrap();
    far.write_all(b"pong").await.unwrap();
    let mut answer = [0; 4];
    bounded("an answer", near.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"pong");
}

#[tokio::test]
async fn an_open_forwarded_connection_keeps_the_session_from_being_idle() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[("SSH_INACTIVITY_TIMEOUT", "1")]).await;
    let (_echo, port) = echo().await;
    let opened = forward(&session, 0, port).await;
    let mut carried = connect(&opened).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert!(answers(&mut carried).await, "after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(session.listed().await.map(|row| row["healthy"].clone()), Some(json!(true)));
    drop(carried);
    eventually("the idle session is closed", async || session.listed().await.is_none()).await;
    let after = session.call("ssh_forward", request(0, port)).await;
    assert_eq!((after.code(), &after.structured["reason"]), ("session_closed", &json!("idle")));
    TcpListener::bind((Ipv4Addr::LOCALHOST, local_port(&opened))).await.expect("the port is free again");
}

/// A connection whose near end reads nothing, after it has come to a standstill.
async fn stalled(opened: &Value, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let near = connect(opened).await;
    let (mut far, _) = bounded("the target is reached", listener.accept()).await.unwrap();
    let piece = vec![7; 64 * 1024];
    // Sends until nobody takes any more for a while; the product must not take without end.
    let mut sent = 0_usize;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(500), far.write_all(&piece)).await {
        sent += piece.len();
        assert!(sent < 256 << 20, "{sent} bytes were taken that nobody reads");
    }
    (near, far)
}

#[tokio::test]
async fn a_stalled_reader_of_a_forward_stalls_no_command() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (listener, port) = target().await;
    let opened = forward(&session, 0, port).await;
    let _stalled = stalled(&opened, &listener).await;
    assert_eq!(session.run("echo fine").await["stdout"], "fine\n");
    let background = session.start("head -c 5000000 /dev/zero | wc -c").await;
    assert_eq!(text(&session.ended(&background).await["stdout"]).trim(), "5000000");
    let (_echo, other) = echo().await;
    assert!(answers(&mut connect(&forward(&session, 0, other).await).await).await, "nor another forward");
    assert_eq!(session.listed().await.unwrap()["healthy"], true);
    assert_eq!(session.disconnect().await["forwards_closed"], 1 + 1);
}

#[tokio::test]
async fn a_stalled_reader_of_a_forward_does_not_stall_those_that_come_after_it() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (listener, port) = target().await;
    let opened = forward(&session, 0, port).await;
    // More of them than a forward has connections.
    let mut held_up = Vec::new();
    for _ in 0..3 {
        held_up.push(stalled(&opened, &listener).await);
    }
    let mut near = connect(&opened).await;
    let (mut far, _) = bounded("the target is reached", listener.accept()).await.unwrap();
    far.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    bounded("it arrives", near.read_exact(&mut answer)).await.unwrap();
    // What was held up goes on where it was when it is read at last, and nothing of it is lost.
    for (mut near, mut far) in held_up {
        let mut taken = 0;
        far.shutdown().await.unwrap();
        let mut piece = vec![0; 1 << 20];
        while let read @ 1.. = bounded("the rest", near.read(&mut piece)).await.unwrap() {
            assert!(piece[..read].iter().all(|byte| *byte == 7));
            taken += read;
        }
        assert!(taken > 1 << 20, "{taken}");
    }
}

/// Bytes of memory that the process holds.
fn memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn forwarded_connections_that_have_ended_leave_nothing_behind() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (_echo, port) = echo().await;
    let opened = forward(&session, 0, port).await;
    let run = async |count: usize| {
        for _ in 0..count {
            let mut near = connect(&opened).await;
            assert!(answers(&mut near).await);
        }
    };
    run(200).await;
    let before = memory(session.client.pid());
    run(1_500).await;
    let grown = memory(session.client.pid()).saturating_sub(before);
    // A channel that is closed from here leaves 3.4 KB: 5 MB.
    assert!(grown < 2 << 20, "{grown} bytes");
}

/// Connections of which the server closes no channel, so many that another connection is to carry those that come.
async fn wear_out(opened: &Value, listener: &TcpListener) -> Vec<TcpStream> {
    let mut targets = Vec::new();
    for _ in 0..256 {
        let near = connect(opened).await;
        let (mut far, _) = bounded("the target is reached", listener.accept()).await.unwrap();
        far.write_all(b"x").await.unwrap();
        // Closed with something unread, the near end is reset; a target that goes on hears of no end.
        near.readable().await.unwrap();
        drop(near);
        targets.push(far);
    }
    targets
}

#[tokio::test]
async fn a_connection_that_keeps_the_rests_of_many_channels_is_replaced() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (listener, port) = target().await;
    let opened = forward(&session, 0, port).await;
    let logins = sshd.logged("Accepted publickey for");
    let _targets = wear_out(&opened, &listener).await;
    assert_eq!(sshd.logged("Accepted publickey for"), logins);
    eventually("another connection carries", async || {
        let _near = connect(&opened).await;
        let (_far, _) = bounded("the target is reached", listener.accept()).await.unwrap();
        sshd.logged("Accepted publickey for") == logins + 1
    })
    .await;
}

#[tokio::test]
async fn another_connection_that_cannot_be_had_is_not_tried_for_each_that_comes() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (listener, port) = target().await;
    let opened = forward(&session, 0, port).await;
    std::fs::write(sshd.directory().join("authorized_keys"), "").unwrap();
    let before = sshd.logged("Connection from");
    let mut targets = wear_out(&opened, &listener).await;
    eventually("another connection is tried", async || {
        let _near = connect(&opened).await;
        targets.push(bounded("the target is reached", listener.accept()).await.unwrap().0);
        sshd.logged("Connection from") > before
    })
    .await;
    for _ in 0..3 {
        let _near = connect(&opened).await;
        bounded("the target is reached", listener.accept()).await.unwrap();
    }
    assert_eq!(sshd.logged("Connection from"), before + 1);
}

#[tokio::test]
async fn a_forward_that_lost_its_connection_gets_another() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (_echo, port) = echo().await;
    // sshd forks once more after the login: whoever runs a command runs in that child.
    session.run("true").await;
    let before = sshd.connections();
    let opened = forward(&session, 0, port).await;
    let mut carried = connect(&opened).await;
    assert!(answers(&mut carried).await);
    let own: Vec<_> = sshd.connections().into_iter().filter(|pid| !before.contains(pid)).collect();
    assert!(!own.is_empty(), "a forward has a connection of its own");
    crate::support::process::kill(&own, "KILL");
    closed(&mut carried).await;
    assert!(answers(&mut connect(&opened).await).await, "the next connection goes over a new one");
    let again = forward(&session, local_port(&opened), port).await;
    assert_eq!(again["forward_id"], opened["forward_id"], "it is the same forward");
    assert_eq!(session.run("echo fine").await["stdout"], "fine\n");
}
