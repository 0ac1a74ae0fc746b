//! Logging in as ssh does: agent keys, usual key files, several factors; and without burning attempts.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
};

use serde_json::{Value, json};

use crate::support::{
    embedded_host::{Options, factors::Factors},
    home::{Home, by_key, with},
    mcp_client::{Does, Human, McpClient},
    openssh::{Agent, KeyFormat, KeyType, Sshd, ssh_keygen_with_passphrase},
    wait::eventually,
};

const PASSPHRASE: &str = "canary-2b7e15";

fn plain(sshd: &Sshd) -> Value {
    json!({"address": format!("127.0.0.1:{}", sshd.port()), "username": sshd.user().name})
}

fn keys(home: &Home, count: usize) -> Vec<PathBuf> {
    (0..count).map(|n| home.key(&format!("key-{n}"), KeyType::Ed25519, KeyFormat::OpenSsh)).collect()
}

async fn agent_of(keys: &[PathBuf]) -> Agent {
    Agent::start(&keys.iter().map(AsRef::as_ref).collect::<Vec<_>>()).await
}

async fn with_agent(home: &Home, agent: &Agent) -> McpClient {
    home.client(&[("SSH_AUTH_SOCK", agent.socket().to_str().unwrap())]).await
}

/// `~/.ssh` with this key under one of the usual names.
fn usual(home: &Home, name: &str, passphrase: &str) -> PathBuf {
    let ssh = home.path().join(".ssh");
    fs::create_dir_all(&ssh).unwrap();
    ssh_keygen_with_passphrase(&ssh, name, KeyType::Ed25519, KeyFormat::OpenSsh, passphrase)
}

#[tokio::test]
async fn seventh_key_of_the_agent_gets_in_where_ssh_gives_up_and_comes_first_the_next_time() {
    let Some(sshd) = Sshd::builder().config("MaxAuthTries 6").start().await else { return };
    let home = Home::new();
    let keys = keys(&home, 7);
    sshd.authorize(&keys[6]);
    let agent = agent_of(&keys).await;
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "IdentityFile=none"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-p", &sshd.port().to_string(), "127.0.0.1", "-l"]);
    let ran = ssh.arg(&sshd.user().name).arg("true").env("SSH_AUTH_SOCK", agent.socket()).output().unwrap();
    assert!(String::from_utf8_lossy(&ran.stderr).contains("Too many authentication failures"), "{ran:?}");

    let client = with_agent(&home, &agent).await;
    let before = sshd.logged("Connection from");
    let session = client.call("ssh_connect", plain(&sshd)).await.success();
    assert_eq!((&session["auth_method"], &session["retry_attempts"]), (&json!("agent"), &json!(0)));
    assert_eq!(sshd.logged("Connection from") - before, 2, "{}", sshd.log());
    let again = client.call("ssh_connect", plain(&sshd)).await.success();
    assert_eq!(again["auth_method"], "agent");
    assert_eq!(sshd.logged("Connection from") - before, 3, "the key that worked is offered first");
}

#[tokio::test]
async fn server_that_takes_three_attempts_is_asked_on_four_connections_and_no_more() {
    let Some(sshd) = Sshd::builder().config("MaxAuthTries 3").start().await else { return };
    let home = Home::new();
    let keys = keys(&home, 13);
    let agent = agent_of(&keys).await;
    let client = with_agent(&home, &agent).await;
    let answer = client.call("ssh_connect", plain(&sshd)).await;
    assert_eq!(answer.code(), "auth_failed", "{}", answer.text);
    assert_eq!(answer.structured["why"], "too_many_failures", "{}", answer.text);
    assert_eq!(answer.structured["tried"].as_str().unwrap().matches("SHA256:").count(), 12);
    assert_eq!(sshd.logged("Connection from"), 4, "{}", sshd.log());
    sshd.authorize(&keys[11]);
    client.call("ssh_connect", plain(&sshd)).await.success();
}

#[tokio::test]
async fn usual_key_files_log_in_without_an_agent_and_behind_one_that_does_not_help() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    sshd.authorize(&usual(&home, "id_ed25519", ""));
    let none = home.client(&[]).await;
    assert_eq!(none.call("ssh_connect", plain(&sshd)).await.success()["auth_method"], "publickey");
    for agent in [agent_of(&[]).await, agent_of(&keys(&home, 1)).await] {
        let client = with_agent(&home, &agent).await;
        assert_eq!(client.call("ssh_connect", plain(&sshd)).await.success()["auth_method"], "publickey");
    }
    let dead = home.client(&[("SSH_AUTH_SOCK", "/nowhere/agent")]).await;
    assert_eq!(dead.call("ssh_connect", plain(&sshd)).await.success()["auth_method"], "publickey");
    let elsewhere = home.client(&[("SSH_KEY_ROOTS", "/nowhere")]).await;
    assert_eq!(elsewhere.call("ssh_connect", plain(&sshd)).await.code(), "agent_unavailable");
}

#[tokio::test]
async fn usual_files_that_cannot_be_used_are_told_and_do_not_stop_the_others() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let open = usual(&home, "id_rsa", "");
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    fs::write(home.path().join(".ssh/id_ecdsa"), "no key").unwrap();
    usual(&home, "id_ed25519", "");
    fs::set_permissions(home.path().join(".ssh/id_ecdsa"), Permissions::from_mode(0o600)).unwrap();
    let client = home.client(&[]).await;
    let answer = client.call("ssh_connect", plain(&sshd)).await;
    assert_eq!((answer.code(), answer.structured["why"].as_str()), ("auth_failed", Some("keys_refused")));
    let notes = answer.structured["notes"].to_string();
    assert!(notes.contains("id_rsa") && notes.contains("id_ecdsa") && !notes.contains("id_ed25519"), "{notes}");
    sshd.authorize(&home.path().join(".ssh/id_ed25519"));
    client.call("ssh_connect", plain(&sshd)).await.success();
}

#[tokio::test]
async fn named_key_is_the_only_one_that_is_offered() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let right = usual(&home, "id_ed25519", "");
    sshd.authorize(&right);
    let agent = agent_of(&[right]).await;
    let wrong = home.key("wrong", KeyType::Ed25519, KeyFormat::OpenSsh);
    let client = with_agent(&home, &agent).await;
    let answer = client.call("ssh_connect", with(plain(&sshd), json!({"key_path": wrong}))).await;
    assert_eq!(answer.code(), "auth_failed");
    assert_eq!(answer.structured["tried"].as_str().unwrap().matches("SHA256:").count(), 1, "{}", answer.text);
}

#[tokio::test]
async fn key_and_then_password_are_two_factors_in_a_row() {
    let Some(sshd) = Sshd::builder().config("AuthenticationMethods publickey,password").start().await else { return };
    let Some(password) = sshd.user().password.as_deref() else { return };
    let client = Home::new().client(&[]).await;
    let both = by_key(&sshd, &sshd.user().name, json!({"password": password}));
    let session = client.call("ssh_connect", both).await.success();
    assert_eq!(session["auth_method"], "publickey,password");

    let wrong = by_key(&sshd, &sshd.user().name, json!({"password": "wrong"}));
    let answer = client.call("ssh_connect", wrong).await;
    assert_eq!((answer.code(), answer.structured["why"].as_str()), ("auth_failed", Some("wrong_password")));
    assert_eq!(sshd.logged("Failed password"), 1, "{}", sshd.log());
    let key_alone = client.call("ssh_connect", by_key(&sshd, &sshd.user().name, json!({}))).await;
    assert_eq!(key_alone.code(), "auth_failed");
    assert_eq!(
        (&key_alone.structured["why"], &key_alone.structured["offered"]),
        (&json!("password_wanted"), &json!("password")),
        "{}",
        key_alone.text
    );
}

#[tokio::test]
async fn two_keys_in_a_row_are_two_different_keys() {
    let builder = Sshd::builder().config("AuthenticationMethods publickey,publickey");
    let Some(sshd) = builder.start().await else { return };
    let home = Home::new();
    let keys = keys(&home, 2);
    sshd.authorize(&keys[0]);
    sshd.authorize(&keys[1]);
    let agent = agent_of(&keys).await;
    let client = with_agent(&home, &agent).await;
    assert_eq!(client.call("ssh_connect", plain(&sshd)).await.success()["auth_method"], "agent,agent");
}

/// Encrypted: a person is asked, in both eras, and the model sees nothing of it.
#[tokio::test]
async fn passphrase_is_asked_of_the_person_and_only_where_the_server_takes_the_key() {
    let Some(sshd) = Sshd::start().await else { return };
    for (newer, usual_place) in [(false, true), (true, true), (false, false), (true, false)] {
        let home = Home::new();
        let key = usual(&home, "id_ed25519", PASSPHRASE);
        let arguments = if usual_place { plain(&sshd) } else { with(plain(&sshd), json!({"key_path": key})) };
        let human = Human::who(Does::Accept(json!({"answer_1": PASSPHRASE})));
        let env = [("HOME", home.path().to_str().unwrap()), ("RUST_LOG", "trace")];
        let client = McpClient::stdio_with(&env, &human, newer).await;
        if usual_place {
            let answer = client.call_and_answer("ssh_connect", arguments.clone()).await;
            assert_eq!(answer.structured["why"], "keys_refused", "{}", answer.text);
            assert_eq!(human.asked().len(), 0, "the server would not take it");
        }
        sshd.authorize(&key);
        let answer = client.call_and_answer("ssh_connect", arguments).await;
        assert!(!answer.is_error && !answer.text.contains(PASSPHRASE), "newer {newer}: {}", answer.text);
        assert_eq!(human.asked().len(), 1);
        assert!(human.asked()[0]["message"].as_str().unwrap().contains("id_ed25519"));
        let log = client.stderr();
        assert_eq!(log.lines().find(|line| line.contains(PASSPHRASE)), None, "newer {newer}");
    }
}

#[tokio::test]
async fn passphrase_that_nobody_gives_or_that_is_wrong_is_told() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let key = usual(&home, "id_ed25519", PASSPHRASE);
    sshd.authorize(&key);
    let cases = [
        (Human::default(), "cannot_ask"),
        (Human::who(Does::Decline), "declined"),
        (Human::who(Does::Cancel), "cancelled"),
    ];
    for (human, why) in cases {
        let client = McpClient::stdio_with(&[("HOME", home.path().to_str().unwrap())], &human, false).await;
        let answer = client.call_and_answer("ssh_connect", plain(&sshd)).await;
        assert_eq!((answer.code(), answer.structured["why"].as_str()), ("key_encrypted", Some(why)), "{}", answer.text);
    }
    let human = Human::who(Does::Accept(json!({"answer_1": "wrong"})));
    let client = McpClient::stdio_with(&[("HOME", home.path().to_str().unwrap())], &human, false).await;
    let answer = client.call_and_answer("ssh_connect", plain(&sshd)).await;
    assert_eq!((answer.code(), human.asked().len()), ("key_encrypted", 1), "{}", answer.text);
    assert!(answer.structured["hint"].as_str().unwrap().contains("Do not guess"), "{}", answer.text);
}

#[tokio::test]
async fn session_whose_agent_went_away_connects_again_with_the_key_file_that_it_read() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let key = usual(&home, "id_ed25519", "");
    sshd.authorize(&key);
    let client = home.client(&[]).await;
    let session = client.call("ssh_connect", plain(&sshd)).await.success();
    let run = json!({"session_id": session["session_id"], "command": "echo again"});
    // sshd forks once more after the login; whoever runs a command runs in that child.
    client.call("ssh_execute", run.clone()).await.success();
    fs::remove_file(&key).unwrap();
    sshd.signal_connections("KILL");
    // A command that is sent before the loss is noticed has an unknown outcome.
    eventually("the loss is noticed", async || {
        client.call("ssh_list_sessions", json!({})).await.success()["sessions"][0]["healthy"] == false
    })
    .await;
    let ran = client.call("ssh_execute", run).await.success();
    assert_eq!(ran["stdout"], "again\n");
}

#[tokio::test]
async fn locked_account_is_told_apart_where_the_server_says_so() {
    let notice = "This account is locked. Ask the help desk.";
    let banner = Some(format!("\u{1b}[31m{notice}\u{202e}"));
    let factors = Factors { banner, ..Default::default() };
    let host = Options::default().password("right").factors(factors).start().await.unwrap();
    let client = Home::new().client(&[]).await;
    let arguments = json!({"address": format!("u@127.0.0.1:{}", host.port()), "password": "wrong"});
    let answer = client.call("ssh_connect", arguments).await;
    assert_eq!((answer.code(), answer.structured["why"].as_str()), ("auth_failed", Some("locked_out")));
    let said = answer.structured["server_says"].as_str().unwrap();
    assert!(said.contains(notice) && !said.contains('\u{1b}') && !said.contains('\u{202e}'), "{said:?}");
}
