//! User certificates: accepted, expired, for another name; by the agent and beside a key file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::support::{
    home::Home,
    openssh::{Agent, KeyFormat, KeyType, Sshd, ssh_keygen},
};

/// An authority whose certificates the server takes.
struct Authority(PathBuf);

impl Authority {
    async fn with_sshd() -> Option<(tempfile::TempDir, Self, Sshd)> {
        let dir = tempfile::tempdir().unwrap();
        let ca = ssh_keygen(dir.path(), "ca", KeyType::Ed25519, KeyFormat::OpenSsh);
        let sshd = Sshd::builder().config(&format!("TrustedUserCAKeys {}.pub", ca.display())).start().await?;
        Some((dir, Self(ca), sshd))
    }

    /// Writes the certificate beside the key, as `-cert.pub`.
    fn certify(&self, key: &Path, principal: &str, validity: &str) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-s"]).arg(&self.0).args(["-I", "id", "-n", principal, "-V", validity]);
        let done = command.arg(format!("{}.pub", key.display())).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

const VALID: &str = "-1h:+1h";
const EXPIRED: &str = "-2h:-1h";

fn to(sshd: &Sshd, key: Option<&Path>) -> Value {
    json!({"address": format!("127.0.0.1:{}", sshd.port()), "username": sshd.user().name, "key_path": key})
}

#[tokio::test]
async fn certificate_beside_a_key_file_logs_in_with_every_type_of_key() {
    let Some((_dir, authority, sshd)) = Authority::with_sshd().await else { return };
    let home = Home::new();
    let client = home.client(&[]).await;
    for kind in [KeyType::Ed25519, KeyType::Ecdsa, KeyType::Rsa] {
        let key = home.key(&format!("{kind:?}"), kind, KeyFormat::OpenSsh);
        let before = client.call("ssh_connect", to(&sshd, Some(&key))).await;
        assert_eq!(before.code(), "auth_failed");
        authority.certify(&key, &sshd.user().name, VALID);
        let answer = client.call("ssh_connect", to(&sshd, Some(&key))).await;
        assert!(!answer.is_error, "{kind:?}: {}\n{}", answer.text, sshd.log());
        assert_eq!(answer.success()["auth_method"], "publickey");
    }
    let log = sshd.log();
    let accepted: Vec<_> = log.lines().filter(|line| line.starts_with("Accepted publickey")).collect();
    assert_eq!(accepted.iter().filter(|line| line.contains("-CERT ")).count(), 3, "{accepted:?}");
}

#[tokio::test]
async fn certificate_of_the_agent_logs_in_with_every_type_of_key() {
    let Some((_dir, authority, sshd)) = Authority::with_sshd().await else { return };
    for kind in [KeyType::Ed25519, KeyType::Ecdsa, KeyType::Rsa] {
        let home = Home::new();
        let key = home.key("key", kind, KeyFormat::OpenSsh);
        authority.certify(&key, &sshd.user().name, VALID);
        // ssh-add adds the certificate with its key.
        let agent = Agent::start(&[&key]).await;
        let client = home.client(&[("SSH_AUTH_SOCK", agent.socket().to_str().unwrap())]).await;
        assert_eq!(client.call("ssh_connect", to(&sshd, None)).await.success()["auth_method"], "agent", "{kind:?}");
    }
}

#[tokio::test]
async fn expired_certificate_and_one_for_another_name_are_refused_and_the_answer_says_which() {
    let Some((_dir, authority, sshd)) = Authority::with_sshd().await else { return };
    let home = Home::new();
    let client = home.client(&[]).await;
    let cases = [(sshd.user().name.as_str(), EXPIRED, "has expired"), ("somebody-else", VALID, "somebody-else")];
    for (principal, validity, said) in cases {
        let key = home.key(&said.replace(' ', "-"), KeyType::Ed25519, KeyFormat::OpenSsh);
        authority.certify(&key, principal, validity);
        let answer = client.call("ssh_connect", to(&sshd, Some(&key))).await;
        assert_eq!((answer.code(), answer.structured["why"].as_str()), ("auth_failed", Some("keys_refused")));
        assert!(answer.structured["notes"].to_string().contains(said), "{}", answer.text);
    }
    // The plain key of such a certificate is good all the same.
    let key = home.path().join("has-expired");
    assert!(fs::exists(&key).unwrap());
    sshd.authorize(&key);
    client.call("ssh_connect", to(&sshd, Some(&key))).await.success();
}
