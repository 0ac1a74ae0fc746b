//! What is told of how a command ended, on every kind of host: never a lie, never a wait for nothing.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    embedded_host::EmbeddedHost,
    hosts::Hosts,
    process::{alive, kill},
    session::{Session, text},
    wait::{bounded, eventually},
};

/// What needs no terminal and no input ends within this time.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A command with its exit code or signal, its stdout, and a part of its stderr.
struct Case {
    command: &'static str,
    ended: Ended,
    stdout: &'static str,
    stderr: &'static str,
}

#[derive(Clone, Copy)]
enum Ended {
    Code(i64),
    Signal(&'static str),
}

use Ended::{Code, Signal};

const CASES: [Case; 12] = [
    Case { command: "true", ended: Code(0), stdout: "", stderr: "" },
    Case { command: "echo out; echo err >&2; exit 7", ended: Code(7), stdout: "out\n", stderr: "err\n" },
    Case { command: "exit 255", ended: Code(255), stdout: "", stderr: "" },
    Case { command: "exit 256", ended: Code(0), stdout: "", stderr: "" },
    Case { command: "printf out; kill -KILL $$", ended: Signal("KILL"), stdout: "out", stderr: "" },
    Case { command: "printf err >&2; kill -TERM $$", ended: Signal("TERM"), stdout: "", stderr: "err" },
    Case { command: "sh -c 'kill -TERM $$'; exit $?", ended: Code(143), stdout: "", stderr: "Terminated" },
    Case { command: "no-such-program-here", ended: Code(127), stdout: "", stderr: "no-such-program-here" },
    Case { command: "/etc/passwd", ended: Code(126), stdout: "", stderr: "Permission denied" },
    Case { command: "if true; then echo yes", ended: Code(2), stdout: "", stderr: "syntax error" },
    Case { command: "echo one\necho two )", ended: Code(2), stdout: "one\n", stderr: "syntax error" },
    Case { command: "exec 1>&- 2>&-; exit 3", ended: Code(3), stdout: "", stderr: "" },
];

async fn told_exactly(host: &str, session: &Session) {
    for case in &CASES {
        // One after the other: Dropbear loses ends and output of commands that end at the same time.
        let answer = session.run(case.command).await;
        let what = format!("{host}: {}: {answer}", case.command);
        let (code, signal) = match case.ended {
            Code(code) => (Some(json!(code)), None),
            Signal(signal) => (None, Some(json!(signal))),
        };
        assert_eq!((answer.get("exit_code"), answer.get("exit_signal")), (code.as_ref(), signal.as_ref()), "{what}");
        assert_eq!((&answer["status"], &answer["timed_out"]), (&json!("completed"), &json!(false)), "{what}");
        assert_eq!((answer.get("error"), answer.get("notices")), (None, None), "{what}");
        assert_eq!(answer["stdout"], case.stdout, "{what}");
        let stderr = answer["stderr"].as_str().unwrap();
        assert!(stderr.contains(case.stderr) && stderr.is_empty() == case.stderr.is_empty(), "{what}");
        assert!(!stderr.contains("ssh-mcp-"), "{what}");
    }
}

#[tokio::test]
async fn every_end_is_told_exactly_on_every_host() {
    let hosts = Hosts::start_quiet().await;
    let sessions = hosts.sessions(&[]).await;
    join_all(sessions.iter().map(|(host, session)| told_exactly(host, session))).await;
}

#[tokio::test]
async fn command_without_exit_status_has_none() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let answer = session.run("@no-exit-status").await;
    assert_eq!((answer.get("exit_code"), answer.get("exit_signal")), (None, None), "{answer}");
    assert_eq!((&answer["status"], &answer["stdout"]), (&json!("completed"), &json!("out")), "{answer}");
    assert!(answer["notices"].to_string().contains("neither exit code nor signal"), "{answer}");
}

/// Loses the connection in the midst of a command that counts its runs.
async fn lost(host: &str, session: &Session, cut: impl Fn()) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let runs = directory.path().join("runs");
    let command = format!("echo run >>{}; echo $$; sleep 300; :", runs.display());
    let id = session.start(&command).await;
    let foreground = session.call("ssh_execute", json!({"command": command}));
    let losing = async {
        session.pid(&id).await;
        eventually("both run", async || fs::read_to_string(&runs).is_ok_and(|runs| runs.lines().count() == 2)).await;
        cut();
    };
    let (answer, ()) = tokio::join!(foreground, losing);
    let view = bounded("the end", session.ended(&id)).await;
    assert_eq!(view["stdout"].as_str().unwrap().lines().count(), 1, "{host}: what had arrived is kept: {view}");
    for told in [&answer.structured, &view] {
        let told_of = (&told["status"], &told["error"]["code"]);
        assert_eq!(told_of, (&json!("failed"), &json!("outcome_unknown")), "{host}: {told}");
        assert!(told.get("exit_code").is_none(), "{host}: {told}");
    }
    // The next command goes over a new connection, and the lost ones were not run again.
    let next = session.run("echo next").await;
    assert_eq!((&next["stdout"], &next["reconnected"]), (&json!("next\n"), &json!(true)), "{host}: {next}");
    assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), 2, "{host}");
}

#[tokio::test]
async fn lost_connection_is_an_unknown_outcome_on_every_host() {
    let hosts = Hosts::start().await;
    for (host, session) in hosts.sessions(&[]).await {
        lost(&host, &session, || hosts.kill_connections()).await;
    }
}

async fn child_in_the_background(host: &str, session: &Session) {
    let begun = Instant::now();
    let answer = session.run("nohup sleep 300 & echo $!").await;
    assert!(begun.elapsed() < AT_ONCE, "{host}: {:?}", begun.elapsed());
    assert_eq!((&answer["status"], &answer["exit_code"]), (&json!("completed"), &json!(0)), "{host}: {answer}");
    let pid = text(&answer["stdout"]).trim().parse().unwrap();
    assert!(alive(pid), "{host}");
    kill(&[pid], "KILL");
    // Dropbear closes the channel with the shell, whoever holds it.
    let told = answer["notices"].to_string().contains("still holds its output");
    assert_eq!(told, host.starts_with("OpenSSH"), "{host}: {answer}");

    let quiet = session.run("nohup sleep 300 >/dev/null 2>&1 </dev/null & echo $!").await;
    assert_eq!((&quiet["exit_code"], quiet.get("notices")), (&json!(0), None), "{host}: {quiet}");
    kill(&[text(&quiet["stdout"]).trim().parse().unwrap()], "KILL");
}

#[tokio::test]
async fn child_in_the_background_does_not_hold_the_answer() {
    let hosts = Hosts::start().await;
    let sessions = hosts.sessions(&[]).await;
    join_all(sessions.iter().map(|(host, session)| child_in_the_background(host, session))).await;
}

/// Programs that want a terminal or an answer, with what they say without.
const WANTING: [(&str, &str); 8] = [
    ("read x; echo \"$? <$x>\"", "1 <>\n"),
    ("less /etc/hostname | wc -l", "1\n"),
    ("less /etc/hostname >/dev/null; echo $?", "0\n"),
    ("cat; echo end", "end\n"),
    ("cat /etc/hostname | ${PAGER:-less} | wc -l", "1\n"),
    ("sh -c ': </dev/tty' 2>/dev/null; echo \"none $?\" | tr 12 xx", "none x\n"),
    ("tty; echo $?", "not a tty\n1\n"),
    ("select x in a b; do echo $x; done 2>/dev/null; echo over", "\nover\n"),
];

async fn ends_at_once(host: &str, session: &Session) {
    for (command, stdout) in WANTING {
        let begun = Instant::now();
        let answer = session.run(command).await;
        assert!(begun.elapsed() < AT_ONCE, "{host}: {command}: {:?}", begun.elapsed());
        assert_eq!(answer["stdout"], stdout, "{host}: {command}: {answer}");
    }
    let user: Value = session.login()["username"].clone();
    if user != "root" {
        let begun = Instant::now();
        let answer = session.run("su -c true").await;
        assert!(begun.elapsed() < AT_ONCE, "{host}: su: {:?}", begun.elapsed());
        assert_ne!(answer["exit_code"], 0, "{host}: {answer}");
    }
}

#[tokio::test]
async fn programs_that_want_a_terminal_end_at_once() {
    let hosts = Hosts::start().await;
    let sessions = hosts.sessions(&[]).await;
    join_all(sessions.iter().map(|(host, session)| ends_at_once(host, session))).await;
}
