//! Logging in: password, key files, the SSH agent; what a refusal says, and what is never said.

use std::{os::unix::net::UnixListener, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, time::Instant};

use crate::support::{
    embedded_host::Options,
    fake_server::{FakeServer, Play},
    home::{Home, by_key, logins, with},
    mcp_client::{HttpServer, McpClient, ToolAnswer},
    openssh::{Account, Agent, KeyFormat, KeyType, Sshd, ssh_keygen_with_passphrase},
};

/// Stands in every secret here, and must stand nowhere else.
const CANARY: &str = "canary-77c1e0";

/// Who the remote side says we are.
async fn whoami(client: &McpClient, session: &Value) -> String {
    let arguments = json!({"session_id": session["session_id"], "command": "id -un"});
    let ran = client.call("ssh_execute", arguments).await.success();
    ran["stdout"].as_str().unwrap().trim().to_owned()
}

fn by_agent(sshd: &Sshd, username: &str) -> Value {
    json!({"address": format!("127.0.0.1:{}", sshd.port()), "username": username})
}

fn user_with_password(sshd: &Sshd) -> Option<(&'static Account, &'static str)> {
    let user = sshd.user();
    Some((user, user.password.as_deref()?))
}

#[tokio::test]
async fn password_logs_in_and_is_told_to_be_the_lesser_way() {
    let Some(sshd) = Sshd::start().await else { return };
    let Some((user, password)) = user_with_password(&sshd) else { return };
    let client = Home::new().client(&[]).await;
    // A key that does not open anything: the password goes first.
    let arguments = by_key(&sshd, &user.name, json!({"password": password, "key_path": "/nowhere"}));
    let session = client.call("ssh_connect", arguments).await.success();
    assert_eq!((&session["auth_method"], &session["authenticated"]), (&json!("password"), &json!(true)));
    assert!(session["notices"][0].as_str().unwrap().contains("password"), "{session}");
    assert_eq!(whoami(&client, &session).await, user.name);
    assert_eq!(sshd.logged("Accepted password"), 1);
}

#[tokio::test]
async fn embedded_host_takes_a_password_and_an_empty_one_is_none() {
    let host = Options::default().password(CANARY).start().await.unwrap();
    let home = Home::new();
    let client = home.client(&[]).await;
    let address = format!("someone@127.0.0.1:{}", host.port());
    let session = client.call("ssh_connect", json!({"address": address, "password": CANARY})).await.success();
    assert_eq!(session["auth_method"], "password");

    let key = home.path().join("key");
    host.write_client_key(&key).unwrap();
    let arguments = json!({"address": address, "password": "", "key_path": key});
    let session = client.call("ssh_connect", arguments).await.success();
    assert_eq!(session["auth_method"], "publickey");
    assert_eq!(session.get("notices"), None, "{session}");
    assert_eq!(host.auth_attempts(), 2);
}

#[tokio::test]
async fn key_files_of_every_type_and_format_log_in_without_sha1() {
    let builder = Sshd::builder().config("PubkeyAcceptedAlgorithms -ssh-rsa").config("PasswordAuthentication no");
    let Some(sshd) = builder.start().await else { return };
    let home = Home::new();
    let client = home.client(&[]).await;
    let cases = [
        (KeyType::Ed25519, KeyFormat::OpenSsh, "ssh-ed25519"),
        (KeyType::Ed25519, KeyFormat::Pkcs8, "ssh-ed25519"),
        (KeyType::Ecdsa, KeyFormat::OpenSsh, "ecdsa-sha2-nistp256"),
        (KeyType::Ecdsa, KeyFormat::Pem, "ecdsa-sha2-nistp256"),
        (KeyType::Ecdsa, KeyFormat::Pkcs8, "ecdsa-sha2-nistp256"),
        (KeyType::Rsa, KeyFormat::OpenSsh, "rsa-sha2-512"),
        (KeyType::Rsa, KeyFormat::Pem, "rsa-sha2-512"),
        (KeyType::Rsa, KeyFormat::Pkcs8, "rsa-sha2-512"),
    ];
    for (kind, format, signature) in cases {
        let case = format!("{kind:?}-{format:?}");
        let key = home.key(&case, kind, format);
        sshd.authorize(&key);
        for login in logins(&sshd) {
            let used = || sshd.logged(&format!("pkalg {signature} "));
            let before = used();
            let answer = client.call("ssh_connect", by_key(&sshd, login, json!({"key_path": key}))).await;
            assert!(!answer.is_error, "{case}: {}\n{}", answer.text, sshd.log());
            let session = answer.success();
            assert_eq!(
                (&session["auth_method"], &session["retry_attempts"]),
                (&json!("publickey"), &json!(0)),
                "{case}"
            );
            assert_eq!(whoami(&client, &session).await, login, "{case}");
            assert!(used() > before, "{case} as {login} signed otherwise\n{}", sshd.log());
        }
    }
    assert_eq!(sshd.logged("pkalg ssh-rsa "), 0, "SHA-1 is never tried");
    assert_eq!(sshd.logged("Failed"), 0, "{}", sshd.log());
}

#[tokio::test]
async fn longer_curves_log_in_too() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let client = home.client(&[]).await;
    for bits in ["384", "521"] {
        let key = home.path().join(bits);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ecdsa", "-b", bits, "-N", "", "-f"]).arg(&key);
        assert!(command.status().unwrap().success());
        sshd.authorize(&key);
        let arguments = by_key(&sshd, &sshd.user().name, json!({"key_path": key}));
        assert_eq!(client.call("ssh_connect", arguments).await.success()["auth_method"], "publickey", "{bits}");
    }
}

#[tokio::test]
async fn tilde_in_key_path_is_the_home_of_the_server() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let key = home.key("id_ed25519", KeyType::Ed25519, KeyFormat::OpenSsh);
    sshd.authorize(&key);
    let client = home.client(&[]).await;
    let arguments = by_key(&sshd, &sshd.user().name, json!({"key_path": "~/id_ed25519"}));
    assert_eq!(client.call("ssh_connect", arguments).await.success()["auth_method"], "publickey");
}

#[tokio::test]
async fn agent_with_three_keys_logs_in_with_the_third() {
    let Some(sshd) = Sshd::builder().config("PubkeyAcceptedAlgorithms -ssh-rsa").start().await else { return };
    let home = Home::new();
    for (index, right) in [KeyType::Rsa, KeyType::Ecdsa, KeyType::Ed25519].into_iter().enumerate() {
        let wrong = [0, 1].map(|n| home.key(&format!("wrong-{index}-{n}"), KeyType::Ed25519, KeyFormat::OpenSsh));
        let right = home.key(&format!("right-{index}"), right, KeyFormat::OpenSsh);
        sshd.authorize(&right);
        let agent = Agent::start(&[&wrong[0], &wrong[1], &right]).await;
        let client = home.client(&[("SSH_AUTH_SOCK", agent.socket().to_str().unwrap())]).await;
        for login in logins(&sshd) {
            let session = client.call("ssh_connect", by_agent(&sshd, login)).await.success();
            assert_eq!((&session["auth_method"], &session["retry_attempts"]), (&json!("agent"), &json!(0)));
            assert_eq!(whoami(&client, &session).await, login);
        }
    }
    assert_eq!(sshd.logged("pkalg ssh-rsa "), 0, "SHA-1 is never tried");
}

#[tokio::test]
async fn encrypted_keys_of_every_format_are_told_apart_before_anything_is_dialled() {
    let server = FakeServer::start(Play::Silent).await;
    let home = Home::new();
    let client = home.client(&[]).await;
    let cases = [
        (KeyType::Ed25519, KeyFormat::OpenSsh),
        (KeyType::Rsa, KeyFormat::OpenSsh),
        (KeyType::Rsa, KeyFormat::Pem),
        (KeyType::Rsa, KeyFormat::Pkcs8),
        (KeyType::Ecdsa, KeyFormat::Pem),
        (KeyType::Ecdsa, KeyFormat::Pkcs8),
    ];
    for (kind, format) in cases {
        let case = format!("{kind:?}-{format:?}");
        let key = ssh_keygen_with_passphrase(home.path(), &case, kind, format, "a passphrase");
        let answer = client.call("ssh_connect", key_only(&server, &key)).await;
        assert_eq!(answer.code(), "key_encrypted", "{case}: {}", answer.text);
        assert!(answer.structured["hint"].as_str().unwrap().contains("passphrase_ref"), "{}", answer.text);
    }
    assert_eq!(server.connections(), 0);
}

/// A connect whose key file is the only thing that matters.
fn key_only(server: &FakeServer, key_path: &Path) -> Value {
    json!({"address": server.address(), "username": "u", "key_path": key_path})
}

#[tokio::test]
async fn missing_agent_is_told_before_anything_is_dialled() {
    let server = FakeServer::start(Play::Silent).await;
    let client = Home::new().client(&[]).await;
    let answer = client.call("ssh_connect", json!({"address": server.address(), "username": "u"})).await;
    assert_eq!(answer.code(), "agent_unavailable");
    let hint = answer.structured["hint"].as_str().unwrap();
    assert!(hint.contains("SSH_AUTH_SOCK") && hint.contains("key_path"), "{hint}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn dead_agent_and_empty_agent_say_so() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let nobody_listens = home.path().join("dead");
    drop(UnixListener::bind(&nobody_listens).unwrap());
    let empty = Agent::start(&[]).await;
    let sockets = [
        (home.path().join("missing"), "agent_unavailable", "SSH_AUTH_SOCK"),
        (nobody_listens, "agent_unavailable", "SSH_AUTH_SOCK"),
        (empty.socket(), "agent_empty", "ssh-add"),
    ];
    for (socket, code, hint) in sockets {
        let client = home.client(&[("SSH_AUTH_SOCK", socket.to_str().unwrap())]).await;
        let answer = client.call("ssh_connect", by_agent(&sshd, &sshd.user().name)).await;
        assert_eq!(answer.code(), code, "{}", answer.text);
        assert!(answer.structured["hint"].as_str().unwrap().contains(hint), "{}", answer.text);
        assert_eq!(answer.structured["retry_attempts"], 0);
    }
    assert_eq!(sshd.logged("Failed"), 0);
}

/// Connects through an agent that is `listener`'s affair; gives the answer and how long it took.
async fn through(socket: &Path, home: &Home, sshd: &Sshd) -> (ToolAnswer, Duration) {
    let client = home.client(&[("SSH_AUTH_SOCK", socket.to_str().unwrap())]).await;
    let begun = Instant::now();
    let answer = client.call("ssh_connect", by_agent(sshd, &sshd.user().name)).await;
    (answer, begun.elapsed())
}

#[tokio::test]
async fn hung_agent_is_given_up_after_five_seconds() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let socket = home.path().join("hung");
    let _listener = UnixListener::bind(&socket).unwrap();
    let (answer, took) = through(&socket, &home, &sshd).await;
    assert_eq!(answer.code(), "agent_unavailable", "{}", answer.text);
    assert!(answer.structured["message"].as_str().unwrap().contains("5 s"), "{}", answer.text);
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn agent_that_announces_four_gigabytes_is_refused() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let socket = home.path().join("huge");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let agent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[0xff; 64]).await.unwrap();
        std::future::pending::<()>().await;
    });
    let (answer, took) = through(&socket, &home, &sshd).await;
    agent.abort();
    assert_eq!(answer.code(), "agent_unavailable", "{}", answer.text);
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn agent_without_the_right_key_ends_in_a_refusal_and_no_retry() {
    let Some(sshd) = Sshd::builder().config("MaxAuthTries 6").start().await else { return };
    let home = Home::new();
    let keys: Vec<_> = (0..7).map(|n| home.key(&format!("wrong-{n}"), KeyType::Ed25519, KeyFormat::OpenSsh)).collect();
    let agent = Agent::start(&keys.iter().map(AsRef::as_ref).collect::<Vec<_>>()).await;
    let (answer, _) = through(&agent.socket(), &home, &sshd).await;
    assert_eq!(answer.code(), "auth_failed", "{}", answer.text);
    let error = &answer.structured;
    assert_eq!((&error["retry_attempts"], &error["retryable"]), (&json!(0), &json!(false)));
    assert_eq!(error["why"], "keys_refused");
    let tried = error["tried"].as_str().unwrap();
    assert_eq!(tried.matches("ssh-ed25519 SHA256:").count(), 7, "each once: {tried}");
    assert!(error["offered"].as_str().unwrap().contains("publickey"), "{error}");
    assert_eq!(sshd.logged("Connection from"), 2, "{}", sshd.log());
}

#[tokio::test]
async fn wrong_password_is_tried_once_and_stands_nowhere() {
    let Some(sshd) = Sshd::start().await else { return };
    let Some((user, right)) = user_with_password(&sshd) else { return };
    let home = Home::new();
    let client = home.client(&[("RUST_LOG", "trace")]).await;
    let wrong = format!("{CANARY}-wrong");
    let arguments = by_key(&sshd, &user.name, json!({"password": wrong, "max_retries": 5, "retry_delay_ms": 1}));
    let answer = client.call("ssh_connect", arguments).await;
    assert_eq!(answer.code(), "auth_failed", "{}", answer.text);
    let error = &answer.structured;
    let expected = json!({
        "host": "127.0.0.1", "port": sshd.port(), "username": user.name,
        "tried": "password", "retry_attempts": 0, "retryable": false, "why": "wrong_password",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&error[name], value, "{name}: {error}");
    }
    let offered = error["offered"].as_str().unwrap();
    assert!(offered.contains("publickey") && offered.contains("password"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("Do not guess"), "{error}");
    assert_eq!(sshd.logged("Failed password"), 1, "{}", sshd.log());
    assert_eq!(sshd.logged("Connection from"), 1, "{}", sshd.log());
    assert!(!answer.text.contains(CANARY), "{}", answer.text);

    let arguments = by_key(&sshd, &user.name, json!({"password": right}));
    let answer = client.call("ssh_connect", arguments).await;
    assert!(!answer.is_error && !answer.text.contains(right), "{}", answer.text);
    let listed = client.call("ssh_list_sessions", json!({})).await;
    assert!(!listed.text.contains(right));
    let log = client.stderr();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "nothing is logged, so this proves nothing");
    for secret in [CANARY, right] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret is in the log");
    }
}

#[tokio::test]
async fn password_stands_nowhere_over_http_either() {
    let host = Options::default().password(CANARY).start().await.unwrap();
    let server = HttpServer::start(&[("RUST_LOG", "trace")]).await;
    let address = format!("u@127.0.0.1:{}", host.port());
    for password in [CANARY.to_owned(), format!("{CANARY}-wrong")] {
        let reply = server.curl("ssh_connect", json!({"address": address, "password": password})).await;
        assert!(!reply.to_string().contains(CANARY), "{reply}");
        let client = McpClient::http(&server).await;
        let answer = client.call("ssh_connect", json!({"address": address, "password": password})).await;
        assert!(!answer.text.contains(CANARY), "{}", answer.text);
        let client = McpClient::sse(&server).await;
        let answer = client.call("ssh_connect", json!({"address": address, "password": password})).await;
        assert!(!answer.text.contains(CANARY), "{}", answer.text);
    }
    assert_eq!(host.auth_attempts(), 6);
    let log = server.log();
    assert_eq!(log.lines().find(|line| line.contains(CANARY)), None, "a secret is in the log");
}

#[tokio::test]
async fn refused_key_says_which_and_what_the_server_offers() {
    let Some(sshd) = Sshd::builder().config("PasswordAuthentication no").start().await else { return };
    let home = Home::new();
    let client = home.client(&[]).await;
    for kind in [KeyType::Ed25519, KeyType::Rsa] {
        let key = home.key(&format!("{kind:?}"), kind, KeyFormat::OpenSsh);
        let shown = Command::new("ssh-keygen").arg("-lf").arg(&key).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let fingerprint = shown.split(' ').nth(1).unwrap();
        let answer = client.call("ssh_connect", by_key(&sshd, &sshd.user().name, json!({"key_path": key}))).await;
        assert_eq!(answer.code(), "auth_failed", "{}", answer.text);
        let error = &answer.structured;
        assert!(error["tried"].as_str().unwrap().contains(fingerprint), "{error}");
        assert_eq!((&error["offered"], &error["retry_attempts"]), (&json!("publickey"), &json!(0)));
    }
    assert_eq!(sshd.logged("Connection from"), 2);
}

#[tokio::test]
async fn password_where_the_server_takes_none_is_not_sent() {
    let Some(sshd) = Sshd::builder().config("PasswordAuthentication no").start().await else { return };
    let client = Home::new().client(&[]).await;
    let arguments = with(by_agent(&sshd, &sshd.user().name), json!({"password": CANARY}));
    let answer = client.call("ssh_connect", arguments).await;
    assert_eq!(answer.code(), "auth_failed", "{}", answer.text);
    let error = &answer.structured;
    // It is not even sent.
    assert_eq!((&error["tried"], &error["offered"]), (&json!("nothing"), &json!("publickey")));
    assert_eq!(error["why"], "nothing_to_offer");
    assert_eq!((sshd.logged("Connection from"), sshd.logged("Failed password")), (1, 0));
}

#[tokio::test]
async fn server_that_hangs_up_on_a_wrong_password_is_not_asked_again() {
    let Some(sshd) = Sshd::builder().config("MaxAuthTries 1").start().await else { return };
    let client = Home::new().client(&[]).await;
    let retries = json!({"password": CANARY, "max_retries": 3, "retry_delay_ms": 1});
    let arguments = with(by_agent(&sshd, &sshd.user().name), retries);
    let answer = client.call("ssh_connect", arguments).await;
    assert_eq!(answer.code(), "auth_failed", "{}", answer.text);
    assert_eq!(answer.structured["retry_attempts"], 0, "{}", answer.text);
    assert_eq!(sshd.logged("Failed password"), 1, "{}", sshd.log());
}

#[tokio::test]
async fn connection_lost_while_logging_in_is_not_taken_up_again() {
    let host = Options::default().password("p").hang_up_on_login().start().await.unwrap();
    let home = Home::new();
    let key = home.path().join("key");
    host.write_client_key(&key).unwrap();
    let client = home.client(&[]).await;
    // Each attempt may count as a failed login, and servers lock out after a few.
    for (more, tried) in [(json!({"password": CANARY}), "password"), (json!({"key_path": key}), "ssh-ed25519 SHA256:")]
    {
        let before = host.auth_attempts();
        let address = format!("u@127.0.0.1:{}", host.port());
        let arguments = with(json!({"address": address, "max_retries": 3, "retry_delay_ms": 1}), more);
        let answer = client.call("ssh_connect", arguments).await;
        assert_eq!(answer.code(), "connection_lost", "{}", answer.text);
        let error = &answer.structured;
        assert_eq!((&error["retry_attempts"], &error["retryable"]), (&json!(0), &json!(false)), "{error}");
        assert!(error["tried"].as_str().unwrap().starts_with(tried), "{error}");
        assert_eq!(host.auth_attempts() - before, 1);
    }
}
