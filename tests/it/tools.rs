//! What `tools/list` shows: the contract's names, annotations and limits, in shapes that every client takes.

use std::{fs, path::Path};

use serde_json::{Value, json};
use ssh_mcp::mcp::{commands, texts::Numbers};

/// Bytes that the whole list may have, 15 tools at most: it is paid for in every conversation.
const LIST_LIMIT: usize = 20_000;

fn listed() -> Vec<Value> {
    let numbers = Numbers::default();
    commands::tools().iter().map(|tool| json!(tool.listed(&numbers))).collect()
}

/// Every node of a schema, with the way to it.
fn nodes(schema: &Value) -> Vec<(String, &Value)> {
    let mut found = vec![(String::new(), schema)];
    let mut next = 0;
    while let Some((path, node)) = found.get(next).cloned() {
        let members = node["properties"].as_object().into_iter().flatten();
        found.extend(members.map(|(name, node)| (format!("{path}.{name}"), node)));
        found.extend(node.get("items").map(|node| (format!("{path}[]"), node)));
        next += 1;
    }
    found
}

#[test]
fn each_tool_is_its_snapshot() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/tools");
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    for tool in listed() {
        let path = folder.join(format!("{}.json", tool["name"].as_str().unwrap()));
        let now = format!("{tool:#}\n");
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &now).unwrap();
        }
        let snapshot = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            snapshot == now,
            "{} changed: run UPDATE_SNAPSHOTS=1 cargo test snapshot, and read the diff",
            path.display()
        );
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), listed().len(), "a snapshot without a tool");
}

#[test]
fn tools_and_their_annotations_are_those_of_the_contract() {
    let rows = [
        ("ssh_connect", false, false, false, true),
        ("ssh_execute", false, true, false, true),
        ("ssh_execute_async", false, true, false, true),
        ("ssh_get_command_output", true, false, true, false),
        ("ssh_list_commands", true, false, true, false),
        ("ssh_cancel_command", false, true, true, true),
        ("ssh_forward", false, false, true, true),
        ("ssh_disconnect", false, true, true, true),
        ("ssh_list_sessions", true, false, true, true),
        ("ssh_list_hosts", true, false, true, false),
    ];
    let expected = rows.map(|(name, read_only, destructive, idempotent, open_world)| {
        (
            json!(name),
            json!({ "readOnlyHint": read_only, "destructiveHint": destructive, "idempotentHint": idempotent, "openWorldHint": open_world }),
        )
    });
    let found: Vec<_> = listed().into_iter().map(|tool| (tool["name"].clone(), tool["annotations"].clone())).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_list_and_its_texts_keep_their_limits() {
    let list = listed();
    let bytes = serde_json::to_string(&json!({ "tools": list })).unwrap().len();
    assert!(bytes <= LIST_LIMIT, "{bytes} bytes");
    for tool in &list {
        let length = tool["description"].as_str().unwrap().chars().count();
        assert!((1..=600).contains(&length), "{}: {length}", tool["name"]);
        assert!(!tool["title"].as_str().unwrap().is_empty());
    }
    let instructions = Numbers::default().instructions();
    assert!(instructions.chars().count() <= 2000, "{}", instructions.len());
}

#[test]
fn no_text_has_a_number_left_to_fill() {
    let text = format!("{}{}", Numbers::default().instructions(), json!(listed()));
    for name in ["answer_limit", "command_timeout", "connect_timeout", "inactivity", "max_", "retry_", "output_bytes"] {
        assert!(!text.contains(&format!("{{{name}")), "{name}");
    }
}

#[test]
fn numbers_in_texts_are_those_of_the_settings() {
    let mut settings = crate::samples::settings();
    settings.ssh.command_timeout = std::time::Duration::from_secs(77);
    settings.ssh.inactivity_timeout = std::time::Duration::from_secs(90);
    settings.answers.limit = std::time::Duration::from_secs(33);
    let numbers = Numbers::from(&settings);
    assert!(numbers.instructions().contains("No call lasts over 33 s; a command over its timeout_secs (default 77)"));
    let tools: Vec<_> = commands::tools().iter().map(|tool| json!(tool.listed(&numbers)).to_string()).collect();
    assert!(tools[0].contains("idle for 90 s is closed"));
    assert!(tools[1].contains("It is ended after this time (default 77)"));
}

#[test]
fn schemas_are_plain_trees() {
    for tool in listed() {
        for which in ["inputSchema", "outputSchema"] {
            assert_eq!(tool[which]["type"], "object");
            for (path, node) in nodes(&tool[which]) {
                let at = format!("{} {which}{path}", tool["name"]);
                let keys: Vec<_> = node.as_object().unwrap().keys().map(String::as_str).collect();
                let known = ["type", "description", "enum", "items", "properties", "required", "minimum", "maximum"];
                assert!(keys.iter().all(|key| known.contains(key)), "{at}: {keys:?}");
                let kind = node["type"].as_str().unwrap_or_else(|| panic!("{at} has no single type"));
                assert!(["object", "array", "string", "integer", "boolean"].contains(&kind), "{at}: {kind}");
                assert_eq!(kind == "array", node.get("items").is_some(), "{at}");
                let words = node["enum"].as_array();
                assert!(words.is_none_or(|words| kind == "string" && words.iter().all(Value::is_string)), "{at}");
            }
        }
    }
}

#[test]
fn inputs_are_flat_and_described() {
    for tool in listed() {
        let members = tool["inputSchema"]["properties"].as_object().unwrap();
        for (name, node) in members {
            let at = format!("{} {name}", tool["name"]);
            assert!(node.get("properties").is_none() && node.get("items").is_none(), "{at}");
            assert!(node["description"].as_str().is_some_and(|text| text.len() > 9), "{at}");
        }
        let required = tool["inputSchema"]["required"].as_array().cloned().unwrap_or_default();
        assert!(required.iter().all(|name| members.contains_key(name.as_str().unwrap())));
    }
}

#[test]
fn outputs_require_nothing_and_allow_failures() {
    for tool in listed() {
        for (path, node) in nodes(&tool["outputSchema"]) {
            assert!(node.get("required").is_none(), "{}{path}", tool["name"]);
        }
        let members = &tool["outputSchema"]["properties"];
        for (name, kind) in [("code", "string"), ("message", "string"), ("hint", "string"), ("retryable", "boolean")] {
            assert_eq!(members[name]["type"], kind, "{} {name}", tool["name"]);
        }
    }
}

#[test]
fn required_parameters_are_those_of_the_contract() {
    let required = |name: &str| {
        let tool = listed().into_iter().find(|tool| tool["name"] == name).unwrap();
        tool["inputSchema"]["required"].clone()
    };
    assert_eq!(required("ssh_connect"), json!(["address"]));
    assert_eq!(required("ssh_execute"), json!(["session_id", "command"]));
    assert_eq!(required("ssh_execute_async"), json!(["session_id", "command"]));
    assert_eq!(required("ssh_get_command_output"), json!(["command_id"]));
    assert_eq!(required("ssh_list_commands"), Value::Null);
    assert_eq!(required("ssh_cancel_command"), json!(["command_id"]));
    assert_eq!(required("ssh_forward"), json!(["session_id", "local_port", "remote_address", "remote_port"]));
    assert_eq!(required("ssh_disconnect"), json!(["session_id"]));
    assert_eq!(required("ssh_list_sessions"), Value::Null);
    assert_eq!(required("ssh_list_hosts"), Value::Null);
}

#[test]
fn every_time_out_is_an_integer_from_1_to_86400() {
    for tool in listed() {
        for (path, node) in nodes(&tool["inputSchema"]).into_iter().filter(|(path, _)| path.ends_with("timeout_secs")) {
            assert_eq!(
                (&node["type"], &node["minimum"], &node["maximum"]),
                (&json!("integer"), &json!(1), &json!(86_400)),
                "{path}"
            );
        }
    }
}
