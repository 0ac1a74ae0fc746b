//! `key_path`: only private keys of the user, only in allowed places, and nothing told about others.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt, chown, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::support::{
    embedded_host::Options,
    fake_server::{FakeServer, Play},
    home::Home,
    mcp_client::McpClient,
    openssh::{KeyFormat, KeyType, is_root},
};

/// Stands in every file here, and must stand nowhere else.
const CANARY: &str = "canary-51b0ce";

/// A connect whose key file is the only thing that matters.
fn key_only(server: &FakeServer, key_path: &Path) -> Value {
    json!({"address": server.address(), "username": "u", "key_path": key_path})
}

/// A client that has the default roots, which are `~/.ssh`.
async fn by_default(home: &Home) -> McpClient {
    home.client(&[("SSH_KEY_ROOTS", ""), ("CANARY", CANARY)]).await
}

/// `~/.ssh` with one good key in it.
fn dot_ssh(home: &Home) -> PathBuf {
    let ssh = home.path().join(".ssh");
    fs::create_dir(&ssh).unwrap();
    home.key(".ssh/id", KeyType::Ed25519, KeyFormat::OpenSsh);
    ssh
}

fn write(path: PathBuf, content: &[u8], mode: u32) -> PathBuf {
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn fifo(path: PathBuf) -> PathBuf {
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().unwrap().success());
    path
}

fn link(to: impl AsRef<Path>, path: PathBuf) -> PathBuf {
    symlink(to, &path).unwrap();
    path
}

#[tokio::test]
async fn key_path_row_of_the_bad_input_table() {
    let server = FakeServer::start(Play::Silent).await;
    let home = Home::new();
    let ssh = dot_ssh(&home);
    let client = by_default(&home).await;
    let at = |name: &str| ssh.join(name);
    let private = fs::read(at("id")).unwrap();
    let public = fs::read(at("id.pub")).unwrap();
    // Sparse: it takes no place.
    let huge = write(at("huge"), b"", 0o600);
    fs::File::options().write(true).open(&huge).unwrap().set_len(2 << 30).unwrap();
    let too_large = write(at("too-large"), &[&private[..], &[b'\n'; 65_536]].concat(), 0o600);
    let _listener = UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    let outside = write(home.path().join("outside"), &private, 0o600);
    write(home.path().join(".ssh-other"), &private, 0o600);

    let cases = [
        (at("missing"), "key_not_found"),
        (at("no/such/folder"), "key_not_found"),
        (at("id/below-a-file"), "key_not_found"),
        (at(&"n".repeat(300)), "key_not_found"),
        (write(at("public"), &public, 0o600), "not_a_private_key"),
        (write(at("as-ssh-keygen-leaves-it.pub"), &public, 0o644), "not_a_private_key"),
        (write(at("empty"), b"", 0o600), "not_a_private_key"),
        (write(at("text"), CANARY.as_bytes(), 0o600), "not_a_private_key"),
        (write(at("binary"), &[0xff; 300], 0o600), "not_a_private_key"),
        (write(at("cut-off"), &private[..private.len() / 2], 0o600), "not_a_private_key"),
        (huge, "not_a_private_key"),
        (too_large, "not_a_private_key"),
        (write(at("group"), &private, 0o640), "key_permissions"),
        (write(at("world"), &private, 0o644), "key_permissions"),
        (fifo(at("fifo")), "key_path_not_allowed"),
        (at("socket"), "key_path_not_allowed"),
        (at("folder"), "key_path_not_allowed"),
        (ssh.clone(), "key_path_not_allowed"),
        (link("id", at("link-inside")), "key_path_not_allowed"),
        (link(&outside, at("link-out")), "key_path_not_allowed"),
        (link("nowhere", at("link-dead")), "key_path_not_allowed"),
        (link("/etc", at("link-folder")).join("shadow"), "key_path_not_allowed"),
        (link("/dev/zero", at("link-device")), "key_path_not_allowed"),
        (outside, "key_path_not_allowed"),
        (home.path().join(".ssh-other"), "key_path_not_allowed"),
        (ssh.join("../outside"), "key_path_not_allowed"),
        ("~/.ssh/../outside".into(), "key_path_not_allowed"),
        ("../../../../../../../etc/shadow".into(), "key_path_not_allowed"),
        ("id".into(), "key_path_not_allowed"),
        ("/etc/shadow".into(), "key_path_not_allowed"),
        ("/etc/passwd".into(), "key_path_not_allowed"),
        ("/proc/self/environ".into(), "key_path_not_allowed"),
        (format!("/proc/self/root{}", ssh.join("id").display()).into(), "key_path_not_allowed"),
        ("/dev/zero".into(), "key_path_not_allowed"),
        ("/dev/stdin".into(), "key_path_not_allowed"),
    ];
    for (path, code) in cases {
        let answer = client.call("ssh_connect", key_only(&server, &path)).await;
        assert_eq!(answer.code(), code, "{}: {}", path.display(), answer.text);
        assert_eq!(answer.structured["retry_attempts"], 0, "{}", answer.text);
        assert_eq!(answer.structured["retryable"], false);
        assert!(!answer.text.contains(CANARY) && !answer.text.contains("root:"), "{}", answer.text);
        let (message, hint) = (&answer.structured["message"], &answer.structured["hint"]);
        assert!(message.as_str().unwrap().chars().count() <= 300, "{message}");
        assert!(!hint.as_str().unwrap().is_empty() && hint.as_str().unwrap().chars().count() <= 300, "{hint}");
    }
    assert_eq!(server.connections(), 0, "a key is read before anything is dialled");
}

#[tokio::test]
async fn key_of_another_user_is_refused() {
    if !is_root() {
        // Only root can give a file to another user.
        return;
    }
    let server = FakeServer::start(Play::Say(b"HELLO\r\n")).await;
    let home = Home::new();
    let ssh = dot_ssh(&home);
    let client = by_default(&home).await;
    let answer = client.call("ssh_connect", key_only(&server, &ssh.join("id"))).await;
    assert_eq!(answer.code(), "not_ssh", "{}", answer.text);
    chown(ssh.join("id"), Some(12_345), None).unwrap();
    let answer = client.call("ssh_connect", key_only(&server, &ssh.join("id"))).await;
    assert_eq!(answer.code(), "key_permissions", "{}", answer.text);
}

#[tokio::test]
async fn what_exists_outside_of_the_roots_is_not_told() {
    let server = FakeServer::start(Play::Silent).await;
    let home = Home::new();
    dot_ssh(&home);
    let client = by_default(&home).await;
    let there = write(home.path().join("file-1"), CANARY.as_bytes(), 0o644);
    let unlike = [there, home.path().join("file-2"), fifo(home.path().join("file-3"))];
    let mut texts = Vec::new();
    for path in unlike {
        let answer = client.call("ssh_connect", key_only(&server, &path)).await;
        texts.push(answer.text.replace(path.to_str().unwrap(), "PATH"));
    }
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
}

#[tokio::test]
async fn root_within_another_root_may_be_a_link() {
    let host = Options::default().start().await.unwrap();
    let home = Home::new();
    for folder in ["keys", "elsewhere"] {
        fs::create_dir(home.path().join(folder)).unwrap();
        host.write_client_key(&home.path().join(folder).join("key")).unwrap();
    }
    link(home.path().join("elsewhere"), home.path().join("keys/team"));
    let address = format!("u@127.0.0.1:{}", host.port());
    let cases = [("~/keys", false), ("~/keys:~/keys/team", true), ("~/keys/team:~/keys", true)];
    for (roots, allowed) in cases {
        let client = home.client(&[("SSH_KEY_ROOTS", roots)]).await;
        for (path, allowed) in [("~/keys/key", true), ("~/keys/team/key", allowed)] {
            let answer = client.call("ssh_connect", json!({"address": address, "key_path": path})).await;
            assert_eq!(!answer.is_error, allowed, "{roots}, {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn configured_roots_are_allowed_even_through_a_link_and_others_are_not() {
    let host = Options::default().start().await.unwrap();
    let home = Home::new();
    for folder in ["a", "b", ".ssh"] {
        fs::create_dir(home.path().join(folder)).unwrap();
        host.write_client_key(&home.path().join(folder).join("key")).unwrap();
    }
    // The root itself may be a link: the user configured it.
    link(home.path().join("b"), home.path().join("to-b"));
    let roots = format!("{}:~/to-b", home.path().join("a").display());
    let client = home.client(&[("SSH_KEY_ROOTS", &roots)]).await;
    let address = format!("u@127.0.0.1:{}", host.port());
    let cases = [("~/a/key", true), ("~/to-b/key", true), ("~/b/key", false), ("~/.ssh/key", false)];
    for (path, allowed) in cases {
        let answer = client.call("ssh_connect", json!({"address": address, "key_path": path})).await;
        assert_eq!(!answer.is_error, allowed, "{path}: {}", answer.text);
        if !allowed {
            assert_eq!(answer.code(), "key_path_not_allowed", "{path}");
        }
    }
}
