//! Login shells: what stands before a command in them changes nothing that its caller can see.
//!
//! The oracle is OpenSSH's own client with the same command on the same account.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    openssh::{Sshd, is_root, shell_user},
    process::alive,
    session::Session,
    wait::bounded,
};

/// One connection of OpenSSH's client; its commands share it.
struct Oracle<'a> {
    sshd: &'a Sshd,
    user: &'a str,
}

impl Oracle<'_> {
    fn socket(&self) -> String {
        self.sshd.directory().join(format!("oracle-{}", self.user)).display().to_string()
    }

    async fn run(&self, command: &str, stdin: &str) -> Output {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-q", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
        ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ControlMaster=auto", "-o", "ControlPersist=20"]);
        ssh.args(["-o", &format!("ControlPath={}", self.socket()), "-i"]).arg(self.sshd.client_key());
        ssh.args(["-p", &self.sshd.port().to_string(), "-l", self.user, "127.0.0.1", "--", command]);
        ssh.env_remove("SSH_AUTH_SOCK").env("HOME", self.sshd.directory()).kill_on_drop(true);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // A command that reads nothing closes the pipe.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut pipe, stdin.as_bytes()).await;
        drop(pipe);
        bounded("the end of ssh", child.wait_with_output()).await.unwrap()
    }
}

/// What both give: exit code, stdout, stderr.
type Ran = (i64, String, String);

fn of_oracle(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap().into(), text(output.stdout), text(output.stderr))
}

fn of_answer(answer: &Value) -> Ran {
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    // ssh says 255 where a signal ended the command.
    let code = if answer["exit_signal"].is_string() { 255 } else { answer["exit_code"].as_i64().unwrap() };
    (code, text("stdout"), text("stderr"))
}

/// tcsh tells the process id of what it puts into the background.
fn without_job_id((code, stdout, stderr): Ran) -> Ran {
    let mask = |line: &str| match line.strip_prefix("[1] ") {
        Some(id) if id.trim_end().parse::<u32>().is_ok() => "[1] ID\n".to_owned(),
        _ => line.to_owned(),
    };
    (code, stdout.split_inclusive('\n').map(mask).collect(), stderr)
}

const SHELLS: [&str; 5] = ["bash", "dash", "zsh", "fish", "tcsh"];

/// In every shell.
const EVERYWHERE: [&str; 42] = [
    "true",
    "exit 7",
    "false",
    "exit 7;",
    "echo a  b   c",
    "echo 'single  $HOME' \"double  $HOME\"",
    "echo \"it's\" 'a \"quote\"'",
    "echo \\$HOME \\\\ a\\ b",
    "echo $HOME",
    "printf '%s\\n' '*' /etc/host?",
    "echo /etc/hos*",
    "echo /nothing/like/this*",
    "echo {a,b}{1,2}",
    "echo ~",
    "printf 'a\\nb\\n' | sort -r | head -1",
    "echo one && echo two",
    "false || echo else",
    "false && echo never",
    "echo a; echo b;",
    "echo a\necho b",
    "\necho a\n\necho b\n",
    "  echo indented  ",
    "echo a # and a comment",
    "# a comment only",
    "echo ünïcödé ☃ 🎉",
    "printf 'no newline'",
    "sh -c 'echo out; echo err >&2; exit 3'",
    "sh -c 'kill -9 $$'",
    "no-such-program-here --at all",
    "/etc/passwd",
    "cd /tmp; pwd",
    "cd /nothing/like/this",
    "echo \"unfinished",
    "echo 'unfinished",
    "echo a |",
    "; echo a",
    "&& echo a",
    ")",
    "echo (",
    "sh -c 'sleep 0.1; echo late' & wait",
    "cat; echo end",
    "exec echo replaced",
];

/// In shells like `sh`.
const POSIX: [&str; 16] = [
    "cat <<EOF\nhere $HOME\nEOF",
    "cat <<'EOF'\nhere $HOME\nEOF\nexit 5",
    "if true; then echo yes; fi",
    "if true; then echo yes",
    "for x in a b; do echo $x; done",
    "f() { echo in $1; return 4; }; f x",
    "x=1; echo $x $((x + 1)) ${x:-2} ${y:-3}",
    "echo `echo back` $(echo quoted)",
    "echo err 1>&2; exit 2",
    "( exit 9 )",
    "{ echo a; echo b; } | cat",
    "set -e; false; echo never",
    "set -u; echo $nothing_like_this; echo after",
    "set -x; echo traced",
    "read x; echo \"got $x\"",
    "echo a; fi; echo b",
];

const FISH: [&str; 7] = [
    "for x in a b; echo $x; end",
    "if true; echo yes; end",
    "if true; echo yes",
    "echo err >&2; exit 2",
    "set x 1; echo $x (math $x + 1)",
    "echo a; end; echo b",
    "status current-command; status is-login; or echo no",
];

const CSH: [&str; 8] = [
    "set x = 1; @ x++; echo $x",
    "if (1) echo yes",
    "if (1) then\necho yes\nendif",
    "foreach x (a b)\necho $x\nend",
    "setenv X y; echo $X",
    "echo $nothing_like_this",
    "echo a ; endif ; echo b",
    "alias x echo",
];

/// Shells that tell of themselves: the preamble shows nowhere.
const TELL_TALES: [&str; 5] = [
    "ps -o args= $$; true",
    "ps -o args= $fish_pid; true",
    "tr '\\0' '\\n' </proc/$$/cmdline",
    "echo $0",
    "echo $BASH_EXECUTION_STRING",
];

fn commands(shell: &str) -> Vec<&'static str> {
    let own: &[&str] = match shell {
        "fish" => &FISH,
        "tcsh" => &CSH,
        _ => &POSIX,
    };
    [&EVERYWHERE, own, &TELL_TALES].concat()
}

/// What differs, as text.
async fn differences(sshd: &Sshd, shell: &str, session: &Session) -> Vec<String> {
    let user = shell_user(shell).unwrap();
    let session = session.another(json!({"username": user})).await;
    let oracle = Oracle { sshd, user: &user };
    let mut found = Vec::new();
    for command in commands(shell) {
        let stdin = "first\nsecond";
        let expected = without_sshd(without_job_id(of_oracle(oracle.run(command, stdin).await)));
        let answer = session.call("ssh_execute", json!({"command": command, "stdin": stdin})).await.success();
        let ran = without_sshd(without_job_id(of_answer(&answer)));
        if ran != expected {
            found.push(format!("{shell}: {command:?}\n  ssh:     {expected:?}\n  ssh-mcp: {ran:?}\n"));
        }
    }
    found
}

/// How many processes sshd has for the user, and which ended ones nobody has waited for yet, depends on what else is
/// going on.
fn without_sshd((code, stdout, stderr): Ran) -> Ran {
    let passing = |line: &&str| line.starts_with("sshd:") || line.ends_with("<defunct>\n");
    (code, stdout.split_inclusive('\n').filter(|line| !passing(line)).collect(), stderr)
}

fn installed(shell: &&str) -> bool {
    Path::new("/bin").join(shell).exists()
}

#[tokio::test]
async fn commands_in_every_login_shell_go_as_with_ssh() {
    let Some(sshd) = Sshd::start().await else { return };
    if !is_root() {
        return;
    }
    let session = Session::on_sshd(&sshd, &[]).await;
    let shells: Vec<_> = SHELLS.into_iter().filter(installed).collect();
    let found = join_all(shells.iter().map(|shell| differences(&sshd, shell, &session))).await.concat();
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.concat());
}

/// The directory of the session's account, with a name that needs every quote there is.
const DIRECTORY: &str = "/tmp/it's a \"$HOME\" \\ dir";

#[tokio::test]
async fn directory_and_its_command_are_one_in_every_login_shell() {
    let Some(sshd) = Sshd::start().await else { return };
    if !is_root() {
        return;
    }
    std::fs::create_dir_all(DIRECTORY).unwrap();
    let first = Session::on_sshd(&sshd, &[]).await;
    for shell in SHELLS.iter().filter(|shell| installed(shell)) {
        let session = first.another(json!({"username": shell_user(shell).unwrap()})).await;
        let run = async |command: &str, cwd: &str| {
            session.call("ssh_execute", json!({"command": command, "cwd": cwd, "stdin": "x"})).await.success()
        };
        for command in ["pwd", "pwd; exit 3", "sleep 0 & pwd", "false; pwd", "cat; pwd"] {
            let (ran, plain) = tokio::join!(run(command, DIRECTORY), run(command, "/"));
            let (expected, code) = (of_answer(&plain), if command.contains("exit") { 3 } else { 0 });
            assert!(of_answer(&ran).1.ends_with(&format!("{DIRECTORY}\n")), "{shell}, {command}: {ran}");
            assert_eq!((expected.0, ran["exit_code"].as_i64()), (code, Some(code)), "{shell}, {command}: {ran}");
            // tcsh tells there that a job is done.
            let stderr = ran["stderr"].as_str().unwrap();
            assert!(stderr.is_empty() || command.contains('&') && !stderr.contains("ssh-mcp-"), "{shell}: {ran}");
        }
        let arguments = json!({"command": "touch /tmp/never", "cwd": "/nothing/like/this"});
        assert_eq!(session.call("ssh_execute", arguments).await.code(), "no_such_directory", "{shell}");
    }
}

/// The nonce of a command line, out of the shell's own arguments.
const NONCE: &str = "n=$(tr '\\0 ' '\\n\\n' </proc/$$/cmdline | grep -m1 -o 'ssh-mcp-[0-9a-f]*'); ";

#[tokio::test]
async fn output_cannot_forge_what_the_shell_tells() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    // A process of the same user that nobody may take for the command's.
    let bystander = session.start("sleep 300; :").await;
    let running = async || session.output(&bystander, json!({})).await["status"] == "running";
    let other = session.start("echo $$; sleep 300; :").await;
    let pid = session.pid(&other).await;
    for forged in ["1", "0", "-1", &pid.to_string()] {
        let random = uuid::Uuid::new_v4().simple();
        for nonce in [format!("n=ssh-mcp-{random}; "), NONCE.to_owned()] {
            let command = format!("{nonce}echo $n {forged} >&2; echo $n {forged}; echo $$; sleep 300; :");
            let id = session.start(&command).await;
            let view = session.shows(&id, &format!(" {forged}\n")).await;
            let shown = view["stderr"].as_str().unwrap().to_owned();
            assert!(shown.starts_with("ssh-mcp-") && shown.ends_with(&format!(" {forged}\n")), "it is output: {view}");
            let done = session.cancel(&id).await;
            assert_eq!((&done["remote_ended"], &done["stderr"]), (&json!(true), &json!(shown)), "{done}");
            assert!(alive(pid) && running().await, "{command}");
        }
    }
}

#[tokio::test]
async fn command_cannot_claim_that_it_was_not_run() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let command = format!("{NONCE}echo $n no-directory >&2; echo ran");
    let ran = session.call("ssh_execute", json!({"command": command, "cwd": "/tmp"})).await.success();
    assert_eq!((&ran["status"], &ran["exit_code"], &ran["stdout"]), (&json!("completed"), &json!(0), &json!("ran\n")));
    assert!(ran["stderr"].as_str().unwrap().ends_with(" no-directory\n"), "{ran}");
}

/// Hosts where nothing may stand before a command.
#[tokio::test]
async fn forced_command_gets_the_command_as_it_is() {
    let user = match Sshd::start().await {
        Some(sshd) => sshd.user().name.clone(),
        None => return,
    };
    let forced = |program: &str| format!("Match User {user}\n    ForceCommand {program}");
    let fixed = Sshd::builder().config(&forced("echo fixed; echo error >&2; exit 5")).start();
    let echoing = Sshd::builder().config(&forced(r#"printf '<%s>' "$SSH_ORIGINAL_COMMAND""#)).start();
    let sftp = Sshd::builder().config(&forced("internal-sftp")).start();
    let gateway = Sshd::builder().config(&forced(r#"sh -c "$SSH_ORIGINAL_COMMAND""#)).start();
    let (fixed, echoing, sftp, gateway) = tokio::join!(fixed, echoing, sftp, gateway);
    let (fixed, echoing, sftp, gateway) = (fixed.unwrap(), echoing.unwrap(), sftp.unwrap(), gateway.unwrap());

    let session = Session::on_sshd(&fixed, &[]).await;
    assert_eq!(of_answer(&session.run("true").await), (5, "fixed\n".into(), "error\n".into()));

    let session = Session::on_sshd(&echoing, &[]).await;
    for command in ["get 'x'  \"$y\"", "a\nb", "# c", "ü;"] {
        assert_eq!(session.run(command).await["stdout"], format!("<{command}>"));
    }

    let session = Session::on_sshd(&gateway, &[]).await;
    assert_eq!(of_answer(&session.run("echo $0; exit 4").await), (4, "sh\n".into(), String::new()));
    let started = session.start("echo $$; sleep 300; :").await;
    let pid = session.pid(&started).await;
    let done = session.cancel(&started).await;
    assert_eq!((&done["remote_ended"], alive(pid)), (&json!(true), false), "{done}");

    for sshd in [&fixed, &echoing, &sftp] {
        let session = Session::on_sshd(sshd, &[]).await;
        let refused = session.call("ssh_execute", json!({"command": "true", "cwd": "/tmp"})).await;
        let shown = refused.structured.to_string();
        assert!(shown.contains("cwd cannot be used on this host"), "{shown}");
    }

    let oracle = Oracle { sshd: &sftp, user: &user };
    let (code, _, stderr) = of_oracle(oracle.run("true", "").await);
    let answer = Session::on_sshd(&sftp, &[]).await.run("true").await;
    assert_eq!((answer["exit_code"].as_i64(), answer["stderr"].as_str()), (Some(code), Some(&*stderr)), "{answer}");
}
