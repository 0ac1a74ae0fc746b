//! The next step after a command.

use ssh_mcp::{
    mcp::hints::for_command,
    ssh::async_command::{CommandInfo, Status},
};

use crate::samples::{completed, running};

fn hint(info: &CommandInfo, stderr: &str) -> String {
    for_command(info, stderr).unwrap_or_default()
}

#[test]
fn a_running_command_is_not_to_be_run_again() {
    let info = running("make");
    let hint = hint(&info, "");
    assert!(hint.contains("do not run it again") && hint.contains("wait=true"), "{hint}");
    assert!(hint.contains(&info.id.to_string()), "{hint}");
}

#[test]
fn a_timed_out_command_is_to_be_started_in_the_background() {
    let info = CommandInfo { timed_out: true, exit_status: None, ..completed("make", 0) };
    let hint = hint(&info, "");
    assert!(hint.contains("timeout_secs of 180") && hint.contains("ssh_execute_async"), "{hint}");
}

#[test]
fn commands_that_change_only_their_shell_had_no_lasting_effect() {
    for command in [
        "cd /srv",
        "cd",
        "export A=1",
        "source venv/bin/activate",
        ". ./env",
        "alias ll='ls -l'",
        "cd /srv && export A=1",
        "cd /srv; ",
    ] {
        assert!(hint(&completed(command, 0), "").contains("no lasting effect"), "{command}");
    }
}

#[test]
fn commands_that_do_something_have_no_such_hint() {
    for command in [
        "cd /srv && make",
        "export",
        "alias",
        "cdrecord x",
        "source x | tee log",
        "export A=$(make)",
        "cd x || make",
        "true",
        "",
        ";",
    ] {
        assert_eq!(hint(&completed(command, 0), ""), "", "{command}");
    }
}

#[test]
fn a_directory_that_is_missing_is_named_as_such() {
    for stderr in [
        "sh: 1: cd: can't cd to /nowhere",
        "bash: line 1: cd: /nowhere: No such file or directory",
        "zsh:cd:1: no such file or directory: /nowhere\nzsh: cd: no such file or directory: /nowhere",
        "cd: The directory '/nowhere' does not exist",
    ] {
        let hint = hint(&completed("cd /nowhere && make", 1), stderr);
        assert!(hint.contains("does not exist there") && !hint.contains("no lasting effect"), "{stderr}: {hint}");
    }
    assert_eq!(hint(&completed("cat x", 1), "cat: x: No such file or directory"), "");
}

#[test]
fn exit_126_is_a_program_that_cannot_be_run() {
    assert!(hint(&completed("./run", 126), "sh: 1: ./run: Permission denied").contains("cannot be run"));
}

#[test]
fn a_permission_that_is_denied_names_the_user() {
    let denied = hint(&completed("cat /etc/shadow", 1), "cat: /etc/shadow: Permission denied");
    assert!(denied.contains("\"deploy\" may not") && denied.contains("sudo -n"), "{denied}");
    let beyond = hint(&completed("git pull", 1), "git@h: Permission denied (publickey).");
    assert!(beyond.contains("refused by another host"), "{beyond}");
    assert_eq!(hint(&completed("find /", 0), "find: '/root': Permission denied"), "");
}

#[test]
fn exit_127_is_a_program_that_was_not_found() {
    assert!(hint(&completed("kubctl get pods", 127), "").contains("did not find a program"));
}

#[test]
fn sudo_that_wants_a_password_is_told_apart() {
    for stderr in [
        "sudo: a password is required\n",
        "sudo: a terminal is required to read the password; either use the -S option\n",
        "sudo: no tty present and no askpass program specified\n",
        "sudo: sorry, you must have a tty to run sudo\n",
        "Password: sudo: no password was provided\n",
        "sudo: interactive authentication is required\n",
    ] {
        assert!(hint(&completed("sudo id", 1), stderr).contains("sudo -n"), "{stderr}");
    }
    assert_eq!(hint(&completed("sudo id", 1), "id: no such user"), "");
}

#[test]
fn an_end_that_was_not_confirmed_is_to_be_looked_for() {
    let info =
        CommandInfo { status: Status::Cancelled, exit_status: None, remote_ended: Some(false), ..completed("make", 0) };
    assert!(hint(&info, "").contains("pgrep -fa"));
    assert_eq!(hint(&CommandInfo { remote_ended: Some(true), ..info }, ""), "");
}

#[test]
fn a_plain_exit_needs_no_hint() {
    assert_eq!(hint(&completed("make", 2), "make: *** [all] Error 1"), "");
}
