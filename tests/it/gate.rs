//! Every verb passes one place, where it is recorded.

use serde_json::{Value, json};

use crate::support::{embedded_host::EmbeddedHost, session::Session, wait::eventually};

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
