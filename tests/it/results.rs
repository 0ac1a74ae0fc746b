//! What results and failures look like on the wire, for every tool.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};
use ssh_mcp::{
    app::{App, Cancelled, CommandPage, CommandView, Disconnected, HostPage, Until},
    error::{Code, Detail, Details},
    mcp::{
        commands::{self, command, forward, hosts, session, tool::Reply},
        failure::{Failure, clip},
        schema,
    },
    ssh::{
        async_command::{CommandInfo, Status},
        ids::{Owner, SessionId},
        output::{Form, Found, Source, StreamView},
    },
};

use crate::samples;

fn wire<T: Serialize>(reply: Reply<T>) -> Value {
    Value::Object(reply.into_object().unwrap())
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// One success of each tool at least, with every field that it can have somewhere.
fn successes() -> Vec<(&'static str, Value)> {
    let ended = || samples::view(samples::completed("make", 2), samples::long_stream(), samples::stream("x"));
    let failed = |info: CommandInfo| CommandInfo {
        status: Status::Failed,
        exit_status: None,
        error: Some(Arc::new(an_app_error())),
        ..info
    };
    let running = || {
        samples::view(
            samples::running("make"),
            samples::stream("a"),
            StreamView { total_bytes: 7, shown: None, lost: None },
        )
    };
    let lost = || samples::view(failed(samples::completed("make", 0)), samples::stream("a"), samples::stream(""));
    let in_base64 = || {
        let mut view = ended();
        view.output.form = Form::Base64;
        view
    };
    let cancelled = |cancelled| Cancelled { cancelled, view: ended() };
    let found = Found { source: Source::Stderr, end: 7, line: "ready".into() };
    let waited = |found| CommandView { until: Some(Until { found, ..Until::default() }), ..running() };
    let page = CommandPage { commands: vec![samples::running("a"), samples::completed("b", 0)], more: true };
    let closed =
        Disconnected { session_id: SessionId::random(), was_open: true, commands_cancelled: 2, forwards_closed: 1 };
    vec![
        ("ssh_connect", wire(session::connect_reply(samples::connected(), true))),
        ("ssh_execute", wire(command::execute_reply(ended()))),
        ("ssh_execute", wire(command::execute_reply(in_base64()))),
        ("ssh_execute", wire(command::execute_reply(running()))),
        ("ssh_execute", wire(command::execute_reply(lost()))),
        ("ssh_execute_async", wire(command::start_reply(&samples::running("make")))),
        ("ssh_get_command_output", wire(command::output_reply(waited(None)))),
        ("ssh_get_command_output", wire(command::output_reply(waited(Some(found.clone()))))),
        ("ssh_get_command_output", wire(command::output_reply(ended()))),
        ("ssh_get_command_output", wire(command::output_reply(running()))),
        ("ssh_get_command_output", wire(command::output_reply(lost()))),
        ("ssh_list_commands", wire(command::list::list_reply(&page))),
        ("ssh_cancel_command", wire(command::cancel_reply(cancelled(true)))),
        ("ssh_cancel_command", wire(command::cancel_reply(cancelled(false)))),
        ("ssh_forward", wire(forward::forward_reply(&samples::forward(), &samples::session()))),
        ("ssh_disconnect", wire(session::disconnect_reply(&closed))),
        ("ssh_list_sessions", wire(session::list_reply(vec![samples::session()], false))),
        ("ssh_list_sessions", wire(session::list_reply(Vec::new(), false))),
        ("ssh_list_hosts", wire(hosts::list_reply(samples::hosts()))),
        ("ssh_list_hosts", wire(hosts::list_reply(HostPage { hosts: Vec::new(), more: false }))),
    ]
}

/// Any failure of the app: what it is matters nothing here.
fn an_app_error() -> ssh_mcp::app::Error {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let app = App::new(samples::settings());
        let cancelled = app.cancel(&Owner::new("test"), "no such command").await;
        cancelled.expect_err("a command out of nowhere")
    })
}

/// Details as errors of every layer carry them.
fn details() -> Details {
    let record = Details::new().text("session_id", "S").text("host", "h").number("port", 22_u64);
    Details::new()
        .text("host", "h")
        .number("port", 22_u64)
        .text("username", "u")
        .text("session_id", "S")
        .text("name", "n")
        .text("reason", "idle")
        .number("retry_attempts", 3_u64)
        .with("running", Detail::Texts(vec!["C".into()]))
        .with("candidates", Detail::Records(vec![record]))
}

/// Where `value` does not fit `schema`: the part of JSON Schema that we emit.
fn misfits(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        _ => false,
    };
    if !fits {
        return vec![format!("{path} is {value}")];
    }
    let word = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let mut found: Vec<String> = (!word).then(|| format!("{path} is {value}")).into_iter().collect();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let value = value.get(name);
        found.extend(value.into_iter().flat_map(|value| misfits(member, value, &format!("{path}.{name}"))));
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(misfits(&schema["items"], item, &format!("{path}[{i}]")));
    }
    found
}

fn output_schema(name: &str) -> Value {
    let tools = commands::tools();
    Value::Object(schema::output(&tools.iter().find(|tool| tool.name == name).unwrap().output))
}

/// Names of `value` that `schema` does not have, at any depth.
fn unlisted(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(node) => found.extend(unlisted(node, member)),
            None => found.push(name.clone()),
        }
    }
    for item in value.as_array().into_iter().flatten() {
        found.extend(unlisted(&schema["items"], item));
    }
    found
}

/// The fields of a tool's results that the list of tools leaves out.
fn documented_only(name: &str) -> Vec<String> {
    let tools = commands::tools();
    let tool = tools.iter().find(|tool| tool.name == name).unwrap();
    let marked = schema::properties(&tool.output).filter(|(_, node)| node.contains_key(schema::UNLISTED));
    marked.map(|(name, _)| name.clone()).collect()
}

#[test]
fn every_success_fits_its_schema_and_has_no_other_fields() {
    let successes = successes();
    for tool in commands::tools() {
        assert!(successes.iter().any(|(name, _)| *name == tool.name), "no example of {}", tool.name);
    }
    for (name, value) in &successes {
        let schema = output_schema(name);
        assert_eq!(misfits(&schema, value, name), Vec::<String>::new());
        let mut unlisted = unlisted(&schema, value);
        // `notices` may stand on any result and is listed in none; others are documented and not listed.
        let documented = documented_only(name);
        unlisted.retain(|name| name != "notices" && !documented.contains(name));
        assert_eq!(unlisted, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn every_failure_fits_every_schema() {
    for tool in commands::tools() {
        let schema = output_schema(tool.name);
        for code in Code::ALL {
            let failure = Failure { details: details(), ..Failure::new(*code, "what failed", "the next step") };
            assert_eq!(misfits(&schema, &Value::Object(failure.into_object()), tool.name), Vec::<String>::new());
        }
        let faults = tool.read(json!({ "x": 1, "y": 2 }).as_object().unwrap().clone()).expect_err("taken");
        assert_eq!(misfits(&schema, &Value::Object(faults.into_object()), tool.name), Vec::<String>::new());
    }
}

#[test]
fn every_field_of_every_schema_is_written_somewhere() {
    fn names(value: &Value, found: &mut Vec<String>) {
        for (name, member) in value.as_object().into_iter().flatten() {
            found.push(name.clone());
            names(member, found);
        }
        value.as_array().into_iter().flatten().for_each(|item| names(item, found));
    }
    let mut written = Vec::new();
    successes().iter().for_each(|(_, value)| names(value, &mut written));
    written.extend(["code", "message", "hint", "retryable"].map(String::from));
    written.extend(
        ["exit_signal", "remote_ended", "reconnected", "stderr_omitted_from", "stderr_omitted_bytes"].map(String::from),
    );
    for tool in commands::tools() {
        for (name, _) in schema::properties(&tool.output) {
            assert!(written.contains(name), "{} {name}", tool.name);
        }
    }
}

#[test]
fn fields_of_a_command_stand_in_the_order_of_the_contract() {
    let view = samples::view(samples::completed("make", 2), samples::long_stream(), samples::stream("oops"));
    let order = [
        "status",
        "exit_code",
        "timed_out",
        "command_id",
        "session_id",
        "host",
        "port",
        "username",
        "duration_ms",
        "timeout_secs",
        "stdout_bytes",
        "stderr_bytes",
        "truncated",
        "next_stdout_offset",
        "next_stderr_offset",
        "stdout_omitted_from",
        "stdout_omitted_bytes",
        "stderr",
        "stdout",
    ];
    assert_eq!(keys(&wire(command::execute_reply(view))), order);
}

#[test]
fn fields_of_a_session_stand_in_the_order_of_the_contract() {
    let order = [
        "session_id",
        "message",
        "host",
        "port",
        "username",
        "name",
        "agent_id",
        "authenticated",
        "auth_method",
        "retry_attempts",
        "reused",
        "reuse_refused",
        "persistent",
        "timeout_secs",
        "compression_enabled",
        "host_key",
        "server_version",
        "other_sessions",
        "hint",
        "notices",
        "resolved",
    ];
    assert_eq!(keys(&wire(session::connect_reply(samples::connected(), true))), order);
    let row = [
        "session_id",
        "name",
        "host",
        "port",
        "username",
        "jump",
        "connected_at",
        "last_health_check",
        "healthy",
        "persistent",
        "agent_id",
        "running_commands",
        "forwards",
        "retry_attempts",
        "compression_enabled",
        "default_timeout_secs",
    ];
    assert_eq!(keys(&wire(session::list_reply(vec![samples::session()], false))["sessions"][0]), row);
}

#[test]
fn what_matters_stands_in_the_first_1000_bytes() {
    let info = CommandInfo { remote_ended: Some(false), ..samples::running(&"\u{1}".repeat(400)) };
    let stderr = StreamView { ..samples::long_stream() };
    let text = wire(command::output_reply(samples::view(info, samples::long_stream(), stderr))).to_string();
    let head = clip(&text, 1000);
    for field in [
        "status",
        "command_id",
        "session_id",
        "host",
        "next_stdout_offset",
        "next_stderr_offset",
        "wait_limited_to_secs",
    ] {
        assert!(head.contains(&format!("\"{field}\":")), "{field} in {head}");
    }
    assert!(head.contains("do not run it again") && head.contains("wait=true.\""), "{head}");
    assert!(text.find("\"stderr\":") < text.find("\"stdout\":"));
    assert!(text.ends_with("x\"}"));
}

#[test]
fn empty_strings_false_and_zero_are_there_and_the_unknown_is_not() {
    let view = samples::view(samples::completed("true", 0), samples::stream(""), samples::stream(""));
    let value = wire(command::execute_reply(view));
    assert_eq!((&value["exit_code"], &value["stdout"], &value["stderr"]), (&json!(0), &json!(""), &json!("")));
    assert_eq!(
        (&value["timed_out"], &value["truncated"], &value["stdout_bytes"]),
        (&json!(false), &json!(false), &json!(0))
    );
    for unknown in ["exit_signal", "timeout_remaining_secs", "error", "hint", "notices", "stdout_omitted_from"] {
        assert_eq!(value.get(unknown), None, "{unknown}");
    }
}

#[test]
fn time_that_remains_is_told_only_while_running() {
    let view = samples::view(samples::running("make"), samples::stream(""), samples::stream(""));
    let value = wire(command::execute_reply(view));
    assert_eq!((&value["timeout_remaining_secs"], value.get("exit_code")), (&json!(136), None));
}

#[test]
fn the_stream_that_was_not_asked_for_has_its_total_only() {
    let stderr = StreamView { total_bytes: 7, shown: None, lost: None };
    let value = wire(command::output_reply(samples::view(samples::completed("x", 0), samples::stream("abc"), stderr)));
    assert_eq!(value["stderr_bytes"], 7);
    for field in ["stderr", "stderr_offset", "next_stderr_offset", "stderr_omitted_from"] {
        assert_eq!(value.get(field), None, "{field}");
    }
    assert_eq!((&value["stdout_offset"], &value["next_stdout_offset"]), (&json!(0), &json!(3)));
}

#[test]
fn commands_are_echoed_to_200_characters() {
    let value = wire(command::start_reply(&samples::running(&"ä".repeat(201))));
    let echoed = value["command"].as_str().unwrap();
    assert_eq!((echoed.chars().count(), echoed.ends_with("ä…")), (200, true));
    let value = wire(command::start_reply(&samples::running(&"ä".repeat(200))));
    assert_eq!(value["command"], "ä".repeat(200));
}

#[test]
fn a_start_that_waited_has_the_fields_of_a_look_at_the_command() {
    let found = Found { source: Source::Stdout, end: 7, line: "ready".into() };
    let view = samples::view(samples::running("make"), samples::stream("is ready"), samples::stream(""));
    let value = wire(command::started_until_reply(CommandView {
        until: Some(Until { found: Some(found), ..Until::default() }),
        ..view
    }));
    assert_eq!(misfits(&output_schema("ssh_get_command_output"), &value, ""), Vec::<String>::new());
    let own = output_schema("ssh_execute_async");
    assert_eq!(misfits(&own, &value, ""), Vec::<String>::new());
    let waited = output_schema("ssh_get_command_output");
    let documented = documented_only("ssh_get_command_output");
    let listed = |name: &str| own["properties"].get(name).or_else(|| waited["properties"].get(name)).is_some();
    let known = |name: &&str| listed(name) || documented.iter().any(|known| known == name);
    assert_eq!(keys(&value).into_iter().filter(|name| !known(name)).collect::<Vec<_>>(), Vec::<&str>::new());
    let head: Vec<_> = keys(&value).into_iter().take(5).collect();
    assert_eq!(head, ["command_id", "status", "until_matched", "matched_in", "matched_end_offset"]);
    assert_eq!(keys(&value).last(), Some(&"stdout"));
}

#[test]
fn a_wait_in_vain_says_how_to_wait_on() {
    let view = samples::view(samples::running("make"), samples::stream(""), samples::stream(""));
    let value = wire(command::output_reply(CommandView { until: Some(Until::default()), ..view }));
    assert_eq!((&value["until_matched"], value.get("matched_line")), (&json!(false), None));
    let hint = value["hint"].as_str().unwrap();
    assert!(hint.contains("has not appeared yet") && hint.contains("same until"), "{hint}");
}

#[test]
fn a_started_command_says_when_it_will_be_ended() {
    let info = CommandInfo { timeout: Duration::from_secs(1800), ..samples::running("make") };
    let value = wire(command::start_reply(&info));
    assert_eq!(value["timeout_secs"], 1800);
    assert_eq!(value["started_at"], "2026-11-22T13:24:00.250Z");
    assert!(value["message"].as_str().unwrap().contains("2026-11-22T13:54:00.250Z"), "{value}");
}

#[test]
fn a_password_brings_a_notice() {
    let notices =
        |with_password| wire(session::connect_reply(samples::connected(), with_password))["notices"].to_string();
    assert!(notices(true).contains("Prefer password_ref, the SSH agent or key_path"));
    assert!(!notices(false).contains("prefer"));
}

#[test]
fn a_forward_names_both_ends() {
    let value = wire(forward::forward_reply(&samples::forward(), &samples::session()));
    assert_eq!((&value["local_address"], &value["remote_address"]), (&json!("127.0.0.1:8080"), &json!("[::1]:3000")));
    assert_eq!(
        keys(&value),
        ["forward_id", "local_address", "remote_address", "active", "session_id", "host", "port", "username"]
    );
}

#[test]
fn a_failure_has_code_message_hint_retryable_and_then_its_data() {
    let failure = Failure {
        details: Details::new().text("host", "h").text("code", "x"),
        ..Failure::new(Code::Busy, "m".repeat(999), "h")
    };
    let value = Value::Object(failure.into_object());
    assert_eq!(keys(&value), ["code", "message", "hint", "retryable", "host"]);
    assert_eq!((&value["code"], value["message"].as_str().unwrap().chars().count()), (&json!("busy"), 300));
}
