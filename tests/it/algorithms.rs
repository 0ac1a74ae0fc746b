//! Lists of algorithms as ssh_config has them, applied to what is here; re-keying and keepalives.

use std::{path::Path, sync::Arc, time::Duration};

use ssh_mcp::{
    config::{Compression, HostKeyPolicy},
    error::{Code, Explain},
    ssh::{
        client::{
            self, Algorithms, ClientError, ConnectSpec, Connection, Keepalive, KeyFile, Rekey, RetryPolicy, Target,
            host_key::KnownHosts,
            login::{AgentUse, Given, Identity, LoginPlan},
            route::Route,
        },
        ssh_config::{self, Local, NoProbe, Places, SshConfig},
    },
};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};

use crate::support::{
    home::Home,
    openssh::{KeyType, Sshd},
};

/// What a configuration says about a host.
pub(crate) fn of_config(text: &str, host: &str) -> Algorithms {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config");
    std::fs::write(&file, text).unwrap();
    let local = Local {
        home: home.path().into(),
        user: "me".into(),
        uid: 0,
        host_name: "desk".into(),
        variables: Default::default(),
    };
    let config = SshConfig::load(&Places::only(&file, home.path()), local).unwrap();
    let resolved = config.resolve(host, &ssh_config::Given::default(), &NoProbe).unwrap();
    Algorithms::from_config(&resolved, false)
}

/// Connects with these algorithms; known_hosts lies in `home`.
pub(crate) async fn reach(
    port: u16,
    username: &str,
    key: &Path,
    home: &Home,
    algorithms: Algorithms,
) -> Result<Connection, ClientError> {
    let spec = spec(port, username, key, home, algorithms).await;
    client::connect(&spec, Instant::now() + Duration::from_secs(30)).await.0
}

async fn spec(port: u16, username: &str, key: &Path, home: &Home, algorithms: Algorithms) -> ConnectSpec {
    let path = key.to_str().unwrap().to_owned();
    let roots = vec![std::env::temp_dir()];
    let file = KeyFile { path, passphrase: None, home: None, roots };
    let identities = vec![Identity { file, given: Given::ByCall }];
    let login = LoginPlan { identities, identities_only: true, ..LoginPlan::new(AgentUse::Off) };
    ConnectSpec {
        target: Target { host: "127.0.0.1".into(), port, username: username.into() },
        route: Route::default(),
        credentials: login.prepare().await.unwrap(),
        retry: RetryPolicy { max_retries: 0, first_delay: Duration::from_millis(1) },
        compression: Compression::Off,
        algorithms,
        known_hosts: Arc::new(KnownHosts::new(Some(home.own_known_hosts()), None, HostKeyPolicy::AcceptNew)),
        host_key_alias: None,
        environment: Default::default(),
        forward_agent: None,
        approved_key: None,
        timeout: Duration::from_secs(30),
        reconnect: true,
        max_connections: 1,
    }
}

async fn on(sshd: &Sshd, home: &Home, algorithms: Algorithms) -> Result<Connection, ClientError> {
    reach(sshd.port(), &sshd.user().name, sshd.client_key(), home, algorithms).await
}

#[tokio::test]
async fn nothing_weak_is_offered_by_default_and_the_server_sees_it() {
    let Some(sshd) = Sshd::builder().config("LogLevel DEBUG2").start().await else { return };
    let connection = on(&sshd, &Home::new(), Algorithms::default()).await.unwrap();
    let log = sshd.log();
    let (_, offered) = log.split_once("peer client KEXINIT proposal").expect("the offer of the client");
    let offered: String = offered.lines().take(11).collect();
    assert!(offered.contains("diffie-hellman-group14-sha256"), "{offered}");
    for weak in ["sha1", "-cbc", "ssh-rsa", "nistp256,diffie", "none,none"] {
        assert!(!offered.contains(weak), "{weak}: {offered}");
    }
    let facts = &connection.facts;
    assert_eq!(facts.negotiated.cipher, "aes256-gcm@openssh.com");
    assert_eq!((facts.negotiated.host_key.as_str(), &facts.negotiated.mac), ("ssh-ed25519", &None));
    assert!(facts.warnings.is_empty(), "{:?}", facts.warnings);
}

#[tokio::test]
async fn lists_of_ssh_config_choose_what_is_negotiated() {
    let Some(sshd) = Sshd::builder().host_key(KeyType::Ed25519).host_key(KeyType::Rsa).start().await else { return };
    let home = Home::new();
    let cases = [
        ("KexAlgorithms ecdh-sha2-nistp384", ["ecdh-sha2-nistp384", "", "", ""]),
        ("KexAlgorithms ^diffie-hellman-group16*", ["diffie-hellman-group16-sha512", "", "", ""]),
        ("KexAlgorithms -mlkem*,curve25519*,*exchange*,*group18*,*17*", ["diffie-hellman-group16-sha512", "", "", ""]),
        ("Ciphers aes192-ctr,aes256-ctr\nMACs hmac-sha2-256", ["", "aes192-ctr", "hmac-sha2-256", ""]),
        ("Ciphers -*gcm*", ["", "chacha20-poly1305@openssh.com", "", ""]),
        ("Ciphers ^aes128-ctr\nMACs ^hmac-sha2-512", ["", "aes128-ctr", "hmac-sha2-512", ""]),
        ("HostKeyAlgorithms rsa-sha2-256", ["", "", "", "rsa-sha2-256"]),
        ("HostKeyAlgorithms -ssh-ed25519*,rsa-sha2-512*", ["", "", "", "rsa-sha2-256"]),
    ];
    for (lines, [kex, cipher, mac, host_key]) in cases {
        let home = if host_key.is_empty() { &home } else { &Home::new() };
        let facts = on(&sshd, home, of_config(lines, "h")).await.unwrap_or_else(|e| panic!("{lines}: {e}")).facts;
        let got = &facts.negotiated;
        let got = [&got.kex, &got.cipher, got.mac.as_ref().unwrap_or(&got.cipher), &got.host_key];
        for (wanted, got) in [kex, cipher, mac, host_key].into_iter().zip(got) {
            assert!(wanted.is_empty() || wanted == got, "{lines}: {got}");
        }
        assert!(facts.warnings.is_empty(), "{lines}: {:?}", facts.warnings);
    }
}

#[tokio::test]
async fn names_that_there_are_none_of_are_told_once_and_in_bounds() {
    let Some(sshd) = Sshd::start().await else { return };
    let long = "x".repeat(5_000);
    let many: Vec<_> = (0..500).map(|n| format!("own-{n}")).collect();
    let text = format!(
        "KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256\nCiphers +none,blow*\n\
         MACs ^umac-64@openssh.com,{long}\nHostKeyAlgorithms -dss\nPubkeyAcceptedAlgorithms +{}",
        many.join(",")
    );
    let facts = on(&sshd, &Home::new(), of_config(&text, "h")).await.unwrap().facts;
    let [notice] = facts.warnings.as_slice() else { panic!("{:?}", facts.warnings) };
    for name in
        ["KexAlgorithms sntrup761x25519-sha512@openssh.com", "Ciphers none", "MACs umac-64@openssh.com", "own-1"]
    {
        assert!(notice.contains(name), "{name}: {notice}");
    }
    assert!(!notice.contains("dss") && !notice.contains("blow"), "{notice}");
    assert!(notice.len() < 1_000, "{}", notice.len());
}

#[tokio::test]
async fn a_list_of_which_nothing_is_left_is_an_error_before_anything_is_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dir = TempDir::new().unwrap();
    let key = crate::support::openssh::ssh_keygen(
        dir.path(),
        "key",
        KeyType::Ed25519,
        crate::support::openssh::KeyFormat::OpenSsh,
    );
    for (line, keyword) in [
        ("KexAlgorithms sntrup761x25519-sha512@openssh.com", "KexAlgorithms"),
        ("Ciphers -*", "Ciphers"),
        ("MACs none", "MACs"),
        ("HostKeyAlgorithms ssh-dss", "HostKeyAlgorithms"),
        ("PubkeyAcceptedAlgorithms ssh-dss", "PubkeyAcceptedAlgorithms"),
    ] {
        let error = reach(port, "u", &key, &Home::new(), of_config(line, "h")).await.unwrap_err();
        assert!(matches!(error, ClientError::NoAlgorithmLeft { .. }), "{line}: {error}");
        assert_eq!(
            (error.code(), error.retryable(), error.is_final()),
            (Code::SshConfigInvalid, false, true),
            "{line}"
        );
        assert!(error.to_string().contains(line.split_once(' ').unwrap().1), "{error}");
        assert!(error.hint().unwrap().contains(keyword), "{line}");
        assert!(tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err(), "{line}: dialled");
    }
}

#[test]
fn sha1_signs_only_where_somebody_asked_for_it() {
    let cases = [
        ("", false, true, false),
        ("PubkeyAcceptedAlgorithms +ssh-rsa", true, true, true),
        ("PubkeyAcceptedAlgorithms rsa-sha2-*", false, false, true),
        ("PubkeyAcceptedAlgorithms -rsa-*", false, true, false),
    ];
    for (line, sha1, ed25519, sha2) in cases {
        let algorithms = of_config(line, "h");
        assert_eq!(algorithms.may_sign("ssh-rsa"), sha1, "{line}");
        assert_eq!(algorithms.may_sign("ssh-ed25519"), ed25519, "{line}");
        assert_eq!(algorithms.may_sign("rsa-sha2-512"), sha2 || line.is_empty(), "{line}");
    }
    assert!(Algorithms { legacy: true, ..Algorithms::default() }.may_sign("ssh-rsa"));
}

#[tokio::test]
async fn keys_are_exchanged_anew_after_the_bytes_of_rekey_limit() {
    let Some(sshd) = Sshd::start().await else { return };
    // 16 bytes would be one exchange per packet: the bound is 1 MiB.
    let connection = on(&sshd, &Home::new(), of_config("RekeyLimit 16", "h")).await.unwrap();
    let exchanges = || sshd.logged("SSH2_MSG_KEXINIT received");
    assert_eq!(exchanges(), 1);
    // A probe is a packet of some 70 bytes.
    for _ in 0..10_000 {
        assert!(connection.answers(Duration::from_secs(10)).await);
    }
    assert_eq!(exchanges(), 1, "not before the bound");
    let mut probes = 10_000;
    while exchanges() == 1 {
        for _ in 0..500 {
            assert!(connection.answers(Duration::from_secs(10)).await);
        }
        probes += 500;
        assert!(probes < 40_000, "never");
    }
    assert!(connection.answers(Duration::from_secs(10)).await, "it goes on with the new keys");
}

#[tokio::test]
async fn a_dead_link_is_noticed_in_the_time_that_ssh_config_says() {
    let Some(sshd) = Sshd::start().await else { return };
    let algorithms = of_config("ServerAliveInterval 1\nServerAliveCountMax 1", "h");
    assert_eq!(algorithms.keepalive, Keepalive { interval: Duration::from_secs(1), count: 1 });
    let connection = on(&sshd, &Home::new(), algorithms).await.unwrap();
    // sshd forks once more after the login; whoever answers does so in that child.
    assert!(connection.answers(Duration::from_secs(10)).await);
    sshd.signal_connections("STOP");
    tokio::time::timeout(Duration::from_secs(20), connection.closed()).await.expect("the end is noticed");
    assert_eq!(connection.cause(), "the server stopped answering");
    sshd.signal_connections("CONT");
}

#[test]
fn what_ssh_config_leaves_out_is_as_it_was_and_zero_turns_nothing_off() {
    let silent = of_config("", "h");
    assert_eq!(silent, Algorithms { alias: Some("h".into()), ..Algorithms::default() });
    assert_eq!(silent.rekey, Rekey::default());
    let zero = of_config("ServerAliveInterval 0\nServerAliveCountMax 0\nRekeyLimit default none", "h");
    assert_eq!((zero.keepalive.interval, zero.rekey), (Duration::ZERO, Rekey::default()));
}
