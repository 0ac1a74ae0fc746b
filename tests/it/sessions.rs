//! Sessions: listed, found, idle, reused, closed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    embedded_host::EmbeddedHost,
    openssh::Sshd,
    process::alive,
    session::{Session, text},
    wait::eventually,
};

/// Closes a session after one idle second.
const IDLE_SOON: [(&str, &str); 1] = [("SSH_INACTIVITY_TIMEOUT", "1")];

async fn list(session: &Session, arguments: Value) -> Value {
    session.client.call("ssh_list_sessions", arguments).await.success()
}

fn ids(list: &Value) -> Vec<String> {
    let mut ids: Vec<_> = list["sessions"].as_array().unwrap().iter().map(|row| text(&row["session_id"])).collect();
    ids.sort();
    ids
}

fn sorted(sessions: &[&Session]) -> Vec<String> {
    let mut ids: Vec<_> = sessions.iter().map(|session| session.id.clone()).collect();
    ids.sort();
    ids
}

/// The fields of a `session_closed` that tell what it was.
#[track_caller]
fn assert_closed(session: &Session, error: &Value, reason: &str, name: Option<&str>) {
    assert_eq!((&error["code"], &error["reason"]), (&json!("session_closed"), &json!(reason)), "{error}");
    assert_eq!((&error["session_id"], error.get("name").and_then(Value::as_str)), (&json!(session.id), name));
    assert_eq!((&error["host"], &error["username"]), (&json!("127.0.0.1"), &session.login()["username"]));
    assert_eq!(error["retryable"], false);
    assert!(text(&error["closed_at"]).ends_with('Z'), "{error}");
    let hint = text(&error["hint"]);
    let address = text(&session.login()["address"]);
    assert!(hint.contains("ssh_connect") && hint.contains(&address), "the call to repeat: {hint}");
    assert_eq!(address, format!("127.0.0.1:{}", error["port"]));
}

#[tokio::test]
async fn a_listed_session_tells_all_about_itself() {
    let Some(sshd) = Sshd::start().await else { return };
    let env = [("SSH_COMMAND_TIMEOUT", "77")];
    let plain = Session::on_sshd(&sshd, &env).await;
    let named = plain.another(json!({"name": "build box", "agent_id": "planner", "persistent": true})).await;
    let running = named.start("sleep 300").await;

    let row = named.listed().await.unwrap();
    assert_eq!(
        (&row["name"], &row["agent_id"], &row["persistent"]),
        (&json!("build box"), &json!("planner"), &json!(true))
    );
    assert_eq!((&row["host"], &row["port"]), (&json!("127.0.0.1"), &json!(sshd.port())));
    assert_eq!((&row["username"], &row["healthy"]), (&named.login()["username"], &json!(true)));
    assert_eq!((&row["running_commands"], &row["forwards"]), (&json!(1), &json!([])));
    assert_eq!((&row["retry_attempts"], &row["compression_enabled"]), (&json!(0), &json!(false)));
    assert_eq!(row["default_timeout_secs"], 77);
    assert!(text(&row["connected_at"]) <= text(&row["last_health_check"]), "{row}");
    let row = plain.listed().await.unwrap();
    assert_eq!((row.get("name"), row.get("agent_id"), &row["persistent"]), (None, None, &json!(false)));

    named.cancel(&running).await;
    assert_eq!(named.listed().await.unwrap()["running_commands"], 0);
    named.disconnect().await;
    assert_eq!(named.listed().await, None);
    plain.disconnect().await;
    let empty = list(&plain, json!({})).await;
    assert_eq!((&empty["count"], &empty["sessions"]), (&json!(0), &json!([])));
    assert!(text(&empty["hint"]).contains("ssh_connect"));
}

#[tokio::test]
async fn an_agent_id_filters_the_list() {
    let host = EmbeddedHost::start().await.unwrap();
    let first = Session::on_host(&host, &[]).await;
    let of_a = first.another(json!({"agent_id": "a"})).await;
    let also_of_a = first.another(json!({"agent_id": "a"})).await;
    let of_b = first.another(json!({"agent_id": "b"})).await;
    assert_eq!(ids(&list(&first, json!({})).await), sorted(&[&first, &of_a, &also_of_a, &of_b]));
    assert_eq!(ids(&list(&first, json!({"agent_id": "a"})).await), sorted(&[&of_a, &also_of_a]));
    assert_eq!(ids(&list(&first, json!({"agent_id": " b "})).await), sorted(&[&of_b]));
    let none = list(&first, json!({"agent_id": "c"})).await;
    assert!(none["count"] == 0 && text(&none["hint"]).contains("has this agent_id"), "{none}");
    // A label is no protection: any id works whatever the label.
    assert_eq!(of_b.run("echo here").await["stdout"], "here\n");
}

#[tokio::test]
async fn silent_hosts_are_unhealthy_and_all_are_checked_at_the_same_time() {
    let (Some(silent), Some(well)) = tokio::join!(Sshd::start(), Sshd::start()) else { return };
    let first = Session::on_sshd(&silent, &[]).await;
    let (second, third) = (first.another(json!({})).await, first.another(json!({})).await);
    let other = first.another(crate::support::session::login(&well, &well.user().name)).await;
    silent.signal_connections("STOP");
    let begun = Instant::now();
    let rows = list(&first, json!({})).await;
    let took = begun.elapsed();
    silent.signal_connections("CONT");
    // One check waits 2 s; one after the other would take 6.
    assert!(took < Duration::from_secs(4), "{took:?}");
    for row in rows["sessions"].as_array().unwrap() {
        assert_eq!(row["healthy"], row["session_id"] == other.id, "{row}");
    }
    assert_eq!(rows["count"], 4);
    for session in [&first, &second, &third] {
        assert_eq!(session.listed().await.unwrap()["healthy"], true, "well again");
    }
}

#[tokio::test]
async fn an_idle_session_is_closed_and_says_so() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &IDLE_SOON).await;
    let named = session.another(json!({"name": "idler"})).await;
    let done = text(&session.run("echo kept").await["command_id"]);
    eventually("both are closed", async || list(&session, json!({})).await["count"] == 0).await;
    assert_closed(&session, &session.call("ssh_execute", json!({"command": "true"})).await.structured, "idle", None);
    assert_closed(
        &named,
        &named.call("ssh_execute", json!({"command": "true"})).await.structured,
        "idle",
        Some("idler"),
    );
    assert_eq!(session.output(&done, json!({})).await["stdout"], "kept\n");
}

#[tokio::test]
async fn a_session_in_use_or_persistent_is_not_idle() {
    let host = EmbeddedHost::start().await.unwrap();
    let running = Session::on_host(&host, &[("SSH_INACTIVITY_TIMEOUT", "3")]).await;
    let persistent = running.another(json!({"persistent": true})).await;
    let background = running.another(json!({})).await;
    let (executed, listed) = (running.another(json!({})).await, running.another(json!({})).await);
    let named = running.another(json!({})).await;
    let record = text(&named.run("true").await["command_id"]);
    let id = background.start("sleep 5; echo ended").await;
    // Each of these uses its session while the others' three seconds pass.
    let calls = async {
        for _ in 0..9 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(executed.run("true").await["exit_code"], 0);
            assert!(!listed.call("ssh_list_commands", json!({})).await.is_error, "a call that names it");
            named.output(&record, json!({})).await;
        }
        ids(&list(&running, json!({})).await)
    };
    let (ran, open) = tokio::join!(running.run("sleep 5.5; echo ended"), calls);
    assert_eq!(ran["stdout"], "ended\n");
    assert_eq!(open, sorted(&[&running, &persistent, &background, &executed, &listed, &named]));
    assert_eq!(background.ended(&id).await["stdout"], "ended\n");
    eventually("only the persistent one is left", async || {
        ids(&list(&running, json!({})).await) == sorted(&[&persistent])
    })
    .await;
    assert_eq!(persistent.run("echo still").await["stdout"], "still\n");
}

#[tokio::test]
async fn a_closed_session_is_told_from_an_unknown_one() {
    let host = EmbeddedHost::start().await.unwrap();
    let open = Session::on_host(&host, &[]).await;
    let closed = open.another(json!({"name": "gone"})).await;
    closed.disconnect().await;
    let forward = json!({"local_port": 0, "remote_address": "localhost", "remote_port": 1});
    let command = json!({"command": "true"});
    for (tool, arguments) in [("ssh_execute", &command), ("ssh_execute_async", &command), ("ssh_forward", &forward)] {
        let answer = closed.call(tool, arguments.clone()).await;
        assert_closed(&closed, &answer.structured, "disconnected", Some("gone"));
        assert!(answer.is_error);
        let mut unknown = arguments.clone();
        unknown["session_id"] = json!("00000000-0000-4000-8000-000000000000");
        assert_eq!(open.client.call(tool, unknown).await.code(), "session_not_found", "{tool}");
    }
    let unknown = json!({"session_id": "00000000-0000-4000-8000-000000000000"});
    assert_eq!(open.client.call("ssh_disconnect", unknown).await.code(), "session_not_found");
}

#[tokio::test]
async fn an_unknown_id_gets_candidates_with_the_likely_ones_first() {
    let host = EmbeddedHost::start().await.unwrap();
    let first = Session::on_host(&host, &[]).await;
    let web = first.another(json!({"name": "web"})).await;
    let last = first.another(json!({"name": "last"})).await;
    let closed = first.another(json!({"name": "closed"})).await;
    closed.disconnect().await;
    let candidates = async |id: &str| {
        let answer = first.client.call("ssh_execute", json!({"session_id": id, "command": "true"})).await;
        assert_eq!(answer.code(), "session_not_found", "neither a name nor a part of an id works: {id}");
        assert!(text(&answer.structured["hint"]).contains("session_id"));
        answer.structured["candidates"].as_array().unwrap().clone()
    };
    for (id, likely) in [("web", &web), (" last ", &last), (&first.id[..8], &first), (&web.id[..35], &web)] {
        let found = candidates(id).await;
        assert_eq!((found.len(), &found[0]["session_id"]), (3, &json!(likely.id)), "{id}: {found:?}");
    }
    let row = &candidates("web").await[0];
    assert_eq!((&row["name"], &row["host"], &row["port"]), (&json!("web"), &json!("127.0.0.1"), &json!(host.port())));
    assert_eq!(row["username"], "anyone");
}

#[tokio::test]
async fn ids_are_taken_in_upper_case_with_white_space_around() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let id = format!("\t{} \n", session.id.to_uppercase());
    let ran = session.client.call("ssh_execute", json!({"session_id": id, "command": "echo here"})).await.success();
    assert_eq!((&ran["stdout"], &ran["session_id"]), (&json!("here\n"), &json!(session.id)));
}

#[tokio::test]
async fn a_disconnect_counts_what_it_ended_and_a_second_one_finds_nothing() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let ids = [
        session.start("echo $$; printf early; sleep 300").await,
        session.start("echo $$; printf early; sleep 300").await,
    ];
    let mut pids = Vec::new();
    for id in &ids {
        pids.push(session.pid(id).await);
        session.shows(id, "early").await;
    }
    session.run("true").await;
    for port in [1, 2] {
        let forward = json!({"local_port": 0, "remote_address": "localhost", "remote_port": port});
        session.call("ssh_forward", forward).await.success();
    }
    let done = session.disconnect().await;
    assert_eq!((&done["commands_cancelled"], &done["forwards_closed"]), (&json!(2), &json!(2)), "{done}");
    assert_eq!(done["session_id"], session.id);
    for (id, pid) in ids.iter().zip(pids) {
        let view = session.output(id, json!({})).await;
        assert_eq!((&view["status"], text(&view["stdout"])), (&json!("cancelled"), format!("{pid}\nearly")));
        eventually("the remote process is gone", async || !alive(pid)).await;
    }
    eventually("no connection is left", async || sshd.connections().is_empty()).await;
    let again = session.disconnect().await;
    assert_eq!((&again["commands_cancelled"], &again["forwards_closed"]), (&json!(0), &json!(0)));
    assert_ne!(again["message"], done["message"]);
}

#[tokio::test]
async fn a_disconnect_lets_go_of_the_others() {
    let host = EmbeddedHost::start().await.unwrap();
    let first = Session::on_host(&host, &[]).await;
    let second = first.another(json!({})).await;
    let id = second.start("sleep 1; echo ended").await;
    assert_eq!(first.disconnect().await["commands_cancelled"], 0);
    assert_eq!(second.ended(&id).await["stdout"], "ended\n");
}

#[tokio::test]
async fn a_live_session_is_reused_and_another_is_not() {
    let Some(sshd) = Sshd::start().await else { return };
    let first = Session::on_sshd(&sshd, &[]).await;
    let connect = async |more: Value| {
        let mut arguments = first.login().clone();
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        first.client.call("ssh_connect", arguments).await.success()
    };
    let again = connect(json!({"session_id": first.id})).await;
    assert_eq!((&again["session_id"], &again["reused"]), (&json!(first.id), &json!(true)));
    assert_eq!((again.get("reuse_refused"), again.get("notices")), (None, None));
    let more = json!({"session_id": first.id, "name": "other", "agent_id": "a", "persistent": true});
    let kept = connect(more).await;
    assert_eq!((&kept["reused"], &kept["persistent"]), (&json!(true), &json!(false)), "{kept}");
    assert!(text(&kept["notices"][0]).contains("not applied: name, agent_id, persistent"), "{kept}");
    let closed = first.another(json!({})).await;
    closed.disconnect().await;
    let unknown = "00000000-0000-4000-8000-000000000000";
    for (id, why) in [(closed.id.as_str(), "dead"), (unknown, "unknown"), ("web", "unknown")] {
        let anew = connect(json!({"session_id": id})).await;
        assert_eq!((&anew["reused"], &anew["reuse_refused"]), (&json!(false), &json!(why)), "{anew}");
        assert_ne!(anew["session_id"], first.id);
    }
    let address = format!("localhost:{}", sshd.port());
    let elsewhere = connect(json!({"session_id": first.id, "address": address})).await;
    assert_eq!((&elsewhere["reused"], &elsewhere["reuse_refused"]), (&json!(false), &json!("other_target")));
}

#[tokio::test]
async fn a_name_belongs_to_one_target_and_is_free_again_after_the_end() {
    let (host, other) = (EmbeddedHost::start().await.unwrap(), EmbeddedHost::start().await.unwrap());
    let web = Session::on_host(&host, &[]).await.another(json!({"name": "web"})).await;
    web.another(json!({"name": "web"})).await;
    let elsewhere = json!({"address": format!("127.0.0.1:{}", other.port()), "username": "anyone", "name": "web",
        "key_path": web.login()["key_path"]});
    let refused = web.client.call("ssh_connect", elsewhere.clone()).await;
    assert_eq!(refused.code(), "name_in_use");
    assert!(refused.structured["session_id"].is_string());
    assert_eq!(other.connections(), 0, "refused before anything was sent");
    for row in list(&web, json!({})).await["sessions"].as_array().unwrap() {
        web.client.call("ssh_disconnect", json!({"session_id": row["session_id"]})).await.success();
    }
    // Its one key does not open the other host; the name is no hindrance any more.
    assert_eq!(web.client.call("ssh_connect", elsewhere).await.code(), "auth_failed");
}
