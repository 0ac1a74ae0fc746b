//! Waiting for something in the output: `until` and `until_regex`.

use serde_json::{Value, json};

use crate::support::{
    embedded_host::EmbeddedHost,
    home::with,
    mcp_client::McpClient,
    openssh::Sshd,
    process,
    session::{Session, text},
    wait::eventually,
};

/// A session on the embedded host; the host lives as long.
async fn embedded() -> (EmbeddedHost, Session) {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    (host, session)
}

/// A command that goes on when a file appears, so that no test has to guess how long something takes.
fn gated(before: &str, gate: &std::path::Path, after: &str) -> String {
    let gate = gate.display();
    format!("{before}; until [ -e {gate} ]; do sleep 0.02; done; {after}; sleep 300")
}

#[tokio::test]
async fn a_text_that_appears_later_is_waited_for_in_one_call() {
    let Some(sshd) = Sshd::start().await else {
        return;
    };
    let session = Session::on_sshd(&sshd, &[]).await;
    // The ordinary user can look into this directory.
    let file = sshd.directory().join("gate");
    let id = session.start(&gated("echo starting", &file, "printf 'Listening '; echo 'on :80'")).await;
    let before = session.shows(&id, "starting").await;
    let waiting = session.clone();
    let wait = tokio::spawn({
        let (id, from) = (id.clone(), before["next_stdout_offset"].clone());
        async move { waiting.output(&id, json!({"until": "Listening on", "stdout_offset": from})).await }
    });
    std::fs::write(&file, "").unwrap();
    let view = wait.await.unwrap();
    assert_eq!((&view["status"], &view["until_matched"]), (&json!("running"), &json!(true)), "{view}");
    assert_eq!((&view["matched_in"], &view["matched_line"]), (&json!("stdout"), &json!("Listening on :80")));
    assert_eq!(view["matched_end_offset"], 9 + 12, "{view}");
    assert!(view["stdout"].as_str().unwrap().starts_with("Listening on"), "{view}");
    session.cancel(&id).await;
}

#[tokio::test]
async fn what_is_there_already_is_found_at_once_in_either_stream() {
    let (_host, session) = embedded().await;
    let id = session.start("echo one; echo 'ERROR: disk full' >&2; sleep 300").await;
    session.shows(&id, "one").await;
    let view = session.output(&id, json!({"until_regex": "^ERROR: (.*)$"})).await;
    assert_eq!((&view["until_matched"], &view["matched_in"]), (&json!(true), &json!("stderr")), "{view}");
    assert_eq!(view["matched_line"], "ERROR: disk full");
    // From the offsets of that answer on there is nothing new.
    let next = json!({"until": "ERROR", "wait_timeout_secs": 1,
        "stdout_offset": view["next_stdout_offset"], "stderr_offset": view["next_stderr_offset"]});
    let again = session.output(&id, next).await;
    assert_eq!((&again["until_matched"], &again["status"]), (&json!(false), &json!("running")), "{again}");
    assert!(text(&again["hint"]).contains("has not appeared yet"), "{again}");
    session.cancel(&id).await;
}

/// The offset that a hint names.
fn hinted(view: &Value, name: &str) -> u64 {
    let hint = text(&view["hint"]);
    let at = hint.find(&format!("{name}=")).unwrap_or_else(|| panic!("{view}")) + name.len() + 1;
    hint[at..].split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_began_before_one_wait_was_over_is_found_by_the_next() {
    let (_host, session) = embedded().await;
    let directory = tempfile::tempdir().unwrap();
    for (n, (until, matched)) in [
        (json!({"until": "Starting db... ok"}), true),
        (json!({"until_regex": "^Starting.*ok$"}), true),
        // No such line: the end of one alone is none.
        (json!({"until_regex": "^ok$"}), false),
    ]
    .into_iter()
    .enumerate()
    {
        let gate = directory.path().join(n.to_string());
        let id = session.start(&gated("printf 'one\\nStarting db... '", &gate, "echo ok")).await;
        session.shows(&id, "db... ").await;
        let view = session.output(&id, with(until.clone(), json!({"wait_timeout_secs": 1}))).await;
        assert_eq!((&view["until_matched"], &view["status"]), (&json!(false), &json!("running")), "{view}");
        let offsets =
            json!({"stdout_offset": hinted(&view, "stdout_offset"), "stderr_offset": hinted(&view, "stderr_offset")});
        std::fs::write(&gate, "").unwrap();
        session.shows(&id, "ok\n").await;
        let next = session.output(&id, with(with(until, offsets), json!({"wait_timeout_secs": 1}))).await;
        assert_eq!(next["until_matched"], matched, "{next}");
        assert_eq!(next["stdout"], "Starting db... ok\n", "{next}");
        session.cancel(&id).await;
    }
}

#[tokio::test]
async fn a_notice_is_said_once() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let id = session.start("sleep 300 & echo $!").await;
    let view = session.ended(&id).await;
    process::kill(&[text(&view["stdout"]).trim().parse().unwrap()], "KILL");
    assert!(view["notices"].to_string().contains("still holds its output"), "{view}");
    let mut notices: Vec<_> = view["notices"].as_array().unwrap_or_else(|| panic!("{view}")).iter().map(text).collect();
    let said = notices.len();
    notices.sort_unstable();
    notices.dedup();
    assert_eq!(notices.len(), said, "{view}");
}

#[tokio::test]
async fn the_end_of_the_match_leads_to_the_next_one() {
    let (_host, session) = embedded().await;
    let id = session.start("for i in 1 2 3; do echo tick $i; done; sleep 300").await;
    session.shows(&id, "tick 3").await;
    let mut from = json!(0);
    for line in ["tick 1", "tick 2", "tick 3"] {
        let view = session.output(&id, json!({"until": "tick", "stdout_offset": from})).await;
        assert_eq!(view["matched_line"], line, "{view}");
        from = view["matched_end_offset"].clone();
    }
    session.cancel(&id).await;
}

#[tokio::test]
async fn the_end_of_the_command_ends_the_wait() {
    let (_host, session) = embedded().await;
    let id = session.start("echo almost; exit 3").await;
    let view = session.output(&id, json!({"until": "never said"})).await;
    assert_eq!((&view["status"], &view["exit_code"]), (&json!("completed"), &json!(3)), "{view}");
    assert_eq!((&view["until_matched"], view.get("matched_line")), (&json!(false), None));
    // The last line has no end: it counts all the same.
    let id = session.start("printf ready").await;
    let view = session.output(&id, json!({"until_regex": "^ready$"})).await;
    assert_eq!(view["until_matched"], true, "{view}");
}

#[tokio::test]
async fn a_prompt_without_a_line_end_is_seen() {
    let Some(sshd) = Sshd::start().await else {
        return;
    };
    let session = Session::on_sshd(&sshd, &[]).await;
    let id = session.start("printf 'Pass'; printf 'word: ' >&2; printf 'word: '; sleep 300").await;
    let view = session.output(&id, json!({"until_regex": "^Password: $", "stdout_offset": 0})).await;
    assert_eq!((&view["until_matched"], &view["matched_in"]), (&json!(true), &json!("stdout")), "{view}");
    session.cancel(&id).await;
}

#[tokio::test]
async fn a_start_waits_for_its_first_sign_of_life() {
    let (_host, session) = embedded().await;
    let arguments = json!({"command": "echo warming up; echo ready; sleep 300", "until": "ready"});
    let view = session.call("ssh_execute_async", arguments).await.success();
    assert_eq!((&view["status"], &view["until_matched"]), (&json!("running"), &json!(true)), "{view}");
    assert_eq!(view["stdout"], "warming up\nready\n");
    assert_eq!((&view["next_stdout_offset"], &view["matched_line"]), (&json!(17), &json!("ready")));
    assert!(text(&view["message"]).contains("it will be ended after 180 s"), "{view}");
    session.cancel(&text(&view["command_id"])).await;

    let ended = session.call("ssh_execute_async", json!({"command": "exit 127", "until": "ready"})).await.success();
    assert_eq!((&ended["status"], &ended["exit_code"]), (&json!("completed"), &json!(127)), "{ended}");
    assert_eq!(ended["until_matched"], false);
    assert!(text(&ended["hint"]).contains("127"), "{ended}");

    let plain = session.call("ssh_execute_async", json!({"command": "true"})).await.success();
    assert_eq!((plain.get("status"), plain.get("until_matched")), (None, None), "{plain}");
}

#[tokio::test]
async fn a_start_whose_connection_is_lost_says_so() {
    let Some(sshd) = Sshd::start().await else {
        return;
    };
    let session = Session::on_sshd(&sshd, &[]).await;
    let waiting = session.clone();
    let arguments = json!({"command": "echo begun; sleep 300", "until": "never"});
    let wait = tokio::spawn(async move { waiting.call("ssh_execute_async", arguments).await.success() });
    eventually("the command runs", async || {
        let listed = session.call("ssh_list_commands", json!({})).await.success();
        let Some(id) = listed["commands"][0]["command_id"].as_str() else { return false };
        session.output(id, json!({})).await["stdout"] == "begun\n"
    })
    .await;
    sshd.signal_connections("KILL");
    let view = wait.await.unwrap();
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("outcome_unknown")), "{view}");
    assert_eq!(view["stdout"], "begun\n");
}

#[tokio::test]
async fn the_answer_limit_ends_the_wait_and_not_the_command() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[("SSH_ANSWER_LIMIT", "1")]).await;
    let arguments = json!({"command": "echo up; sleep 300", "until": "ready"});
    let view = session.call("ssh_execute_async", arguments).await.success();
    assert_eq!((&view["status"], &view["until_matched"]), (&json!("running"), &json!(false)), "{view}");
    assert_eq!(view["stdout"], "up\n");
    let id = text(&view["command_id"]);
    let view = session.output(&id, json!({"until": "ready", "wait_timeout_secs": 60})).await;
    assert_eq!((&view["status"], &view["wait_limited_to_secs"]), (&json!("running"), &json!(1)), "{view}");
    session.cancel(&id).await;
}

#[tokio::test]
async fn a_match_deep_in_a_flood_is_found() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let script = "seq 1 200000; echo needle; seq 1 200000; sleep 300";
    let view = session.call("ssh_execute_async", json!({"command": script, "until": "needle"})).await.success();
    // What is too much for the memory is searched in the file.
    assert_eq!((&view["until_matched"], &view["matched_line"]), (&json!(true), &json!("needle")), "{view}");
    session.cancel(&text(&view["command_id"])).await;
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_refused_before_anything_runs() {
    let client = McpClient::stdio(&[]).await;
    let id = "6b1f0a52-5d5c-4b8e-9d3a-0c9f5a7e4d21";
    let refused = async |more: Value| {
        let mut arguments = json!({"command_id": id});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = client.call("ssh_get_command_output", arguments).await;
        (answer.code().to_owned(), answer.structured)
    };
    let (code, failure) = refused(json!({"until_regex": "a(b"})).await;
    assert_eq!((code.as_str(), &failure["position"]), ("invalid_argument", &json!(1)), "{failure}");
    assert!(text(&failure["hint"]).contains("until for plain text"), "{failure}");
    assert_eq!(refused(json!({"until": "a", "until_regex": "a"})).await.0, "conflicting_arguments");
    assert_eq!(refused(json!({"until": "x".repeat(1_001)})).await.0, "out_of_range");
    assert_eq!(refused(json!({"until_regex": r"(\w{90}){90}"})).await.0, "invalid_argument");
    assert_eq!(refused(json!({"until": ""})).await.0, "command_not_found", "an empty one is none");
    let start = json!({"session_id": id, "command": "true", "until_regex": "["});
    assert_eq!(client.call("ssh_execute_async", start).await.code(), "invalid_argument");
}

#[tokio::test]
async fn until_waits_though_wait_is_false_and_says_so() {
    let (_host, session) = embedded().await;
    let id = session.start("sleep 0.2; echo ready; sleep 300").await;
    let view = session.output(&id, json!({"until": "ready", "wait": false})).await;
    assert_eq!(view["until_matched"], true, "{view}");
    assert!(view["notices"].to_string().contains("wait=false has no effect"), "{view}");
    session.cancel(&id).await;
}
