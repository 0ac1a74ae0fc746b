//! Host keys: known_hosts as OpenSSH reads it, and first use recorded in a file of our own.

mod policy;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    embedded_host::EmbeddedHost,
    home::{Home, by_key, logins},
    mcp_client::{McpClient, ToolAnswer},
    openssh::{KeyFormat, KeyType, Sshd, public_key},
    wait::eventually,
};

/// A well-formed key that no server here has.
const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

async fn connect(client: &McpClient, sshd: &Sshd) -> ToolAnswer {
    client.call("ssh_connect", by_key(sshd, &sshd.user().name, json!({}))).await
}

/// Connects and gives why the key was trusted.
async fn trust(client: &McpClient, sshd: &Sshd) -> Value {
    connect(client, sshd).await.success()["host_key"]["trust"].clone()
}

/// Nobody may learn a user name or a credential before the key is trusted.
#[track_caller]
fn assert_nothing_was_sent(sshd: &Sshd) {
    assert_eq!(sshd.logged("userauth-request"), 0, "{}", sshd.log());
    assert_eq!(sshd.logged("Failed") + sshd.logged("Accepted"), 0, "{}", sshd.log());
}

/// `[127.0.0.1]:port`, as known_hosts names the server.
fn name(sshd: &Sshd) -> String {
    format!("[127.0.0.1]:{}", sshd.port())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn first_use_is_recorded_in_a_private_file_of_our_own() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let theirs = home.write_known_hosts("other.example ssh-rsa AAAA\n");
    let client = home.client(&[]).await;
    let session = connect(&client, &sshd).await.success();
    let expected = json!({"algorithm": "ssh-ed25519", "fingerprint": sshd.fingerprint(), "trust": "accepted_new"});
    assert_eq!(session["host_key"], expected);

    let own = home.own_known_hosts();
    assert_eq!(home.recorded().lines().count(), 1);
    assert_eq!((mode(&own), mode(own.parent().unwrap())), (0o600, 0o700));
    assert_eq!(fs::read_to_string(theirs).unwrap(), "other.example ssh-rsa AAAA\n", "only read");
    assert!(home.knows(&name(&sshd)), "OpenSSH reads what was recorded: {}", home.recorded());

    for login in logins(&sshd) {
        let session = client.call("ssh_connect", by_key(&sshd, login, json!({}))).await.success();
        assert_eq!(session["host_key"]["trust"], "known");
    }
    // So does another process.
    assert_eq!(trust(&home.client(&[]).await, &sshd).await, "known");
    assert_eq!(home.recorded().lines().count(), 1);
}

#[tokio::test]
async fn embedded_host_is_recorded_under_its_port() {
    let host = EmbeddedHost::start().await.unwrap();
    let home = Home::new();
    let key = home.path().join("key");
    host.write_client_key(&key).unwrap();
    let client = home.client(&[]).await;
    let arguments = json!({"address": format!("127.0.0.1:{}", host.port()), "username": "u", "key_path": key});
    let session = client.call("ssh_connect", arguments).await.success();
    assert_eq!(session["host_key"]["fingerprint"], host.fingerprint());
    let line = host.known_hosts_line().unwrap();
    let (name, key) = line.split_once(' ').unwrap();
    assert!(home.knows(name) && home.recorded().trim().ends_with(key.trim()), "{}", home.recorded());
}

#[tokio::test]
async fn file_of_ones_own_may_be_set() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let file = home.path().join("elsewhere/hosts");
    let variables = [("SSH_KNOWN_HOSTS_FILE", file.to_str().unwrap()), ("SSH_CONFIG_FILE", "none")];
    let client = home.client(&variables).await;
    assert_eq!(trust(&client, &sshd).await, "accepted_new");
    assert!(fs::read_to_string(&file).unwrap().starts_with(&name(&sshd)));
    assert!(!home.own_known_hosts().exists());

    let home = Home::new();
    let state = home.path().join("state");
    let client = home.client(&[("XDG_STATE_HOME", state.to_str().unwrap())]).await;
    assert_eq!(trust(&client, &sshd).await, "accepted_new");
    assert!(state.join("ssh-mcp/known_hosts").exists());
}

#[tokio::test]
async fn what_openssh_knows_is_known() {
    let Some(sshd) = Sshd::start().await else { return };
    let key = sshd.known_hosts().split_once(' ').unwrap().1.to_owned();
    let port = sshd.port();
    let lines = [
        sshd.known_hosts(),
        format!("# a comment\n\nother.example {OTHER_KEY}\n{}", sshd.known_hosts()),
        format!("other.example,[127.0.0.1]:{port} {key}"),
        format!("[127.0.0.*]:{port}\t{key}"),
        format!("* {key}"),
        // Of several keys of one type one is right.
        format!("{} {OTHER_KEY}\n{}", name(&sshd), sshd.known_hosts()),
        // Known without its port, as OpenSSH takes it too.
        format!("127.0.0.1 {key}"),
        // Malformed lines are skipped, wherever they stand.
        format!("garbage\n[127.0.0.1]:{port} ssh-ed25519 AAAA\n|1|x|y z\n@what {key}{}\n\u{0}\n", sshd.known_hosts()),
        sshd.known_hosts().replace('\n', "\r\n"),
    ];
    for text in lines {
        let home = Home::new();
        home.write_known_hosts(&text);
        let client = home.client(&[]).await;
        assert_eq!(trust(&client, &sshd).await, "known", "{text}");
        assert_eq!(home.recorded(), "", "nothing is recorded twice: {text}");
    }
}

#[tokio::test]
async fn hashed_names_are_known() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let path = home.write_known_hosts(&sshd.known_hosts());
    assert!(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&path).output().unwrap().status.success());
    assert!(fs::read_to_string(path).unwrap().starts_with("|1|"));
    assert_eq!(trust(&home.client(&[]).await, &sshd).await, "known");
}

#[tokio::test]
async fn malformed_lines_alone_leave_a_host_unknown() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    home.write_known_hosts(&format!("{} ssh-ed25519 AAAA\nnonsense\n", name(&sshd)));
    let client = home.client(&[]).await;
    assert_eq!(trust(&client, &sshd).await, "accepted_new");
}

#[tokio::test]
async fn changed_key_is_refused_with_all_evidence_before_anything_is_sent() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let client = home.client(&[("RUST_LOG", "trace")]).await;
    assert_eq!(trust(&client, &sshd).await, "accepted_new");
    let (old, recorded) = (sshd.fingerprint(), home.recorded());
    sshd.restart_with_other_host_keys().await;

    let key = json!({"max_retries": 3, "retry_delay_ms": 1});
    for more in [key, json!({"password": "canary-41d0"})] {
        let answer = client.call("ssh_connect", by_key(&sshd, &sshd.user().name, more)).await;
        assert_eq!(answer.code(), "host_key_changed", "{}", answer.text);
        let error = &answer.structured;
        assert_eq!((&error["retryable"], &error["retry_attempts"]), (&json!(false), &json!(0)), "{error}");
        assert_eq!(
            (&error["known_fingerprint"], &error["offered_fingerprint"]),
            (&json!(old), &json!(sshd.fingerprint()))
        );
        assert_eq!((&error["line"], &error["algorithm"]), (&json!(1), &json!("ssh-ed25519")));
        assert_eq!((&error["host"], &error["port"]), (&json!("127.0.0.1"), &json!(sshd.port())), "{error}");
        assert_eq!(error["username"], sshd.user().name);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&old) && message.contains(&sshd.fingerprint()), "{message}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.starts_with("Stop") && hint.contains("user"), "{hint}");
    }
    assert_nothing_was_sent(&sshd);
    assert_eq!(home.recorded(), recorded, "a changed key cannot be accepted");
}

#[tokio::test]
async fn evidence_names_the_file_and_its_line() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    home.write_known_hosts(&format!("# one\nother.example {OTHER_KEY}\n{} {OTHER_KEY}\n", name(&sshd)));
    let answer = connect(&home.client(&[]).await, &sshd).await;
    assert_eq!(answer.code(), "host_key_changed", "{}", answer.text);
    assert_eq!(answer.structured["line"], 3, "{}", answer.text);
    let file = answer.structured["file"].as_str().unwrap();
    assert_eq!(Path::new(file), home.path().join(".ssh/known_hosts"));
    assert_nothing_was_sent(&sshd);
    assert_eq!(home.recorded(), "");
}

#[tokio::test]
async fn known_under_another_type_only_is_refused() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let other = home.key("ecdsa", KeyType::Ecdsa, KeyFormat::OpenSsh);
    home.write_known_hosts(&format!("{} {}\n", name(&sshd), public_key(&other)));
    let answer = connect(&home.client(&[]).await, &sshd).await;
    assert_eq!(answer.code(), "host_key_changed", "{}", answer.text);
    assert_nothing_was_sent(&sshd);
    assert_eq!(home.recorded(), "", "trust on first use would be a way around");
}

#[tokio::test]
async fn type_that_is_known_is_asked_for_first() {
    for known in [KeyType::Rsa, KeyType::Ecdsa] {
        let builder = Sshd::builder().host_key(KeyType::Ed25519).host_key(KeyType::Rsa).host_key(KeyType::Ecdsa);
        let Some(sshd) = builder.start().await else { return };
        let algorithm = if known == KeyType::Rsa { "ssh-rsa" } else { "ecdsa-sha2-nistp256" };
        let lines = sshd.known_hosts();
        let line = lines.lines().find(|line| line.contains(algorithm)).unwrap();
        let home = Home::new();
        home.write_known_hosts(&format!("{line}\n"));
        let session = connect(&home.client(&[]).await, &sshd).await.success();
        assert_eq!(
            (&session["host_key"]["trust"], &session["host_key"]["algorithm"]),
            (&json!("known"), &json!(algorithm))
        );
        assert_eq!(home.recorded(), "");
    }
}

#[tokio::test]
async fn rsa_host_key_is_verified_with_sha2_and_sha1_alone_has_no_common_algorithm() {
    let builder = Sshd::builder().host_key(KeyType::Rsa).config("HostKeyAlgorithms ssh-rsa");
    let Some(sshd) = builder.start().await else { return };
    let answer = connect(&Home::new().client(&[]).await, &sshd).await;
    assert_eq!(answer.code(), "no_common_algorithm", "{}", answer.text);
    assert_eq!(answer.structured["theirs"], "ssh-rsa", "{}", answer.text);
    assert!(answer.structured["ours"].as_str().unwrap().contains("rsa-sha2-512"), "{}", answer.text);
    assert_eq!(answer.structured["retry_attempts"], 0);
    assert_eq!((&answer.structured["host"], &answer.structured["port"]), (&json!("127.0.0.1"), &json!(sshd.port())));

    let Some(sshd) = Sshd::builder().host_key(KeyType::Rsa).start().await else { return };
    let session = connect(&Home::new().client(&[]).await, &sshd).await.success();
    assert_eq!(session["host_key"]["fingerprint"], sshd.fingerprint());
}

#[tokio::test]
async fn revoked_key_is_refused_even_where_it_is_known_too() {
    let Some(sshd) = Sshd::start().await else { return };
    let key = sshd.known_hosts().split_once(' ').unwrap().1.to_owned();
    let lines = [
        format!("@revoked {} {key}", name(&sshd)),
        format!("@revoked * {key}"),
        format!("{}@revoked\t*\t{key}", sshd.known_hosts()),
    ];
    for text in lines {
        let home = Home::new();
        home.write_known_hosts(&text);
        let answer = connect(&home.client(&[]).await, &sshd).await;
        assert_eq!(answer.code(), "host_key_revoked", "{}", answer.text);
        let error = &answer.structured;
        assert_eq!((&error["offered_fingerprint"], &error["retryable"]), (&json!(sshd.fingerprint()), &json!(false)));
        assert_eq!((&error["host"], &error["username"]), (&json!("127.0.0.1"), &json!(sshd.user().name)), "{error}");
        assert!(error["hint"].as_str().unwrap().starts_with("Stop"), "{error}");
        assert_eq!(home.recorded(), "");
    }
    assert_nothing_was_sent(&sshd);
}

#[tokio::test]
async fn key_that_cannot_be_recorded_is_not_trusted() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let (folder, dangling) = (home.path().join("folder"), home.path().join("dangling"));
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(home.path().join("no/such/file"), &dangling).unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    // Whoever runs this: not even root can write these.
    for own in [folder, dangling, home.path().join("file/known_hosts")] {
        let client = home.client(&[("SSH_KNOWN_HOSTS_FILE", own.to_str().unwrap())]).await;
        let answer = connect(&client, &sshd).await;
        assert_eq!(answer.code(), "host_key_unknown", "{}", answer.text);
        assert_eq!((&answer.structured["retryable"], &answer.structured["retry_attempts"]), (&json!(false), &json!(0)));
        assert!(!answer.structured["hint"].as_str().unwrap().is_empty());
    }
    assert_nothing_was_sent(&sshd);
}

#[tokio::test]
async fn known_hosts_that_cannot_be_read_do_not_make_a_host_unknown() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    fs::create_dir_all(home.path().join(".ssh/known_hosts")).unwrap();
    let answer = connect(&home.client(&[]).await, &sshd).await;
    assert_eq!(answer.code(), "host_key_unknown", "{}", answer.text);
    assert_eq!(home.recorded(), "");
    assert_nothing_was_sent(&sshd);
}

#[tokio::test]
async fn first_connects_at_the_same_time_record_one_line() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    // Two processes and two calls in each: the lock has to hold between both.
    let clients = [home.client(&[]).await, home.client(&[]).await];
    let calls = clients.iter().flat_map(|client| [connect(client, &sshd), connect(client, &sshd)]);
    // Held here until the key was shown to all four: each has found the host unknown by then.
    fs::create_dir_all(home.own_known_hosts().parent().unwrap()).unwrap();
    let lock = fs::File::create(home.own_known_hosts()).unwrap();
    lock.lock().unwrap();
    let release = async {
        eventually("all four were shown the key", async || sshd.logged("SSH2_MSG_NEWKEYS sent") == 4).await;
        // What the clients do with it cannot be seen from outside; too short a pause proves less, no more.
        tokio::time::sleep(Duration::from_millis(200)).await;
        lock.unlock().unwrap();
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), release);
    let trusts: Vec<_> = answers.into_iter().map(|answer| answer.success()["host_key"]["trust"].clone()).collect();
    assert_eq!(trusts.iter().filter(|trust| **trust == "accepted_new").count(), 1, "{trusts:?}");
    assert_eq!(home.recorded().lines().count(), 1, "{}", home.recorded());
}

#[tokio::test]
async fn recording_mends_a_last_line_that_was_cut_off() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    fs::create_dir_all(home.own_known_hosts().parent().unwrap()).unwrap();
    let before = format!("other.example {OTHER_KEY}");
    fs::write(home.own_known_hosts(), &before).unwrap();
    let inode = fs::metadata(home.own_known_hosts()).unwrap().ino();
    assert_eq!(trust(&home.client(&[]).await, &sshd).await, "accepted_new");
    let recorded = home.recorded();
    assert_eq!(recorded.lines().next(), Some(before.as_str()));
    assert_eq!(recorded.lines().count(), 2, "{recorded}");
    assert_eq!(fs::metadata(home.own_known_hosts()).unwrap().ino(), inode, "appended to, not replaced");
    assert_eq!(trust(&home.client(&[]).await, &sshd).await, "known");
}
