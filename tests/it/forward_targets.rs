//! Where forwards may lead, and which ports they take.

use serde_json::json;

use crate::support::{
    embedded_host::EmbeddedHost,
    mcp_client::{HttpServer, McpClient},
    openssh::Sshd,
    session::{Session, login, text},
};

/// Targets that nothing allows, and the code of each refusal.
const REFUSED: [(&str, &str); 30] = [
    ("169.254.169.254", "forward_target_denied"),
    ("169.254.0.1", "forward_target_denied"),
    (" 169.254.169.254 ", "forward_target_denied"),
    ("169.254.169.254.", "forward_target_denied"),
    ("0xa9fea9fe", "forward_target_denied"),
    ("2852039166", "forward_target_denied"),
    ("0251.0376.0251.0376", "forward_target_denied"),
    ("169.16689662", "forward_target_denied"),
    ("::ffff:169.254.169.254", "forward_target_denied"),
    ("[::ffff:a9fe:a9fe]", "forward_target_denied"),
    ("fe80::1", "forward_target_denied"),
    ("fd00:ec2::254", "forward_target_denied"),
    ("100.100.100.200", "forward_target_denied"),
    ("metadata.google.internal", "forward_target_denied"),
    ("METADATA.GOOGLE.INTERNAL.", "forward_target_denied"),
    ("0.0.0.0", "forward_target_denied"),
    ("0", "forward_target_denied"),
    ("::", "forward_target_denied"),
    ("[::]", "forward_target_denied"),
    ("255.255.255.255", "forward_target_denied"),
    ("*", "invalid_address"),
    ("", "invalid_address"),
    ("[]", "invalid_address"),
    ("localhost\n", "accepted"),
    ("local\nhost", "invalid_address"),
    ("localhost\0", "invalid_address"),
    ("local host", "invalid_address"),
    ("fe80::1%eth0", "invalid_address"),
    ("localhost:80", "invalid_address"),
    ("-oProxyCommand=id", "invalid_address"),
];

async fn are_refused(session: &Session) {
    for (target, code) in REFUSED {
        let arguments = json!({"local_port": 0, "remote_address": target, "remote_port": 80});
        let answer = session.call("ssh_forward", arguments).await;
        if code == "accepted" {
            // White space around it is no part of it.
            assert_eq!(answer.success()["remote_address"], "localhost:80", "{target:?}");
            continue;
        }
        assert_eq!(answer.code(), code, "{target:?}: {}", answer.text);
        assert_eq!(answer.structured["retryable"], false, "{}", answer.text);
        let hint = text(&answer.structured["hint"]);
        assert!(!hint.is_empty() && (code != "forward_target_denied" || hint.contains("SSH_FORWARD_DENY")), "{hint}");
    }
    let left = session.listed().await.unwrap()["forwards"].clone();
    assert_eq!(left.as_array().unwrap().len(), 1, "a refused forward opens nothing: {left}");
}

#[tokio::test]
async fn targets_that_no_forward_may_have_are_refused_in_every_spelling() {
    let Some(sshd) = Sshd::start().await else { return };
    are_refused(&Session::on_sshd(&sshd, &[("SSH_FORWARD_ALLOW", "*:*")]).await).await;
    let host = EmbeddedHost::start().await.unwrap();
    are_refused(&Session::on_host(&host, &[]).await).await;
}

#[tokio::test]
async fn ports_have_their_codes() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    for member in ["local_port", "remote_port"] {
        for value in [json!(-1), json!(65_536), json!(1e9), json!(22.5), json!("1e3"), json!("22x")] {
            let mut arguments = json!({"local_port": 0, "remote_address": "localhost", "remote_port": 80});
            arguments[member] = value.clone();
            let answer = session.call("ssh_forward", arguments).await;
            assert_eq!(answer.code(), "invalid_port", "{member} {value}: {}", answer.text);
        }
    }
    let read = json!({"local_port": "0", "remote_address": "localhost", "remote_port": "22"});
    assert_eq!(session.call("ssh_forward", read).await.success()["remote_address"], "localhost:22");
    let none = json!({"local_port": 0, "remote_address": "localhost", "remote_port": 0});
    assert_eq!(session.call("ssh_forward", none).await.code(), "invalid_port");
    assert_eq!(session.run("echo fine").await["stdout"], "fine\n");
}

#[tokio::test]
async fn lists_of_the_settings_decide_over_the_rest() {
    let host = EmbeddedHost::start().await.unwrap();
    let env =
        [("SSH_FORWARD_ALLOW", "localhost:*, 10.0.0.0/8:5432"), ("SSH_FORWARD_DENY", "localhost:25,10.9.0.0/16:*")];
    let session = Session::on_host(&host, &env).await;
    for (target, port, setting) in [
        ("localhost", 25, Some("SSH_FORWARD_DENY")),
        ("LOCALHOST", 25, Some("SSH_FORWARD_DENY")),
        ("10.9.1.1", 5432, Some("SSH_FORWARD_DENY")),
        ("0xa090101", 5432, Some("SSH_FORWARD_DENY")),
        ("::ffff:10.9.1.1", 5432, Some("SSH_FORWARD_DENY")),
        ("10.1.1.1", 5433, Some("SSH_FORWARD_ALLOW")),
        ("example.org", 80, Some("SSH_FORWARD_ALLOW")),
        ("localhost", 26, None),
        ("10.1.1.1", 5432, None),
    ] {
        let arguments = json!({"local_port": 0, "remote_address": target, "remote_port": port});
        let answer = session.call("ssh_forward", arguments).await;
        match setting {
            None => assert!(!answer.is_error, "{target}:{port}: {}", answer.text),
            Some(setting) => {
                assert_eq!(answer.code(), "forward_target_denied", "{target}:{port}");
                assert!(text(&answer.structured["hint"]).contains(setting), "{}", answer.text);
            }
        }
    }
}

#[tokio::test]
async fn no_forward_through_this_machine_leads_back_to_this_server() {
    let Some(sshd) = Sshd::start().await else { return };
    let server = HttpServer::start(&[]).await;
    let session = Session::open(McpClient::http(&server).await, login(&sshd, &sshd.user().name)).await;
    let ask = async |target: &str, port: u16| {
        let arguments = json!({"local_port": 0, "remote_address": target, "remote_port": port});
        session.call("ssh_forward", arguments).await
    };
    for target in ["localhost", "127.0.0.1", "127.1", "0x7f000001", "::1", "::ffff:127.0.0.1", "LOCALHOST."] {
        assert_eq!(ask(target, server.port()).await.code(), "forward_target_denied", "{target}");
    }
    assert!(!ask("localhost", sshd.port()).await.is_error, "another port of this machine is no matter");
    assert!(!ask("10.255.255.1", server.port()).await.is_error, "nor this port of another one");
}
