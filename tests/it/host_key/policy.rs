//! What becomes of unknown and changed keys, and that nobody can talk us out of it.

use std::{fs, process::Command, time::Duration};

use serde_json::{Value, json};

use super::{OTHER_KEY, assert_nothing_was_sent, connect, name, trust};
use crate::support::{
    home::{Home, by_key, logins},
    mcp_client::{McpClient, run},
    openssh::{Agent, Sshd},
};

#[tokio::test]
async fn strict_takes_known_hosts_only() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let client = home.client(&[("SSH_HOST_KEY_POLICY", "strict")]).await;
    let answer = connect(&client, &sshd).await;
    assert_eq!((answer.code(), &answer.structured["why"]), ("host_key_unknown", &json!("strict")), "{}", answer.text);
    assert_eq!(answer.structured["offered_fingerprint"], sshd.fingerprint());
    assert_eq!(
        (&answer.structured["algorithm"], &answer.structured["retry_attempts"]),
        (&json!("ssh-ed25519"), &json!(0))
    );
    assert_nothing_was_sent(&sshd);
    assert_eq!(home.recorded(), "");
    home.write_known_hosts(&sshd.known_hosts());
    assert_eq!(trust(&client, &sshd).await, "known");
}

#[tokio::test]
async fn no_policy_accepts_every_key() {
    for word in ["no", "off", "false", "0", "accept", "accept-all", "yes", "insecure", "any"] {
        let output = run(true, &[], &[("SSH_HOST_KEY_POLICY", word)]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{word}: {said}");
        assert!(said.contains("SSH_HOST_KEY_POLICY") && said.contains("`strict`, `accept-new`, `ask`"), "{said}");
    }
}

#[tokio::test]
async fn command_in_the_error_mends_a_changed_key() {
    let Some(sshd) = Sshd::start().await else { return };
    let (host, home) = (name(&sshd), Home::new());
    for line in [format!("{host} {OTHER_KEY}\n"), format!("[127.0.0.*]:{} {OTHER_KEY}\n", sshd.port())] {
        for own in [true, false] {
            let home = if own { &home } else { &Home::new() };
            let folder = home.path().join(if own { "it's own" } else { ".ssh" });
            let file = folder.join("known_hosts");
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, format!("keep.example {OTHER_KEY}\n{line}")).unwrap();
            let setting = file.to_str().unwrap();
            let setting = own.then_some(("SSH_KNOWN_HOSTS_FILE", setting));
            let client = home.client(setting.as_slice()).await;
            let answer = connect(&client, &sshd).await;
            assert_eq!(answer.code(), "host_key_changed", "{}", answer.text);
            assert!(answer.structured["hint"].as_str().unwrap().contains("`mend`"), "{}", answer.text);
            let mend = answer.structured["mend"].as_str().unwrap();
            assert!(mend.starts_with("ssh-keygen -R "), "{mend}");
            let mended = Command::new("sh").args(["-c", mend]).output().unwrap();
            assert!(mended.status.success(), "{mend}: {}", String::from_utf8_lossy(&mended.stderr));
            assert_eq!(trust(&client, &sshd).await, "accepted_new", "{mend}");
            assert!(fs::read_to_string(&file).unwrap().starts_with("keep.example "), "{mend}");
        }
    }
}

#[tokio::test]
async fn no_parameter_overrides_a_changed_key() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    home.write_known_hosts(&format!("{} {OTHER_KEY}\n", name(&sshd)));
    let client = home.client(&[]).await;
    let base = by_key(&sshd, &sshd.user().name, json!({"max_retries": 0}));
    let tools = client.peer().list_all_tools().await.unwrap();
    let schema = &tools.iter().find(|tool| tool.name == "ssh_connect").unwrap().input_schema;
    let known: Vec<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(known.len() >= 10, "{known:?}");
    let hoped_for =
        ["host_key", "host_key_policy", "strict_host_key_checking", "StrictHostKeyChecking", "approved_key"];
    let hoped_for =
        hoped_for.iter().chain(&["known_hosts", "accept_host_key", "fingerprint", "force", "insecure", "trust"]);
    let words =
        ["yes", "no", "accept", "accept-new", "off", "ask", "/dev/null", &sshd.fingerprint()].map(|word| json!(word));
    let values =
        words.into_iter().chain([json!(true), json!(false), json!(1), json!({"trust": true}), json!(["accept"])]);
    let values: Vec<Value> = values.collect();
    // Another address or way leads to another host.
    for parameter in known.iter().filter(|name| !["address", "jump", "timeout_secs"].contains(name)).chain(hoped_for) {
        for value in &values {
            let mut arguments = base.clone();
            arguments[*parameter] = value.clone();
            let answer = client.call("ssh_connect", arguments).await;
            let refused = [
                "host_key_changed",
                "invalid_argument",
                "unknown_argument",
                "invalid_name",
                "invalid_username",
                "out_of_range",
                "secret_not_found",
                "conflicting_arguments",
                "missing_argument",
            ];
            let of_keys = ["key_not_found", "key_path_not_allowed", "not_a_private_key", "key_permissions"];
            let code = answer.code();
            // A word is the name of a jump host; it is not even got to.
            let of_hops = *parameter == "jump" && ["agent_unavailable", "resolve_failed"].contains(&code);
            assert!(
                refused.contains(&code) || of_keys.contains(&code) || of_hops,
                "{parameter}: {value}: {}",
                answer.text
            );
        }
    }
    for address in ["127.0.0.1", "LOCALHOST"].map(|host| format!("ssh://{host}:{}", sshd.port())) {
        let answer = client.call("ssh_connect", by_key(&sshd, &sshd.user().name, json!({"address": address}))).await;
        // Under another name it is another host.
        assert!(answer.is_error == address.contains("127"), "{}", answer.text);
    }
    let key = format!("[localhost]:{}", sshd.port());
    let recorded = home.recorded().lines().count();
    assert!(recorded == 0 || (recorded == 1 && home.knows(&key)), "{}", home.recorded());
}

/// A credential of every kind, as arguments of `ssh_connect`.
fn credentials(sshd: &Sshd, login: &str) -> [Value; 3] {
    let address = format!("127.0.0.1:{}", sshd.port());
    let with = |name: &str, value: Value| {
        let mut arguments = json!({"address": address, "username": login});
        arguments[name] = value;
        arguments
    };
    [
        with("password", json!("canary-93b0")),
        with("key_path", json!(sshd.client_key())),
        json!({"address": address, "username": login}),
    ]
}

async fn with_agent(home: &Home, agent: &Agent, policy: &str) -> McpClient {
    let socket = agent.socket();
    home.client(&[("SSH_AUTH_SOCK", socket.to_str().unwrap()), ("SSH_HOST_KEY_POLICY", policy)]).await
}

#[tokio::test]
async fn no_credential_reaches_a_server_whose_key_is_not_verified() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let agent = Agent::start(&[sshd.client_key()]).await;
    let (home, empty) = (Home::new(), Home::new());
    let accepting = with_agent(&home, &agent, "accept-new").await;
    assert_eq!(trust(&accepting, &sshd).await, "accepted_new");
    assert!(sshd.logged("userauth-request") > 0, "what must not be there could be seen");

    sshd.restart_with_other_host_keys().await;
    let revoked = Home::new();
    revoked.write_known_hosts(&format!("@revoked * {}", sshd.known_hosts().split_once(' ').unwrap().1));
    let clients = [
        (accepting, "host_key_changed"),
        (with_agent(&empty, &agent, "strict").await, "host_key_unknown"),
        (with_agent(&empty, &agent, "ask").await, "host_key_unknown"),
        (with_agent(&revoked, &agent, "accept-new").await, "host_key_revoked"),
    ];
    for (client, code) in &clients {
        for login in logins(&sshd) {
            for arguments in credentials(&sshd, login) {
                let answer = client.call("ssh_connect", arguments).await;
                assert_eq!(answer.code(), *code, "{}", answer.text);
            }
        }
    }
    assert!(sshd.logged("SSH2_MSG_NEWKEYS sent") >= clients.len() * 3, "{}", sshd.log());
    assert_nothing_was_sent(&sshd);
}

#[tokio::test]
async fn lines_that_were_skipped_are_told() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    home.write_known_hosts(&format!("garbage\n{}h ssh-ed25519 AAAA\n", sshd.known_hosts()));
    let session = connect(&home.client(&[]).await, &sshd).await.success();
    let notices = session["notices"].to_string();
    assert!(notices.contains(".ssh/known_hosts: 2 lines") && notices.contains("1, 3"), "{session}");
}

#[tokio::test]
async fn file_that_is_none_is_refused_and_does_not_block() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    fs::create_dir_all(home.path().join(".ssh")).unwrap();
    let fifo = home.path().join(".ssh/known_hosts");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let client = home.client(&[]).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), connect(&client, &sshd)).await.unwrap();
    assert_eq!(answer.code(), "host_key_unknown", "{}", answer.text);
    // A file that forgets would be a way to accept every key.
    let client = Home::new().client(&[("SSH_KNOWN_HOSTS_FILE", "/dev/null")]).await;
    assert_eq!(connect(&client, &sshd).await.code(), "host_key_unknown");
    assert_nothing_was_sent(&sshd);
}
