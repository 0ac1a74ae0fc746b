//! Bad input: what each field and the envelope refuse, with which code, and that the next request is served.

use std::path::Path;

use serde_json::{Map, Value, json};
use ssh_mcp::{error::Code, ssh::output::acts_or_hides};

use crate::support::{
    embedded_host::EmbeddedHost,
    fake_server::RefusingPort,
    mcp_client::{McpClient, ToolAnswer},
    session::Session,
};

mod envelope;
mod every_field;
mod linear;

/// Characters that a message, or a hint, has at most.
const TEXT_LIMIT: usize = 300;

/// What every refusal is: a known code that is no fault of ours, what is wrong, and the next step, short and harmless.
#[track_caller]
fn assert_refusal(answer: &Value) {
    let code = answer["code"].as_str().expect("a code");
    assert!(Code::ALL.iter().any(|known| known.as_str() == code), "{answer}");
    assert_ne!(code, "internal", "{answer}");
    for text in ["message", "hint"] {
        let text = answer[text].as_str().unwrap_or_else(|| panic!("no {text}: {answer}"));
        assert!((1..=TEXT_LIMIT).contains(&text.chars().count()), "{answer}");
        assert!(!text.contains(acts_or_hides), "{answer}");
        assert!(!text.contains("panicked") && !text.contains("src/"), "{answer}");
    }
    assert!(answer["retryable"].is_boolean(), "{answer}");
}

/// A refusal with this code that blames this argument.
#[track_caller]
fn assert_refused(answer: &ToolAnswer, code: &str, argument: &str, what: &str) {
    let what = what.escape_debug().take(80).collect::<String>();
    assert_eq!(answer.code(), code, "{what}: {}", answer.text);
    assert_refusal(&answer.structured);
    assert_eq!(answer.structured["argument"], argument, "{what}: {}", answer.text);
    assert!(answer.text.len() < 1_000, "{what}: {}", answer.text);
}

#[tokio::test]
async fn bad_addresses_are_refused_and_nothing_is_contacted() {
    let client = McpClient::stdio(&[]).await;
    let long = "h".repeat(300);
    let huge = "h".repeat(1 << 20);
    for (address, hint) in [
        ("", "user@host:port"),
        ("-oProxyCommand=id", "user@host:port"),
        ("h\nbank ssh-ed25519 AAA", "user@host:port"),
        ("h:0", "from 1 to 65535"),
        (":65536", "from 1 to 65535"),
        (":22x", "from 1 to 65535"),
        (":22", "user@host:port"),
        ("[::1", "in brackets"),
        ("::1:22", "in brackets"),
        ("[::1]x", "in brackets"),
        ("[h]:22", "in brackets"),
        ("h\0", "user@host:port"),
        ("h\u{202e}", "user@host:port"),
        ("\u{1b}[31mh", "user@host:port"),
        ("bаnk", "user@host:port"),
        ("h,*", "user@host:port"),
        ("$(id)", "user@host:port"),
        ("ssh://", "user@host:port"),
        ("http://h", "in brackets"),
        (&long, "user@host:port"),
        (&huge, "user@host:port"),
    ] {
        let answer = client.call("ssh_connect", json!({"address": address, "username": "u"})).await;
        let hint = if address == "http://h" { "" } else { hint };
        assert_refused(&answer, "invalid_address", "address", address);
        assert!(answer.structured["hint"].as_str().is_some_and(|said| said.contains(hint)), "{}", answer.text);
    }
}

#[tokio::test]
async fn addresses_with_a_user_or_a_scheme_are_read() {
    let (client, port) = (McpClient::stdio(&[]).await, RefusingPort::new());
    for address in [format!("u@{}", port.address()), format!("ssh://u@{}", port.address())] {
        let answer = client.call("ssh_connect", json!({"address": address, "password": "x", "max_retries": 0})).await;
        assert_eq!(answer.code(), "connect_refused", "{address}");
    }
}

#[tokio::test]
async fn bad_usernames_are_refused() {
    let (client, port) = (McpClient::stdio(&[]).await, RefusingPort::new());
    let huge = "u".repeat(1 << 20);
    for (username, code) in [
        ("", "missing_argument"),
        ("-l root", "invalid_username"),
        ("-root", "invalid_username"),
        ("a;id", "invalid_username"),
        ("$(id)", "invalid_username"),
        ("a b", "invalid_username"),
        ("a\u{202e}b", "invalid_username"),
        ("a\u{3164}b", "invalid_username"),
        ("a\0", "invalid_username"),
        ("a\nb", "invalid_username"),
        (&huge, "invalid_username"),
    ] {
        let answer = client.call("ssh_connect", json!({"address": port.address(), "username": username})).await;
        assert_refused(&answer, code, "username", username);
    }
    let answer = client.call("ssh_connect", json!({"address": format!("@{}", port.address())})).await;
    assert_refused(&answer, "invalid_username", "username", "@");
    let answer = client.call("ssh_connect", json!({"address": format!("a@{}", port.address()), "username": "b"})).await;
    assert_eq!(answer.code(), "conflicting_arguments");
}

#[tokio::test]
async fn bad_labels_of_callers_are_refused() {
    let (client, port) = (McpClient::stdio(&[]).await, RefusingPort::new());
    let long = "a".repeat(10_000);
    for agent in ["a\u{1b}[31m", "a\u{202e}b", "a\0", "a\nb", "7b6f7a3e-0f9c-4a53-9f1e-1c1f5f0a3b11", &long] {
        let arguments = json!({"address": port.address(), "username": "u", "agent_id": agent});
        assert_refused(&client.call("ssh_connect", arguments).await, "invalid_name", "agent_id", agent);
    }
}

#[tokio::test]
async fn bad_commands_are_refused_and_nothing_is_run() {
    let host = EmbeddedHost::start().await.expect("a host");
    let session = Session::on_host(&host, &[]).await;
    let huge = "x".repeat(1 << 20);
    let over = "x".repeat((1 << 20) + 1);
    for tool in ["ssh_execute", "ssh_execute_async"] {
        for (arguments, code, argument) in [
            (json!({"command": ""}), "invalid_argument", "command"),
            (json!({"command": " \n\t"}), "invalid_argument", "command"),
            (json!({"command": "true\0id"}), "invalid_argument", "command"),
            (json!({"command": huge}), "command_too_long", "command"),
            (json!({"command": "true", "cwd": "/tmp\0"}), "invalid_argument", "cwd"),
            (json!({"command": "true", "cwd": "/tmp\nid"}), "invalid_argument", "cwd"),
            (json!({"command": "true", "cwd": huge}), "out_of_range", "cwd"),
            (json!({"command": "true", "stdin": over}), "out_of_range", "stdin"),
            (json!({"command": "true", "stdin": ["x"]}), "invalid_argument", "stdin"),
        ] {
            let answer = session.call(tool, arguments.clone()).await;
            assert_refused(&answer, code, argument, &arguments.to_string());
        }
    }
    // Nothing stands in the list of commands: nothing of it was ever begun.
    assert_eq!(session.call("ssh_list_commands", json!({})).await.success()["count"], 0);
    let kept = session.call("ssh_execute", json!({"command": "cat\nprintf end", "stdin": "a\0b\n"})).await.success();
    assert_eq!(kept["stdout_bytes"], 7, "a line break and NUL in stdin are bytes like others: {kept}");
}

#[tokio::test]
async fn every_fault_of_the_arguments_is_told_in_one_answer() {
    let client = McpClient::stdio(&[]).await;
    let arguments = json!({"host": "h", "username": 5, "timeout_secs": "5s", "max_retries": -1, "compress": "perhaps"});
    let answer = client.call("ssh_connect", arguments).await;
    assert_refusal(&answer.structured);
    let faults = answer.structured["faults"].as_array().expect("a list");
    let told: Map<String, Value> =
        faults.iter().map(|fault| (fault["argument"].as_str().unwrap().to_owned(), fault["code"].clone())).collect();
    let expected = json!({"host": "unknown_argument", "username": "invalid_argument", "timeout_secs": "invalid_argument",
        "max_retries": "out_of_range", "compress": "invalid_argument", "address": "missing_argument"});
    assert_eq!(Value::Object(told), expected);
    for fault in faults {
        assert!(fault["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{fault}");
    }
}

#[tokio::test]
async fn a_refusal_holds_neither_secret_nor_content_of_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("key");
    std::fs::write(&file, "canary-in-the-file\n".repeat(100)).expect("a file");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a file of ours");
    let (client, port) = (McpClient::stdio(&[]).await, RefusingPort::new());
    let connect = |more: Value| {
        let mut all = json!({"address": port.address(), "username": "u", "max_retries": 0});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.call("ssh_connect", all)
    };
    let path = |path: &Path| json!({"key_path": path, "password": null});
    for more in
        [path(&file), json!({"password": "canary-1"}), json!({"password": ["canary-2"]}), json!({"passwd": "canary-3"})]
    {
        let answer = connect(more).await;
        assert!(answer.is_error, "{}", answer.text);
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
    assert!(!client.stderr().contains("canary"), "{}", client.stderr());
}
