//! Every parameter of every tool in `tools/list` against a corpus of what a caller should not send.

use serde_json::{Value, json};
use ssh_mcp::ssh::output::acts_or_hides;

use super::assert_refusal;
use crate::support::{embedded_host::EmbeddedHost, fake_server::RefusingPort, mcp_client::RawStdio};

/// The longest refusal, in bytes: its text stands in it twice.
const REFUSAL_BYTES: usize = 4 * 1024;
/// The longest answer at all: a list of 50 commands.
const ANSWER_BYTES: usize = 64 * 1024;

/// Values as JSON, since some of them are none.
fn corpus() -> Vec<String> {
    let plain = [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1",
        "1.5",
        "-0.0",
        "1e308",
        "-1e308",
        "1e400",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "9007199254740993",
        "[]",
        "{}",
        "[[[[1]]]]",
        "[null,\"x\"]",
        "{\"a\":{\"b\":[1]}}",
        "{\"a\":1,\"a\":2}",
        "\"\"",
        "\" \"",
        "\"null\"",
        "\"true\"",
        "\"5s\"",
        "\"NaN\"",
        "\"-1\"",
        "\"0x10\"",
        "\"1e3\"",
        "\"\\u0000\"",
        "\"a\\u0000b\"",
        "\"a\\nb\"",
        "\"\\u202eevil\"",
        "\"\\u001b[31mred\"",
        "\"\\u009b31m\"",
        "\"\\ufeff\"",
        "\"\\u3164\"",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "\"../../etc/shadow\"",
        "\"-oProxyCommand=id\"",
        "\"$(id)\"",
        "\"'; id; '\"",
        "NaN",
        "Infinity",
        "'x'",
        "\"unterminated",
    ];
    let mib = 1 << 20;
    let long = [
        format!("\"{}\"", "x".repeat(mib)),
        format!("\"{}\"", "9".repeat(mib)),
        format!("\"{}\"", "\u{202e}".repeat(mib / 3)),
        format!("\"{}\"", "\\u0000".repeat(mib / 6)),
        format!("{}{}", "[".repeat(100), "]".repeat(100)),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("[{}1]", "1,".repeat(mib / 16)),
    ];
    plain.map(str::to_owned).into_iter().chain(long).collect()
}

/// What must not come back, in the forms in which a caller may send it.
const SECRETS: [&str; 4] =
    ["\"canary-7117\"", "[\"canary-7117\"]", "{\"canary-7117\":\"canary-7117\"}", "71177117711771177117"];

/// Names that no tool has beside those that it has.
const NEIGHBOURS: [&str; 7] = ["", "x", "\\u0000", "\\u202e", "\\u001b[31m", "s\u{435}ssion_id", "__proto__"];

/// A server with an open session, spoken to line by line.
struct Probe {
    client: RawStdio,
    session: String,
    refusing: RefusingPort,
    next: u64,
    _host: EmbeddedHost,
    _key: tempfile::TempDir,
}

impl Probe {
    async fn start() -> Self {
        let host = EmbeddedHost::start().await.expect("a host");
        let key = tempfile::tempdir().expect("a directory");
        let path = key.path().join("key");
        host.write_client_key(&path).expect("a key file");
        let client = RawStdio::initialized(&[("SSH_ANSWER_LIMIT", "5")]).await;
        let mut probe =
            Self { client, session: String::new(), refusing: RefusingPort::new(), next: 1, _host: host, _key: key };
        let login = json!({"address": format!("127.0.0.1:{}", probe._host.port()), "username": "u", "key_path": path});
        probe.session =
            probe.called("ssh_connect", &login.to_string()).await["session_id"].as_str().unwrap().to_owned();
        probe
    }

    /// Calls a tool with these arguments and then pings; gives the answer to the call.
    async fn call(&mut self, tool: &str, arguments: &str) -> Value {
        let id = self.next;
        self.next += 2;
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#);
        self.client.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#)).await;
        let answer = loop {
            let message = self.client.message().await;
            // What could not be read as JSON is answered without an id.
            if message["id"] == id || message["id"].is_null() && message.get("error").is_some() {
                break message;
            }
        };
        let pong = self.client.request(id + 1, "ping", json!({})).await;
        assert_eq!(pong["result"], json!({}), "after {tool}");
        answer
    }

    /// The content of a success.
    async fn called(&mut self, tool: &str, arguments: &str) -> Value {
        let answer = self.call(tool, arguments).await;
        assert_eq!(answer["result"]["isError"], false, "{answer}");
        answer["result"]["structuredContent"].clone()
    }

    /// A command that has ended.
    async fn command(&mut self) -> String {
        let arguments = json!({"session_id": self.session, "command": "true"}).to_string();
        self.called("ssh_execute", &arguments).await["command_id"].as_str().unwrap().to_owned()
    }

    /// Arguments with which the tool does something harmless and quick, as JSON of each.
    fn arguments(&self, tool: &Value, command: &str) -> Vec<(String, String)> {
        let schema = &tool["inputSchema"];
        let required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let members = schema["properties"].as_object().expect("an object");
        let value = |name: &str| match name {
            "address" => Some(json!(self.refusing.address())),
            "username" => Some(json!("u")),
            "password" => Some(json!("canary-7117")),
            "session_id" if required(name) => Some(json!(self.session)),
            "command_id" => Some(json!(command)),
            "command" => Some(json!("true")),
            "max_retries" | "retry_delay_ms" | "local_port" => Some(json!(0)),
            "remote_address" => Some(json!("127.0.0.1")),
            "remote_port" => Some(json!(9)),
            name if required(name) => Some(json!("x")),
            _ => None,
        };
        members.keys().filter_map(|name| Some((name.clone(), value(name)?.to_string()))).collect()
    }
}

/// `arguments` with `name` as `value`.
fn with(arguments: &[(String, String)], name: &str, value: &str) -> String {
    let others =
        arguments.iter().filter(|(other, _)| other != name).map(|(other, value)| format!("\"{other}\":{value}"));
    let all: Vec<String> = others.chain([format!("\"{name}\":{value}")]).collect();
    format!("{{{}}}", all.join(","))
}

/// Whether a value would be looked up in the DNS: nothing but this machine is contacted.
fn names_a_host(parameter: &str, value: &str) -> bool {
    let text = value.trim_matches('"');
    let plain = text.len() < 254 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    parameter == "address" && value.starts_with('"') && !text.is_empty() && plain
}

fn assert_answer(answer: &Value, what: &str) {
    let what: String = what.chars().take(200).collect();
    let text = answer.to_string();
    assert!(text.len() <= ANSWER_BYTES, "{what}: {} bytes: {text:.500}", text.len());
    if let Some(error) = answer.get("error") {
        assert!([-32700, -32600].contains(&error["code"].as_i64().unwrap()), "{what}: {answer}");
        return;
    }
    let result = &answer["result"];
    let content = &result["structuredContent"];
    assert_eq!(result["content"][0]["text"], content.to_string(), "{what}");
    for text in ["message", "hint"] {
        assert!(!content[text].as_str().unwrap_or_default().contains(acts_or_hides), "{what}: {answer}");
    }
    if result["isError"] == true {
        assert!(text.len() <= REFUSAL_BYTES, "{what}: {} bytes: {text:.500}", text.len());
        assert_refusal(content);
    } else {
        assert!(content.is_object() && content.get("code").is_none(), "{what}: {answer}");
    }
}

#[tokio::test]
async fn no_value_of_any_parameter_of_any_tool_breaks_an_answer_first_third() {
    probe_tools(0).await;
}

#[tokio::test]
async fn no_value_of_any_parameter_of_any_tool_breaks_an_answer_second_third() {
    probe_tools(1).await;
}

#[tokio::test]
async fn no_value_of_any_parameter_of_any_tool_breaks_an_answer_last_third() {
    probe_tools(2).await;
}

/// Every third tool, so that three processors have something to do.
async fn probe_tools(third: usize) {
    let mut probe = Probe::start().await;
    let listed = probe.client.request(0, "tools/list", json!({})).await;
    let (corpus, mut calls) = (corpus(), 0);
    let tools = listed["result"]["tools"].as_array().expect("a list");
    for tool in tools.iter().skip(third).step_by(3) {
        let name = tool["name"].as_str().expect("a name");
        let command = probe.command().await;
        let arguments = probe.arguments(tool, &command);
        for parameter in tool["inputSchema"]["properties"].as_object().expect("an object").keys() {
            let secret = ["password", "passphrase", "secret", "token"].iter().any(|word| parameter.contains(word));
            let secrets = SECRETS.iter().filter(|_| secret).map(|value| (*value).to_owned());
            for value in corpus.iter().cloned().chain(secrets).filter(|value| !names_a_host(parameter, value)) {
                let answer = probe.call(name, &with(&arguments, parameter, &value)).await;
                assert_answer(&answer, &format!("{name} {parameter} {value}"));
                let said = answer.to_string();
                assert!(!said.contains("canary-7117") && !said.contains("71177117"), "{name} {parameter}: {said}");
                calls += 1;
            }
        }
        for neighbour in NEIGHBOURS {
            let answer = probe.call(name, &with(&arguments, neighbour, "\"x\"")).await;
            assert_answer(&answer, &format!("{name} beside {neighbour}"));
            assert_eq!(answer["result"]["structuredContent"]["code"], "unknown_argument", "{name} {neighbour:?}");
        }
        for all in ["[]", "3", "\"x\"", "true", "null"] {
            assert_answer(&probe.call(name, all).await, &format!("{name} with {all}"));
        }
        let twice = probe.call(name, "{\"x\":1,\"x\":2}").await;
        assert_eq!(twice["error"]["code"], -32600, "{name}: {twice}");
    }
    assert!(calls > 400, "{calls} calls");
}
