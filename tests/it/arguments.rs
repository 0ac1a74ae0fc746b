//! How arguments are read: what is taken though it is not quite right, and what is refused, and how.

use serde_json::{Value, json};
use ssh_mcp::{
    error::Code,
    mcp::{
        arguments::FAULTS_LIMIT,
        commands::{self, tool::Tool},
    },
};

fn tool(name: &str) -> Tool {
    commands::tools().into_iter().find(|tool| tool.name == name).unwrap()
}

fn object(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// What the tool gets of these arguments.
#[track_caller]
fn taken(name: &str, arguments: Value) -> Value {
    match tool(name).read(object(arguments)) {
        Ok(values) => Value::Object(values),
        Err(failure) => panic!("refused: {}", failure.message),
    }
}

/// What the caller is answered instead.
#[track_caller]
fn refused(name: &str, arguments: Value) -> Value {
    let failure = tool(name).read(object(arguments)).expect_err("taken");
    let answer = Value::Object(failure.into_object());
    assert_eq!(answer["retryable"], false);
    assert!(answer["message"].as_str().unwrap().chars().count() <= 300, "{answer}");
    assert!(answer["hint"].as_str().unwrap().chars().count() <= 300, "{answer}");
    answer
}

/// `arguments` beside those that `ssh_execute` requires.
fn execute(arguments: Value) -> Value {
    let mut all = json!({ "session_id": "S", "command": "true" });
    all.as_object_mut().unwrap().extend(object(arguments));
    all
}

/// `arguments` beside those that `ssh_connect` requires.
fn connect(arguments: Value) -> Value {
    let mut all = json!({ "address": "h" });
    all.as_object_mut().unwrap().extend(object(arguments));
    all
}

fn forward(local_port: Value, remote_port: Value) -> Value {
    json!({ "session_id": "S", "local_port": local_port, "remote_address": "localhost", "remote_port": remote_port })
}

#[test]
fn numbers_are_read_from_strings_and_whole_floats() {
    for sixty in [json!(60), json!("60"), json!(" 60 "), json!(60.0), json!(6e1)] {
        assert_eq!(taken("ssh_execute", execute(json!({ "timeout_secs": sixty })))["timeout_secs"], 60, "{sixty}");
    }
}

#[test]
fn booleans_are_read_from_strings() {
    for (said, meant) in [(json!("true"), true), (json!("True"), true), (json!("false"), false), (json!(true), true)] {
        assert_eq!(taken("ssh_connect", connect(json!({ "persistent": said })))["persistent"], meant);
    }
}

#[test]
fn null_is_absent() {
    let all = connect(json!({
        "username": null, "password": null, "timeout_secs": null, "compress": null, "max_retries": null, "session_id": null
    }));
    assert_eq!(taken("ssh_connect", all), json!({ "address": "h" }));
}

#[test]
fn the_string_null_is_absent_for_numbers_and_booleans_only() {
    let all = connect(json!({ "timeout_secs": "null", "compress": "null", "persistent": "", "name": "null" }));
    assert_eq!(taken("ssh_connect", all), json!({ "address": "h", "name": "null" }));
}

#[test]
fn empty_strings_are_absent_where_they_are_optional() {
    let all = connect(json!({ "password": "", "username": "", "key_path": "", "session_id": " ", "agent_id": "" }));
    assert_eq!(taken("ssh_connect", all), json!({ "address": "h" }));
    assert_eq!(taken("ssh_list_commands", json!({ "status": "", "session_id": "" })), json!({}));
}

#[test]
fn zero_is_the_default_of_time_outs_and_max_bytes_and_a_value_elsewhere() {
    assert_eq!(taken("ssh_execute", execute(json!({ "timeout_secs": 0 }))), execute(json!({})));
    let all = json!({ "command_id": "C", "wait_timeout_secs": "0", "max_bytes": 0.0, "stdout_offset": 0 });
    assert_eq!(taken("ssh_get_command_output", all), json!({ "command_id": "C", "stdout_offset": 0 }));
    assert_eq!(taken("ssh_connect", connect(json!({ "max_retries": 0 })))["max_retries"], 0);
    assert_eq!(taken("ssh_forward", forward(json!(0), json!(80)))["local_port"], 0);
}

#[test]
fn white_space_around_ids_and_addresses_is_dropped_and_commands_stay_as_they_are() {
    let all = json!({ "session_id": " S\n", "command": " echo hi ", "stdin": " x\n" });
    assert_eq!(taken("ssh_execute", all), json!({ "session_id": "S", "command": " echo hi ", "stdin": " x\n" }));
    assert_eq!(taken("ssh_connect", json!({ "address": "\th:22 " })), json!({ "address": "h:22" }));
}

#[test]
fn a_longer_wait_is_cut_and_not_refused() {
    let all = json!({ "command_id": "C", "wait_timeout_secs": 1_000_000 });
    assert_eq!(taken("ssh_get_command_output", all)["wait_timeout_secs"], 86_400);
}

#[test]
fn shadow_names_are_refused_and_the_right_one_is_named() {
    let cases = [
        ("ssh_connect", "host", "address"),
        ("ssh_connect", "hostname", "address"),
        ("ssh_connect", "server", "address"),
        ("ssh_connect", "port", "address"),
        ("ssh_connect", "user", "username"),
        ("ssh_connect", "key", "key_path"),
        ("ssh_connect", "private_key", "key_path"),
        ("ssh_connect", "identity_file", "key_path"),
        ("ssh_connect", "timeout", "timeout_secs"),
        ("ssh_connect", "addres", "address"),
        ("ssh_connect", "keyPath", "key_path"),
        ("ssh_execute", "cmd", "command"),
        ("ssh_execute", "sessionId", "session_id"),
        ("ssh_execute", "working_directory", "cwd"),
        ("ssh_execute", "timeout", "timeout_secs"),
        ("ssh_get_command_output", "timeout", "wait_timeout_secs"),
        ("ssh_get_command_output", "id", "command_id"),
        ("ssh_forward", "host", "remote_address"),
        ("ssh_forward", "port", "remote_port"),
        ("ssh_disconnect", "session", "session_id"),
    ];
    for (name, said, meant) in cases {
        let answer = refused(name, json!({ said: "x" }));
        let fault = answer["faults"].get(0).unwrap_or(&answer);
        assert_eq!((&fault["code"], &fault["argument"]), (&json!("unknown_argument"), &json!(said)), "{answer}");
        assert_eq!(fault["did_you_mean"], meant, "{name} {said}");
    }
    let answer = refused("ssh_connect", connect(json!({ "port": 2222 })));
    assert_eq!(answer["hint"], "Write the port into address: \"host:port\".");
}

#[test]
fn jump_hosts_under_another_name_are_refused_with_the_right_one() {
    for name in ["jump_host", "proxy_jump", "ProxyJump", "bastion"] {
        let answer = refused("ssh_connect", connect(json!({ name: "bastion" })));
        assert_eq!((&answer["code"], &answer["did_you_mean"]), (&json!("unknown_argument"), &json!("jump")), "{name}");
    }
    let answer = refused("ssh_connect", connect(json!({ "proxy_command": "nc a 22" })));
    assert!(answer["hint"].as_str().unwrap().contains("\"jump\""), "{answer}");
}

#[test]
fn an_argument_like_no_other_is_told_what_there_is() {
    let answer = refused("ssh_disconnect", json!({ "session_id": "S", "frobnicate": 1 }));
    assert_eq!(answer["code"], "unknown_argument");
    assert_eq!(answer["did_you_mean"], Value::Null);
    assert_eq!(answer["hint"], "Leave it out. This tool takes: session_id.");
}

#[test]
fn a_missing_argument_is_refused() {
    for arguments in [json!({ "command": "true" }), json!({ "command": "true", "session_id": null })] {
        let answer = refused("ssh_execute", arguments);
        assert_eq!((&answer["code"], &answer["argument"]), (&json!("missing_argument"), &json!("session_id")));
    }
}

#[test]
fn what_is_no_plain_number_is_refused() {
    for said in [
        json!("1e3"),
        json!("60s"),
        json!("5 s"),
        json!(1.5),
        json!("1.5"),
        json!("0x10"),
        json!("NaN"),
        json!(true),
        json!([60]),
        json!({}),
    ] {
        let answer = refused("ssh_execute", execute(json!({ "timeout_secs": said })));
        assert_eq!(
            (&answer["code"], &answer["argument"]),
            (&json!("invalid_argument"), &json!("timeout_secs")),
            "{said}"
        );
        assert_eq!((&answer["minimum"], &answer["maximum"]), (&json!(1), &json!(86_400)), "{said}");
    }
}

#[test]
fn numbers_beyond_their_range_are_refused_with_the_limits() {
    for said in [
        json!(-1),
        json!("-1"),
        json!(86_401),
        json!(1e308),
        json!(u64::MAX),
        json!("9".repeat(99)),
        json!(format!("-{}", "9".repeat(99))),
    ] {
        let answer = refused("ssh_execute", execute(json!({ "timeout_secs": said })));
        assert_eq!(answer["code"], "out_of_range", "{said}");
        assert_eq!((&answer["minimum"], &answer["maximum"]), (&json!(1), &json!(86_400)), "{said}");
    }
    let answer = refused("ssh_get_command_output", json!({ "command_id": "C", "max_bytes": 40_001 }));
    assert_eq!((&answer["code"], &answer["maximum"]), (&json!("out_of_range"), &json!(40_000)));
}

#[test]
fn bad_ports_are_invalid_port() {
    for (local, remote, argument) in [
        (json!(-1), json!(80), "local_port"),
        (json!(65_536), json!(80), "local_port"),
        (json!(0), json!(0), "remote_port"),
        (json!(0), json!(1e9), "remote_port"),
        (json!(0), json!(22.5), "remote_port"),
        (json!(0), json!("22x"), "remote_port"),
    ] {
        let answer = refused("ssh_forward", forward(local, remote));
        assert_eq!((&answer["code"], &answer["argument"]), (&json!("invalid_port"), &json!(argument)), "{answer}");
    }
    assert_eq!(taken("ssh_forward", forward(json!("0"), json!("22")))["remote_port"], 22);
}

#[test]
fn words_are_those_of_the_enumeration() {
    assert_eq!(taken("ssh_list_commands", json!({ "status": " running " })), json!({ "status": "running" }));
    let answer = refused("ssh_list_commands", json!({ "status": "done" }));
    assert_eq!(answer["code"], "invalid_argument");
    assert_eq!(answer["allowed"], json!(["running", "completed", "cancelled", "failed"]));
}

#[test]
fn strings_are_not_made_of_other_things() {
    for said in [json!(5), json!(true), json!(["ls"]), json!({ "a": 1 })] {
        let answer = refused("ssh_execute", json!({ "session_id": "S", "command": said }));
        assert_eq!(answer["code"], "invalid_argument");
    }
}

#[test]
fn all_faults_are_told_in_one_answer() {
    let answer =
        refused("ssh_connect", json!({ "host": "h", "timeout_secs": "60s", "max_retries": -1, "compress": 1 }));
    assert_eq!(answer["code"], "unknown_argument");
    let faults: Vec<_> = answer["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| (fault["code"].as_str().unwrap(), fault["argument"].as_str().unwrap()))
        .collect();
    assert_eq!(
        faults,
        [
            ("unknown_argument", "host"),
            ("invalid_argument", "timeout_secs"),
            ("out_of_range", "max_retries"),
            ("invalid_argument", "compress"),
            ("missing_argument", "address")
        ]
    );
    assert!(answer["faults"][0]["hint"].is_string() && answer["faults"][0]["did_you_mean"] == "address");
}

#[test]
fn a_refused_argument_is_not_missing_as_well() {
    let answer = refused("ssh_disconnect", json!({ "session_id": 7 }));
    assert_eq!((&answer["code"], answer.get("faults")), (&json!("invalid_argument"), None));
}

#[test]
fn a_secret_is_never_repeated() {
    for password in [json!(["hunter2"]), json!({ "hunter2": "hunter2" }), json!(22_022_022)] {
        let answer = refused("ssh_connect", json!({ "password": password })).to_string();
        assert!(!answer.contains("hunter2") && !answer.contains("22022022"), "{answer}");
    }
    let arguments = tool("ssh_connect").read(object(connect(json!({ "password": "hunter2" })))).unwrap();
    let params: commands::session::ConnectParams = serde_json::from_value(Value::Object(arguments)).unwrap();
    assert!(!format!("{params:?}").contains("hunter2"));
}

#[test]
fn hostile_names_and_values_are_escaped_and_shortened() {
    let evil = format!("\u{1b}[31m\u{202e}{}", "x".repeat(100_000));
    let answer = refused("ssh_disconnect", json!({ "session_id": "S", evil.as_str(): 1 }));
    assert!(answer.to_string().len() < 1000);
    assert!(!answer.to_string().contains(['\u{1b}', '\u{202e}']));
    let answer = refused("ssh_execute", execute(json!({ "timeout_secs": evil })));
    assert!(answer.to_string().len() < 1000, "{answer}");
    assert!(!answer.to_string().contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn a_flood_of_faults_has_a_bounded_answer() {
    let arguments: serde_json::Map<_, _> = (0..100_000).map(|i| (format!("argument_{i}"), json!(1))).collect();
    let failure = tool("ssh_connect").read(arguments).expect_err("taken");
    assert_eq!(failure.code, Code::UnknownArgument);
    let answer = Value::Object(failure.into_object());
    assert_eq!(answer["faults"].as_array().unwrap().len(), FAULTS_LIMIT);
    assert!(answer.to_string().len() < 10_000);
}
