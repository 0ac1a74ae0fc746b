//! A password on the command line, and hints about what a command ran into.

use serde_json::json;

use crate::support::{
    embedded_host::EmbeddedHost,
    openssh::Sshd,
    session::{Session, text},
};

const CANARY: &str = "canary-7c1e5a90";

#[tokio::test]
async fn a_password_for_sudo_is_sent_as_it_is_and_echoed_nowhere() {
    let Some(sshd) = Sshd::start().await else {
        return;
    };
    let session = Session::on_sshd(&sshd, &[("RUST_LOG", "trace")]).await;
    // A function in place of sudo, which may be missing: it shows that it got the password.
    let sudo = "sudo() { read line; [ ${#line} = 15 ] && echo got it; }";
    let command = format!("{sudo}; echo {CANARY} | sudo -S id; sleep 300");
    let started = session.call("ssh_execute_async", json!({"command": command, "until": "got it"})).await.success();
    assert_eq!(started["until_matched"], true, "{started}");
    assert!(started["notices"].to_string().contains("went through the model"), "{started}");
    let id = text(&started["command_id"]);
    let view = session.output(&id, json!({})).await;
    let listed = session.call("ssh_list_commands", json!({})).await.success();
    for echoed in [&started["command"], &view["command"], &listed["commands"][0]["command"]] {
        let echoed = text(echoed);
        assert!(echoed.contains("echo *** | sudo -S id"), "{echoed}");
    }
    let resources = session.client.peer().list_all_resources().await.unwrap();
    let cancelled = session.cancel(&id).await;
    for answer in [started.to_string(), view.to_string(), listed.to_string(), cancelled.to_string()] {
        assert!(!answer.contains(CANARY), "{answer}");
    }
    assert!(!format!("{resources:?}").contains(CANARY), "{resources:?}");
    let log = session.client.stderr();
    assert!(log.contains("command ended") && !log.contains(CANARY), "{log}");
}

#[tokio::test]
async fn a_command_line_without_a_password_brings_no_notice() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let ran = session.run("echo x | cat").await;
    assert_eq!((&ran["stdout"], ran.get("notices")), (&json!("x\n"), None), "{ran}");
    let ran = session.run("true; sudo() { cat; }; sudo -S <<< x || true").await;
    assert!(ran["notices"].to_string().contains("password"), "{ran}");
}

/// The hint of a command, which must stand in no stream.
async fn hint(session: &Session, command: &str) -> String {
    let ran = session.run(command).await;
    let hint = ran.get("hint").map(text).unwrap_or_default();
    let output = format!("{}{}", ran["stdout"], ran["stderr"]);
    assert!(hint.is_empty() || !output.contains(&hint), "{ran}");
    hint
}

#[tokio::test]
async fn what_a_command_ran_into_brings_one_hint() {
    let Some(sshd) = Sshd::start().await else {
        return;
    };
    let session = Session::on_sshd(&sshd, &[]).await;
    for (command, wanted) in [
        ("no-such-program-here", "did not find a program"),
        ("/etc/passwd", "cannot be run"),
        ("d=$(mktemp -d); $d; s=$?; rmdir $d; exit $s", "cannot be run"),
        ("cat /etc/shadow", "may not do this there"),
        ("cd /nowhere && make", "does not exist there"),
        ("cd /tmp", "no lasting effect"),
        ("export A=1", "no lasting effect"),
        ("printf 'sudo: a password is required\\n' >&2; exit 1", "Use sudo -n"),
        ("printf 'sudo: a terminal is required to read the password\\n' >&2; exit 1", "Use sudo -n"),
        ("echo 'git@h: Permission denied (publickey).' >&2; exit 128", "refused by another host"),
    ] {
        let hint = hint(&session, command).await;
        assert!(hint.contains(wanted), "{command}: {hint}");
    }
    for command in ["true", "exit 1", "echo 'Permission denied'; exit 0", "ls /nowhere"] {
        assert_eq!(hint(&session, command).await, "", "{command}");
    }
    let missing = session.call("ssh_execute", json!({"command": "true", "cwd": "/nowhere"})).await;
    assert_eq!(missing.code(), "no_such_directory");
    assert!(missing.structured["hint"].as_str().is_some_and(|hint| hint.contains("ls -d")), "{}", missing.text);
}
