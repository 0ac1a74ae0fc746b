//! Secrets by name: where they come from, who may be sent them; and what keeps secrets to this process.

#[cfg(target_os = "linux")]
mod linux;

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use ssh_mcp::{
    secret::{Secret, live::LiveSecrets},
    transport::logging::Masked,
};
use tracing_subscriber::{fmt, layer::SubscriberExt};

use crate::support::{
    embedded_host::{EmbeddedHost, Options},
    fake_server::{FakeServer, Play},
    home::{Home, by_key, with},
    mcp_client::McpClient,
    openssh::{KeyFormat, KeyType, Sshd, is_root, ssh_keygen_with_passphrase},
    process::{alive, descendants, with_argument},
    wait::eventually,
};

/// Stands in every secret here, and must stand nowhere else.
const CANARY: &str = "canary-3f9d24";

/// Starts the server with this settings file.
async fn client(home: &Home, config: &str, env: &[(&str, &str)]) -> McpClient {
    let place = home.path().join(".config/ssh-mcp");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("config.toml"), config).unwrap();
    home.client(env).await
}

fn private(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn by_ref(host: &EmbeddedHost, name: &str) -> Value {
    json!({"address": format!("someone@127.0.0.1:{}", host.port()), "password_ref": name})
}

#[tokio::test]
async fn password_by_name_comes_from_variable_file_or_command_anew_each_time() {
    let host = Options::default().password(CANARY).start().await.unwrap();
    let home = Home::new();
    let config = format!(
        "[secrets.from-env]\nenv = \"THE_PASSWORD\"\n\
         [secrets.from-file]\nfile = \"~/pw\"\n\
         [secrets.from-command]\ncommand = [\"cat\", \"{}/pw\"]\n\
         [secrets.limited]\nenv = \"THE_PASSWORD\"\nhosts = [\"127.0.0.1:{}\", \"*.example.com\"]\n",
        home.path().display(),
        host.port(),
    );
    private(&home.path().join("pw"), "an old one\n");
    let client = client(&home, &config, &[("THE_PASSWORD", CANARY)]).await;
    for name in ["from-file", "from-command"] {
        let refused = client.call("ssh_connect", by_ref(&host, name)).await;
        assert_eq!(refused.code(), "auth_failed", "{}", refused.text);
    }
    private(&home.path().join("pw"), &format!("{CANARY}\n"));
    for name in ["from-env", "from-file", "from-command", "limited", " from-env "] {
        let session = client.call("ssh_connect", by_ref(&host, name)).await.success();
        assert_eq!(session["auth_method"], "password", "{name}");
        assert_eq!(session.get("notices"), None, "it did not pass through the model: {session}");
    }
}

#[tokio::test]
async fn unknown_name_lists_the_names_and_does_not_repeat_what_was_given() {
    let server = FakeServer::start(Play::Silent).await;
    let home = Home::new();
    let connect = json!({"address": server.address(), "username": "u", "password_ref": CANARY});
    let answer = home.client(&[]).await.call("ssh_connect", connect.clone()).await;
    assert_eq!((answer.code(), &answer.structured["available"]), ("secret_not_found", &json!([])));
    assert!(answer.structured["hint"].as_str().unwrap().contains("[secrets.NAME]"), "{}", answer.text);

    let client = client(&home, "[secrets.b]\nenv = \"B\"\n[secrets.a]\nenv = \"A\"\n", &[]).await;
    let answer = client.call("ssh_connect", connect).await;
    assert_eq!((answer.code(), &answer.structured["available"]), ("secret_not_found", &json!(["a", "b"])));
    assert!(!answer.text.contains(CANARY), "{}", answer.text);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn secret_with_hosts_is_not_read_for_any_other_host() {
    let server = FakeServer::start(Play::Silent).await;
    let home = Home::new();
    let ran = home.path().join("ran");
    let config = format!(
        "[secrets.db]\ncommand = [\"/bin/sh\", \"-c\", \"echo x >{}; echo {CANARY}\"]\n\
         hosts = [\"db.example.com\", \"*.internal\", \"127.0.0.1:1\"]\n",
        ran.display()
    );
    let client = client(&home, &config, &[]).await;
    let key = ssh_keygen_with_passphrase(home.path(), "key", KeyType::Ed25519, KeyFormat::OpenSsh, CANARY);
    for more in [json!({"password_ref": "db"}), json!({"key_path": key, "passphrase_ref": "db"})] {
        let connect = with(json!({"address": server.address(), "username": "u"}), more);
        let answer = client.call("ssh_connect", connect).await;
        assert_eq!((answer.code(), &answer.structured["host"]), ("secret_not_allowed", &json!("127.0.0.1")));
        assert_eq!(answer.structured["retryable"], false);
    }
    assert!(!ran.exists());
    assert_eq!(server.connections(), 0);
}

#[test]
fn host_patterns_match_names_ports_and_what_lies_below() {
    use ssh_mcp::secret::named::HostPattern;
    let cases = [
        ("db.example.com", "DB.example.com.", 22, true),
        ("db.example.com", "db.example.com", 2222, true),
        ("db.example.com:22", "db.example.com", 22, true),
        ("db.example.com:22", "db.example.com", 2222, false),
        ("db.example.com", "xdb.example.com", 22, false),
        ("db.example.com", "db.example.com.evil.org", 22, false),
        ("*.example.com", "a.b.example.com", 22, true),
        ("*.example.com", "example.com", 22, false),
        ("*.example.com", ".example.com", 22, false),
        ("*.example.com", "evilexample.com", 22, false),
        ("*.example.com:22", "a.example.com", 23, false),
        ("::1", "0:0:0:0:0:0:0:1", 22, true),
        ("[::1]:22", "::1", 22, true),
        ("[::1]:22", "::1", 23, false),
        ("10.0.0.1", "10.0.0.11", 22, false),
    ];
    for (pattern, host, port, expected) in cases {
        let parsed = HostPattern::parse(pattern).unwrap();
        assert_eq!(parsed.matches(host, port), expected, "{pattern} for {host}:{port}");
    }
    for wrong in
        ["", "*", "*.", "a*b", "*.*.com", "a b", "h:0", "h:65536", "h:x", "[::1", "[::1]x", "user@h", "-h", "h/x"]
    {
        assert_eq!(HostPattern::parse(wrong), None, "{wrong}");
    }
}

#[tokio::test]
async fn source_that_fails_says_why_without_what_it_read() {
    let server = FakeServer::start(Play::Silent).await;
    let home = Home::new();
    let at = |name: &str| home.path().join(name);
    private(&at("good"), CANARY);
    private(&at("open"), CANARY);
    fs::set_permissions(at("open"), Permissions::from_mode(0o640)).unwrap();
    private(&at("empty"), "\n");
    private(&at("large"), &CANARY.repeat(5042));
    symlink(at("good"), at("link")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(at("fifo")).status().unwrap().success());
    private(&at("foreign"), CANARY);
    if is_root() {
        chown(at("foreign"), Some(12_345), None).unwrap();
    }
    let shell = |script: &str| format!("command = [\"sh\", \"-c\", \"{script}\"]");
    let mut cases = vec![
        ("env = \"NOT_SET\"".to_owned(), "NOT_SET"),
        ("file = \"~/missing\"".into(), "does not exist"),
        ("file = \"~/open\"".into(), "other users"),
        ("file = \"~/empty\"".into(), "empty"),
        ("file = \"~/large\"".into(), "larger than 65536 bytes"),
        ("file = \"~/link\"".into(), "link"),
        ("file = \"~/folder\"".into(), "regular"),
        ("file = \"~/fifo\"".into(), "regular"),
        ("command = [\"no-such-program\"]".into(), "cannot be run"),
        (shell(&format!("echo {CANARY}; echo {CANARY} >&2; exit 3")), "exit status: 3"),
        (shell("yes | head -c 70000"), "64 KiB"),
        (shell("true"), "empty"),
        (shell("printf '\\\\377'"), "UTF-8"),
    ];
    cases.extend(is_root().then(|| ("file = \"~/foreign\"".into(), "another user")));
    let config: String =
        cases.iter().enumerate().map(|(n, (source, _))| format!("[secrets.s{n}]\n{source}\n")).collect();
    let client = client(&home, &config, &[]).await;
    for (n, (source, why)) in cases.iter().enumerate() {
        let connect = json!({"address": server.address(), "username": "u", "password_ref": format!("s{n}")});
        let answer = client.call("ssh_connect", connect).await;
        assert_eq!(answer.code(), "secret_unavailable", "{source}: {}", answer.text);
        assert!(answer.structured["message"].as_str().unwrap().contains(why), "{source}: {}", answer.text);
        assert!(!answer.text.contains(CANARY), "{}", answer.text);
    }
    assert_eq!(server.connections(), 0);
    assert!(!client.stderr().contains(CANARY), "{}", client.stderr());
}

#[tokio::test]
async fn command_of_a_secret_sees_path_and_home_only_and_does_not_outlive_the_call() {
    let host = Options::default().password(CANARY).start().await.unwrap();
    let home = Home::new();
    let marker = format!("86400.{}", std::process::id());
    let config = format!(
        "[secrets.good]\ncommand = [\"sh\", \"-c\", \"env >~/env; pwd >>~/env; cat >>~/env; echo {CANARY}\"]\n\
         [secrets.slow]\ncommand = [\"sh\", \"-c\", \"sleep {marker} & sleep {marker}\"]\n",
    );
    let client = client(&home, &config, &[("MCP_TOKEN", "0123456789abcdef"), ("OTHER", CANARY)]).await;
    client.call("ssh_connect", by_ref(&host, "good")).await.success();
    let seen = fs::read_to_string(home.path().join("env")).unwrap();
    // PWD and _ are the shell's own.
    let names: Vec<_> = seen.lines().map(|line| line.split('=').next().unwrap()).collect();
    assert!(names.iter().all(|name| ["PATH", "HOME", "PWD", "OLDPWD", "SHLVL", "_", "/"].contains(name)), "{seen}");
    assert!(seen.ends_with("\n/\n"), "the working directory is fixed, and stdin is empty: {seen}");

    let slow = with(by_ref(&host, "slow"), json!({"timeout_secs": 1}));
    let answer = client.call("ssh_connect", slow).await;
    assert_eq!(answer.code(), "connect_timeout", "{}", answer.text);
    eventually("the command and its children are gone", async || with_argument(&marker).is_empty()).await;
    assert_eq!(descendants(client.pid()).into_iter().filter(|pid| alive(*pid)).count(), 0);
}

#[tokio::test]
async fn secrets_that_contradict_each_other_are_refused_before_anything_is_read() {
    let server = FakeServer::start(Play::Silent).await;
    let home = Home::new();
    let client = client(&home, "[secrets.x]\nenv = \"X\"\n", &[("X", CANARY)]).await;
    let long = CANARY.repeat(100);
    let cases = [
        (json!({"password": CANARY, "password_ref": "x"}), "conflicting_arguments", "password_ref"),
        (json!({"passphrase_ref": "x"}), "missing_argument", "key_path"),
        (json!({"passphrase": CANARY, "key_path": "~/.ssh/id"}), "unknown_argument", "passphrase_ref"),
        (json!({"password": long}), "out_of_range", "password"),
    ];
    for (more, code, hint) in cases {
        let connect = with(json!({"address": server.address(), "username": "u"}), more);
        let answer = client.call("ssh_connect", connect).await;
        assert_eq!(answer.code(), code, "{}", answer.text);
        assert!(answer.text.contains(hint) && !answer.text.contains(CANARY), "{}", answer.text);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn passphrase_by_name_decrypts_every_format_and_a_wrong_one_is_told_before_anything_is_dialled() {
    let Some(sshd) = Sshd::builder().config("PasswordAuthentication no").start().await else { return };
    let silent = FakeServer::start(Play::Silent).await;
    let home = Home::new();
    let config = "[secrets.right]\nenv = \"RIGHT\"\n[secrets.wrong]\nenv = \"WRONG\"\n";
    let client = client(&home, config, &[("RIGHT", CANARY), ("WRONG", "something else")]).await;
    let cases = [
        (KeyType::Ed25519, KeyFormat::OpenSsh),
        (KeyType::Ecdsa, KeyFormat::OpenSsh),
        (KeyType::Ecdsa, KeyFormat::Pkcs8),
        (KeyType::Rsa, KeyFormat::OpenSsh),
        (KeyType::Rsa, KeyFormat::Pem),
        (KeyType::Rsa, KeyFormat::Pkcs8),
    ];
    for (kind, format) in cases {
        let case = format!("{kind:?}-{format:?}");
        let key = ssh_keygen_with_passphrase(home.path(), &case, kind, format, CANARY);
        sshd.authorize(&key);
        let right = json!({"key_path": key, "passphrase_ref": "right"});
        let answer = client.call("ssh_connect", by_key(&sshd, &sshd.user().name, right)).await;
        assert!(!answer.is_error, "{case}: {}", answer.text);
        assert_eq!((&answer.structured["auth_method"], answer.structured.get("notices")), (&json!("publickey"), None));

        let wrong = json!({"address": silent.address(), "username": "u", "key_path": key, "passphrase_ref": "wrong"});
        let answer = client.call("ssh_connect", wrong).await;
        assert_eq!(answer.code(), "key_encrypted", "{case}: {}", answer.text);
        assert!(answer.structured["message"].as_str().unwrap().contains("passphrase"), "{case}: {}", answer.text);
    }
    // One that is not encrypted needs none, and gets none.
    let plain = json!({"passphrase_ref": "wrong"});
    client.call("ssh_connect", by_key(&sshd, &sshd.user().name, plain)).await.success();
    assert_eq!(silent.connections(), 0);
}

/// What was logged, in the pieces in which it was written.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

/// In this process: no log line of the server is known to hold a secret, so that one is made to.
#[test]
fn log_masks_the_secrets_that_are_held_in_every_form_and_across_writes() {
    let (log, live) = (Log::default(), LiveSecrets::new());
    let masked = Masked::new(
        {
            let log = log.clone();
            move || log.clone()
        },
        &live,
    );
    let text = "pa\"ss\\w\u{f6}rd/\n+1";
    let secret = Secret::from(text);
    live.watch(&secret).unwrap();
    let json = json!({"password": text}).to_string();
    let base64 = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
    let within = |whole: String, ends: usize| (whole[ends..whole.len() - ends].to_owned(), whole);
    let alone = [
        text.to_owned(),
        format!("{text:?}"),
        base64(text),
        data_encoding::BASE64URL_NOPAD.encode(text.as_bytes()),
        data_encoding::HEXLOWER.encode(text.as_bytes()),
        data_encoding::HEXUPPER.encode(text.as_bytes()),
        "pa%22ss%5Cw%C3%B6rd%2F%0A%2B1".into(),
    ];
    // What stands around the secret is left: of base64, its outer characters too.
    let mut forms = alone.map(|form| within(form, 0)).to_vec();
    forms.push((json[13..json.len() - 2].to_owned(), json.clone()));
    forms.push(within(format!("{json:?}"), 18));
    forms.extend(["user:", "users:", "u:"].map(|before| within(base64(&format!("{before}{text}!!!!")), 10)));
    let subscriber = tracing_subscriber::registry().with(fmt::layer().with_ansi(false).with_writer(masked));
    tracing::subscriber::with_default(subscriber, || {
        for (secret_part, form) in &forms {
            tracing::info!(%form, "before {form} after");
            let line = log.take();
            assert!(!line.contains(secret_part) && line.matches("[redacted]").count() == 2, "{form}: {line}");
            assert!(line.contains("before ") && line.contains(" after"), "{line}");
        }
        assert_eq!(live.count(), 1);
        drop(secret);
        assert_eq!(live.count(), 0, "it is not held for the log alone");
        tracing::info!("{text}");
        assert!(log.take().contains(text), "its patterns are gone with it");
    });
}

/// tracing-subscriber escapes these in a message, some of them as nothing else does.
#[test]
fn log_masks_a_secret_with_what_a_terminal_would_obey() {
    let (log, live) = (Log::default(), LiveSecrets::new());
    let masked = Masked::new(
        {
            let log = log.clone();
            move || log.clone()
        },
        &live,
    );
    let subscriber = tracing_subscriber::registry().with(fmt::layer().with_ansi(false).with_writer(masked));
    tracing::subscriber::with_default(subscriber, || {
        for odd in ['\u{7}', '\u{8}', '\u{c}', '\u{1b}', '\u{7f}', '\u{85}'] {
            let text = format!("canary\n{odd}\"canary");
            let secret = Secret::from(text.as_str());
            live.watch(&secret).unwrap();
            for shown in [text.clone(), json!(text).to_string(), format!("{text:?}")] {
                tracing::info!("before {shown} after");
                let line = log.take();
                assert!(!line.contains("canary") && line.contains("after"), "{odd:?}: {line:?}");
            }
        }
    });
}

/// One caller's secrets do not end the log for all.
#[tokio::test]
async fn secret_that_the_log_has_no_room_to_mask_is_refused_as_busy() {
    let server = FakeServer::start(Play::Say(b"HELLO\r\n")).await;
    let home = Home::new();
    // Each of these bytes is written in 19, in all forms: there is room for 2,000,000.
    let long = "\u{1}".repeat(1024);
    private(&home.path().join("long"), &long);
    let config = "[secrets.most]\nenv = \"MOST\"\n[secrets.long]\nfile = \"~/long\"\n";
    let client = client(&home, config, &[("MOST", &"\u{1}".repeat(105_000))]).await;
    let connect = async |secret: Value| {
        let target = json!({"address": server.address(), "username": "u", "max_retries": 0});
        client.call("ssh_connect", with(target, secret)).await
    };
    for secret in [json!({"password": long}), json!({"password_ref": "long"})] {
        let answer = connect(secret).await;
        assert_eq!((answer.code(), &answer.structured["retryable"]), ("busy", &json!(true)), "{}", answer.text);
        assert!(answer.structured["hint"].as_str().unwrap().contains("ssh_disconnect"), "{}", answer.text);
        assert_eq!(server.connections(), 0);
    }
    for secret in [json!({"password": CANARY}), json!({"password_ref": "most"})] {
        let answer = connect(secret).await;
        assert_eq!(answer.code(), "not_ssh", "{}", answer.text);
    }
}

#[test]
fn writes_that_split_a_secret_do_not_let_it_through() {
    use tracing_subscriber::fmt::MakeWriter;
    let (log, live) = (Log::default(), LiveSecrets::new());
    let masked = Masked::new(
        {
            let log = log.clone();
            move || log.clone()
        },
        &live,
    );
    let secret = Secret::from(CANARY);
    live.watch(&secret).unwrap();
    for cut in 0..=CANARY.len() {
        let mut line = masked.make_writer();
        line.write_all(b"a ").unwrap();
        line.write_all(&CANARY.as_bytes()[..cut]).unwrap();
        line.flush().unwrap();
        line.write_all(&CANARY.as_bytes()[cut..]).unwrap();
        line.write_all(b" z\n").unwrap();
        drop(line);
        assert_eq!(log.take(), "a [redacted] z\n", "cut at {cut}");
    }
}
