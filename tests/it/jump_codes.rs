//! Jump hosts that ask a person: each server on the way gets its own answers and no other's.

use std::{process::Command, time::Duration};

use russh::MethodKind;
use serde_json::{Value, json};

use crate::{
    alias::write_config,
    support::{
        embedded_host::{
            EmbeddedHost, Options,
            factors::{Ask, Factors},
        },
        home::{Home, with},
        mcp_client::{Does, HttpServer, Human, McpClient, RawStdio, ToolAnswer},
        session::text,
    },
};

/// Codes of the first hop, the second one and the end.
const CODES: [&str; 3] = ["canary-hop-one-11", "canary-hop-two-22", "canary-the-end-33"];
const PASSPHRASE: &str = "canary-phrase-77";
/// Questions of one way.
const QUESTIONS: usize = 22;

/// Servers in a row on loopback, reached by aliases.
struct Row {
    hosts: Vec<EmbeddedHost>,
    typed: Vec<std::sync::Arc<std::sync::Mutex<Vec<String>>>>,
    home: Home,
}

impl Row {
    /// Servers that want a key and then answers to these rounds; none: the key alone.
    async fn start(rounds: Vec<Vec<Vec<Ask>>>) -> Self {
        let (mut hosts, mut typed, home) = (Vec::new(), Vec::new(), Home::new());
        let mut config = String::new();
        for (at, rounds) in rounds.into_iter().enumerate() {
            let mut factors = Factors::default();
            if !rounds.is_empty() {
                factors.chain = vec![MethodKind::PublicKey, MethodKind::KeyboardInteractive];
                factors.rounds = rounds;
            }
            typed.push(factors.typed.clone());
            let host = Options::default().factors(factors).max_sessions(3).start().await.unwrap();
            let key = home.path().join(format!("key-{at}"));
            host.write_client_key(&key).unwrap();
            config += &format!(
                "Host h{at}\n  HostName 127.0.0.1\n  Port {}\n  User u{at}\n  IdentityFile {}\n  IdentitiesOnly yes\n",
                host.port(),
                key.display()
            );
            hosts.push(host);
        }
        write_config(&home, &config);
        Self { hosts, typed, home }
    }

    /// Two hops and an end, each with its code.
    async fn with_codes() -> Self {
        let round = |code: &&str| vec![vec![Ask::new("Verification code: ", code)]];
        Self::start(CODES.iter().map(round).collect()).await
    }

    fn env(&self) -> [(&str, &str); 2] {
        [("HOME", self.home.path().to_str().unwrap()), ("RUST_LOG", "trace")]
    }

    async fn client(&self, human: &Human, newer: bool) -> McpClient {
        McpClient::stdio_with(&self.env(), human, newer).await
    }

    fn connections(&self) -> Vec<usize> {
        self.hosts.iter().map(EmbeddedHost::connections).collect()
    }

    fn typed(&self) -> Vec<Vec<String>> {
        self.typed.iter().map(|typed| typed.lock().unwrap().clone()).collect()
    }
}

fn to_the_end() -> Value {
    json!({"address": "h2", "jump": "h0,h1"})
}

fn answers(codes: &[&str]) -> Does {
    Does::Each(codes.iter().map(|code| json!({"answer_1": code})).collect())
}

async fn run(client: &McpClient, opened: &Value, command: &str) -> ToolAnswer {
    client.call("ssh_execute", json!({"session_id": opened["session_id"], "command": command})).await
}

#[tokio::test]
async fn each_server_on_the_way_gets_the_answer_to_its_own_question_in_either_era() {
    for newer in [false, true] {
        let row = Row::with_codes().await;
        let human = Human::who(answers(&[CODES[0], CODES[1], CODES[2], CODES[2]]));
        let client = row.client(&human, newer).await;
        let answer = client.call_and_answer("ssh_connect", to_the_end()).await;
        assert!(!answer.is_error && !CODES.iter().any(|code| answer.text.contains(code)), "{}", answer.text);
        assert_eq!(answer.structured["auth_method"], "publickey,keyboard-interactive");
        let asked: Vec<_> = human.asked().iter().map(|question| text(&question["message"])).collect();
        assert_eq!(asked.len(), 3, "newer {newer}: {asked:?}");
        for (hop, message) in asked.iter().take(2).enumerate() {
            let who =
                format!("jump host u{hop}@127.0.0.1:{} (hop {} of 2 on the way to h2)", row.hosts[hop].port(), hop + 1);
            assert!(message.contains(&who) && message.contains("> Verification code:"), "{message}");
        }
        assert!(!asked[2].contains("hop") && asked[2].contains(&row.hosts[2].port().to_string()), "{}", asked[2]);
        assert_eq!(row.typed(), CODES.map(|code| vec![code.to_owned()]));
        assert_eq!(row.connections(), [2, 2, 2], "a question costs one connection, and no hop is logged in to twice");

        // What a person opened serves the next session too; its own server asks anew.
        let second = client.call_and_answer("ssh_connect", to_the_end()).await.success();
        assert_eq!((human.asked().len(), row.connections()), (4, vec![2, 2, 4]));
        assert_eq!(run(&client, &second, "echo here").await.success()["stdout"], "here\n");
        let log = client.stderr();
        assert!(log.contains("DEBUG"), "nothing is logged, so this proves nothing");
        assert_eq!(log.lines().find(|line| CODES.iter().any(|code| line.contains(code))), None);
    }
}

#[tokio::test]
async fn a_hop_asks_over_http_too() {
    let row = Row::with_codes().await;
    let server = HttpServer::start(&row.env()).await;
    // The hops are those of the principal, who is the same in both eras.
    for (newer, codes) in [(true, &CODES[..]), (false, &CODES[2..])] {
        let human = Human::who(answers(codes));
        let client = McpClient::http_with(&server, &human, newer).await;
        client.call_and_answer("ssh_connect", to_the_end()).await.success();
        assert_eq!(human.asked().len(), codes.len(), "newer {newer}");
    }
    assert!(!CODES.iter().any(|code| server.log().contains(code)));
}

#[tokio::test]
async fn without_the_answer_of_a_hop_the_login_ends_there_and_says_so() {
    for newer in [false, true] {
        for (human, hop, why) in [
            (Human::default(), 1, "cannot_ask"),
            (Human::who(Does::Decline), 1, "declined"),
            (Human::who(Does::Cancel), 1, "cancelled"),
            (Human::who(answers(&["wrong"])), 1, "wrong_code"),
            (Human::who(answers(&[CODES[0]])), 2, "cancelled"),
            (Human::who(answers(&[CODES[0], CODES[0]])), 2, "wrong_code"),
        ] {
            let row = Row::with_codes().await;
            let client = row.client(&human, newer).await;
            let answer = client.call_and_answer("ssh_connect", to_the_end()).await;
            let told = (answer.code(), answer.structured["hop"].as_u64(), answer.structured["why"].as_str());
            assert_eq!(told, ("auth_failed", Some(hop), Some(why)), "newer {newer}: {}", answer.text);
            assert_eq!(answer.structured["retryable"], false);
            assert!(row.typed()[2].is_empty(), "the end was never reached");
        }
    }
}

/// The same name stands for two machines where it is used in two places; here it is one that asks twice.
#[tokio::test]
async fn a_server_that_stands_on_the_way_and_at_its_end_is_answered_at_each_place() {
    for newer in [false, true] {
        let row = Row::start(vec![vec![vec![Ask::new("Code: ", CODES[0])]]]).await;
        let human = Human::who(answers(&[CODES[0], CODES[0]]));
        let client = row.client(&human, newer).await;
        let arguments = json!({"address": "h0", "jump": "h0"});
        client.call_and_answer("ssh_connect", arguments).await.success();
        assert_eq!((human.asked().len(), row.typed()[0].len()), (2, 2), "newer {newer}");
    }
}

#[tokio::test]
async fn the_time_that_a_person_takes_is_none_of_connecting() {
    let same = || vec![vec![Ask::new("Code: ", CODES[0])]];
    let row = Row::start(vec![same(), same(), same()]).await;
    let human = Human::who(Does::Thinks(Duration::from_secs(3), json!({"answer_1": CODES[0]})));
    let client = row.client(&human, false).await;
    let opened = client.call_and_answer("ssh_connect", with(to_the_end(), json!({"timeout_secs": 6}))).await.success();
    assert_eq!((human.asked().len(), &opened["timeout_secs"]), (3, &json!(6)), "9 s of thinking");
}

#[tokio::test]
async fn a_password_by_name_is_for_the_jump_hosts_that_the_user_named_and_no_other() {
    let row = Row::start(vec![vec![vec![Ask::new("Password: ", PASSPHRASE)]], Vec::new()]).await;
    let place = row.home.path().join(".config/ssh-mcp");
    std::fs::create_dir_all(&place).unwrap();
    let to = json!({"address": "h1", "jump": "h0"});
    for (port, code) in [(row.hosts[0].port(), None), (1, Some("auth_failed"))] {
        let config = format!("[secrets.a]\nenv = \"PW\"\nhosts = [\"127.0.0.1:{port}\"]\njump = \"password\"\n");
        std::fs::write(place.join("config.toml"), config).unwrap();
        let client = McpClient::stdio(&[&row.env()[..], &[("PW", PASSPHRASE)]].concat()).await;
        let answer = client.call("ssh_connect", to.clone()).await;
        assert_eq!(answer.is_error.then(|| answer.code()), code, "{}", answer.text);
        if answer.is_error {
            assert_eq!(answer.structured["why"], "password_wanted", "{}", answer.text);
            assert!(text(&answer.structured["hint"]).contains("jump = \"password\""), "{}", answer.text);
        }
        assert!(!client.stderr().contains(PASSPHRASE));
    }
    assert_eq!(row.typed()[0], [PASSPHRASE]);
    // As the end of the way it is no jump host.
    let config =
        format!("[secrets.a]\nenv = \"PW\"\nhosts = [\"127.0.0.1:{}\"]\njump = \"password\"\n", row.hosts[0].port());
    std::fs::write(place.join("config.toml"), config).unwrap();
    let client = McpClient::stdio(&[&row.env()[..], &[("PW", PASSPHRASE)]].concat()).await;
    assert_eq!(client.call("ssh_connect", json!({"address": "h0"})).await.structured["why"], "password_wanted");
}

#[tokio::test]
async fn questions_have_an_end_over_all_servers_of_the_way() {
    let many = || (0..7).map(|n| vec![Ask::judged(&format!("Code {n}: "), |_| true)]).collect::<Vec<_>>();
    let row = Row::start(vec![many(), many(), many(), many()]).await;
    let arguments = json!({"address": "h3", "jump": "h0,h1,h2"});
    let human = Human::who(Does::Accept(json!({"answer_1": "1"})));
    let answer = row.client(&human, false).await.call_and_answer("ssh_connect", arguments.clone()).await;
    assert_eq!(answer.structured["why"], "too_many_prompts", "{}", answer.text);
    assert_eq!(human.asked().len(), QUESTIONS);

    // The client of the other tests gives up sooner, of its own.
    let row = Row::start(vec![many(), many(), many(), many()]).await;
    let (mut raw, mut more, mut asked) = (RawStdio::start(&row.env()), json!({}), 0);
    let result = loop {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
        });
        let params = json!({"_meta": meta, "name": "ssh_connect", "arguments": arguments});
        let result = raw.request(asked + 1, "tools/call", with(params, more)).await["result"].clone();
        if result["resultType"] != "input_required" {
            break result;
        }
        asked += 1;
        let answer = json!({"login": {"action": "accept", "content": {"answer_1": "1"}}});
        more = json!({"requestState": result["requestState"], "inputResponses": answer});
    };
    assert_eq!(result["structuredContent"]["why"], "too_many_prompts", "{result}");
    assert_eq!(asked as usize, QUESTIONS);
}

#[tokio::test]
async fn a_passphrase_for_a_hop_is_asked_once_though_host_keys_are_asked_about_in_between() {
    for newer in [false, true] {
        let row = Row::start(vec![Vec::new(), Vec::new(), Vec::new()]).await;
        let key = row.home.path().join("key-0");
        let locked = Command::new("ssh-keygen").args(["-q", "-p", "-N", PASSPHRASE, "-f"]).arg(&key).status().unwrap();
        assert!(locked.success());
        let human = Human::who(Does::Accept(json!({"trust": true, "answer_1": PASSPHRASE})));
        let env = [&row.env()[..], &[("SSH_HOST_KEY_POLICY", "ask")]].concat();
        let client = McpClient::stdio_with(&env, &human, newer).await;
        client.call_and_answer("ssh_connect", to_the_end()).await.success();
        let asked: Vec<_> = human.asked().iter().map(|question| text(&question["message"])).collect();
        let passphrases = asked.iter().filter(|message| message.contains("encrypted")).count();
        assert_eq!((asked.len(), passphrases), (4, 1), "newer {newer}: {asked:?}");
        assert!(!client.stderr().contains(PASSPHRASE));
    }
}

#[tokio::test]
async fn sessions_behind_a_hop_that_asked_open_forwards_and_further_connections_without_a_person() {
    let row = Row::start(vec![vec![vec![Ask::new("Code: ", CODES[0])]], Vec::new()]).await;
    let human = Human::who(answers(&CODES[..1]));
    let client = row.client(&human, false).await;
    let opened = client.call_and_answer("ssh_connect", json!({"address": "h1", "jump": "h0"})).await.success();
    // More than one connection of the end holds.
    let waiting =
        "until [ -e \"$0\" ]; do sleep 0.05; done".replace("$0", &row.home.path().join("go").display().to_string());
    for _ in 0..4 {
        let start = json!({"session_id": opened["session_id"], "command": waiting});
        client.call("ssh_execute_async", start).await.success();
    }
    crate::support::wait::eventually("there is a further connection", async || row.connections()[1] >= 2).await;
    assert_eq!(run(&client, &opened, "echo here").await.success()["stdout"], "here\n");
    std::fs::write(row.home.path().join("go"), "").unwrap();
    let before = row.connections()[1];
    let forward = json!({"local_port": 0, "remote_address": "localhost", "remote_port": row.hosts[1].port()});
    let forward =
        client.call("ssh_forward", with(forward, json!({"session_id": opened["session_id"]}))).await.success();
    assert!(forward["notices"].to_string().contains("shares a connection"), "{forward}");
    assert_eq!(row.connections()[1], before + 1, "a connection of its own, through that of the hop");
    assert_eq!((human.asked().len(), row.connections()[0]), (1, 2));
}
