//! Cancelling: by the tool, by the client's notification.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    support::{
        mcp_client::{HttpServer, McpClient},
        openssh::{Sshd, is_root},
        process::alive,
        session::{Session, login, text},
        wait::{bounded, eventually},
    },
    wire::{Ask, modern_call},
};

async fn gone(pid: u32) {
    eventually("the remote process is gone", async || !alive(pid)).await;
}

#[tokio::test]
async fn a_cancelled_command_keeps_its_output_and_its_process_is_gone() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let id = session.start("echo $$; printf early; printf error >&2; sleep 300").await;
    let pid = session.pid(&id).await;
    session.shows(&id, "early").await;
    let done = session.cancel(&id).await;
    assert_eq!((&done["cancelled"], &done["status"]), (&json!(true), &json!("cancelled")), "{done}");
    assert_eq!((&done["remote_ended"], &done["timed_out"]), (&json!(true), &json!(false)));
    assert_eq!((text(&done["stdout"]), &done["stderr"]), (format!("{pid}\nearly"), &json!("error")));
    assert_eq!((&done["command_id"], done.get("exit_code")), (&json!(id), None));
    assert!(!alive(pid), "its end was confirmed");

    let again = session.cancel(&id).await;
    assert_eq!((&again["cancelled"], &again["status"]), (&json!(false), &json!("cancelled")));
    assert_eq!(again["stdout"], done["stdout"]);
    let view = session.output(&id, json!({"wait": true})).await;
    assert_eq!((&view["status"], &view["stdout"]), (&json!("cancelled"), &done["stdout"]));
}

/// A child that goes on writing after the exit keeps it from the limits of the command no longer than its rest takes.
#[tokio::test]
async fn a_command_whose_exit_is_known_ends_at_its_limit_and_at_a_cancel() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let command = "(while :; do head -c 4000 /dev/zero; sleep 0.1; done) & exit 3";
    let limited = session.call("ssh_execute_async", json!({"command": command, "timeout_secs": 3})).await.success();
    let id = session.start(command).await;
    let written = async || session.output(&id, json!({})).await["stdout_bytes"].as_u64() > Some(20_000);
    eventually("the child has gone on for a while", written).await;
    let cancelled = session.cancel(&id).await;
    assert_eq!((&cancelled["cancelled"], &cancelled["status"]), (&json!(false), &json!("completed")), "{cancelled}");
    let limited = text(&limited["command_id"]);
    for id in [&id, &limited] {
        let view = session.output(id, json!({"wait": true, "wait_timeout_secs": 15, "max_bytes": 100})).await;
        assert_eq!((&view["status"], &view["exit_code"]), (&json!("completed"), &json!(3)), "{view}");
    }
}

#[tokio::test]
async fn a_cancel_says_truly_whether_the_end_was_confirmed() {
    let Some(sshd) = Sshd::start().await else { return };
    if !is_root() {
        return;
    }
    // Old releases of sshd take no signals in root's sessions.
    let session = Session::open(McpClient::stdio(&[]).await, login(&sshd, "root")).await;
    let id = session.start("echo $$; sleep 300").await;
    let pid = session.pid(&id).await;
    let begun = Instant::now();
    let done = session.cancel(&id).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!((&done["cancelled"], &done["status"]), (&json!(true), &json!("cancelled")));
    if done["remote_ended"] == true {
        assert!(!alive(pid), "said to be gone");
    } else {
        assert_eq!(done["remote_ended"], false);
        assert!(text(&done["hint"]).contains("pgrep"), "{done}");
    }
}

/// The answer of a cancel on a host that falls silent once TERM has come through, with KILL still to come.
async fn cancelled_in_silence(env: &[(&str, &str)]) -> Option<Value> {
    let sshd = Sshd::start().await?;
    let session = Session::on_sshd(&sshd, env).await;
    let id = session.start("trap '' TERM; echo ready; while :; do sleep 0.1; done").await;
    session.shows(&id, "ready\n").await;
    let silence = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        sshd.signal_connections("STOP");
    };
    let (answer, ()) = tokio::join!(session.cancel(&id), silence);
    sshd.signal_connections("CONT");
    Some(answer)
}

#[tokio::test]
async fn a_cancel_on_a_host_that_falls_silent_meanwhile_says_that_the_end_is_not_confirmed() {
    let Some(answer) = cancelled_in_silence(&[]).await else { return };
    let said = (&answer["cancelled"], &answer["status"], &answer["remote_ended"]);
    assert_eq!(said, (&json!(true), &json!("cancelled"), &json!(false)), "{answer}");
}

#[tokio::test]
async fn a_cancel_that_cannot_wait_for_the_end_says_that_the_command_runs() {
    let Some(answer) = cancelled_in_silence(&[("SSH_ANSWER_LIMIT", "1")]).await else { return };
    assert_eq!((&answer["cancelled"], &answer["status"]), (&json!(false), &json!("running")), "{answer}");
}

#[tokio::test]
async fn an_ended_command_is_left_as_it_is() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let ran = session.run("printf out; printf error >&2; exit 6").await;
    let answer = session.cancel(&text(&ran["command_id"])).await;
    assert_eq!((&answer["cancelled"], &answer["status"]), (&json!(false), &json!("completed")));
    assert_eq!(
        (&answer["exit_code"], &answer["stdout"], &answer["stderr"]),
        (&json!(6), &json!("out"), &json!("error"))
    );
    assert_eq!(answer.get("remote_ended"), None);
}

#[tokio::test]
async fn a_cancel_takes_the_children_along_and_kills_what_ignores_term() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let children = session.start("sleep 300 & echo $!; wait").await;
    let stubborn = session.start("trap '' TERM; echo $$; while :; do sleep 0.1; done").await;
    let (child, shell) = (session.pid(&children).await, session.pid(&stubborn).await);
    let (one, other) = tokio::join!(session.cancel(&children), session.cancel(&stubborn));
    assert_eq!((&one["cancelled"], &other["cancelled"]), (&json!(true), &json!(true)));
    assert_eq!((&one["remote_ended"], &other["remote_ended"]), (&json!(true), &json!(true)));
    gone(child).await;
    gone(shell).await;
}

#[tokio::test]
async fn a_cancel_ends_every_wait_for_the_command() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let id = session.start("printf early; sleep 300").await;
    session.shows(&id, "early").await;
    let waits = async || session.output(&id, json!({"wait": true})).await;
    let (first, second, cancelled) = tokio::join!(waits(), waits(), session.cancel(&id));
    for view in [first, second, cancelled] {
        assert_eq!((&view["status"], &view["stdout"]), (&json!("cancelled"), &json!("early")));
    }
}

#[tokio::test]
async fn two_cancels_at_once_both_answer() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let id = session.start("echo $$; sleep 300").await;
    session.pid(&id).await;
    let (one, other) = tokio::join!(session.cancel(&id), session.cancel(&id));
    assert_eq!((&one["status"], &other["status"]), (&json!("cancelled"), &json!("cancelled")));
}

/// The one running command, once it has written its process id.
async fn running(session: &Session) -> (String, u32) {
    let mut list = Value::Null;
    eventually("the command runs", async || {
        list = session.call("ssh_list_commands", json!({"status": "running"})).await.success();
        list["count"] == 1
    })
    .await;
    let id = text(&list["commands"][0]["command_id"]);
    let pid = session.pid(&id).await;
    (id, pid)
}

async fn cancelled_by_its_client(session: &Session) {
    let arguments = json!({"session_id": session.id, "command": "echo $$; sleep 300"});
    let handle = session.client.begin("ssh_execute", arguments).await;
    let (id, pid) = running(session).await;
    bounded("the notification", handle.cancel(Some("enough".into()))).await.unwrap();
    gone(pid).await;
    let view = session.ended(&id).await;
    assert_eq!((&view["status"], text(&view["stdout"])), (&json!("cancelled"), format!("{pid}\n")));
    assert_eq!(session.run("echo next").await["stdout"], "next\n", "the session goes on");
}

#[tokio::test]
async fn a_cancelled_call_ends_its_remote_command_over_stdio() {
    let Some(sshd) = Sshd::start().await else { return };
    cancelled_by_its_client(&Session::on_sshd(&sshd, &[]).await).await;
}

#[tokio::test]
async fn a_cancelled_call_ends_its_remote_command_over_http_and_sse() {
    let Some(sshd) = Sshd::start().await else { return };
    let server = HttpServer::start(&[]).await;
    let arguments = login(&sshd, &sshd.user().name);
    let http = Session::open(McpClient::http(&server).await, arguments.clone()).await;
    cancelled_by_its_client(&http).await;
    let sse = Session::open(McpClient::sse(&server).await, arguments).await;
    cancelled_by_its_client(&sse).await;
}

#[tokio::test]
async fn a_closed_response_ends_its_remote_command_under_2026_07_28() {
    let Some(sshd) = Sshd::start().await else { return };
    let server = HttpServer::start(&[]).await;
    let session = Session::open(McpClient::http_discover(&server).await, login(&sshd, &sshd.user().name)).await;
    let arguments = json!({"session_id": session.id, "command": "echo $$; sleep 300"});
    let call = Ask::post("/mcp", &modern_call(1, "ssh_execute", arguments))
        .header("Accept", "application/json, text/event-stream")
        .header("MCP-Protocol-Version", "2026-07-28")
        .header("Mcp-Method", "tools/call")
        .header("Mcp-Name", "ssh_execute");
    let response = call.open(([127, 0, 0, 1], server.port()).into()).await.unwrap();
    let (id, pid) = running(&session).await;
    drop(response);
    gone(pid).await;
    assert_eq!(session.ended(&id).await["status"], "cancelled");
}

#[tokio::test]
async fn a_cancelled_wait_leaves_the_command_alone() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let id = session.start("echo $$; sleep 300").await;
    let pid = session.pid(&id).await;
    let handle = session.client.begin("ssh_get_command_output", json!({"command_id": id, "wait": true})).await;
    bounded("the notification", handle.cancel(None)).await.unwrap();
    let view = session.output(&id, json!({"wait_timeout_secs": 1})).await;
    assert_eq!(view["status"], "running");
    assert!(alive(pid));
}
