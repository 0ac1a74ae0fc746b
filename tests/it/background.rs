//! Background commands: started, watched, waited for, limited, listed.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    embedded_host::EmbeddedHost,
    openssh::Sshd,
    session::{Session, text},
    wait::eventually,
};

/// Waits until this file is there: a command that ends when the test says so.
fn until(sshd: &Sshd, name: &str) -> (std::path::PathBuf, String) {
    let file = sshd.directory().join(name);
    let command = format!("while [ ! -e '{}' ]; do sleep 0.1; done; echo released", file.display());
    (file, command)
}

fn ids(list: &Value) -> Vec<String> {
    list["commands"].as_array().unwrap().iter().map(|row| text(&row["command_id"])).collect()
}

#[tokio::test]
async fn a_started_command_is_answered_with_what_is_known_of_it() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let arguments = json!({"command": "sleep 300", "timeout_secs": 600});
    let started = session.call("ssh_execute_async", arguments).await.success();
    assert_eq!((&started["session_id"], &started["command"]), (&json!(session.id), &json!("sleep 300")));
    assert_eq!((&started["host"], &started["port"]), (&json!("127.0.0.1"), &json!(sshd.port())));
    assert_eq!((&started["username"], &started["timeout_secs"]), (&session.login()["username"], &json!(600)));
    assert!(text(&started["message"]).contains("600 s"), "{started}");
    let view = session.output(&text(&started["command_id"]), json!({})).await;
    assert_eq!((&view["status"], view.get("exit_code")), (&json!("running"), None));
    let remaining = view["timeout_remaining_secs"].as_u64().unwrap();
    assert!((590..=600).contains(&remaining), "{view}");
    assert!(text(&view["hint"]).contains("do not run it again"), "{view}");
}

#[tokio::test]
async fn a_prompt_of_three_bytes_is_visible_while_the_command_runs() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (out, error) =
        tokio::join!(session.start("printf 'pw:'; sleep 30"), session.start("printf 'pw:' >&2; sleep 30"));
    let view = session.shows(&out, "pw:").await;
    assert_eq!((&view["stdout"], &view["status"]), (&json!("pw:"), &json!("running")));
    eventually("the prompt on stderr", async || session.output(&error, json!({})).await["stderr"] == "pw:").await;
    // With a cwd, stderr is looked through for a marker; that must not hold a prompt back.
    let arguments = json!({"command": "printf 'pw:' >&2; sleep 30", "cwd": "/"});
    let inside = text(&session.call("ssh_execute_async", arguments).await.success()["command_id"]);
    eventually("the prompt on stderr", async || session.output(&inside, json!({})).await["stderr"] == "pw:").await;
}

#[tokio::test]
async fn early_output_shows_on_a_poll_long_before_the_end() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let id = session.start("printf early; sleep 3; printf late").await;
    let view = session.shows(&id, "early").await;
    assert_eq!((&view["stdout"], &view["status"]), (&json!("early"), &json!("running")));
    let ended = session.ended(&id).await;
    assert_eq!((&ended["stdout"], &ended["exit_code"]), (&json!("earlylate"), &json!(0)));
}

#[tokio::test]
async fn wait_returns_at_the_end_of_the_command() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let id = session.start("sleep 1; echo done; exit 3").await;
    let view = session.output(&id, json!({"wait": true})).await;
    assert_eq!(
        (&view["status"], &view["exit_code"], &view["stdout"]),
        (&json!("completed"), &json!(3), &json!("done\n"))
    );
    for absent in ["wait_limited_to_secs", "timeout_remaining_secs", "error"] {
        assert_eq!(view.get(absent), None, "{absent}");
    }
    let again = session.output(&id, json!({"wait": true})).await;
    assert_eq!(again, view, "the record stays");
}

#[tokio::test]
async fn a_wait_that_is_over_first_is_a_result_with_status_running() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[("SSH_ANSWER_LIMIT", "2")]).await;
    let id = session.start("printf some; sleep 300").await;
    session.shows(&id, "some").await;
    // (arguments, seconds waited, what it was cut to)
    for (arguments, waits, cut) in [
        (json!({"wait_timeout_secs": 60}), 2, json!(2)),
        (json!({"wait": true, "wait_timeout_secs": 1_000_000}), 2, json!(2)),
        (json!({"wait": true}), 2, Value::Null),
        (json!({"wait_timeout_secs": 1}), 1, Value::Null),
        (json!({"wait": false, "wait_timeout_secs": 60}), 0, Value::Null),
        (json!({}), 0, Value::Null),
    ] {
        let begun = Instant::now();
        let view = session.output(&id, arguments.clone()).await;
        let took = begun.elapsed();
        assert_eq!((&view["status"], &view["stdout"]), (&json!("running"), &json!("some")), "{arguments}");
        assert_eq!(view["wait_limited_to_secs"], cut, "{arguments}");
        assert!(took >= Duration::from_secs(waits), "{arguments}: {took:?}");
        assert!(took < Duration::from_secs(waits) + Duration::from_millis(900), "{arguments}: {took:?}");
    }
}

#[tokio::test]
async fn a_foreground_command_goes_on_in_the_background_after_the_answer_limit() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[("SSH_ANSWER_LIMIT", "1")]).await;
    let begun = Instant::now();
    let arguments = json!({"command": "printf early; sleep 3; echo ok", "timeout_secs": 60});
    let view = session.call("ssh_execute", arguments).await.success();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let id = text(&view["command_id"]);
    assert_eq!((&view["status"], &view["stdout"], view.get("exit_code")), (&json!("running"), &json!("early"), None));
    assert!(view["timeout_remaining_secs"].as_u64().is_some_and(|left| (50..=59).contains(&left)), "{view}");
    let hint = text(&view["hint"]);
    assert!(hint.contains("do not run it again") && hint.contains(&id), "{hint}");
    let listed = session.call("ssh_list_commands", json!({"status": "running"})).await.success();
    assert_eq!(ids(&listed), [id.as_str()]);

    let ended = session.ended(&id).await;
    assert_eq!((&ended["exit_code"], &ended["stdout"]), (&json!(0), &json!("earlyok\n")));

    let over = session.call("ssh_execute", json!({"command": "sleep 300", "timeout_secs": 2})).await.success();
    assert_eq!(over["status"], "running");
    let ended = session.ended(&text(&over["command_id"])).await;
    assert_eq!((&ended["timed_out"], ended.get("exit_code")), (&json!(true), None), "its own time-out goes on");
}

#[tokio::test]
async fn a_background_command_is_ended_at_its_timeout() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let arguments = json!({"command": "printf early; sleep 300", "timeout_secs": 1});
    let id = text(&session.call("ssh_execute_async", arguments).await.success()["command_id"]);
    let view = session.ended(&id).await;
    assert_eq!(
        (&view["status"], &view["timed_out"], &view["stdout"]),
        (&json!("completed"), &json!(true), &json!("early"))
    );
    assert_eq!(view.get("exit_code"), None);
    assert!(view["duration_ms"].as_u64().is_some_and(|took| (1_000..3_000).contains(&took)), "{view}");
}

#[tokio::test]
async fn thirty_run_at_once_and_the_next_is_refused_until_one_has_ended() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let (release, wait) = until(&sshd, "release");
    // All at once: the places are reserved atomically.
    let start = || session.call("ssh_execute_async", json!({"command": wait}));
    let answers = join_all((0..40).map(|_| start())).await;
    let (refused, started): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.is_error);
    assert_eq!((started.len(), refused.len()), (30, 10));
    let started: HashSet<String> = started.iter().map(|answer| text(&answer.structured["command_id"])).collect();
    let last = start().await;
    assert_eq!((last.code(), &last.structured["retryable"]), ("too_many_commands", &json!(true)));
    let named: HashSet<String> = last.structured["running"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(named, started);
    assert_eq!(session.listed().await.unwrap()["running_commands"], 30);
    assert_eq!(session.run("echo free").await["stdout"], "free\n", "the foreground has no such limit");

    let one = started.iter().next().unwrap();
    assert_eq!(session.cancel(one).await["cancelled"], true);
    let another = text(&start().await.success()["command_id"]);
    assert_eq!(start().await.code(), "too_many_commands");

    std::fs::write(release, "").unwrap();
    for id in started.iter().filter(|id| *id != one).chain([&another]) {
        let view = session.ended(id).await;
        assert_eq!((&view["exit_code"], &view["stdout"]), (&json!(0), &json!("released\n")), "{view}");
    }
    assert_eq!(session.ended(&session.start("true").await).await["exit_code"], 0);
}

#[tokio::test]
async fn foreground_commands_do_not_count_even_after_the_answer_limit() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[("SSH_ANSWER_LIMIT", "1"), ("SSH_MAX_COMMANDS", "2")]).await;
    let over = || session.call("ssh_execute", json!({"command": "sleep 300"}));
    let before = join_all([over(), over(), over()]).await;
    session.start("sleep 300").await;
    session.start("sleep 300").await;
    let refused = session.call("ssh_execute_async", json!({"command": "true"})).await;
    assert_eq!(refused.code(), "too_many_commands", "SSH_MAX_COMMANDS is 2");
    assert_eq!(refused.structured["running"].as_array().unwrap().len(), 2, "only those that count: {}", refused.text);
    for answer in before.into_iter().chain([over().await]) {
        assert_eq!(answer.success()["status"], "running");
    }
    assert_eq!(session.listed().await.unwrap()["running_commands"], 6);
    let other = session.another(json!({})).await;
    assert_eq!(other.ended(&other.start("true").await).await["exit_code"], 0, "the limit is the session's");
}

async fn one_after_the_other(session: &Session, count: usize) -> Vec<String> {
    let mut started = Vec::new();
    for number in 0..count {
        let id = session.start(&format!("echo {number}; exit {}", number % 3)).await;
        let view = session.ended(&id).await;
        assert_eq!(
            (&view["stdout"], &view["exit_code"]),
            (&json!(format!("{number}\n")), &json!(number % 3)),
            "{view}"
        );
        started.push(id);
    }
    started
}

#[tokio::test]
async fn two_hundred_commands_one_after_the_other_all_complete() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let started = one_after_the_other(&session, 200).await;
    assert_eq!(session.output(&started[0], json!({})).await["stdout"], "0\n", "the first is still readable");
}

#[tokio::test]
async fn the_newest_two_hundred_records_push_out_older_ones() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let running = session.start("sleep 300").await;
    // All are looked through after 50 more.
    let started = one_after_the_other(&session, 260).await;
    let gone = session.client.call("ssh_get_command_output", json!({"command_id": started[0]})).await;
    assert_eq!(gone.code(), "command_not_found");
    for id in &started[60..] {
        assert_eq!(session.output(id, json!({})).await["status"], "completed");
    }
    assert_eq!(session.output(&running, json!({})).await["status"], "running", "what runs is never pushed out");
    assert_eq!(host.connections(), 1);
}

async fn thirty_at_once_complete(max_sessions: usize) {
    let Some(sshd) = Sshd::builder().config(&format!("MaxSessions {max_sessions}")).start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let started = join_all((0..30).map(async |number| session.start(&format!("sleep 0.3; echo {number}")).await)).await;
    for (number, id) in started.iter().enumerate() {
        let view = session.ended(id).await;
        assert_eq!((&view["exit_code"], &view["stdout"]), (&json!(0), &json!(format!("{number}\n"))), "{view}");
    }
    assert_eq!(session.run("echo after").await["stdout"], "after\n");
}

#[tokio::test]
async fn thirty_at_once_complete_where_the_server_allows_ten_sessions() {
    thirty_at_once_complete(10).await;
}

#[tokio::test]
async fn thirty_at_once_complete_where_the_server_allows_four_sessions() {
    thirty_at_once_complete(4).await;
}

#[tokio::test]
async fn thirty_at_once_complete_where_the_server_allows_one_session() {
    // More than there are connections: most commands wait for a place.
    thirty_at_once_complete(1).await;
}

#[tokio::test]
async fn commands_are_listed_newest_first_by_session_and_status() {
    let host = EmbeddedHost::start().await.unwrap();
    let first = Session::on_host(&host, &[]).await;
    let second = first.another(json!({"name": "second"})).await;
    let done = first.start("exit 4").await;
    first.ended(&done).await;
    let running = first.start("sleep 300").await;
    let elsewhere = second.start("sleep 300").await;
    let cancelled = second.start("sleep 300").await;
    second.cancel(&cancelled).await;

    let list = async |arguments: Value| first.client.call("ssh_list_commands", arguments).await.success();
    let all = list(json!({})).await;
    assert_eq!(ids(&all), [&cancelled, &elsewhere, &running, &done].map(String::as_str));
    assert_eq!((&all["count"], &all["more"]), (&json!(4), &json!(false)));
    assert_eq!(ids(&list(json!({"session_id": first.id})).await), [&running, &done].map(String::as_str));
    assert_eq!(ids(&list(json!({"status": "running"})).await), [&elsewhere, &running].map(String::as_str));
    assert_eq!(ids(&list(json!({"session_id": second.id, "status": "cancelled"})).await), [cancelled.as_str()]);
    assert_eq!(ids(&list(json!({"status": "failed"})).await), Vec::<String>::new());

    let row = |id: &str| all["commands"].as_array().unwrap().iter().find(|row| row["command_id"] == id).unwrap();
    let ended = row(&done);
    assert_eq!(
        (&ended["status"], &ended["exit_code"], &ended["command"]),
        (&json!("completed"), &json!(4), &json!("exit 4"))
    );
    assert_eq!((&ended["session_id"], &ended["host"]), (&json!(first.id), &json!("127.0.0.1")));
    assert_eq!(ended["username"], "anyone");
    assert!(
        text(&ended["started_at"]) <= text(&ended["ended_at"]) && text(&ended["ended_at"]).ends_with('Z'),
        "{ended}"
    );
    assert_eq!((row(&running).get("exit_code"), row(&running).get("ended_at")), (None, None));

    let unknown = first.client.call("ssh_list_commands", json!({"session_id": done})).await;
    assert_eq!(unknown.code(), "session_not_found");
}

#[tokio::test]
async fn a_list_of_commands_holds_fifty_and_says_that_there_are_more() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let started = one_after_the_other(&session, 51).await;
    let list = session.client.call("ssh_list_commands", json!({})).await.success();
    assert_eq!((&list["count"], &list["more"]), (&json!(50), &json!(true)));
    let newest: Vec<_> = started.iter().rev().take(50).cloned().collect();
    assert_eq!(ids(&list), newest);
    assert!(text(&list["hint"]).contains("filter"), "{}", list["hint"]);
}

#[tokio::test]
async fn commands_of_a_closed_session_stay_readable() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let done = session.start("echo kept; exit 5").await;
    session.ended(&done).await;
    let running = session.start("printf partial; sleep 300").await;
    session.shows(&running, "partial").await;
    session.disconnect().await;

    let view = session.output(&done, json!({"wait": true})).await;
    assert_eq!((&view["stdout"], &view["exit_code"]), (&json!("kept\n"), &json!(5)));
    let view = session.output(&running, json!({})).await;
    assert_eq!((&view["status"], &view["stdout"]), (&json!("cancelled"), &json!("partial")));
    let list = session.call("ssh_list_commands", json!({})).await.success();
    assert_eq!(ids(&list), [running.as_str(), done.as_str()]);
}

#[tokio::test]
async fn command_ids_are_taken_in_upper_case_with_white_space_and_nothing_else_is() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let id = session.start("echo here").await;
    session.ended(&id).await;
    assert_eq!(session.output(&format!(" {}\n", id.to_uppercase()), json!({})).await["stdout"], "here\n");
    for wrong in [session.id.as_str(), "here", &id[..8]] {
        for tool in ["ssh_get_command_output", "ssh_cancel_command"] {
            let answer = session.client.call(tool, json!({"command_id": wrong})).await;
            assert_eq!(answer.code(), "command_not_found", "{tool} {wrong}");
            assert!(text(&answer.structured["hint"]).contains("ssh_list_commands"));
        }
    }
}
