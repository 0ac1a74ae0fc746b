//! Progress of calls that wait: the latest line of the command, for clients that ask for it.

use serde_json::{Value, json};

use crate::support::{embedded_host::EmbeddedHost, mcp_client::RawStdio};

/// A client that sees every message, with an open session on `host`.
async fn connected(host: &EmbeddedHost) -> (RawStdio, String) {
    let key = tempfile::tempdir().unwrap();
    let path = key.path().join("key");
    host.write_client_key(&path).unwrap();
    let mut client = RawStdio::initialized(&[]).await;
    let login = json!({"address": format!("127.0.0.1:{}", host.port()), "username": "anyone", "key_path": path});
    let reply = client.request(1, "tools/call", json!({"name": "ssh_connect", "arguments": login})).await;
    let id = reply["result"]["structuredContent"]["session_id"].as_str().unwrap_or_else(|| panic!("{reply}"));
    (client, id.to_owned())
}

/// Calls a tool with a progress token; gives the progress until a message as `wanted`, then cancels nothing.
async fn progress_of(client: &mut RawStdio, id: u64, tool: &str, arguments: Value, wanted: &str) -> Vec<Value> {
    let token = format!("token-{id}");
    let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": token}});
    let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
    client.send(&call.to_string()).await;
    let mut seen = Vec::new();
    loop {
        let message = client.message().await;
        assert_ne!(message["id"], id, "answered before the progress: {message}");
        if message["method"] == "notifications/progress" && message["params"]["progressToken"] == token {
            seen.push(message["params"].clone());
            if message["params"]["message"] == wanted {
                return seen;
            }
        }
    }
}

fn assert_increases(seen: &[Value]) {
    let told: Vec<f64> = seen.iter().map(|param| param["progress"].as_f64().unwrap()).collect();
    assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
    assert!(seen.iter().all(|param| param.get("total").is_none()), "{seen:?}");
}

#[tokio::test]
async fn the_latest_line_is_told_while_a_command_is_waited_for() {
    let host = EmbeddedHost::start().await.unwrap();
    let (mut client, session) = connected(&host).await;
    let command = "echo one; printf '\\033[31mtwo\\033[0m\\n'; sleep 300";
    let run = json!({"session_id": session, "command": command, "until": "never"});
    let seen = progress_of(&mut client, 2, "ssh_execute_async", run, "two").await;
    assert_increases(&seen);
    // The call is still open: it is given up, the command runs on.
    let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}});
    client.send(&cancelled.to_string()).await;
    let listed = client.request(3, "tools/call", json!({"name": "ssh_list_commands", "arguments": {}})).await;
    let row = listed["result"]["structuredContent"]["commands"][0].clone();
    assert_eq!(row["status"], "running", "{listed}");

    let wait = json!({"command_id": row["command_id"], "wait": true});
    let seen = progress_of(&mut client, 4, "ssh_get_command_output", wait, "two").await;
    assert_increases(&seen);
}

#[tokio::test]
async fn a_foreground_command_tells_its_latest_line_cut_to_200_characters() {
    let host = EmbeddedHost::start().await.unwrap();
    let (mut client, session) = connected(&host).await;
    let line = "x".repeat(300);
    let run = json!({"session_id": session, "command": format!("echo {line}; sleep 300")});
    let seen = progress_of(&mut client, 2, "ssh_execute", run, &line[..200]).await;
    assert_increases(&seen);
}
