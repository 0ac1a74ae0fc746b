//! The next step after a command: pure functions over what is known about it.

use super::failure::shown;
use crate::{
    error::Explain,
    ssh::async_command::{CommandInfo, Status},
};

/// What sudo, its Rust sibling and doas say where they want a password or a terminal (sudo 1.8 and
/// 1.9, sudo-rs 0.2, OpenDoas 6.8).
const SUDO_REFUSALS: [&str; 9] = [
    "sudo: a password is required",
    "sudo: a terminal is required",
    "sudo: no tty present",
    "sudo: no password was provided",
    "sudo: sorry, you must have a tty",
    "sudo: interactive authentication is required",
    "sudo: Authentication required",
    "doas: a tty is required",
    "doas: Authentication required",
];

/// What OpenSSH says in place of a command, where the password must be changed first.
const EXPIRED_SAYS: &str = "Password change required but no TTY available";

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
    let hint = match info.exit_status {
        Some(0) if is_shell_only(&info.command) => NO_EFFECT,
        Some(0) | None => return None,
        Some(_) if says_any(stderr, &SUDO_REFUSALS) => SUDO_PASSWORD,
        Some(_) if stderr.contains(EXPIRED_SAYS) => PASSWORD_EXPIRED,
        Some(_) if misses_directory(stderr) => NO_SUCH_DIRECTORY,
        Some(127) => NOT_FOUND,
        Some(126) => NOT_RUNNABLE,
        Some(_) if stderr.contains("Permission denied (") => NO_KEY_THERE,
        Some(_) if stderr.to_ascii_lowercase().contains("permission denied") => {
            return Some(denied(&info.target.username));
        }
        Some(_) => return None,
    };
    Some(hint.into())
}

const NO_EFFECT: &str = "This had no lasting effect: each command is a fresh shell, so the directory, variables and \
    aliases it set are gone. Use cwd, or put it into the same command, as in \"cd DIR && make\".";

const SUDO_PASSWORD: &str = "sudo wants a password or a terminal, and there is none here. Use sudo -n; if that is \
    refused, ask the user for another way. Never put a password in command.";

const PASSWORD_EXPIRED: &str = "Nothing was run: the password of this account has expired, and the host lets it do nothing \
    else before. Ask the user to log in with ssh in a terminal and to choose a new one.";

const NO_SUCH_DIRECTORY: &str = "A directory that the command changes to does not exist there. Look with \"ls -d\"; a \
    path without / or ~ begins in the home directory.";

const NOT_FOUND: &str = "Exit code 127: the shell did not find a program. PATH of a non-interactive shell is short: look \
    with \"command -v NAME\" or bash -lc \"command -v NAME\", and use the full path.";

const NOT_RUNNABLE: &str = "Exit code 126: it is there but cannot be run: not executable, a directory, or made for \
    another machine. Look with \"ls -l\" and \"file\"; a script runs as \"sh SCRIPT\".";

const NO_KEY_THERE: &str = "The remote host itself was refused by another host: your keys are not on it, and the SSH \
    agent is lent to it only where the user allows that (SSH_FORWARD_AGENT_HOSTS). Use keys or tokens that are there, or \
    ask the user.";

fn denied(username: &str) -> String {
    format!(
        "The user {} may not do this there. Look with \"id\" and \"ls -ld PATH\"; use another path, or sudo -n where it \
         is allowed.",
        shown(username)
    )
}

/// Whether `cd` did not find its directory. Other programs say "No such file" too, but not after `cd:`.
fn misses_directory(stderr: &str) -> bool {
    stderr.lines().any(|line| match line.split_once("cd: ") {
        Some((_, rest)) => {
            let rest = rest.to_ascii_lowercase();
            rest.contains("no such file or directory")
                || rest.contains("can't cd to")
                || rest.contains("does not exist")
        }
        None => false,
    })
}

fn says_any(stderr: &str, texts: &[&str]) -> bool {
    texts.iter().any(|text| stderr.contains(text))
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
