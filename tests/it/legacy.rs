//! Servers that know old algorithms only: refused by default with both offers and the line that would allow it; with
//! that line, or in SSH_LEGACY_HOSTS, reached with a warning.

use std::path::{Path, PathBuf};

use russh::{
    Preferred, cipher, kex,
    keys::{Algorithm, load_secret_key},
    mac,
};
use serde_json::{Value, json};
use ssh_mcp::{
    error::{Detail, Explain},
    ssh::client::ClientError,
};

use crate::{
    algorithms::{of_config, reach},
    support::{
        embedded_host::{EmbeddedHost, Options},
        home::{Home, with},
        openssh::{KeyFormat, KeyType, Sshd, SshdBuilder},
    },
};

/// A server that knows old algorithms only.
struct Old {
    name: &'static str,
    port: u16,
    username: String,
    key: PathBuf,
    home: Home,
    /// What is warned of, in order: key exchange, host key, cipher, MAC.
    weak: [&'static str; 4],
    _server: Server,
}

enum Server {
    OpenSsh { _sshd: Box<Sshd> },
    Russh { _host: Box<EmbeddedHost> },
}

async fn openssh() -> Option<Old> {
    let sshd = Sshd::builder()
        .host_key(KeyType::Rsa)
        .config("KexAlgorithms diffie-hellman-group14-sha1")
        .config("HostKeyAlgorithms ssh-rsa")
        .config("Ciphers aes128-cbc")
        .config("MACs hmac-sha1")
        .start()
        .await?;
    Some(Old {
        name: "OpenSSH",
        port: sshd.port(),
        username: sshd.user().name.clone(),
        key: sshd.client_key().to_owned(),
        home: Home::new(),
        weak: ["diffie-hellman-group14-sha1", "ssh-rsa", "aes128-cbc", "hmac-sha1"],
        _server: Server::OpenSsh { _sshd: Box::new(sshd) },
    })
}

async fn russh(kex: kex::Name, cipher: cipher::Name, weak: [&'static str; 4]) -> Old {
    let home = Home::new();
    let host_key = load_secret_key(home.key("host", KeyType::Rsa, KeyFormat::OpenSsh), None).unwrap();
    let preferred = Preferred {
        kex: vec![kex].into(),
        key: vec![Algorithm::Rsa { hash: None }].into(),
        cipher: vec![cipher].into(),
        mac: vec![mac::HMAC_SHA1].into(),
        ..Preferred::DEFAULT
    };
    let host = Options::default().algorithms(host_key, preferred).start().await.unwrap();
    let key = home.path().join("key");
    host.write_client_key(&key).unwrap();
    let (port, username) = (host.port(), "anyone".into());
    Old { name: weak[0], port, username, key, home, weak, _server: Server::Russh { _host: Box::new(host) } }
}

async fn all() -> Vec<Old> {
    let group14 = ["diffie-hellman-group14-sha1", "ssh-rsa", "3des-cbc", "hmac-sha1"];
    let group1 = ["diffie-hellman-group1-sha1", "ssh-rsa", "aes256-cbc", "hmac-sha1"];
    let mut all: Vec<_> = openssh().await.into_iter().collect();
    all.push(russh(kex::DH_G14_SHA1, cipher::TRIPLE_DES_CBC, group14).await);
    all.push(russh(kex::DH_G1_SHA1, cipher::AES_256_CBC, group1).await);
    all
}

impl Old {
    fn login(&self) -> Value {
        json!({"address": format!("127.0.0.1:{}", self.port), "username": self.username, "key_path": self.key})
    }

    #[track_caller]
    fn assert_warned(&self, notices: &[String]) {
        let [notice] = notices else { panic!("{}: {notices:?}", self.name) };
        let mut rest = notice.as_str();
        for weak in self.weak {
            rest = rest.split_once(weak).unwrap_or_else(|| panic!("{}: {weak}: {notice}", self.name)).1;
        }
        for why in ["SHA-1", "CBC", "SSH_LEGACY_HOSTS", "ssh_config"] {
            assert!(notice.contains(why), "{}: {why}: {notice}", self.name);
        }
    }
}

#[tokio::test]
async fn an_old_server_is_refused_by_default_with_both_offers() {
    for old in all().await {
        // Another host that is allowed changes nothing.
        let client = old.home.client(&[("SSH_LEGACY_HOSTS", "127.0.0.2, old.example.org, 127.0.0.1:1")]).await;
        let answer = client.call("ssh_connect", old.login()).await;
        assert_eq!(answer.code(), "no_common_algorithm", "{}: {}", old.name, answer.text);
        let told = &answer.structured;
        let text = |key: &str| told[key].as_str().unwrap_or_else(|| panic!("{key}: {told}"));
        assert_eq!((text("kind"), text("theirs")), ("kex", old.weak[0]), "{}", old.name);
        assert!(text("ours").contains("curve25519-sha256") && !text("ours").contains("sha1"), "{told}");
        assert_eq!((&told["retryable"], &told["retry_attempts"]), (&json!(false), &json!(0)));
        let line = format!("\nHost 127.0.0.1\n    KexAlgorithms +{}\n", old.weak[0]);
        assert!(text("hint").contains(&line), "{told}");
        assert!(text("hint").contains("SSH_LEGACY_HOSTS=127.0.0.1 "), "{told}");
    }
}

#[tokio::test]
async fn the_setting_of_the_hint_lets_an_old_server_in_with_a_warning() {
    for old in all().await {
        let allowed = format!("other, 127.0.0.1:{}", old.port);
        let client = old.home.client(&[("SSH_LEGACY_HOSTS", &allowed)]).await;
        let session = client.call("ssh_connect", old.login()).await.success();
        let notices: Vec<String> = serde_json::from_value(session["notices"].clone()).unwrap();
        old.assert_warned(&notices);
        let run = json!({"session_id": session["session_id"], "command": "printf done; exit 3"});
        let ran = client.call("ssh_execute", run).await.success();
        assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("done"), &json!(3)), "{}", old.name);
    }
}

#[tokio::test]
async fn the_lines_of_the_hints_let_an_old_server_in_with_a_warning() {
    for old in all().await {
        let mut lines = String::new();
        let mut facts = None;
        for kind in ["kex", "host_key", "cipher", "mac", ""] {
            let algorithms = of_config(&lines, "127.0.0.1");
            let reached = reach(old.port, &old.username, &old.key, &old.home, algorithms).await;
            let (told, hint) = match reached {
                Ok(connection) => {
                    assert_eq!(kind, "", "{}: every kind was refused before", old.name);
                    facts = Some(connection.facts.clone());
                    break;
                }
                Err(error) => explained(&error),
            };
            assert_eq!(told["kind"], kind, "{}: {told}", old.name);
            // The hint is taken at its word: what stands between its first sentence and its last goes into the file.
            let from = hint.find("\nHost ").unwrap_or_else(|| panic!("{hint}"));
            let more: String = hint[from + 1..].lines().take(2).map(|line| format!("{line}\n")).collect();
            lines.push_str(&more);
        }
        let facts = facts.unwrap_or_else(|| panic!("{}: never let in with {lines}", old.name));
        old.assert_warned(&facts.warnings);
        let got = facts.negotiated;
        assert_eq!([&*got.kex, &*got.host_key, &*got.cipher, got.mac.as_deref().unwrap()], old.weak);
    }
}

/// The details that are texts, and the hint.
fn explained(error: &ClientError) -> (Value, String) {
    let mut details = serde_json::Map::new();
    for (key, value) in error.details().0 {
        if let Detail::Text(text) = value {
            details.insert(key.to_owned(), text.into());
        }
    }
    (details.into(), error.hint().unwrap())
}

#[tokio::test]
async fn a_modern_server_that_is_allowed_weak_algorithms_gets_none_and_no_warning() {
    let weak_too = ["KexAlgorithms +diffie-hellman-group14-sha1", "Ciphers +aes128-cbc", "HostKeyAlgorithms +ssh-rsa"];
    let builder = Sshd::builder().host_key(KeyType::Ed25519).host_key(KeyType::Rsa);
    let Some(sshd) = weak_too.into_iter().fold(builder, SshdBuilder::config).start().await else { return };
    let login = crate::support::home::by_key(&sshd, &sshd.user().name, json!({}));
    let client = Home::new().client(&[("SSH_LEGACY_HOSTS", "127.0.0.0/8")]).await;
    let session = client.call("ssh_connect", login).await.success();
    assert_eq!(session.get("notices"), None, "{session}");
    assert_eq!(session["host_key"]["algorithm"], "ssh-ed25519");
}

#[tokio::test]
async fn a_server_that_nothing_here_can_speak_to_is_told_as_such() {
    let Some(sshd) = Sshd::builder()
        .config("Ciphers aes128-gcm@openssh.com")
        .config("KexAlgorithms sntrup761x25519-sha512@openssh.com")
        .start()
        .await
    else {
        return;
    };
    let login = crate::support::home::by_key(&sshd, &sshd.user().name, json!({}));
    let client = Home::new().client(&[("SSH_LEGACY_HOSTS", "127.0.0.1")]).await;
    let answer = client.call("ssh_connect", login).await;
    assert_eq!(answer.code(), "no_common_algorithm", "{}", answer.text);
    assert_eq!(answer.structured["theirs"], "sntrup761x25519-sha512@openssh.com");
    assert!(answer.structured["ours"].as_str().unwrap().contains("diffie-hellman-group1-sha1"), "{}", answer.text);
    let hint = answer.structured["hint"].as_str().unwrap();
    assert!(hint.starts_with("Nothing here can speak to this server") && !hint.contains("Host "), "{hint}");
}

#[tokio::test]
async fn what_is_off_but_not_weak_is_allowed_by_a_line_and_needs_no_warning() {
    let Some(sshd) = Sshd::builder().config("KexAlgorithms ecdh-sha2-nistp256").start().await else { return };
    let home = Home::new();
    let (user, key) = (&sshd.user().name, sshd.client_key());
    let error = reach(sshd.port(), user, key, &home, of_config("", "web")).await.unwrap_err();
    let (_, hint) = explained(&error);
    assert!(hint.contains("\nHost web\n    KexAlgorithms +ecdh-sha2-nistp256\n"), "{hint}");
    assert!(!hint.contains("SSH_LEGACY_HOSTS") && !hint.contains("weak"), "{hint}");
    let algorithms = of_config("Host web\n    KexAlgorithms +ecdh-sha2-nistp256\n", "web");
    let facts = reach(sshd.port(), user, key, &home, algorithms).await.unwrap().facts;
    assert_eq!((facts.negotiated.kex.as_str(), facts.warnings.len()), ("ecdh-sha2-nistp256", 0));
}

#[tokio::test]
async fn a_setting_that_means_every_host_stops_the_start() {
    let home = Home::new();
    for list in ["*", "a, *", "0.0.0.0/0", "[::]/0", "a b"] {
        let (status, told) = started_with(list, home.path());
        assert!(status && told.contains("SSH_LEGACY_HOSTS"), "{list}: {told}");
    }
}

/// Whether the server refuses to start with this list, and what it says.
fn started_with(list: &str, home: &Path) -> (bool, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ssh-mcp-stdio"));
    command.env_clear().env("HOME", home).env("SSH_LEGACY_HOSTS", list).stdin(std::process::Stdio::null());
    let ended = command.output().unwrap();
    (!ended.status.success(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[tokio::test]
async fn one_weak_part_is_enough_for_a_warning_that_names_it_alone() {
    let Some(sshd) = Sshd::builder().config("Ciphers aes256-cbc").config("MACs hmac-sha2-256").start().await else {
        return;
    };
    let login = crate::support::home::by_key(&sshd, &sshd.user().name, json!({}));
    let client = Home::new().client(&[("SSH_LEGACY_HOSTS", "127.0.0.1")]).await;
    let session = client.call("ssh_connect", with(login, json!({"name": "box"}))).await.success();
    let notice = session["notices"][0].as_str().unwrap();
    assert!(notice.contains("cipher aes256-cbc (CBC)") && !notice.contains("SHA-1"), "{notice}");
}
