//! A lost connection is not the end of its session: the next use connects again, and nothing runs twice.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    home::{by_key, with},
    mcp_client::McpClient,
    openssh::Sshd,
    session::{Session, login, text},
    wait::{bounded, eventually},
};

/// The line that sshd logs for each login.
const LOGIN: &str = "Accepted publickey for";
const QUICK: [(&str, &str); 2] = [("SSH_MAX_RETRIES", "2"), ("SSH_RETRY_DELAY_MS", "1")];

/// A file to which commands of any user append a line for each run.
struct Runs(TempDir);

impl Runs {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Self(directory)
    }

    /// The command, counted.
    fn counted(&self, command: &str) -> String {
        format!("echo run >>{}; {command}", self.0.path().join("runs").display())
    }

    fn count(&self) -> usize {
        fs::read_to_string(self.0.path().join("runs")).unwrap_or_default().lines().count()
    }
}

/// A session that was used: the server has done all that follows a login.
async fn session_on(sshd: &Sshd, env: &[(&str, &str)]) -> Session {
    used(Session::on_sshd(sshd, env).await).await
}

async fn used(session: Session) -> Session {
    session.run("true").await;
    session
}

/// Loses the session's connections and waits until that is seen.
async fn lose(session: &Session, sshd: &Sshd) {
    sshd.signal_connections("KILL");
    lost(session).await;
}

async fn lost(session: &Session) {
    eventually("the session is unhealthy", async || {
        session.listed().await.expect("a lost connection does not end the session")["healthy"] == false
    })
    .await;
}

#[track_caller]
fn assert_outcome_unknown(view: &Value, stdout: &str) {
    assert_eq!((&view["status"], &view["stdout"]), (&json!("failed"), &json!(stdout)), "{view}");
    assert_eq!((&view["error"]["code"], view.get("exit_code")), (&json!("outcome_unknown"), None), "{view}");
}

#[track_caller]
fn assert_reconnected(view: &Value, session: &Session) {
    assert_eq!((&view["reconnected"], &view["session_id"]), (&json!(true), &json!(session.id)), "{view}");
    assert_eq!((&view["status"], &view["exit_code"]), (&json!("completed"), &json!(0)), "{view}");
}

/// The session is closed and says why; `ssh_connect` would have to open another.
async fn assert_closed(session: &Session) {
    eventually("the session is closed", async || session.listed().await.is_none()).await;
    for (tool, arguments) in [
        ("ssh_execute", json!({"command": "true"})),
        ("ssh_execute_async", json!({"command": "true"})),
        ("ssh_forward", json!({"local_port": 0, "remote_address": "localhost", "remote_port": 9})),
    ] {
        let answer = session.call(tool, arguments).await;
        assert_eq!(answer.code(), "session_closed", "{tool}: {}", answer.text);
        assert_eq!(answer.structured["reason"], "connection_lost", "{tool}: {}", answer.text);
    }
}

#[tokio::test]
async fn next_command_connects_again_and_nothing_runs_twice() {
    let Some(sshd) = Sshd::start().await else { return };
    let (session, runs) = (session_on(&sshd, &[]).await, Runs::new());
    let done = text(&session.run(&runs.counted("echo done; exit 3")).await["command_id"]);
    let background = session.start(&runs.counted("printf partial; sleep 300")).await;
    session.shows(&background, "partial").await;
    let waiting = runs.counted("printf waiting; sleep 300");
    let (foreground, ()) = tokio::join!(session.run(&waiting), async {
        eventually("both run", async || runs.count() == 3).await;
        sshd.signal_connections("KILL");
    });
    assert_outcome_unknown(&foreground, "waiting");
    assert_outcome_unknown(&session.ended(&background).await, "partial");

    lost(&session).await;
    let finished = session.output(&done, json!({})).await;
    assert_eq!((&finished["stdout"], &finished["exit_code"]), (&json!("done\n"), &json!(3)), "{finished}");
    assert_eq!(sshd.logged(LOGIN), 1, "nothing connects by itself");
    let again = session.run(&runs.counted("echo again")).await;
    assert_reconnected(&again, &session);
    assert_eq!(again["stdout"], "again\n");
    let next = session.run("echo next").await;
    assert_eq!((next.get("reconnected"), &next["stdout"]), (None, &json!("next\n")), "told once: {next}");
    assert_eq!(session.listed().await.unwrap()["healthy"], true);
    assert_outcome_unknown(&session.output(&background, json!({"wait": true})).await, "partial");
    assert_eq!((runs.count(), sshd.logged(LOGIN)), (4, 2), "each command ran once");
}

#[tokio::test]
async fn background_command_connects_again_after_a_restart_of_the_server() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let session = session_on(&sshd, &[]).await;
    sshd.restart().await;
    lost(&session).await;
    let id = session.start("echo background").await;
    let view = session.ended(&id).await;
    assert_reconnected(&view, &session);
    assert_eq!((&view["stdout"], sshd.logged(LOGIN)), (&json!("background\n"), 1));
}

#[tokio::test]
async fn silent_connection_is_given_up_and_replaced() {
    let Some(sshd) = Sshd::start().await else { return };
    let (session, runs) = (session_on(&sshd, &[]).await, Runs::new());
    let background = session.start(&runs.counted("printf partial; sleep 300")).await;
    session.shows(&background, "partial").await;
    sshd.signal_connections("STOP");
    let asked = Instant::now();
    lost(&session).await;
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!(session.output(&background, json!({})).await["status"], "running", "it may go on");
    let again = session.run(&runs.counted("echo again")).await;
    assert_reconnected(&again, &session);
    // Five seconds for the channel, two for a sign of life, and the login.
    assert!(again["duration_ms"].as_u64().unwrap() < 9_500, "{again}");
    assert_outcome_unknown(&session.ended(&background).await, "partial");
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn server_that_comes_back_within_the_retries_is_reached() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let client = McpClient::stdio(&[("RUST_LOG", "ssh_mcp=debug")]).await;
    let retries = json!({"max_retries": 100, "retry_delay_ms": 20});
    let session = used(Session::open(client, with(login(&sshd, &sshd.user().name), retries)).await).await;
    let runs = Runs::new();
    sshd.stop();
    lost(&session).await;
    let command = runs.counted("echo again");
    let (view, ()) = tokio::join!(session.run(&command), async {
        eventually("a first attempt has failed", async || session.client.stderr().contains("trying again")).await;
        sshd.restart().await;
    });
    assert_reconnected(&view, &session);
    assert_eq!((runs.count(), sshd.logged(LOGIN)), (1, 1));
}

#[tokio::test]
async fn server_that_stays_down_is_a_failure_that_may_pass_and_the_session_stays() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let session = session_on(&sshd, &QUICK).await;
    sshd.stop();
    lost(&session).await;
    for tool in ["ssh_execute", "ssh_execute", "ssh_forward"] {
        let arguments = match tool {
            "ssh_forward" => json!({"local_port": 0, "remote_address": "localhost", "remote_port": 9}),
            _ => json!({"command": "true"}),
        };
        let answer = session.call(tool, arguments).await;
        assert_eq!(answer.code(), "connect_refused", "{tool}: {}", answer.text);
        let error = &answer.structured;
        assert_eq!((&error["retryable"], &error["retry_attempts"]), (&json!(true), &json!(2)), "{tool}: {error}");
    }
    let id = session.start("true").await;
    let view = session.ended(&id).await;
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("connect_refused")), "{view}");
    lost(&session).await;
    sshd.restart().await;
    assert_reconnected(&session.run("true").await, &session);
}

#[tokio::test]
async fn command_that_is_cancelled_while_it_waits_for_the_server_never_runs() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let retries = json!({"max_retries": 100, "retry_delay_ms": 50});
    let login = with(login(&sshd, &sshd.user().name), retries);
    let (session, runs) = (used(Session::open(McpClient::stdio(&[]).await, login).await).await, Runs::new());
    sshd.stop();
    lost(&session).await;
    let id = session.start(&runs.counted("true")).await;
    let view = session.cancel(&id).await;
    assert_eq!(
        (&view["cancelled"], &view["status"], &view["remote_ended"]),
        (&json!(true), &json!("cancelled"), &json!(true))
    );
    sshd.restart().await;
    assert_eq!(session.run("echo goes on").await["stdout"], "goes on\n");
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn changed_host_key_ends_the_session_with_all_its_children() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let session = session_on(&sshd, &QUICK).await;
    let done = text(&session.run("echo done").await["command_id"]);
    let background = session.start("printf partial; sleep 300").await;
    session.shows(&background, "partial").await;
    let port = forward_to(&session, 9).await;
    sshd.restart_with_other_host_keys().await;
    lost(&session).await;
    let answer = session.call("ssh_execute", json!({"command": "true"})).await;
    assert_eq!((answer.code(), &answer.structured["retryable"]), ("host_key_changed", &json!(false)));

    assert_closed(&session).await;
    eventually("the forward is closed", async || TcpStream::connect(("127.0.0.1", port)).await.is_err()).await;
    assert_outcome_unknown(&session.output(&background, json!({})).await, "partial");
    assert_eq!(session.output(&done, json!({})).await["stdout"], "done\n");
    assert_eq!((sshd.logged("Accepted"), sshd.logged("userauth")), (0, 0), "no login was tried: {}", sshd.log());
}

#[tokio::test]
async fn refused_key_ends_the_session_and_is_not_tried_again() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = session_on(&sshd, &[]).await;
    lose(&session, &sshd).await;
    fs::write(sshd.directory().join("authorized_keys"), "").unwrap();
    let answer = session.call("ssh_execute", json!({"command": "true"})).await;
    assert_eq!((answer.code(), &answer.structured["retryable"]), ("auth_failed", &json!(false)), "{}", answer.text);
    assert_closed(&session).await;
    assert_eq!(sshd.logged("Failed publickey"), 1, "{}", sshd.log());
}

#[tokio::test]
async fn session_that_is_not_to_reconnect_ends_with_its_connection() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = session_on(&sshd, &[("SSH_RECONNECT", "false")]).await;
    let port = forward_to(&session, 9).await;
    let background = session.start("printf partial; sleep 300").await;
    session.shows(&background, "partial").await;
    let logins = sshd.logged(LOGIN);
    sshd.signal_connections("KILL");
    assert_closed(&session).await;
    assert_outcome_unknown(&session.ended(&background).await, "partial");
    eventually("the forward is closed", async || TcpStream::connect(("127.0.0.1", port)).await.is_err()).await;
    assert_eq!(sshd.logged(LOGIN), logins);
}

async fn forward_to(session: &Session, port: u16) -> u16 {
    let arguments = json!({"local_port": 0, "remote_address": "127.0.0.1", "remote_port": port});
    let forward = session.call("ssh_forward", arguments).await.success();
    text(&forward["local_address"]).rsplit(':').next().unwrap().parse().unwrap()
}

/// What the target answers through the forward; nothing where it is not reached.
async fn through(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the forward listens");
    let mut answer = String::new();
    // A reset is a refusal too.
    let _ = bounded("the end of the forwarded connection", stream.read_to_string(&mut answer)).await;
    answer
}

/// A target that greets everybody and hangs up.
async fn greeter() -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"greetings").await;
        }
    });
    (port, serving)
}

#[tokio::test]
async fn forwards_keep_their_ports_and_work_again_after_the_next_use() {
    let Some(sshd) = Sshd::start().await else { return };
    let (session, (target, greeter)) = (session_on(&sshd, &[]).await, greeter().await);
    let port = forward_to(&session, target).await;
    assert_eq!(through(port).await, "greetings");
    let logins = sshd.logged(LOGIN);
    lose(&session, &sshd).await;
    assert_eq!((through(port).await.as_str(), through(port).await.as_str()), ("", ""));
    assert_eq!(sshd.logged(LOGIN), logins, "a forward does not connect its session");
    assert_eq!(session.listed().await.unwrap()["forwards"].as_array().unwrap().len(), 1);
    assert_reconnected(&session.run("true").await, &session);
    assert_eq!(through(port).await, "greetings");

    // Asking for a forward is a use too, of a new one as of the one that is there.
    for other in [target, 9] {
        lose(&session, &sshd).await;
        assert_eq!(through(port).await, "");
        forward_to(&session, other).await;
        assert_eq!(session.listed().await.unwrap()["healthy"], true);
        assert_eq!(through(port).await, "greetings");
    }
    greeter.abort();
}

#[tokio::test]
async fn concurrent_calls_share_one_reconnect() {
    let Some(sshd) = Sshd::start().await else { return };
    let (session, runs) = (session_on(&sshd, &[]).await, Runs::new());
    lose(&session, &sshd).await;
    let calls = (0..8).map(|number| {
        let command = runs.counted(&format!("echo {number}"));
        let session = &session;
        async move { (number, session.run(&command).await) }
    });
    let views = futures_util::future::join_all(calls).await;
    for (number, view) in &views {
        assert_eq!(view["stdout"], format!("{number}\n"), "{view}");
    }
    assert!(views.iter().any(|(_, view)| view["reconnected"] == true), "{views:?}");
    assert_eq!((sshd.logged(LOGIN), runs.count()), (2, 8));
}

#[tokio::test]
async fn concurrent_calls_share_one_failure() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let client = McpClient::stdio(&[]).await;
    // About 0.7 s for the one reconnect; one after another the calls would take 6 s.
    let retries = json!({"max_retries": 2, "retry_delay_ms": 200});
    let session = used(Session::open(client, with(login(&sshd, &sshd.user().name), retries)).await).await;
    sshd.stop();
    lost(&session).await;
    let begun = Instant::now();
    let calls = (0..8).map(|_| session.call("ssh_execute", json!({"command": "true"})));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.code(), "connect_refused", "{}", answer.text);
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn password_is_kept_as_long_as_the_session() {
    let Some(sshd) = Sshd::start().await else { return };
    let user = sshd.user();
    let Some(password) = &user.password else { return };
    let address = format!("127.0.0.1:{}", sshd.port());
    let login = json!({"address": address, "username": user.name, "password": password});
    let session = used(Session::open(McpClient::stdio(&[]).await, login).await).await;
    lose(&session, &sshd).await;
    assert_reconnected(&session.run("true").await, &session);
    assert_eq!(sshd.logged("Accepted password for"), 2);
    session.disconnect().await;
    let answer = session.call("ssh_execute", json!({"command": "true"})).await;
    assert_eq!((answer.code(), &answer.structured["reason"]), ("session_closed", &json!("disconnected")));
    let reuse = json!({"address": address, "username": user.name, "session_id": session.id, "max_retries": 0});
    let answer = session.client.call("ssh_connect", reuse).await;
    assert_eq!(answer.code(), "agent_unavailable", "the password is not remembered: {}", answer.text);
    assert_eq!(sshd.logged("Accepted password for"), 2);
    eventually("no connection is left", async || sshd.connections().is_empty()).await;
}

#[tokio::test]
async fn ssh_connect_with_its_id_connects_a_lost_session_again() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let session = session_on(&sshd, &QUICK).await;
    lose(&session, &sshd).await;
    let reuse = by_key(&sshd, &sshd.user().name, json!({"session_id": session.id}));
    let again = session.client.call("ssh_connect", reuse.clone()).await.success();
    assert_eq!((&again["session_id"], &again["reused"]), (&json!(session.id), &json!(true)), "{again}");
    assert_eq!((&again["reconnected"], sshd.logged(LOGIN)), (&json!(true), 2), "{again}");
    let again = session.client.call("ssh_connect", reuse.clone()).await.success();
    assert_eq!((&again["reused"], again.get("reconnected")), (&json!(true), None), "{again}");
    assert_eq!(session.run("true").await.get("reconnected"), None);

    sshd.restart_with_other_host_keys().await;
    lost(&session).await;
    assert_eq!(session.client.call("ssh_connect", reuse).await.code(), "host_key_changed");
    assert_closed(&session).await;
}
