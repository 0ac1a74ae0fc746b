//! Failures to connect: which are retried, how often, and that none outlasts its deadline.

use std::{io, sync::Arc, time::Duration};

use serde_json::{Value, json};
use ssh_mcp::{
    error::{Code, Explain},
    ssh::client::{ClientError, Target},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    time::Instant,
};

use crate::support::{
    fake_server::{FakeServer, Play, RefusingPort},
    home::{Home, by_key, with},
    mcp_client::{McpClient, ToolAnswer},
    openssh::{Sshd, public_key},
    wait::eventually,
};

/// Arguments with a password, so that nothing but the network matters.
fn to(address: &str, more: Value) -> Value {
    with(json!({"address": address, "username": "u", "password": "p"}), more)
}

/// Calls, and checks the one limit that there is: `timeout_secs` and one second.
async fn within(client: &McpClient, timeout_secs: u64, arguments: Value) -> ToolAnswer {
    let begun = Instant::now();
    let answer = client.call("ssh_connect", with(arguments, json!({"timeout_secs": timeout_secs}))).await;
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(timeout_secs + 1), "{took:?}: {}", answer.text);
    answer
}

#[tokio::test]
async fn refused_port_is_retried_three_times_by_default() {
    let (port, client) = (RefusingPort::new(), Home::new().client(&[]).await);
    let cases = [(json!({}), 3), (json!({"max_retries": 0}), 0), (json!({"max_retries": 5}), 5)];
    for (more, retries) in cases {
        let arguments = to(&port.address(), with(more, json!({"retry_delay_ms": 1})));
        let answer = client.call("ssh_connect", arguments).await;
        assert_eq!(answer.code(), "connect_refused", "{}", answer.text);
        let error = &answer.structured;
        assert_eq!((&error["retry_attempts"], &error["retryable"]), (&json!(retries), &json!(true)), "{error}");
        assert_eq!((&error["host"], &error["username"]), (&json!("127.0.0.1"), &json!("u")), "{error}");
        assert!(error["port"].is_u64() && !error["hint"].as_str().unwrap().is_empty(), "{error}");
    }
}

#[tokio::test]
async fn settings_give_the_retries_and_parameters_override_them() {
    let port = RefusingPort::new();
    let client = Home::new().client(&[("SSH_MAX_RETRIES", "1"), ("SSH_RETRY_DELAY_MS", "1")]).await;
    for (more, retries) in [(json!({}), 1), (json!({"max_retries": 2}), 2), (json!({"max_retries": null}), 1)] {
        let answer = client.call("ssh_connect", to(&port.address(), more)).await;
        assert_eq!(answer.structured["retry_attempts"], retries, "{}", answer.text);
    }
}

#[tokio::test]
async fn pause_that_outlasts_the_deadline_is_no_retry() {
    let (port, client) = (RefusingPort::new(), Home::new().client(&[]).await);
    // The pause that is asked for is longer than the time that there is: no second attempt takes place.
    let answer = within(&client, 1, to(&port.address(), json!({"retry_delay_ms": 60_000}))).await;
    assert!(["connect_timeout", "connect_refused"].contains(&answer.code()), "{}", answer.text);
    assert_eq!(answer.structured["retry_attempts"], 0, "an attempt that was never made: {}", answer.text);
    assert!(answer.structured["message"].as_str().unwrap().contains("refused"), "the cause: {}", answer.text);
}

#[tokio::test]
async fn retries_grow_and_stay_within_the_time() {
    let (port, client) = (RefusingPort::new(), Home::new().client(&[]).await);
    let begun = Instant::now();
    let arguments = to(&port.address(), json!({"max_retries": 3, "retry_delay_ms": 100}));
    let answer = within(&client, 30, arguments).await;
    // 100, 200 and 400 ms, each at least in full; jitter adds to them.
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
    assert_eq!(answer.structured["retry_attempts"], 3);

    let arguments = to(&port.address(), json!({"max_retries": 100, "retry_delay_ms": 100}));
    let answer = within(&client, 1, arguments).await;
    let retries = answer.structured["retry_attempts"].as_u64().unwrap();
    assert!((1..=4).contains(&retries), "exponential: {}", answer.text);
}

#[tokio::test]
async fn server_that_is_busy_at_first_is_reached_by_retries() {
    let Some(sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[]).await;
    for first in [&b""[..], b"Exceeded MaxStartups\r\n", b"Not allowed at this time\r\n"] {
        let relay = FakeServer::start(Play::Relay { first, refused: 2, port: sshd.port() }).await;
        let more = json!({"address": relay.address(), "retry_delay_ms": 1});
        let session = client.call("ssh_connect", by_key(&sshd, &sshd.user().name, more)).await.success();
        assert_eq!(session["retry_attempts"], 2, "{session}");
        assert_eq!(relay.connections(), 3);
        let listed = client.call("ssh_list_sessions", json!({})).await.success();
        let row = listed["sessions"].as_array().unwrap().iter().find(|row| row["port"] == relay.port()).unwrap();
        assert_eq!(row["retry_attempts"], 2);
    }
}

#[tokio::test]
async fn port_that_listens_later_is_reached() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[("RUST_LOG", "ssh_mcp=debug")]).await;
    sshd.stop();
    let more = json!({"max_retries": 100, "retry_delay_ms": 20});
    let arguments = by_key(&sshd, &sshd.user().name, more);
    let connecting = client.call("ssh_connect", arguments);
    let starting = async {
        eventually("a first attempt has failed", async || client.stderr().contains("trying again")).await;
        sshd.restart().await;
    };
    let (answer, ()) = tokio::join!(connecting, starting);
    let session = answer.success();
    assert!(session["retry_attempts"].as_u64().unwrap() >= 1, "{session}");
}

#[tokio::test]
async fn server_that_is_no_ssh_server_is_told_apart_by_what_it_does() {
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const TLS_ALERT: &[u8] = b"\x15\x03\x01\x00\x02\x02\x16";
    let client = Home::new().client(&[]).await;
    // What is done, the code, whether it is retried.
    let cases = [
        (Play::Answer(HTTP), "not_ssh", false),
        (Play::Say(b"220 mail.example ESMTP ready\r\n"), "not_ssh", false),
        (Play::Answer(TLS_ALERT), "not_ssh", false),
        (Play::Say(b"SSH-1.5-old\r\n"), "not_ssh", false),
        (Play::Endless(b"no greeting\r\n"), "not_ssh", false),
        (Play::Endless(b"x"), "not_ssh", false),
        (Play::Say(b"SSH-2.0-x\r\n\x7f\xff\xff\xff\x00garbage that is no packet"), "not_ssh", false),
        (Play::Say(b""), "connection_lost", true),
        (Play::Say(b"Exceeded MaxStartups\r\n"), "connection_lost", true),
        (Play::Say(b"SSH-2.0-OpenSSH_9.2\r\n"), "connection_lost", true),
    ];
    for (play, code, transient) in cases {
        let server = FakeServer::start(play.clone()).await;
        let arguments = to(&server.address(), json!({"max_retries": 1, "retry_delay_ms": 1}));
        let answer = within(&client, 4, arguments).await;
        assert_eq!(answer.code(), code, "{play:?}: {}", answer.text);
        let error = &answer.structured;
        assert_eq!(
            (&error["retryable"], &error["retry_attempts"]),
            (&json!(transient), &json!(u8::from(transient))),
            "{play:?}: {error}"
        );
        assert_eq!(server.connections(), if transient { 2 } else { 1 }, "{play:?}");
        assert_eq!((&error["host"], &error["port"]), (&json!("127.0.0.1"), &json!(server.port())), "{play:?}: {error}");
        assert!(!answer.text.contains("\\u001"), "control characters are not passed on: {}", answer.text);
    }
}

#[tokio::test]
async fn silent_and_dripping_servers_are_given_up_at_the_deadline() {
    let client = Home::new().client(&[]).await;
    let cases = [Play::Silent, Play::Drip(b"x"), Play::Drip(b"SSH-2.0-x\r\n\x00\x00")];
    let gone = futures_util::future::join_all(cases.map(async |play| {
        let server = FakeServer::start(play.clone()).await;
        let answer = within(&client, 1, to(&server.address(), json!({}))).await;
        (play, answer, server.connections())
    }));
    for (play, answer, connections) in gone.await {
        assert_eq!(answer.code(), "connect_timeout", "{play:?}: {}", answer.text);
        assert_eq!((answer.structured["retryable"].clone(), connections), (json!(true), 1), "{play:?}");
        assert_eq!(answer.structured["host"], "127.0.0.1");
    }
}

#[tokio::test]
async fn timeout_spans_the_check_of_a_session_to_reuse() {
    let Some(sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[]).await;
    let relay = FakeServer::start(Play::Once(sshd.port())).await;
    let arguments = by_key(&sshd, &sshd.user().name, json!({"address": relay.address()}));
    let session = client.call("ssh_connect", arguments.clone()).await.success();
    let ran = client.call("ssh_execute", json!({"session_id": session["session_id"], "command": "true"})).await;
    assert!(!ran.is_error, "{}", ran.text);
    // Neither the session answers nor anybody to connect to anew.
    sshd.signal_connections("STOP");
    let reuse = with(arguments, json!({"session_id": session["session_id"]}));
    let answer = within(&client, 2, reuse).await;
    assert_eq!(answer.code(), "connect_timeout", "{}", answer.text);
    assert_eq!(relay.connections(), 2, "there was time left to try");
}

#[tokio::test]
async fn timeout_spans_the_login_too() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    // The agent names a key and never signs: somebody is asked and does not answer.
    let key = public_key(sshd.client_key());
    let blob = data_encoding::BASE64.decode(key.split(' ').nth(1).unwrap().as_bytes()).unwrap();
    let agent = UnixListener::bind(home.path().join("agent")).unwrap();
    let agent = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut stream, _) = agent.accept().await.unwrap();
            // The host that it is for, which it does not care about; then what it holds. It never signs.
            for _ in 0..2 {
                let length = stream.read_u32().await.unwrap();
                let mut request = vec![0; length as usize];
                stream.read_exact(&mut request).await.unwrap();
                let answer = match request[0] {
                    // SSH_AGENT_IDENTITIES_ANSWER with one key and an empty comment.
                    11 => {
                        let length = u32::try_from(blob.len()).unwrap().to_be_bytes();
                        [&[12, 0, 0, 0, 1][..], &length, &blob, &[0; 4]].concat()
                    }
                    13 => break,
                    _ => vec![5],
                };
                stream.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
            kept.push(stream);
        }
    });
    let client = home.client(&[("SSH_AUTH_SOCK", home.path().join("agent").to_str().unwrap())]).await;
    let arguments = json!({"address": format!("127.0.0.1:{}", sshd.port()), "username": sshd.user().name});
    let answer = within(&client, 2, arguments).await;
    agent.abort();
    // Within the time, and so in its own words.
    assert_eq!(
        (answer.code(), answer.structured["why"].as_str()),
        ("auth_failed", Some("not_signed")),
        "{}",
        answer.text
    );
    assert!(sshd.logged("Accepted key") >= 1, "the login had begun: {}", sshd.log());
}

#[tokio::test]
async fn timeout_beyond_the_answer_limit_is_cut_and_told() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let client = home.client(&[("SSH_ANSWER_LIMIT", "2")]).await;
    let user = &sshd.user().name;
    let session = client.call("ssh_connect", by_key(&sshd, user, json!({"timeout_secs": 600}))).await.success();
    assert_eq!(session["timeout_secs"], 2, "{session}");
    let notice = session["notices"][0].as_str().unwrap();
    assert!(notice.contains("timeout_secs") && notice.contains('2'), "{notice}");
    let session = client.call("ssh_connect", by_key(&sshd, user, json!({"timeout_secs": 1}))).await.success();
    assert_eq!((&session["timeout_secs"], session.get("notices")), (&json!(1), None), "{session}");

    let server = FakeServer::start(Play::Silent).await;
    let begun = Instant::now();
    let answer = client.call("ssh_connect", to(&server.address(), json!({"timeout_secs": 600}))).await;
    assert_eq!(answer.code(), "connect_timeout", "{}", answer.text);
    assert_eq!(answer.structured["timeout_secs"], 2, "what was in force, not what was asked for: {}", answer.text);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_host_that_refuses_until_the_time_is_over_is_none_to_look_for_a_firewall_at() {
    let (port, client) = (RefusingPort::new(), Home::new().client(&[]).await);
    let more = json!({"timeout_secs": 1, "max_retries": 50, "retry_delay_ms": 200});
    let answer = client.call("ssh_connect", to(&port.address(), more)).await;
    assert_eq!(answer.code(), "connect_timeout", "{}", answer.text);
    assert!(answer.structured["hint"].as_str().unwrap().contains("Nothing listens there"), "{}", answer.text);
}

#[tokio::test]
async fn one_slow_host_does_not_delay_another() {
    let Some(sshd) = Sshd::start().await else { return };
    let (silent, client) = (FakeServer::start(Play::Silent).await, Home::new().client(&[]).await);
    let slow = client.begin("ssh_connect", to(&silent.address(), json!({"timeout_secs": 30}))).await;
    eventually("the slow host is dialled", async || silent.connections() == 1).await;
    client.call("ssh_connect", by_key(&sshd, &sshd.user().name, json!({"timeout_secs": 20}))).await.success();
    slow.cancel(None).await.unwrap();
}

#[tokio::test]
async fn name_that_does_not_resolve_says_so() {
    let client = Home::new().client(&[]).await;
    // A label beyond 63 characters (RFC 1035) fails without asking any name server.
    let host = format!("{}.localhost", "h".repeat(64));
    let answer = within(&client, 5, to(&host, json!({"retry_delay_ms": 1}))).await;
    assert_eq!(answer.code(), "resolve_failed", "{}", answer.text);
    assert_eq!((&answer.structured["host"], &answer.structured["port"]), (&json!(host), &json!(22)), "{}", answer.text);
    assert_eq!(answer.structured["retry_attempts"], 0, "an unknown name stays unknown: {}", answer.text);
}

#[tokio::test]
async fn name_with_several_addresses_is_tried_at_each() {
    let Some(sshd) = Sshd::start().await else { return };
    // sshd listens on 127.0.0.1 only; where localhost is ::1 first, that one refuses.
    let more = json!({"address": format!("localhost:{}", sshd.port()), "max_retries": 0});
    let client = Home::new().client(&[]).await;
    let session = client.call("ssh_connect", by_key(&sshd, &sshd.user().name, more)).await.success();
    assert_eq!(session["host"], "localhost");
}

/// The network of a test machine cannot do all of these; what they mean is decided by type.
#[test]
fn transient_failures_are_those_that_may_pass_by_themselves() {
    use io::ErrorKind as Kind;
    let target = || Target { host: "h".into(), port: 22, username: "u".into() };
    let failure = |source: io::Error| ClientError::Io { target: target(), source: Arc::new(source) };
    let cases = [
        (Kind::ConnectionRefused, Code::ConnectRefused, true),
        (Kind::TimedOut, Code::ConnectTimeout, true),
        (Kind::NetworkUnreachable, Code::Unreachable, true),
        (Kind::HostUnreachable, Code::Unreachable, true),
        (Kind::NetworkDown, Code::Unreachable, true),
        (Kind::ConnectionReset, Code::ConnectionLost, true),
        (Kind::ConnectionAborted, Code::ConnectionLost, true),
        (Kind::PermissionDenied, Code::PermissionDenied, false),
    ];
    for (kind, code, transient) in cases {
        let error = failure(kind.into());
        assert_eq!((error.code(), error.retryable()), (code, transient), "{kind:?}");
    }
    // EHOSTDOWN has no kind in Rust.
    #[cfg(target_os = "linux")]
    let host_down = 112;
    #[cfg(not(target_os = "linux"))]
    let host_down = 64;
    let error = failure(io::Error::from_raw_os_error(host_down));
    assert_eq!((error.code(), error.retryable()), (Code::Unreachable, true), "{error}");
    for temporary in [true, false] {
        let error = ClientError::Resolve { target: target(), temporary };
        assert_eq!((error.code(), error.retryable()), (Code::ResolveFailed, temporary));
    }
}
