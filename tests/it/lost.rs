//! What a caller is told when the other side goes away or misbehaves.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    embedded_host::{EmbeddedHost, Options},
    home::with,
    mcp_client::McpClient,
    openssh::{Sshd, is_root},
    proxy::Proxy,
    session::{Session, login, text},
    wait::eventually,
};

/// A lost connection is noticed within this time where the socket is closed.
const NOTICED: Duration = Duration::from_secs(1);

/// A lost connection ends its session; what happens otherwise is told in `reconnect`.
const NO_RECONNECT: [(&str, &str); 1] = [("SSH_RECONNECT", "false")];

#[track_caller]
fn assert_outcome_unknown(view: &Value, stdout: &str) {
    assert_eq!((&view["status"], &view["stdout"]), (&json!("failed"), &json!(stdout)), "{view}");
    assert_eq!((view.get("exit_code"), view.get("exit_signal")), (None, None), "{view}");
    assert_eq!((&view["error"]["code"], &view["timed_out"]), (&json!("outcome_unknown"), &json!(false)));
    assert!(text(&view["hint"]).contains("before running it again"), "{view}");
}

async fn assert_connection_lost(session: &Session) {
    eventually("the session is closed", async || session.listed().await.is_none()).await;
    let answer = session.call("ssh_execute", json!({"command": "true"})).await;
    assert_eq!((answer.code(), &answer.structured["reason"]), ("session_closed", &json!("connection_lost")));
    assert!(text(&answer.structured["hint"]).contains("ssh_connect"), "{}", answer.text);
}

async fn lost_in_mid_command(user: &str, sshd: &Sshd) {
    let session = Session::open(McpClient::stdio(&NO_RECONNECT).await, login(sshd, user)).await;
    let done = text(&session.run("echo done; exit 3").await["command_id"]);
    let background = session.start("printf partial; sleep 300").await;
    session.shows(&background, "partial").await;
    let kill = async {
        // The foreground command has begun too.
        eventually("both run", async || session.listed().await.is_some_and(|row| row["running_commands"] == 2)).await;
        let foreground = session.call("ssh_list_commands", json!({"status": "running"})).await.success();
        session.shows(&text(&foreground["commands"][0]["command_id"]), "waiting").await;
        sshd.signal_connections("KILL");
        Instant::now()
    };
    let (foreground, killed) = tokio::join!(session.run("printf waiting; sleep 300"), kill);
    assert_outcome_unknown(&foreground, "waiting");
    assert_outcome_unknown(&session.ended(&background).await, "partial");
    assert!(killed.elapsed() < NOTICED, "{user}: {:?}", killed.elapsed());

    assert_connection_lost(&session).await;
    let view = session.output(&done, json!({})).await;
    assert_eq!((&view["stdout"], &view["exit_code"]), (&json!("done\n"), &json!(3)), "what had ended stays");
    assert_outcome_unknown(&session.output(&background, json!({"wait": true})).await, "partial");
    let gone = session.cancel(&background).await;
    assert_eq!((&gone["cancelled"], &gone["status"]), (&json!(false), &json!("failed")));
    let closed = session.disconnect().await;
    assert_eq!((&closed["commands_cancelled"], &closed["forwards_closed"]), (&json!(0), &json!(0)));
    assert_eq!(session.another(json!({})).await.run("echo anew").await["stdout"], "anew\n", "the server goes on");
}

#[tokio::test]
async fn a_command_on_a_lost_connection_has_an_unknown_outcome() {
    let Some(sshd) = Sshd::start().await else { return };
    lost_in_mid_command(&sshd.user().name, &sshd).await;
}

#[tokio::test]
async fn a_command_of_root_on_a_lost_connection_has_an_unknown_outcome() {
    let Some(sshd) = Sshd::start().await else { return };
    if is_root() {
        lost_in_mid_command("root", &sshd).await;
    }
}

#[tokio::test]
async fn a_session_whose_server_ends_while_it_is_idle_is_closed() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &NO_RECONNECT).await;
    sshd.stop();
    assert_connection_lost(&session).await;
    sshd.restart().await;
    assert_eq!(sshd.logged("Accepted"), 0, "nothing is connected or run again by itself");
}

#[tokio::test]
async fn a_dropped_connection_keeps_what_had_arrived_and_runs_nothing_twice() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &NO_RECONNECT).await;
    let view = session.run("@drop-connection").await;
    assert_outcome_unknown(&view, "partial");
    assert_connection_lost(&session).await;
    assert_eq!(host.connections(), 1);
    let session = session.another(json!({})).await;
    let id = session.start("@drop-connection").await;
    assert_outcome_unknown(&session.ended(&id).await, "partial");
    assert_eq!(host.connections(), 2);
}

#[tokio::test]
async fn a_lost_further_connection_takes_only_its_own_commands_along() {
    let host = Options::default().max_sessions(1).start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let first = session.start("printf first; sleep 2; echo ended").await;
    session.shows(&first, "first").await;
    assert_outcome_unknown(&session.run("@drop-connection").await, "partial");
    assert_eq!(host.connections(), 2);
    assert_eq!(session.ended(&first).await["stdout"], "firstended\n");
    assert_eq!(session.run("echo goes on").await["stdout"], "goes on\n");
}

#[tokio::test]
async fn an_exit_that_was_not_told_is_not_zero() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let view = session.run("@no-exit-status").await;
    assert_eq!((&view["stdout"], view.get("exit_code"), view.get("exit_signal")), (&json!("out"), None, None));
    assert_ne!(view["status"], "running");
    let view = session.run("@exit-signal KILL").await;
    assert_eq!((&view["exit_signal"], view.get("exit_code")), (&json!("KILL"), None));
    let view = session.run("@exit-signal ODD@example.org").await;
    assert_eq!((&view["exit_signal"], &view["status"]), (&json!("ODD@example.org"), &json!("completed")));
    assert_eq!(session.run("echo goes on").await["stdout"], "goes on\n");
}

#[tokio::test]
async fn output_that_comes_after_the_exit_status_is_there() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let view = session.run("@exit-then-late-data").await;
    assert_eq!((&view["stdout"], &view["exit_code"]), (&json!("late"), &json!(0)));
}

#[tokio::test]
async fn output_that_was_cut_off_after_the_exit_status_is_told() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let view = session.run("@exit-then-drop").await;
    let (status, notices) = (&view["status"], view["notices"].to_string());
    assert_eq!(
        (status, &view["exit_code"], &view["stdout"]),
        (&json!("completed"), &json!(0), &json!("partial")),
        "{view}"
    );
    assert!(notices.contains("the end of its output may be missing"), "{view}");
    assert_eq!(session.run("echo whole").await.get("notices"), None);
}

#[tokio::test]
async fn output_on_a_slow_link_is_whole_though_the_exit_status_overtakes_it() {
    const BYTES: usize = 130_000;
    let Some(sshd) = Sshd::start().await else { return };
    let proxy = Proxy::before(sshd.port()).await;
    let login = with(login(&sshd, &sshd.user().name), json!({"address": format!("127.0.0.1:{}", proxy.port())}));
    let session = Session::open(McpClient::stdio(&[]).await, login).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [b'x'; BYTES]).unwrap();
    std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    session.run("true").await;
    proxy.drip(true);
    let view = session.run(&format!("cat {}", file.path().display())).await;
    assert_eq!((&view["exit_code"], &view["stdout_bytes"]), (&json!(0), &json!(BYTES)), "{view}");
    assert_eq!(view.get("notices"), None, "{view}");
    // One that it started in the background still holds its output, and is told from what is on its way.
    let held = session.run("sleep 20 & echo started").await;
    assert!(held["notices"].to_string().contains("still holds its output"), "{held}");
}

#[tokio::test]
async fn a_slow_link_that_is_busy_with_output_is_not_given_up() {
    let Some(sshd) = Sshd::start().await else { return };
    for user in std::iter::once(sshd.user().name.as_str()).chain(is_root().then_some("root")) {
        let proxy = Proxy::before(sshd.port()).await;
        let login = with(login(&sshd, user), json!({"address": format!("127.0.0.1:{}", proxy.port())}));
        let session = Session::open(McpClient::stdio(&[]).await, login).await;
        session.run("true").await;
        proxy.drip(true);
        // Whatever is asked stands behind what the host has sent already.
        let flood = session.start("while :; do echo 0123456789abcdefghijklmnopqrstuvwxyz; done").await;
        let some = async || session.output(&flood, json!({})).await["stdout_bytes"].as_u64() > Some(40_000);
        eventually("it writes", some).await;
        let again = with(session.login().clone(), json!({"session_id": session.id}));
        let again = session.client.call("ssh_connect", again).await.success();
        assert_eq!((&again["session_id"], &again["reused"]), (&json!(session.id), &json!(true)), "{user}: {again}");
        assert_eq!(session.listed().await.unwrap()["healthy"], true, "{user}");
        let view = session.output(&flood, json!({})).await;
        assert_eq!(view["status"], "running", "{user}: {}", view["error"]);
        // So is its end asked for at once.
        let ended = session.cancel(&flood).await;
        assert_eq!(ended["status"], "cancelled", "{user}: {ended}");
    }
}

#[tokio::test]
async fn a_command_that_the_server_refuses_did_not_start() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let refused = session.call("ssh_execute", json!({"command": "@refuse"})).await;
    assert_eq!(refused.code(), "channel_refused");
    assert!(
        refused.structured["host"] == "127.0.0.1" && refused.structured["username"] == "anyone",
        "{}",
        refused.text
    );
    let id = session.start("@refuse").await;
    let view = session.ended(&id).await;
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("channel_refused")));
    assert_eq!((view.get("exit_code"), &view["stdout_bytes"]), (None, &json!(0)));
    assert_eq!(session.run("echo goes on").await["stdout"], "goes on\n");
}

#[tokio::test]
async fn calls_to_a_silent_host_are_answered_within_the_answer_limit() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[("SSH_ANSWER_LIMIT", "3")]).await;
    let running = session.start("printf early; sleep 300").await;
    session.shows(&running, "early").await;
    sshd.signal_all("STOP");
    let timed = async |call: &str, future: std::pin::Pin<Box<dyn Future<Output = Value> + '_>>| {
        let begun = Instant::now();
        let view = future.await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{call}: {:?}", begun.elapsed());
        view
    };
    let execute = timed("execute", Box::pin(session.run("echo never"))).await;
    assert_eq!(execute["status"], "running");
    let waited = timed("wait", Box::pin(session.output(&running, json!({"wait": true})))).await;
    assert_eq!((&waited["status"], &waited["stdout"]), (&json!("running"), &json!("early")));
    let cancelled = timed("cancel", Box::pin(session.cancel(&running))).await;
    assert_eq!((&cancelled["status"], &cancelled["remote_ended"]), (&json!("cancelled"), &json!(false)));
    assert!(text(&cancelled["hint"]).contains("pgrep"), "{cancelled}");
    let closed = timed("disconnect", Box::pin(session.disconnect())).await;
    assert_eq!(closed["commands_cancelled"], 1, "the one that still waits for its channel: {closed}");
    sshd.signal_all("CONT");
}
