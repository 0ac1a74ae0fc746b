//! Faults of the machine and of the programs around us, one by one. Those that have a module of their own stand there:
//! `black_hole`, `lost`, `flood`, `spill`, `places`, `ending`.

use std::{fs, io, path::Path, time::Duration};

use russh::keys::PrivateKey;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
    time::Instant,
};

use crate::support::{
    embedded_host::EmbeddedHost,
    home::Home,
    mcp_client::RawStdio,
    openssh::Sshd,
    process::with_argument,
    resources::Resources,
    session::{Session, login, text},
    wait::eventually,
};

/// What an agent does when it is asked to sign.
#[derive(Clone, Copy)]
enum Signing {
    /// Nothing, for ever.
    Hangs,
    /// Ends the connection.
    Goes,
    /// Announces 4 GiB, and begins to send them.
    Floods,
}

/// An agent that lists these keys as it should; then it fails.
fn agent(socket: &Path, keys: Vec<PrivateKey>, signing: Signing) -> JoinHandle<io::Result<()>> {
    let listener = UnixListener::bind(socket).expect("a socket");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await?;
            let _ = answer(stream, &keys, signing).await;
        }
    })
}

async fn answer(mut stream: UnixStream, keys: &[PrivateKey], signing: Signing) -> io::Result<()> {
    const LIST: u8 = 11;
    const IDENTITIES: u8 = 12;
    loop {
        let mut request = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut request).await?;
        if request.first() == Some(&LIST) {
            let mut body = vec![IDENTITIES];
            body.extend(u32::try_from(keys.len()).expect("a few").to_be_bytes());
            for key in keys {
                let blob = key.public_key().to_bytes().map_err(io::Error::other)?;
                for field in [blob.as_slice(), b"a key"] {
                    body.extend(u32::try_from(field.len()).expect("a field").to_be_bytes());
                    body.extend(field);
                }
            }
            stream.write_u32(u32::try_from(body.len()).expect("a message")).await?;
            stream.write_all(&body).await?;
            continue;
        }
        match signing {
            Signing::Goes => return Ok(()),
            Signing::Hangs => std::future::pending().await,
            Signing::Floods => loop {
                stream.write_all(&[0xff; 4096]).await?;
            },
        }
    }
}

#[tokio::test]
async fn an_agent_that_fails_at_signing_is_given_up_after_five_seconds() {
    for (signing, at_least) in [(Signing::Hangs, 4), (Signing::Goes, 0), (Signing::Floods, 0)] {
        let host = EmbeddedHost::start().await.unwrap();
        let home = Home::new();
        let socket = home.path().join("agent");
        // The host asks for a signature of this key only; two keys, so that a second one would be tried.
        let keys = vec![host.client_key().clone(), host.client_key().clone()];
        let agent = agent(&socket, keys, signing);
        let client = home.client(&[("SSH_AUTH_SOCK", socket.to_str().unwrap())]).await;
        let before = Resources::of(client.pid());
        let begun = Instant::now();
        let login = json!({"address": format!("127.0.0.1:{}", host.port()), "username": "anyone", "timeout_secs": 20});
        let answer = client.call("ssh_connect", login).await;
        let took = begun.elapsed();
        agent.abort();
        assert!(["agent_unavailable", "auth_failed"].contains(&answer.code()), "{}", answer.text);
        assert_eq!(answer.structured["retry_attempts"], 0, "{}", answer.text);
        assert!((Duration::from_secs(at_least)..Duration::from_secs(9)).contains(&took), "{took:?}: {}", answer.text);
        let after = Resources::of(client.pid());
        assert!(after.memory < before.memory + (16 << 20), "{before:?} {after:?}");
    }
}

#[tokio::test]
async fn three_hundred_megabytes_on_stderr_alone_are_counted_to_the_byte() {
    const BYTES: u64 = 300_000_000;
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    session.run("true").await;
    let before = Resources::of(session.client.pid());
    let id = session.start(&format!("head -c {BYTES} /dev/zero >&2; exit 3")).await;
    let view = session.ended(&id).await;
    assert_eq!((&view["status"], &view["exit_code"]), (&json!("completed"), &json!(3)), "{view}");
    assert_eq!((&view["stderr_bytes"], &view["stdout_bytes"]), (&json!(BYTES), &json!(0)), "{view}");
    let after = Resources::of(session.client.pid());
    assert!(after.memory < before.memory + (32 << 20), "{before:?} {after:?}");
}

#[tokio::test]
async fn a_hundred_commands_are_ended_with_the_program() {
    let Some(sshd) = Sshd::start().await else { return };
    let mut client = RawStdio::initialized(&[]).await;
    let mut id = 0;
    let mut call = async |tool: &str, arguments: Value| {
        id += 1;
        let reply = client.request(id, "tools/call", json!({"name": tool, "arguments": arguments})).await;
        assert_eq!(reply["result"]["isError"], false, "{reply}");
        reply["result"]["structuredContent"].clone()
    };
    // A length that nobody else sleeps.
    let mark = format!("3{}", std::process::id());
    for _ in 0..4 {
        let session = text(&call("ssh_connect", login(&sshd, &sshd.user().name)).await["session_id"]);
        for _ in 0..25 {
            let arguments = json!({"session_id": session, "command": format!("sleep {mark}")});
            call("ssh_execute_async", arguments).await;
        }
    }
    let sleeping = || {
        let sleeps = |line: &Vec<String>| line.len() == 2 && line[0] == "sleep";
        with_argument(&mark).iter().filter(|line| sleeps(line)).count()
    };
    eventually("all hundred run", async || sleeping() == 100).await;
    let process = client.process();
    let begun = Instant::now();
    process.signal("TERM");
    let status = process.wait().await;
    assert!(status.success() && begun.elapsed() < Duration::from_secs(5), "{status}: {:?}", begun.elapsed());
    eventually("nothing of them is left", async || sleeping() == 0).await;
}

#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
fn say_that_it_is_missing() {
    eprintln!("not tested: libfaketime is not installed");
}

#[tokio::test]
async fn a_clock_that_jumps_by_a_year_changes_no_time_limit() {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    if !Path::new(LIBRARY).exists() {
        return say_that_it_is_missing();
    }
    let host = EmbeddedHost::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let clock = directory.path().join("clock");
    fs::write(&clock, "+0").unwrap();
    let env = [
        ("LD_PRELOAD", LIBRARY),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        // What the kernel promises of the monotonic clock holds while the other one jumps.
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    let session = Session::on_host(&host, &env).await;
    let started =
        async |arguments: Value| text(&session.call("ssh_execute_async", arguments).await.success()["command_id"]);
    let gate = directory.path().join("gate");
    let until = format!("until [ -e {} ]; do sleep 0.02; done; echo ended", gate.display());
    let goes_on = started(json!({"command": until, "timeout_secs": 300})).await;
    let limited = started(json!({"command": "sleep 300", "timeout_secs": 4})).await;
    for offset in ["+1y", "-1y", "+0"] {
        fs::write(&clock, offset).unwrap();
        let view = session.run("echo now").await;
        assert_eq!((&view["stdout"], &view["exit_code"]), (&json!("now\n"), &json!(0)), "{offset}: {view}");
        assert!(view["duration_ms"].as_u64().is_some_and(|took| took < 3_000), "{offset}: {view}");
        assert!(session.listed().await.is_some(), "{offset}: the session is not taken for idle");
        assert_eq!(session.output(&goes_on, json!({})).await["status"], "running", "{offset}");
    }
    fs::write(&clock, "+1y").unwrap();
    let jumped = session.client.call("ssh_list_sessions", json!({})).await.success();
    let started_at = started(json!({"command": "true"})).await;
    let listed = session.client.call("ssh_list_commands", json!({})).await.success();
    let newest = &listed["commands"][0];
    assert_eq!(text(&newest["command_id"]), started_at, "{listed}");
    let year = |value: &Value| text(value)[..4].parse::<i32>().unwrap();
    assert_eq!(year(&newest["started_at"]), year(&jumped["sessions"][0]["connected_at"]) + 1, "the clock did jump");
    let view = session.ended(&limited).await;
    assert_eq!((&view["timed_out"], &view["timeout_secs"]), (&json!(true), &json!(4)), "{view}");
    fs::write(&gate, "").unwrap();
    let view = session.ended(&goes_on).await;
    assert_eq!((&view["stdout"], &view["exit_code"]), (&json!("ended\n"), &json!(0)), "{view}");
}
