//! Keywords of the configuration reach what they are for: seen at the server, the socket or the file, not in our own
//! words. What `ssh -G` makes of them is compared in `ssh_config`.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{
    alias::{block, connect, home_with, write_config},
    resolved::notices,
    support::{
        fake_server::RefusingPort,
        home::Home,
        mcp_client::McpClient,
        openssh::{Agent, KeyFormat, KeyType, Sshd, ssh_keygen},
        wait::eventually,
    },
};

async fn to(client: &McpClient, alias: &str) -> crate::support::mcp_client::ToolAnswer {
    client.call("ssh_connect", json!({"address": alias, "max_retries": 0})).await
}

#[tokio::test]
async fn address_family_source_address_and_keepalive_of_the_socket_are_those_of_the_host() {
    let (Some(sshd), Some(probed), Some(quiet)) = (Sshd::start().await, Sshd::start().await, Sshd::start().await)
    else {
        return;
    };
    let named = |alias: &str, more: &str| block(alias, &sshd, more).replace("HostName 127.0.0.1", "HostName localhost");
    let config = [
        block("bound", &sshd, "  BindAddress 127.0.0.7"),
        named("four", "  AddressFamily inet"),
        named("six", "  AddressFamily inet6"),
        block("probed", &probed, ""),
        block("quiet", &quiet, "  TCPKeepAlive no"),
    ];
    let home = home_with(&config.concat());
    let client = home.client(&[]).await;
    to(&client, "bound").await.success();
    assert_eq!(sshd.logged("Connection from 127.0.0.7 "), 1, "{}", sshd.log());
    to(&client, "four").await.success();
    let six = to(&client, "six").await;
    assert!(["connect_refused", "resolve_failed", "unreachable"].contains(&six.code()), "{}", six.text);
    for (alias, sshd, probes) in [("probed", &probed, true), ("quiet", &quiet, false)] {
        to(&client, alias).await.success();
        eventually(alias, async || timers(sshd.port()).iter().all(|timer| (timer == "02") == probes)).await;
    }
}

/// The timers of our connections to this port, as in proc(5): `02` is that of a keepalive, `01` passes.
fn timers(port: u16) -> Vec<String> {
    let (remote, table) = (format!(":{port:04X}"), fs::read_to_string("/proc/self/net/tcp").expect("Linux"));
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let open = rows.filter(|fields| fields[2].ends_with(&remote) && fields[3] == "01");
    let found: Vec<_> = open.map(|fields| fields[5][..2].to_owned()).collect();
    assert!(!found.is_empty(), "no connection to {port}");
    found
}

#[tokio::test]
async fn time_and_attempts_of_connecting_are_those_of_the_host() {
    let Some(sshd) = Sshd::start().await else { return };
    let closed = RefusingPort::new();
    let port = closed.address().split_once(':').unwrap().1.to_owned();
    let config = block("web", &sshd, "  ConnectTimeout 7")
        + &format!("Host closed\n  HostName 127.0.0.1\n  Port {port}\n  User u\n  ConnectionAttempts 3\n")
        + &format!("  IdentityFile {}\n", sshd.client_key().display());
    let home = home_with(&config);
    let client = home.client(&[]).await;
    assert_eq!(to(&client, "web").await.success()["timeout_secs"], 7);
    let refused = client.call("ssh_connect", json!({"address": "closed", "retry_delay_ms": 1})).await;
    assert_eq!((refused.code(), &refused.structured["retry_attempts"]), ("connect_refused", &json!(2)));
}

#[tokio::test]
async fn a_login_uses_the_methods_keys_certificates_and_agent_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ssh_keygen(dir.path(), "ca", KeyType::Ed25519, KeyFormat::OpenSsh);
    let trusted = format!("TrustedUserCAKeys {}.pub", ca.display());
    let Some(sshd) = Sshd::builder().config(&trusted).start().await else { return };
    let home = Home::new();
    let certified = home.key("certified", KeyType::Ed25519, KeyFormat::OpenSsh);
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-s"]).arg(&ca).args(["-I", "id", "-n", &sshd.user().name, "-V", "-1h:+1h"]);
    assert!(sign.arg(home.path().join("certified.pub")).status().unwrap().success());
    let elsewhere = home.path().join("elsewhere.pub");
    fs::rename(home.path().join("certified-cert.pub"), &elsewhere).unwrap();
    let agent = Agent::start(&[sshd.client_key()]).await;
    let own = sshd.client_key().display().to_string();
    let block =
        |alias: &str, more: &str| block(alias, &sshd, "").replace(&format!("  IdentityFile {own}\n"), "") + more + "\n";
    let key = format!("  IdentityFile {own}\n");
    let config = [
        block(
            "certificate",
            &format!("  IdentityFile {}\n  CertificateFile {}\n", certified.display(), elsewhere.display()),
        ),
        block("no-certificate", &format!("  IdentityFile {}\n", certified.display())),
        block("agent", &format!("  IdentityAgent {}\n{key}", agent.socket().display()))
            .replace("IdentitiesOnly yes", ""),
        block("no-keys", &format!("{key}  PubkeyAuthentication no\n")),
        block("password-first", &format!("{key}  PreferredAuthentications password\n")),
        block("no-passwords", &format!("{key}  PubkeyAuthentication no\n  PasswordAuthentication no\n")),
        block("no-keys-at-all", "  PubkeyAuthentication no\n"),
        block("no-prompts", &format!("{key}  PubkeyAuthentication no\n  NumberOfPasswordPrompts 0\n")),
    ];
    write_config(&home, &config.concat());
    let client = home.client(&[]).await;
    let method = async |alias: &str| to(&client, alias).await.success()["auth_method"].clone();
    assert_eq!(method("certificate").await, "publickey");
    assert!(sshd.log().lines().any(|line| line.starts_with("Accepted publickey") && line.contains("ED25519-CERT")));
    assert_eq!(to(&client, "no-certificate").await.code(), "auth_failed");
    assert_eq!(method("agent").await, "agent");
    let accepted = sshd.logged("Accepted");
    let keys = sshd.logged("method publickey");
    let mut why = Vec::new();
    for alias in ["no-keys", "no-keys-at-all", "password-first", "no-passwords", "no-prompts"] {
        let refused = to(&client, alias).await;
        assert_eq!(refused.code(), "auth_failed", "{alias}: {}", refused.text);
        why.push(refused.structured["why"].as_str().unwrap_or_default().to_owned());
    }
    let wanted = "password_wanted";
    assert_eq!(why, [wanted, wanted, wanted, "nothing_to_offer", "nothing_to_offer"]);
    assert_eq!((sshd.logged("Accepted"), sshd.logged("method publickey")), (accepted, keys), "no key was shown");
}

#[tokio::test]
async fn the_known_hosts_files_of_the_system_are_those_of_the_host() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let (right, wrong) = (home.path().join("right"), home.path().join("wrong"));
    fs::write(&right, sshd.known_hosts()).unwrap();
    let other =
        fs::read_to_string(ssh_keygen(home.path(), "k", KeyType::Ed25519, KeyFormat::OpenSsh).with_extension("pub"));
    fs::write(&wrong, format!("[127.0.0.1]:{} {}", sshd.port(), other.unwrap())).unwrap();
    let of = |alias: &str, file: &std::path::Path| {
        block(alias, &sshd, &format!("  GlobalKnownHostsFile {}", file.display()))
    };
    write_config(&home, &(of("right", &right) + &of("wrong", &wrong)));
    let client = home.client(&[]).await;
    assert_eq!(connect(&client, json!({"address": "right"})).await["host_key"]["trust"], "known");
    assert_eq!(to(&client, "wrong").await.code(), "host_key_changed");
    assert_eq!(home.recorded(), "");
}

#[tokio::test]
async fn what_asks_for_no_questions_is_told() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = home_with(&block("web", &sshd, "  BatchMode yes"));
    let client = home.client(&[]).await;
    let answer: Value = connect(&client, json!({"address": "web"})).await;
    let told: Vec<_> = notices(&answer).into_iter().filter(|notice| notice.starts_with("batchmode")).collect();
    assert!(told.len() == 1 && told[0].contains(".ssh/config line 7"), "{answer}");
}
