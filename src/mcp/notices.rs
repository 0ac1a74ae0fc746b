//! What the caller should know of how a command went, beside its result.

use super::mask;
use crate::{
    app::CommandView,
    ssh::{
        async_command::{CommandInfo, Status},
        output::Lost,
    },
};

/// Every notice about a command as it stands, and about what is shown of its output.
#[must_use]
pub fn of(view: &CommandView) -> Vec<String> {
    let info = &view.info;
    let streams = [("stdout", &view.output.stdout), ("stderr", &view.output.stderr)];
    let kept = streams.map(|(name, stream)| Some(not_kept(name, stream.lost.as_ref()?)));
    let of_end =
        [agent_refused(info), not_told(info), output_held(info), output_cut(info), detached(info), may_still_run(info)];
    of_end.into_iter().chain(kept).flatten().collect()
}

fn agent_refused(info: &CommandInfo) -> Option<String> {
    info.agent_refused.then(|| {
        "The host does not take the SSH agent (AllowAgentForwarding of its sshd): commands there cannot use its keys."
            .into()
    })
}

/// Dropbear does this to commands of one connection that end at the same time, and their output may be lost too.
fn not_told(info: &CommandInfo) -> Option<String> {
    let told = info.exit_status.is_some() || info.exit_signal.is_some() || info.timed_out;
    (info.status == Status::Completed && !told).then(|| {
        "The server told neither exit code nor signal, so whether the command succeeded is unknown and output may be \
         missing. Look at its effect before running it again."
            .into()
    })
}

fn output_held(info: &CommandInfo) -> Option<String> {
    info.output_held.then(|| {
        "The command ended, but a process that it started still holds its output; what that writes from now on is \
         lost. Redirect it (>/dev/null 2>&1 </dev/null), or start it with ssh_execute_async."
            .into()
    })
}

/// The exit code may overtake output that a slow link still holds.
fn output_cut(info: &CommandInfo) -> Option<String> {
    info.output_cut.then(|| {
        "The connection was lost, or silent, just after the command had ended: the end of its output may be missing.".into()
    })
}

fn detached(info: &CommandInfo) -> Option<String> {
    let pids: Vec<_> = info.detached.iter().map(ToString::to_string).collect();
    (!pids.is_empty()).then(|| {
        format!("Processes that left the command's session (setsid) were not ended and go on: pid {}.", pids.join(", "))
    })
}

/// A cancelled command says so in its own fields.
fn may_still_run(info: &CommandInfo) -> Option<String> {
    (info.timed_out && info.remote_ended == Some(false)).then(|| {
        "The end of the remote process could not be confirmed; it may still run: look with ssh_execute \"pgrep -fa \
         NAME\"."
            .into()
    })
}

fn not_kept(name: &str, lost: &Lost) -> String {
    let Lost { from, bytes, why } = lost;
    let to = from + bytes;
    format!("{bytes} bytes of {name}, from offset {from} to {to}, are not kept and cannot be read: {why}.")
}

/// What the caller who has just sent a command line should know about it.
#[must_use]
pub fn for_command_line(info: &CommandInfo) -> Vec<String> {
    let notice = "The command line holds a password: it went through the model and stands in the conversation. Ask the \
                  user for a way without (NOPASSWD, a key), and to change it.";
    mask::holds_password(&info.command).then(|| notice.to_owned()).into_iter().collect()
}
