//! The next step after a command: pure functions over what is known about it.

use crate::{
    error::Explain,
    ssh::async_command::{CommandInfo, Status},
};

/// What sudo says where it wants a password or a terminal (sudo 1.8 and 1.9).
const SUDO_REFUSALS: [&str; 4] = [
    "sudo: a password is required",
    "sudo: a terminal is required",
    "sudo: no tty present",
    "sudo: sorry, you must have a tty",
];

/// Commands of a shell that change nothing but that shell, where they have an argument.
const SHELL_ONLY: [&str; 8] = ["cd", "export", "source", ".", "alias", "unset", "pushd", "set"];

/// The one hint that matters most for a command as it stands.
#[must_use]
pub fn for_command(info: &CommandInfo, stderr: &str) -> Option<String> {
    match info.status {
        Status::Running => Some(running(info)),
        Status::Failed => info.error.as_ref().and_then(|error| error.hint()),
        _ if info.timed_out => Some(timed_out(info)),
        Status::Cancelled => unconfirmed(info),
        Status::Completed => ended(info, stderr),
    }
}

fn running(info: &CommandInfo) -> String {
    format!(
        "It is still running: do not run it again. Wait with ssh_get_command_output, command_id \"{}\", wait=true.",
        info.id
    )
}

fn timed_out(info: &CommandInfo) -> String {
    format!(
        "It was ended after its timeout_secs of {}. For longer work start it with ssh_execute_async and a larger \
         timeout_secs.",
        info.timeout.as_secs()
    )
}

/// A remote process may have outlived its end here.
fn unconfirmed(info: &CommandInfo) -> Option<String> {
    (info.remote_ended == Some(false)).then(|| {
        "The end of the remote process could not be confirmed: look for it with ssh_execute \"pgrep -fa NAME\".".into()
    })
}

fn ended(info: &CommandInfo, stderr: &str) -> Option<String> {
    match info.exit_status {
        Some(0) if is_shell_only(&info.command) => Some(
            "This had no lasting effect: each command is a fresh shell, so the directory, variables and aliases it set are \
             gone. Use cwd, or put it into the same command, as in \"cd DIR && make\"."
                .into(),
        ),
        Some(0) | None => None,
        Some(_) if wants_sudo_password(stderr) => Some(
            "sudo wants a password or a terminal, and there is none here. Use sudo -n; if that is refused, ask the user \
             for another way. Never put a password in command."
                .into(),
        ),
        Some(127) => Some(
            "Exit code 127: the shell did not find a program. PATH of a non-interactive shell is short: look with \
             \"command -v NAME\", or use the full path."
                .into(),
        ),
        Some(_) => None,
    }
}

fn wants_sudo_password(stderr: &str) -> bool {
    SUDO_REFUSALS.iter().any(|refusal| stderr.contains(refusal))
}

/// Whether every part of the command line changes nothing but the shell that ran it.
///
/// A quoted separator makes this answer "no": a missing hint is better than a wrong one.
fn is_shell_only(command: &str) -> bool {
    let command = command.replace("&&", ";").replace("||", ";");
    if command.contains(['|', '&', '>', '`']) || command.contains("$(") {
        return false;
    }
    let mut parts = command.split([';', '\n']).map(str::trim).filter(|part| !part.is_empty()).peekable();
    parts.peek().is_some() && parts.all(changes_shell_only)
}

fn changes_shell_only(part: &str) -> bool {
    let mut words = part.split_whitespace();
    let name = words.next().unwrap_or_default();
    // Without an argument, `export`, `alias` and `set` list what there is.
    SHELL_ONLY.contains(&name) && (name == "cd" || words.next().is_some())
}
