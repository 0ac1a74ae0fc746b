//! Planted secrets are found nowhere: not in a log at trace, an answer, an argument list or a child's environment.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde_json::{Value, json};

use crate::support::{
    embedded_host::{EmbeddedHost, Options},
    home::{Home, with},
    mcp_client::{HttpServer, RawStdio},
    openssh::{KeyFormat, KeyType, ssh_keygen_with_passphrase},
    process::with_argument,
    wait::eventually,
};

/// Secrets, each of its own, with characters that logs and JSON write otherwise.
struct Planted {
    /// That the host takes.
    password: String,
    by_variable: String,
    by_file: String,
    by_command: String,
    passphrase: String,
    token: String,
    wrong: String,
    misplaced: String,
    payload: String,
    /// Lines of a private key.
    key: Vec<String>,
}

impl Planted {
    fn new() -> Self {
        let secret = |name: &str| {
            let mut random = [0; 6];
            getrandom::fill(&mut random).unwrap();
            format!("{name}\"\\{}", data_encoding::HEXLOWER.encode(&random))
        };
        Self {
            password: secret("password"),
            by_variable: secret("variable"),
            by_file: secret("file"),
            by_command: secret("command"),
            passphrase: secret("passphrase"),
            token: format!("{}-token", secret("token")),
            wrong: secret("wrong"),
            misplaced: secret("misplaced"),
            payload: secret("payload"),
            key: Vec::new(),
        }
    }

    /// What must stand nowhere at all.
    fn everywhere(&self) -> Vec<&str> {
        let texts = [&self.password, &self.by_variable, &self.by_file, &self.by_command, &self.passphrase];
        texts.into_iter().chain([&self.token, &self.wrong]).chain(&self.key).map(String::as_str).collect()
    }

    /// What an answer may repeat to whoever sent it, but no log.
    fn in_no_log(&self) -> Vec<&str> {
        self.everywhere().into_iter().chain([self.misplaced.as_str(), self.payload.as_str()]).collect()
    }
}

/// Fails where a text holds a secret: as it is, escaped, in hex, or in base64 at whatever place it begins.
#[track_caller]
fn assert_free(place: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        let json = json!(secret).to_string();
        let mut forms = vec![(*secret).to_owned(), json[1..json.len() - 1].to_owned(), format!("{json:?}")];
        forms[2] = forms[2][3..forms[2].len() - 3].to_owned();
        // The random end of each is plain: it is found however the rest is written.
        forms.push(secret[secret.len() - 12..].to_owned());
        forms.push(data_encoding::HEXLOWER.encode(secret.as_bytes()));
        forms.push(data_encoding::HEXUPPER.encode(secret.as_bytes()));
        forms.extend((0..3).map(|skip| {
            let whole = &secret.as_bytes()[skip..];
            data_encoding::BASE64.encode(&whole[..whole.len() / 3 * 3])
        }));
        for form in forms {
            assert!(!text.contains(&form), "{place} holds {form:?} of the secret {secret:?}:\n{text}");
        }
    }
}

/// A settings file with a secret of each kind; its command tells what it sees.
fn plant(home: &Home, planted: &mut Planted) -> Vec<(String, String)> {
    let at = |name: &str| home.path().join(name);
    let private = |name: &str, content: &str| {
        fs::write(at(name), content).unwrap();
        fs::set_permissions(at(name), Permissions::from_mode(0o600)).unwrap();
    };
    private("file-secret", &planted.by_file);
    private("command-secret", &planted.by_command);
    private("tokens", &format!("agent:{}\n", planted.token));
    fs::create_dir_all(at(".config/ssh-mcp")).unwrap();
    let script = "cat /proc/$$/environ /proc/$$/cmdline >~/child; cat ~/command-secret";
    let config = format!(
        "[secrets.right]\nenv = \"RIGHT\"\n[secrets.env]\nenv = \"BY_VARIABLE\"\n[secrets.file]\nfile = \"~/file-secret\"\n\
         [secrets.command]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n[secrets.passphrase]\nenv = \"PASSPHRASE\"\n"
    );
    fs::write(at(".config/ssh-mcp/config.toml"), config).unwrap();
    let key = ssh_keygen_with_passphrase(home.path(), "key", KeyType::Ed25519, KeyFormat::OpenSsh, &planted.passphrase);
    let lines = fs::read_to_string(key).unwrap();
    planted.key = lines.lines().filter(|line| line.len() > 60).map(str::to_owned).collect();
    assert!(planted.key.len() > 2);
    let env = [
        ("HOME", home.path().to_str().unwrap()),
        ("RUST_LOG", "trace"),
        ("RIGHT", &planted.password),
        ("BY_VARIABLE", &planted.by_variable),
        ("PASSPHRASE", &planted.passphrase),
    ];
    env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A whole session with all that can go wrong. Each request says whether its answer may repeat what was sent.
fn requests(host: &EmbeddedHost, home: &Path, planted: &Planted) -> Vec<(&'static str, Value, bool)> {
    let address = format!("someone@127.0.0.1:{}", host.port());
    let tool = |name: &str, arguments: Value| ("tools/call", json!({"name": name, "arguments": arguments}), false);
    let echoing = |name: &str, arguments: Value| ("tools/call", json!({"name": name, "arguments": arguments}), true);
    let connect = |more: Value| tool("ssh_connect", with(json!({"address": address, "max_retries": 0}), more));
    let misplaced = &planted.misplaced;
    vec![
        connect(json!({"password": planted.password})),
        connect(json!({"password_ref": "right"})),
        connect(json!({"password": planted.wrong})),
        connect(json!({"password_ref": "env"})),
        connect(json!({"password_ref": "file"})),
        connect(json!({"password_ref": "command"})),
        connect(json!({"password_ref": planted.wrong})),
        connect(json!({"password": planted.wrong, "password_ref": "env"})),
        connect(json!({"password": [planted.wrong], "timeout_secs": "soon"})),
        connect(json!({"passphrase": planted.wrong, "passwd": planted.wrong, "secret": planted.wrong})),
        connect(json!({"key_path": home.join("key")})),
        connect(json!({"key_path": home.join("key"), "passphrase_ref": "env"})),
        connect(json!({"key_path": home.join("key"), "passphrase_ref": "passphrase"})),
        connect(json!({"key_path": home.join("tokens")})),
        connect(json!({"key_path": home.join("file-secret"), "passphrase_ref": "passphrase"})),
        connect(json!({"key_path": "/proc/self/environ"})),
        echoing("ssh_connect", json!({"address": misplaced, "username": misplaced, "name": misplaced})),
        echoing("ssh_connect", json!({"address": address, "timeout_secs": misplaced, "session_id": misplaced})),
        echoing("ssh_connect", json!({"address": address, "key_path": misplaced})),
        echoing("ssh_execute", json!({"session_id": misplaced, "command": misplaced})),
        echoing(misplaced, json!({"password": misplaced})),
        ("resources/read", json!({"uri": misplaced}), true),
        (Box::leak(misplaced.clone().into_boxed_str()), json!({}), true),
        ("tools/list", json!({}), false),
        ("resources/list", json!({}), false),
        tool("ssh_list_sessions", json!({})),
        tool("ssh_list_commands", json!({})),
    ]
}

/// What is sent in the session that the first answer opened.
fn work(session: &str, planted: &Planted) -> Vec<(&'static str, Value, bool)> {
    let arguments = json!({"session_id": session, "command": "cat", "stdin": planted.payload});
    let shown = json!({"session_id": session, "command": format!("echo '{}'", planted.payload)});
    let close = json!({"session_id": session});
    [("ssh_execute", arguments, true), ("ssh_execute_async", shown, true), ("ssh_disconnect", close, false)]
        .map(|(name, arguments, echoes)| ("tools/call", json!({"name": name, "arguments": arguments}), echoes))
        .into()
}

fn assert_answer(request: &(&'static str, Value, bool), answer: &str, planted: &Planted) {
    let (method, params, echoes) = request;
    if !echoes {
        assert_free(&format!("the answer to {method} {params}"), answer, &planted.everywhere());
    }
}

fn assert_processes(home: &Home, planted: &Planted) {
    for secret in planted.in_no_log() {
        // The remote side of the embedded host runs here too: the echo that was asked for is its affair.
        if secret != planted.payload {
            assert_eq!(with_argument(secret), Vec::<Vec<String>>::new());
        }
    }
    let child = fs::read(home.path().join("child")).unwrap();
    assert!(!child.is_empty());
    assert_free("the command of a secret", &String::from_utf8_lossy(&child), &planted.in_no_log());
}

fn session_id(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["result"]["structuredContent"]["session_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test]
async fn planted_secrets_are_found_nowhere_over_stdio() {
    let (home, mut planted) = (Home::new(), Planted::new());
    let env = plant(&home, &mut planted);
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let host = Options::default().password(&planted.password).start().await.unwrap();
    let mut server = RawStdio::initialized(&env).await;
    let all = requests(&host, home.path(), &planted);
    let first = server.request(1, all[0].0, all[0].1.clone()).await.to_string();
    let after = work(&session_id(&first), &planted);
    assert_answer(&all[0], &first, &planted);
    for (n, request) in all.iter().skip(1).chain(&after).enumerate() {
        let answer = server.request(n as u64 + 2, request.0, request.1.clone()).await.to_string();
        assert_answer(request, &answer, &planted);
    }
    server.send(&format!("{{\"jsonrpc\": \"2.0\", \"password\": {}", json!(planted.wrong))).await;
    let refused = server.message().await.to_string();
    assert_free("the answer to a broken line", &refused, &planted.everywhere());
    assert_processes(&home, &planted);
    server.close();
    server.process().wait().await;
    let log = server.process().stderr();
    assert!(log.contains("connected"), "it logs: {log}");
    assert_free("the log", &log, &planted.in_no_log());
}

#[tokio::test]
async fn planted_secrets_are_found_nowhere_over_http() {
    let (home, mut planted) = (Home::new(), Planted::new());
    let mut env = plant(&home, &mut planted);
    env.push(("MCP_TOKEN_FILE".into(), home.path().join("tokens").to_str().unwrap().into()));
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let host = Options::default().password(&planted.password).start().await.unwrap();
    let mut server = HttpServer::start(&env).await;
    let bearer = format!("Bearer {}", planted.token);
    let headers = [("Content-Type", "application/json"), ("Accept", "*/*"), ("Authorization", bearer.as_str())];
    let body = |request: &(&str, Value, bool)| {
        json!({"jsonrpc": "2.0", "id": 1, "method": request.0, "params": request.1}).to_string()
    };
    let mut all = requests(&host, home.path(), &planted);
    let first = server.post(&headers, &body(&all[0])).await;
    all.extend(work(&session_id(&first.body), &planted));
    assert_answer(&all[0], &format!("{first:?}"), &planted);
    for request in &all[1..] {
        let reply = server.post(&headers, &body(request)).await;
        // As it stands, and as Debug shows it: headers too.
        assert_answer(request, &reply.body, &planted);
        assert_answer(request, &format!("{:?}", reply.headers), &planted);
    }
    let wrong = format!("Bearer {}", planted.wrong);
    let refusals = [
        server.post(&[headers[0], headers[1], ("Authorization", &wrong)], &body(&all[0])).await,
        server.post(&[headers[0], headers[1], ("Authorization", &planted.token)], &body(&all[0])).await,
        server.post(&[("Content-Type", "text/plain"), headers[2]], &planted.wrong).await,
        server.post(&[headers[0], headers[1], headers[2]], &planted.wrong).await,
        server.send("GET", "/nowhere", &headers, "").await,
        server.get("/health").await,
    ];
    for reply in refusals {
        assert_free("a refusal", &format!("{reply:?}{}", reply.body), &planted.everywhere());
    }
    assert_processes(&home, &planted);
    server.process().signal("TERM");
    eventually("the server has ended", async || server.process().ended().is_some()).await;
    let log = server.log();
    assert!(log.contains("connected"), "it logs: {log}");
    assert_free("the log", &log, &planted.in_no_log());
}
