//! The harness for OpenSSH's server, driven by OpenSSH's client: other tests rely on it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Output, Stdio},
};

use tokio::process::Command;

use crate::support::{
    openssh::{Agent, KeyFormat, KeyType, Sshd, is_root, ssh_keygen},
    process::alive,
    wait::{bounded, eventually},
};

/// An `ssh` that insists on the server's host keys and knows no identity.
fn ssh(sshd: &Sshd, user: &str) -> Command {
    let known_hosts = sshd.directory().join("known_hosts");
    fs::write(&known_hosts, sshd.known_hosts()).unwrap();
    let mut command = Command::new("ssh");
    command.args(["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=none"]);
    command.arg("-o").arg(format!("UserKnownHostsFile={}", known_hosts.display()));
    command.args(["-p", &sshd.port().to_string(), "-l", user, "127.0.0.1"]);
    command.env_remove("SSH_AUTH_SOCK").env("HOME", sshd.directory());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(command: &mut Command) -> Output {
    bounded("the end of ssh", command.output()).await.unwrap()
}

async fn with_key(sshd: &Sshd, user: &str, key: &Path, script: &str) -> Output {
    output(ssh(sshd, user).args(["-o", "BatchMode=yes", "-i"]).arg(key).arg(script)).await
}

#[tokio::test]
async fn ordinary_user_and_root_log_in_by_key() {
    let Some(sshd) = Sshd::start().await else {
        return;
    };
    let user = &sshd.user().name;
    let ran = with_key(&sshd, user, sshd.client_key(), "id -un; ls -A; exit 7").await;
    assert_eq!(ran.status.code(), Some(7), "{ran:?}\n{}", sshd.log());
    let shown = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(shown.lines().next(), Some(user.as_str()));
    assert_eq!(sshd.logged(&format!("Accepted publickey for {user}")), 1);
    if is_root() {
        assert_eq!(shown.lines().count(), 1, "an empty home");
        let ran = with_key(&sshd, "root", sshd.client_key(), "id -un; ls -A ~; env").await;
        let shown = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(shown.lines().next(), Some("root"));
        assert!(shown.contains("SSH_MCP_TEST_SERVER"), "{shown}");
        assert!(!shown.contains(".profile"), "an empty home: {shown}");
    }
}

#[tokio::test]
async fn ordinary_user_logs_in_by_password() {
    let Some(sshd) = Sshd::start().await else {
        return;
    };
    let Some(password) = &sshd.user().password else {
        return;
    };
    let ask = sshd.directory().join("ask");
    fs::write(&ask, "#!/bin/sh\necho \"$PASSWORD\"\n").unwrap();
    fs::set_permissions(&ask, Permissions::from_mode(0o700)).unwrap();
    for (given, accepted) in [(password.as_str(), true), ("wrong", false)] {
        let mut command = ssh(&sshd, &sshd.user().name);
        command.args(["-o", "NumberOfPasswordPrompts=1", "-o", "PreferredAuthentications=password"]);
        command.env("SSH_ASKPASS", &ask).env("SSH_ASKPASS_REQUIRE", "force").env("PASSWORD", given);
        let ran = output(command.arg("true")).await;
        assert_eq!(ran.status.success(), accepted, "{ran:?}\n{}", sshd.log());
    }
    assert_eq!((sshd.logged("Accepted password"), sshd.logged("Failed password")), (1, 1));
}

#[tokio::test]
async fn keys_of_every_type_and_format_are_made_and_an_agent_holds_them() {
    let Some(sshd) = Sshd::start().await else {
        return;
    };
    let make = |kind, format| {
        let key = ssh_keygen(sshd.directory(), &format!("{kind:?}-{format:?}"), kind, format);
        let text = fs::read_to_string(&key).unwrap();
        (key, text.lines().next().unwrap().trim_matches('-').to_owned())
    };
    for kind in [KeyType::Ed25519, KeyType::Ecdsa, KeyType::Rsa] {
        assert_eq!(make(kind, KeyFormat::OpenSsh).1, "BEGIN OPENSSH PRIVATE KEY");
        assert_eq!(make(kind, KeyFormat::Pkcs8).1, "BEGIN PRIVATE KEY");
    }
    let (ecdsa, header) = make(KeyType::Ecdsa, KeyFormat::Pem);
    assert_eq!(header, "BEGIN EC PRIVATE KEY");
    let (rsa, header) = make(KeyType::Rsa, KeyFormat::Pem);
    assert_eq!(header, "BEGIN RSA PRIVATE KEY");

    sshd.authorize(&rsa);
    let agent = Agent::start(&[&ecdsa, &rsa]).await;
    let mut command = ssh(&sshd, &sshd.user().name);
    let ran = output(command.arg("true").env("SSH_AUTH_SOCK", agent.socket())).await;
    assert!(ran.status.success(), "{ran:?}\n{}", sshd.log());
}

#[tokio::test]
async fn options_of_a_test_have_precedence() {
    let builder = Sshd::builder().host_key(KeyType::Rsa).host_key(KeyType::Ecdsa);
    let Some(sshd) = builder.config("PasswordAuthentication no").start().await else {
        return;
    };
    let known = sshd.known_hosts();
    assert!(known.contains("ssh-rsa") && known.contains("ecdsa-sha2"), "{known}");
    let ran = output(ssh(&sshd, "nobody").args(["-o", "BatchMode=yes", "true"])).await;
    let refusal = String::from_utf8_lossy(&ran.stderr);
    assert!(refusal.contains("Permission denied (publickey)"), "{refusal}");
}

#[tokio::test]
async fn restarted_server_keeps_its_port_and_changes_its_key_when_asked() {
    let Some(mut sshd) = Sshd::start().await else {
        return;
    };
    let (port, fingerprint) = (sshd.port(), sshd.fingerprint());
    sshd.restart().await;
    assert_eq!((sshd.port(), sshd.fingerprint()), (port, fingerprint.clone()));
    let ran = with_key(&sshd, &sshd.user().name, sshd.client_key(), "true").await;
    assert!(ran.status.success(), "{ran:?}");

    let mut knows_the_old_key = ssh(&sshd, &sshd.user().name);
    sshd.restart_with_other_host_keys().await;
    assert_eq!(sshd.port(), port);
    assert_ne!(sshd.fingerprint(), fingerprint);
    let ran = output(knows_the_old_key.args(["-o", "BatchMode=yes", "true"])).await;
    let refusal = String::from_utf8_lossy(&ran.stderr);
    assert!(refusal.contains("IDENTIFICATION HAS CHANGED"), "{refusal}");
    assert_eq!(sshd.logged("userauth-request"), 0);
}

#[tokio::test]
async fn lost_connection_ends_the_client() {
    let Some(sshd) = Sshd::start().await else {
        return;
    };
    let mut users = vec![sshd.user().name.as_str()];
    users.extend(is_root().then_some("root"));
    for user in users {
        let mut command = ssh(&sshd, user);
        command.args(["-o", "BatchMode=yes", "-i"]).arg(sshd.client_key()).arg("sleep 300");
        let client = command.stdout(Stdio::piped()).spawn().unwrap();
        let started = format!("Starting session: command for {user}");
        eventually("the command runs", async || sshd.logged(&started) == 1).await;
        sshd.signal_connections("KILL");
        let ended = bounded("the end of ssh", client.wait_with_output()).await.unwrap();
        assert_eq!(ended.status.code(), Some(255), "{user}");
        eventually("no connection is left", async || sshd.connections().is_empty()).await;
    }
}

#[tokio::test]
async fn dropped_server_takes_along_what_its_sessions_left_behind() {
    let Some(sshd) = Sshd::start().await else {
        return;
    };
    let script = "setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $!";
    let ran = with_key(&sshd, &sshd.user().name, sshd.client_key(), script).await;
    let pid: u32 = String::from_utf8_lossy(&ran.stdout).trim().parse().unwrap();
    assert!(alive(pid));
    drop(sshd);
    eventually("killed with its server", async || !alive(pid)).await;
}
