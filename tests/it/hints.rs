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
fn a_cd_that_failed_is_not_said_to_be_lost() {
    assert_eq!(hint(&completed("cd /nowhere", 1), "sh: 1: cd: can't cd to /nowhere"), "");
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
