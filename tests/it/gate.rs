//! Every verb passes one place, where it is recorded.

use serde_json::{Value, json};

use crate::{
    alias::{block, connect, home_with},
    support::{embedded_host::EmbeddedHost, openssh::Sshd, session::Session, wait::eventually},
};

/// What each tool is, as the record says.
const ACTS: [(&str, &str); 10] = [
    ("ssh_connect", "connect"),
    ("ssh_execute", "run"),
    ("ssh_execute_async", "run"),
    ("ssh_get_command_output", "read"),
    ("ssh_list_commands", "read"),
    ("ssh_cancel_command", "cancel"),
    ("ssh_forward", "forward"),
    ("ssh_list_sessions", "read"),
    ("ssh_list_hosts", "read"),
    ("ssh_disconnect", "disconnect"),
];

fn records(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains(" act=")).collect()
}

#[tokio::test]
async fn every_call_of_every_tool_leaves_one_record() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[("RUST_LOG", "ssh_mcp=debug"), ("NO_COLOR", "1")]).await;
    let listed = session.client.peer().list_tools(None).await.unwrap().tools;
    let mut names: Vec<_> = listed.iter().map(|tool| tool.name.to_string()).collect();
    let mut known: Vec<_> = ACTS.iter().map(|(tool, _)| (*tool).to_owned()).collect();
    names.sort();
    known.sort();
    assert_eq!(names, known, "a new tool has to say what it is");

    let command = session.start("echo canary-command-line").await;
    for (tool, act) in ACTS {
        let arguments = match tool {
            "ssh_connect" => session.login().clone(),
            "ssh_execute" | "ssh_execute_async" => {
                json!({"session_id": session.id, "command": "echo canary-command-line"})
            }
            "ssh_get_command_output" | "ssh_cancel_command" => json!({"command_id": command}),
            "ssh_forward" => {
                json!({"session_id": session.id, "local_port": 0, "remote_address": "localhost", "remote_port": 7})
            }
            "ssh_disconnect" => json!({"session_id": session.id}),
            _ => json!({}),
        };
        let before = records(&session.client.stderr()).len();
        session.client.call(tool, arguments).await.success();
        eventually("the record", async || records(&session.client.stderr()).len() > before).await;
        let log = session.client.stderr();
        let new = records(&log)[before..].to_vec();
        assert!(new.len() == 1 && new[0].contains(&format!("act=\"{act}\"")), "{tool}: {new:#?}");
        assert!(new[0].contains("code=\"ok\"") && new[0].contains("principal=local"), "{new:?}");
    }
    assert!(!records(&session.client.stderr()).concat().contains("canary-command-line"));
}

#[tokio::test]
async fn what_is_refused_is_recorded_with_its_code() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[("RUST_LOG", "info"), ("NO_COLOR", "1")]).await;
    let arguments = json!({"local_port": 0, "remote_address": "169.254.169.254", "remote_port": 80});
    let refused: Value = session.call("ssh_forward", arguments).await.structured;
    assert_eq!(refused["code"], "forward_target_denied");
    let wanted = |line: &&str| line.contains("act=\"forward\"") && line.contains("code=\"forward_target_denied\"");
    eventually("the record", async || records(&session.client.stderr()).iter().any(wanted)).await;
}

#[tokio::test]
async fn the_way_stands_in_the_record_of_each_act_and_in_the_list_of_sessions() {
    let (Some(one), Some(two), Some(end)) = (Sshd::start().await, Sshd::start().await, Sshd::start().await) else {
        return;
    };
    let config = [
        block("one", &one, ""),
        block("two", &two, "  ProxyJump one"),
        block("end", &end, "  ProxyJump two"),
        block("near", &end, ""),
    ];
    let home = home_with(&config.concat());
    let client = home.client(&[("RUST_LOG", "ssh_mcp=info"), ("NO_COLOR", "1")]).await;
    let far = connect(&client, json!({"address": "end"})).await;
    connect(&client, json!({"address": "near"})).await;
    let user = &end.user().name;
    let way = format!("{user}@127.0.0.1:{},{user}@127.0.0.1:{}", one.port(), two.port());
    let list = client.call("ssh_list_sessions", json!({})).await.success();
    for row in list["sessions"].as_array().unwrap() {
        let jump = (row["session_id"] == far["session_id"]).then(|| json!(way));
        assert_eq!(row.get("jump"), jump.as_ref(), "{list}");
    }
    // As `jump` it leads the same way again.
    let address = format!("{user}@127.0.0.1:{}", end.port());
    let again = json!({"address": address, "key_path": end.client_key(), "jump": way});
    let refused = client.call("ssh_connect", again).await;
    assert!(refused.is_error, "the keys of the jump hosts stand in their own blocks only: {}", refused.text);
    let id = json!({"session_id": far["session_id"], "command": "true"});
    client.call("ssh_execute", id.clone()).await.success();
    client.call("ssh_disconnect", json!({"session_id": far["session_id"]})).await.success();
    let of = |act: &str, code: &str, log: &str| {
        let (act, code) = (format!("act=\"{act}\""), format!("code=\"{code}\""));
        let host = format!("host={user}@127.0.0.1:{}", end.port());
        let mut found = records(log).into_iter().filter(|line| {
            line.contains(&act) && line.contains(&code) && line.contains(&host) && line.contains(&format!("via={way} "))
        });
        found.next().is_some()
    };
    for (act, code) in [("connect", "ok"), ("run", "ok"), ("disconnect", "ok")] {
        eventually(act, async || of(act, code, &client.stderr())).await;
    }
    // Refused or not, the record has the way; without jump hosts there is none in it.
    eventually("a refusal", async || of("connect", refused.code(), &client.stderr())).await;
    let log = client.stderr();
    assert_eq!(
        records(&log).iter().filter(|line| line.contains("act=\"connect\"") && !line.contains("via=")).count(),
        1
    );
}
