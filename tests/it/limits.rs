//! How much one principal may have, and all together.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use serde_json::{Value, json};

use crate::{
    isolation::Two,
    support::{
        embedded_host::EmbeddedHost,
        mcp_client::{HttpServer, McpClient, RawStdio, ToolAnswer},
        session::{Session, text},
        wait::{bounded, eventually},
    },
};

/// A refusal says what is full, how full, whose, and what a human can change.
#[track_caller]
fn is_full(error: &Value, code: &str, scope: &str, (limit, setting): (u64, &str)) {
    let said = (&error["code"], &error["scope"], &error["limit"], &error["in_use"], &error["setting"]);
    assert_eq!(said, (&json!(code), &json!(scope), &json!(limit), &json!(limit), &json!(setting)), "{error}");
    assert!(text(&error["hint"]).contains(setting), "{error}");
    assert!(text(&error["message"]).contains(&limit.to_string()), "{error}");
}

#[tokio::test]
async fn connects_that_race_for_the_last_places_get_exactly_those() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[("SSH_MAX_SESSIONS", "3")]).await;
    let connect = || session.client.call("ssh_connect", session.login().clone());
    let answers = join_all((0..8).map(|_| connect())).await;
    let (opened, refused): (Vec<ToolAnswer>, Vec<_>) = answers.into_iter().partition(|answer| !answer.is_error);
    assert_eq!((opened.len(), refused.len()), (2, 6), "one was open");
    for refused in refused {
        assert_eq!(refused.structured["retryable"], false);
        is_full(&refused.structured, "too_many_sessions", "principal", (3, "SSH_MAX_SESSIONS"));
    }
    // A name that is taken, a host that is not there: neither keeps a place.
    session.disconnect().await;
    let nobody = json!({"address": "127.0.0.1:1", "username": "u", "password": "p", "max_retries": 0});
    assert_eq!(session.client.call("ssh_connect", nobody).await.code(), "connect_refused");
    connect().await.success();
    assert_eq!(connect().await.code(), "too_many_sessions");
}

#[tokio::test]
async fn running_commands_of_a_principal_have_a_limit_and_a_place_is_free_at_the_end() {
    let host = EmbeddedHost::start().await.unwrap();
    let env = [("SSH_MAX_COMMANDS_PER_PRINCIPAL", "3"), ("SSH_MAX_COMMANDS", "2")];
    let session = Session::on_host(&host, &env).await;
    let other = session.another(json!({})).await;
    let first = session.start("sleep 600").await;
    session.start("sleep 600").await;
    let refused = session.call("ssh_execute_async", json!({"command": "true"})).await.structured;
    is_full(&refused, "too_many_commands", "session", (2, "SSH_MAX_COMMANDS"));
    assert_eq!(refused["running"].as_array().map(Vec::len), Some(2));
    other.start("sleep 600").await;
    let limit = (3, "SSH_MAX_COMMANDS_PER_PRINCIPAL");
    let refused = other.call("ssh_execute_async", json!({"command": "true"})).await.structured;
    is_full(&refused, "too_many_commands", "principal", limit);
    let refused = other.call("ssh_execute", json!({"command": "true"})).await.structured;
    is_full(&refused, "busy", "principal", limit);
    assert_eq!(refused["retryable"], true);
    session.cancel(&first).await;
    assert_eq!(other.run("echo fine").await["stdout"], "fine\n");
}

#[tokio::test]
async fn forwards_have_a_limit_and_the_same_one_again_is_none_more() {
    let host = EmbeddedHost::start().await.unwrap();
    let env = [("SSH_MAX_FORWARDS", "2"), ("SSH_MAX_FORWARDS_PER_PRINCIPAL", "3")];
    let session = Session::on_host(&host, &env).await;
    let other = session.another(json!({})).await;
    let open = async |session: &Session, port: u16| {
        let arguments = json!({"local_port": 0, "remote_address": "localhost", "remote_port": port});
        session.call("ssh_forward", arguments).await
    };
    let first = open(&session, 1).await.success();
    open(&session, 2).await.success();
    is_full(&open(&session, 3).await.structured, "too_many_forwards", "session", (2, "SSH_MAX_FORWARDS"));
    let both = join_all([open(&other, 1), open(&other, 2)]).await;
    assert_eq!(both.iter().filter(|answer| answer.is_error).count(), 1);
    let refused = both.into_iter().find(|answer| answer.is_error).unwrap().structured;
    is_full(&refused, "too_many_forwards", "principal", (3, "SSH_MAX_FORWARDS_PER_PRINCIPAL"));
    assert_eq!(open(&session, 1).await.success(), first);
    session.disconnect().await;
    assert!(!open(&other, 7).await.is_error, "places are free again");
}

#[tokio::test]
async fn a_principal_at_every_limit_is_no_matter_to_another() {
    let env = [
        ("SSH_MAX_SESSIONS", "1"),
        ("SSH_MAX_SESSIONS_TOTAL", "2"),
        ("SSH_MAX_COMMANDS_PER_PRINCIPAL", "2"),
        ("SSH_MAX_FORWARDS_PER_PRINCIPAL", "1"),
        ("MCP_MAX_CALLS", "2"),
    ];
    let two = Two::start(&env).await;
    let (a, b) = two.callers();
    let forward = |session: &Value, port: u16| json!({"session_id": session, "local_port": 0, "remote_address": "localhost", "remote_port": port});
    let theirs = a.connect(&[]).await["session_id"].clone();
    a.does("ssh_forward", forward(&theirs, 1)).await;
    for _ in 0..2 {
        a.does("ssh_execute_async", json!({"session_id": theirs, "command": "sleep 600"})).await;
    }
    let command = |session: &Value| json!({"session_id": session, "command": "echo fine"});
    is_full(&a.refused("ssh_connect", two.login()).await, "too_many_sessions", "principal", (1, "SSH_MAX_SESSIONS"));
    assert_eq!(a.refused("ssh_forward", forward(&theirs, 2)).await["code"], "too_many_forwards");
    assert_eq!(a.refused("ssh_execute_async", command(&theirs)).await["code"], "too_many_commands");
    assert_eq!(a.refused("ssh_execute", command(&theirs)).await["code"], "busy");
    let running = a.does("ssh_list_commands", json!({})).await["commands"][0]["command_id"].clone();
    // The calls that look whether both are there may take a place before them.
    let waiting = async || loop {
        let waited = a.call("ssh_get_command_output", json!({"command_id": running, "wait_timeout_secs": 15})).await;
        if waited["structuredContent"]["code"] != "busy" {
            return waited;
        }
    };
    let for_b = async {
        eventually("A has all its calls in flight", async || {
            a.call("ssh_list_sessions", json!({})).await["structuredContent"]["code"] == "busy"
        })
        .await;
        let own = b.connect(&[]).await["session_id"].clone();
        b.does("ssh_forward", forward(&own, 1)).await;
        assert_eq!(b.does("ssh_execute", command(&own)).await["stdout"], "fine\n");
        b.does("ssh_execute_async", command(&own)).await;
        assert!(a.request("ping", json!({})).await["result"].is_object(), "a ping is no call");
    };
    tokio::select! {
        _ = join_all([waiting(), waiting()]) => panic!("the waits end first"),
        () = for_b => {}
    }
}

#[tokio::test]
async fn what_all_have_together_has_a_limit_too() {
    let two = Two::start(&[("SSH_MAX_SESSIONS_TOTAL", "2")]).await;
    let (a, b) = two.callers();
    let first = a.connect(&[]).await["session_id"].clone();
    a.connect(&[]).await;
    is_full(&b.refused("ssh_connect", two.login()).await, "too_many_sessions", "server", (2, "SSH_MAX_SESSIONS_TOTAL"));
    a.does("ssh_disconnect", json!({"session_id": first})).await;
    b.connect(&[]).await;
}

/// Calls at once, and how many of them there is room for.
const CALLS: u64 = 100;
const ROOM: usize = 7;

fn held(session: &str, release: &std::path::Path) -> Value {
    let command = format!("until [ -e '{}' ]; do sleep 0.05; done; echo released", release.display());
    json!({"session_id": session, "command": command})
}

#[track_caller]
fn is_busy(error: &Value) {
    is_full(error, "busy", "principal", (ROOM as u64, "MCP_MAX_CALLS"));
    assert_eq!(error["retryable"], true, "{error}");
}

#[tokio::test]
async fn calls_beyond_the_limit_are_busy_at_once_and_none_is_lost_over_http() {
    let directory = tempfile::tempdir().unwrap();
    let release = directory.path().join("release");
    let (server, host) = (HttpServer::start(&[("MCP_MAX_CALLS", "7")]).await, EmbeddedHost::start().await.unwrap());
    let key = directory.path().join("key");
    host.write_client_key(&key).unwrap();
    let login = json!({"address": format!("127.0.0.1:{}", host.port()), "username": "anyone", "key_path": key});
    let session = Session::open(McpClient::http(&server).await, login).await;
    let mut calls: FuturesUnordered<_> =
        (0..CALLS).map(|_| server.curl("ssh_execute", held(&session.id, &release))).collect();
    for _ in ROOM..CALLS as usize {
        let reply = bounded("a busy answer", calls.next()).await.unwrap();
        is_busy(&reply["result"]["structuredContent"]);
    }
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    let ping = server.post(&[("Content-Type", "application/json")], &ping).await;
    assert_eq!((ping.status, ping.json()["result"].is_object()), (200, true));
    std::fs::write(&release, "").unwrap();
    while let Some(reply) = bounded("a result", calls.next()).await {
        assert_eq!(reply["result"]["structuredContent"]["stdout"], "released\n", "{reply}");
    }
    assert_eq!(
        session.client.call("ssh_list_commands", json!({})).await.success()["count"],
        ROOM,
        "no more were begun"
    );
}

#[tokio::test]
async fn calls_beyond_the_limit_are_busy_at_once_and_none_is_lost_over_stdio() {
    let directory = tempfile::tempdir().unwrap();
    let (release, key) = (directory.path().join("release"), directory.path().join("key"));
    let host = EmbeddedHost::start().await.unwrap();
    host.write_client_key(&key).unwrap();
    let mut stdio = RawStdio::initialized(&[("MCP_MAX_CALLS", "7")]).await;
    let login = json!({"address": format!("127.0.0.1:{}", host.port()), "username": "anyone", "key_path": key});
    let opened = stdio.request(1, "tools/call", json!({"name": "ssh_connect", "arguments": login})).await;
    let session = text(&opened["result"]["structuredContent"]["session_id"]);
    for id in 1_000..1_000 + CALLS {
        let params = json!({"name": "ssh_execute", "arguments": held(&session, &release)});
        stdio.send(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()).await;
    }
    let mut answered = BTreeSet::new();
    let mut next = async |stdio: &mut RawStdio| loop {
        let message = stdio.message().await;
        if let Some(id) = message["id"].as_u64() {
            assert!(answered.insert(id), "{id} is answered twice");
            return message["result"]["structuredContent"].clone();
        }
    };
    for _ in ROOM..CALLS as usize {
        is_busy(&next(&mut stdio).await);
    }
    stdio.send(&json!({"jsonrpc": "2.0", "id": 5, "method": "ping"}).to_string()).await;
    assert_eq!(next(&mut stdio).await, Value::Null, "the ping, before any of the calls has ended");
    std::fs::write(&release, "").unwrap();
    for _ in 0..ROOM {
        assert_eq!(next(&mut stdio).await["stdout"], "released\n");
    }
    assert_eq!(answered.len() as u64, CALLS + 1);
    // Nothing comes twice.
    assert!(tokio::time::timeout(Duration::from_millis(200), stdio.message()).await.is_err());
}

#[tokio::test]
async fn requests_for_resources_count_as_calls_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let (release, key) = (directory.path().join("release"), directory.path().join("key"));
    let host = EmbeddedHost::start().await.unwrap();
    host.write_client_key(&key).unwrap();
    let mut stdio = RawStdio::initialized(&[("MCP_MAX_CALLS", "1")]).await;
    let login = json!({"address": format!("127.0.0.1:{}", host.port()), "username": "anyone", "key_path": key});
    let opened = stdio.request(1, "tools/call", json!({"name": "ssh_connect", "arguments": login})).await;
    let session = text(&opened["result"]["structuredContent"]["session_id"]);
    let begun = directory.path().join("begun");
    let mut held = held(&session, &release);
    held["command"] = json!(format!("touch {}; {}", begun.display(), text(&held["command"])));
    let call = json!({"name": "ssh_execute", "arguments": held});
    stdio.send(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}).to_string()).await;
    // Not asked for resources before: that could take the one place itself.
    eventually("the call runs", async || begun.exists()).await;
    let mut id = 10;
    let uri = json!({"uri": "ssh-mcp://command/none/stdout"});
    for (method, params) in
        [("resources/list", json!({})), ("resources/read", uri.clone()), ("resources/subscribe", uri)]
    {
        id += 1;
        let reply = stdio.request(id, method, params).await;
        let error = &reply["error"];
        assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-32_000), &json!("busy")), "{method}: {reply}");
        assert_eq!(error["data"]["setting"], "MCP_MAX_CALLS", "{reply}");
    }
    std::fs::write(&release, "").unwrap();
    eventually("there is room", async || {
        id += 1;
        stdio.request(id, "resources/list", json!({})).await.get("result").is_some()
    })
    .await;
}

#[tokio::test]
async fn output_of_ended_commands_makes_room_and_what_runs_keeps_its_own() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[("SSH_OUTPUT_MEMORY", "4"), ("SSH_SPILL_LIMIT", "0")]).await;
    let noise = "head -c 600000 /dev/zero; head -c 600000 /dev/zero >&2";
    let running = session.start(&format!("{noise}; echo running; sleep 600")).await;
    session.shows(&running, "running").await;
    let mut ended = Vec::new();
    for _ in 0..6 {
        let id = session.start(noise).await;
        session.ended(&id).await;
        ended.push(id);
    }
    // Each keeps 1 MiB and its own line: three and a bit fit into four.
    let left = async || {
        let list = session.client.call("ssh_list_commands", json!({})).await.success();
        list["commands"].as_array().unwrap().iter().map(|row| text(&row["command_id"])).collect::<Vec<_>>()
    };
    eventually("the oldest are gone", async || left().await.len() == 4).await;
    ended.reverse();
    assert_eq!(left().await, [&ended[..3], std::slice::from_ref(&running)].concat());
    let gone = session.client.call("ssh_get_command_output", json!({"command_id": ended[5]})).await;
    assert_eq!(gone.code(), "command_not_found");
    assert_eq!(session.output(&ended[0], json!({})).await["stdout_bytes"], 600_000);
    assert_eq!(session.output(&running, json!({})).await["status"], "running");
}
