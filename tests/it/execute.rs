//! `ssh_execute` against OpenSSH: what ran, how it ended, what it said.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    mcp_client::McpClient,
    openssh::{KeyFormat, KeyType, Sshd, is_root, public_key, ssh_keygen},
    process::alive,
    session::{Session, login, text},
    wait::eventually,
};

/// How long after its time-out a command may take to be ended and answered.
const STOP_BOUND: Duration = Duration::from_secs(2);

/// A server that puts nothing of its own on the stderr of root's commands, as its debug log does.
async fn quiet() -> Option<Sshd> {
    Sshd::builder().config("LogLevel INFO").start().await
}

/// The ordinary user's session, and root's where the tests run as root.
async fn every_user(sshd: &Sshd, env: &[(&str, &str)]) -> Vec<Session> {
    let user = Session::on_sshd(sshd, env).await;
    let mut sessions = vec![user];
    if is_root() {
        let root = sessions[0].another(json!({"username": "root"})).await;
        sessions.push(root);
    }
    sessions
}

#[track_caller]
fn assert_absent(view: &Value, fields: &[&str]) {
    for field in fields {
        assert_eq!(view.get(field), None, "{field} in {view}");
    }
}

#[tokio::test]
async fn exit_codes_and_both_streams_are_told_exactly() {
    let Some(sshd) = quiet().await else { return };
    for session in every_user(&sshd, &[]).await {
        for code in [0, 7, 255] {
            let ran = session.run(&format!("printf out; printf error >&2; exit {code}")).await;
            assert_eq!((&ran["status"], &ran["exit_code"]), (&json!("completed"), &json!(code)), "{ran}");
            assert_eq!((&ran["stdout"], &ran["stderr"]), (&json!("out"), &json!("error")));
            assert_eq!((&ran["stdout_bytes"], &ran["stderr_bytes"]), (&json!(3), &json!(5)));
            assert_eq!((&ran["next_stdout_offset"], &ran["next_stderr_offset"]), (&json!(3), &json!(5)));
            assert_eq!(
                (&ran["timed_out"], &ran["truncated"], &ran["timeout_secs"]),
                (&json!(false), &json!(false), &json!(180))
            );
            assert_absent(&ran, &["exit_signal", "timeout_remaining_secs", "hint", "error", "stdout_omitted_from"]);
        }
    }
}

#[tokio::test]
async fn every_result_names_its_host_user_session_and_command() {
    let Some(sshd) = Sshd::start().await else { return };
    for session in every_user(&sshd, &[]).await {
        let ran = session.run("id -un").await;
        assert_eq!((&ran["host"], &ran["port"]), (&json!("127.0.0.1"), &json!(sshd.port())));
        assert_eq!(ran["username"], session.login()["username"]);
        assert_eq!(ran["stdout"], format!("{}\n", text(&ran["username"])));
        assert_eq!(ran["session_id"], session.id);
        let again = session.output(&text(&ran["command_id"]), json!({})).await;
        assert_eq!((&again["stdout"], &again["command"]), (&ran["stdout"], &json!("id -un")));
    }
}

#[tokio::test]
async fn exit_signals_are_named() {
    let Some(sshd) = Sshd::start().await else { return };
    for session in every_user(&sshd, &[]).await {
        for signal in ["KILL", "TERM"] {
            let ran = session.run(&format!("printf before; kill -{signal} $$; sleep 300")).await;
            assert_eq!((&ran["status"], &ran["exit_signal"]), (&json!("completed"), &json!(signal)), "{ran}");
            assert_eq!((&ran["stdout"], &ran["timed_out"]), (&json!("before"), &json!(false)));
            assert_absent(&ran, &["exit_code", "error"]);
        }
    }
}

#[tokio::test]
async fn a_program_that_is_not_found_and_a_syntax_error_are_results_of_the_shell() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let ran = session.run("no-such-program-here --version").await;
    assert_eq!((&ran["status"], &ran["exit_code"]), (&json!("completed"), &json!(127)));
    assert!(text(&ran["stderr"]).contains("no-such-program-here") && text(&ran["hint"]).contains("127"), "{ran}");
    let ran = session.run("if then").await;
    assert_eq!(ran["status"], "completed");
    assert!(ran["exit_code"].as_u64().is_some_and(|code| code != 0), "{ran}");
    assert!(text(&ran["stderr"]).contains("syntax error"), "{ran}");
}

#[tokio::test]
async fn every_command_is_a_fresh_shell_and_a_lone_cd_is_told_so() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let before = session.run("pwd").await;
    for command in ["cd /", "export LOST=1", "alias ll=ls"] {
        assert!(text(&session.run(command).await["hint"]).contains("no lasting effect"), "{command}");
    }
    assert_eq!(session.run("pwd").await["stdout"], before["stdout"]);
    assert_eq!(session.run("echo \"[$LOST]\"").await["stdout"], "[]\n");
}

#[tokio::test]
async fn stdin_arrives_exactly_up_to_a_mebibyte_and_then_ends() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    // Two bytes a character, quotes, no line end: nothing is added, dropped or read by a shell.
    let mut input = "é'\"$(x)\\\r\n\t".repeat(80_000);
    input.truncate(input.floor_char_boundary((1 << 20) - 3));
    input.push_str(&"z".repeat((1 << 20) - input.len()));
    let file = sshd.directory().join("expected");
    fs::write(&file, &input).unwrap();
    let command = format!("cmp - {} && echo same", file.display());
    let ran = session.call("ssh_execute", json!({"command": command, "stdin": input})).await.success();
    assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("same\n"), &json!(0)), "{}", ran["stderr"]);

    let ran = session.call("ssh_execute", json!({"command": "wc -c", "stdin": "a"})).await.success();
    assert_eq!(text(&ran["stdout"]).trim(), "1");
    let script = "echo from $0\nexit 3\n";
    let ran = session.call("ssh_execute", json!({"command": "sh -s", "stdin": script})).await.success();
    assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("from sh\n"), &json!(3)));

    let too_much = session.call("ssh_execute", json!({"command": "cat", "stdin": input + "z"})).await;
    assert_eq!(too_much.code(), "out_of_range");
}

#[tokio::test]
async fn a_command_that_reads_no_stdin_ends_all_the_same() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let input = "x".repeat(1 << 20);
    let ran = session.call("ssh_execute", json!({"command": "exit 4", "stdin": input})).await.success();
    assert_eq!((&ran["status"], &ran["exit_code"]), (&json!("completed"), &json!(4)));
}

#[tokio::test]
async fn without_stdin_a_reader_meets_its_end_at_once() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    for arguments in [json!({"command": "cat; echo ended"}), json!({"command": "cat; echo ended", "stdin": ""})] {
        let ran = session.call("ssh_execute", arguments).await.success();
        assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("ended\n"), &json!(0)));
    }
}

#[tokio::test]
async fn a_command_runs_in_its_cwd_whatever_the_name() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let directory = fs::canonicalize(sshd.directory()).unwrap();
    for name in ["a b", "it's", "\"$HOME\" `id`; exit 9", "-P", "~", "ä"] {
        let path = directory.join(name);
        fs::create_dir(&path).unwrap();
        let ran = session.call("ssh_execute", json!({"command": "pwd; exit 5", "cwd": path})).await.success();
        assert_eq!(
            (ran["stdout"].as_str(), &ran["exit_code"]),
            (Some(format!("{}\n", path.display()).as_str()), &json!(5))
        );
        assert_eq!(ran["stderr"], "");
    }
    let login_directory = text(&session.run("pwd -P").await["stdout"]);
    let parent = text(&session.run("cd .. && pwd -P").await["stdout"]);
    for (cwd, expected) in [(".", login_directory), ("..", parent)] {
        let ran = session.call("ssh_execute", json!({"command": "pwd -P", "cwd": cwd})).await.success();
        assert_eq!(ran["stdout"], expected, "{cwd}");
    }
}

#[tokio::test]
async fn a_tilde_in_cwd_is_the_home_on_the_host() {
    let Some(sshd) = Sshd::start().await else { return };
    if !is_root() {
        return;
    }
    // Root has a HOME of the test's own there.
    let home = fs::canonicalize(sshd.directory().join("empty")).unwrap();
    fs::create_dir(home.join("x y")).unwrap();
    let session = Session::open(McpClient::stdio(&[]).await, login(&sshd, "root")).await;
    for (cwd, below) in [("~", ""), ("~/x y", "/x y")] {
        let ran = session.call("ssh_execute", json!({"command": "pwd -P", "cwd": cwd})).await.success();
        assert_eq!(ran["stdout"], format!("{}{below}\n", home.display()), "{cwd}");
    }
}

#[tokio::test]
async fn nothing_runs_where_the_cwd_is_missing_in_any_login_shell() {
    let Some(sshd) = Sshd::start().await else { return };
    let place = sshd.directory().join("open to all");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    let here = Session::on_sshd(&sshd, &[]).await;
    for shell in ["bash", "dash", "zsh", "fish", "tcsh"] {
        if here.run(&format!("command -v {shell}")).await["exit_code"] != 0 {
            continue;
        }
        // As if it were the login shell: sshd runs `SHELL -c LINE`. fish wants to write to its HOME.
        let key = ssh_keygen(sshd.directory(), shell, KeyType::Ed25519, KeyFormat::OpenSsh);
        let run = format!("HOME='{}' SHELL=$(command -v {shell}) exec {shell} -c", place.display());
        let line = format!(r#"command="{run} \"$SSH_ORIGINAL_COMMAND\"" {}"#, public_key(&key));
        sshd.authorize_line(&line);
        let session = here.another(json!({"key_path": key})).await;

        let touch = |name: &str| format!("touch '{}'", place.join(name).display());
        let there = json!({"command": format!("{}; pwd; exit 6", touch("there")), "cwd": place});
        let ran = session.call("ssh_execute", there).await.success();
        assert_eq!((&ran["exit_code"], &ran["stderr"]), (&json!(6), &json!("")), "{shell}");
        assert_eq!(ran["stdout"], format!("{}\n", place.display()), "{shell}");

        for missing in [place.join("missing"), place.join("there"), place.join("it's gone")] {
            let arguments = json!({"command": touch("elsewhere"), "cwd": missing});
            let refused = session.call("ssh_execute", arguments.clone()).await;
            assert_eq!(refused.code(), "no_such_directory", "{shell}: {}", refused.text);
            assert_eq!(refused.structured["retryable"], false);
            assert!(text(&refused.structured["message"]).contains("nothing was run"), "{}", refused.text);
            let id = text(&session.call("ssh_execute_async", arguments).await.success()["command_id"]);
            let failed = session.ended(&id).await;
            assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("no_such_directory")));
        }
        assert!(!place.join("elsewhere").exists(), "{shell} ran the command elsewhere");
        fs::remove_file(place.join("there")).unwrap();
    }
}

#[tokio::test]
async fn a_cwd_that_may_not_be_entered_runs_nothing() {
    let Some(sshd) = Sshd::start().await else { return };
    if !is_root() {
        return;
    }
    let session = Session::on_sshd(&sshd, &[]).await;
    let closed = sshd.directory().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let refused = session.call("ssh_execute", json!({"command": "echo ran", "cwd": closed})).await;
    assert_eq!(refused.code(), "no_such_directory");
}

#[tokio::test]
async fn a_command_of_120000_bytes_runs_and_a_longer_one_is_refused() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let command =
        |bytes: usize| format!("echo {} | wc -c", "é".repeat((bytes - 13) / 2) + &"x".repeat((bytes - 13) % 2));
    let longest = command(119_999) + " ";
    assert_eq!(longest.len(), 120_000);
    let ran = session.call("ssh_execute", json!({"command": longest, "cwd": "/"})).await.success();
    assert_eq!((text(&ran["stdout"]).trim(), &ran["exit_code"]), ("119987", &json!(0)), "{}", ran["stderr"]);
    for tool in ["ssh_execute", "ssh_execute_async"] {
        let refused = session.call(tool, json!({"command": format!("{longest} ")})).await;
        assert_eq!(refused.code(), "command_too_long");
        assert!(text(&refused.structured["hint"]).contains("stdin"), "{}", refused.text);
    }
}

#[tokio::test]
async fn empty_commands_and_nul_are_invalid() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    for tool in ["ssh_execute", "ssh_execute_async"] {
        for command in ["", " \n", "echo a\0b"] {
            assert_eq!(session.call(tool, json!({"command": command})).await.code(), "invalid_argument", "{command:?}");
        }
    }
    let list = session.call("ssh_list_commands", json!({})).await.success();
    assert_eq!(list["count"], 0, "what was refused is no command: {list}");
}

#[tokio::test]
async fn a_timed_out_command_keeps_its_output_and_is_answered_in_time() {
    let Some(sshd) = Sshd::start().await else { return };
    for session in every_user(&sshd, &[]).await {
        let begun = Instant::now();
        let arguments = json!({"command": "echo $$; printf early; sleep 300", "timeout_secs": 1});
        let ran = session.call("ssh_execute", arguments).await.success();
        assert!(begun.elapsed() < Duration::from_secs(1) + STOP_BOUND, "{:?}", begun.elapsed());
        assert_eq!((&ran["status"], &ran["timed_out"]), (&json!("completed"), &json!(true)), "{ran}");
        assert_absent(&ran, &["exit_code", "timeout_remaining_secs", "error"]);
        assert_eq!(ran["timeout_secs"], 1);
        assert!(text(&ran["hint"]).contains("ssh_execute_async"), "{ran}");
        let shown = text(&ran["stdout"]);
        assert!(shown.ends_with("\nearly"), "{ran}");
        // The sshd of old releases takes no signals in root's sessions.
        if session.login()["username"] != "root" {
            let pid = shown.lines().next().unwrap().parse().unwrap();
            eventually("the remote process is gone", async || !alive(pid)).await;
        }
    }
}

#[tokio::test]
async fn a_command_that_ignores_term_is_killed_in_time() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let begun = Instant::now();
    let command = "trap '' TERM; echo $$; while :; do sleep 0.1; done";
    let ran = session.call("ssh_execute", json!({"command": command, "timeout_secs": 1})).await.success();
    assert!(begun.elapsed() < Duration::from_secs(1) + STOP_BOUND, "{:?}", begun.elapsed());
    assert_eq!((&ran["timed_out"], ran.get("exit_code")), (&json!(true), None));
    let pid = text(&ran["stdout"]).trim().parse().unwrap();
    eventually("the remote process is gone", async || !alive(pid)).await;
}

#[tokio::test]
async fn the_default_timeout_is_a_setting_and_the_parameter_wins() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[("SSH_COMMAND_TIMEOUT", "1")]).await;
    let (default, longer) = tokio::join!(
        session.run("sleep 300"),
        session.call("ssh_execute", json!({"command": "sleep 2", "timeout_secs": 60}))
    );
    assert_eq!((&default["timed_out"], &default["timeout_secs"]), (&json!(true), &json!(1)));
    let longer = longer.success();
    assert_eq!((&longer["exit_code"], &longer["timeout_secs"]), (&json!(0), &json!(60)));
}

#[tokio::test]
async fn a_child_that_holds_stdout_does_not_hold_up_the_answer() {
    let Some(sshd) = Sshd::start().await else { return };
    for session in every_user(&sshd, &[]).await {
        for command in ["nohup sleep 300 & echo $!", "sleep 300 & echo $!; exit 3"] {
            let begun = Instant::now();
            let ran = session.run(command).await;
            assert!(begun.elapsed() < Duration::from_secs(2), "{command}: {:?}", begun.elapsed());
            assert_eq!(ran["exit_code"], if command.ends_with('3') { 3 } else { 0 });
            let child = text(&ran["stdout"]).trim().parse().unwrap();
            assert!(alive(child), "nobody asked to end the child");
        }
    }
}

#[tokio::test]
async fn commands_without_a_session_get_no_further() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::open(McpClient::stdio(&[]).await, login(&sshd, &sshd.user().name)).await;
    for tool in ["ssh_execute", "ssh_execute_async"] {
        let answer = session.client.call(tool, json!({"command": "true"})).await;
        assert_eq!(answer.code(), "missing_argument", "even when one session is open");
    }
}
