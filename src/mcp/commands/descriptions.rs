//! What agents read about each tool. At most 600 characters each; numbers of the settings in braces.

pub(super) const CONNECT: &str = "\
Open an SSH session and get the session_id that every other tool needs. Call it once per host and keep the id; later \
calls on the same host reuse it. address may be an alias of ~/.ssh/config; then nothing else is needed. Credentials: \
leave out password and key_path to use the SSH agent (best). Refused, timed-out and unreachable hosts are retried; wrong credentials and changed host keys never are. A session idle for \
{inactivity} is closed unless persistent=true; running commands keep it open. Check host and username in the answer \
before you change anything. Next: ssh_execute.";

pub(super) const EXECUTE: &str = "\
Run a shell command and wait for its output; use it first for anything short. Every call is a fresh non-interactive \
shell: cd and exports do not carry over; use cwd. No terminal: use sudo -n, --no-pager, -y. A non-zero exit_code is a \
normal result. If status is \"running\" the command goes on in the background: do not run it again, call \
ssh_get_command_output with its command_id. It is ended after timeout_secs (default {command_timeout}). Write a file \
with command \"cat > path\" and the text in stdin. Large output is cut in the middle; filter with grep, tail or wc.";

pub(super) const EXECUTE_ASYNC: &str = "\
Start a command in the background and return its command_id at once: builds, deployments, servers, log followers, or \
several commands in parallel on one session. With until it answers when that text appears. It \
is ENDED after timeout_secs, {command_timeout} by default: set it for longer work (1800 for a 20-minute build). It also \
ends with its session; for work that must outlive it use systemd-run or nohup. A fresh shell, as in ssh_execute. At \
most {max_commands} run at once per session. Next: ssh_get_command_output with wait=true; ssh_cancel_command stops it.";

pub(super) const GET_COMMAND_OUTPUT: &str = "\
State and output of a command started by ssh_execute_async, or by ssh_execute that answered \"running\". wait=true \
waits until it ends, until=TEXT until that appears; after wait_timeout_secs it answers either way: \"running\" is not an \
error, call again. To get only new output, send back next_stdout_offset and next_stderr_offset as stdout_offset and \
stderr_offset. exit_code is there once it ended by itself, whether it succeeded or not.";

pub(super) const LIST_COMMANDS: &str = "\
List commands, newest first, with status and command_id: after losing an id, or before disconnecting. Filter by \
session or status. Without output.";

pub(super) const CANCEL_COMMAND: &str = "\
Stop a running command and get the output it had produced. The remote process and its children get TERM, then KILL. \
remote_ended=false means that the end could not be confirmed: look with ssh_execute \"pgrep -fa NAME\". One \
that has ended is left as it is; its result is returned.";

pub(super) const FORWARD: &str = "\
Open a local TCP port on the machine of this MCP server that leads through the SSH session to \
remote_address:remote_port, as ssh -L does: databases, web consoles, APIs that only the remote host can reach. \
remote_address is resolved on the remote host; \"localhost\" means the remote host itself. local_port 0 takes a free \
port: read local_address in the answer. Binds 127.0.0.1 only and stays until ssh_disconnect.";

pub(super) const DISCONNECT: &str = "\
Close a session. Its running commands are stopped and its forwards closed; the answer counts them. Call it when the \
work on that host is done, not after each command. Output of its commands stays readable for a while.";

pub(super) const LIST_SESSIONS: &str = "\
List open sessions with session_id, name, host, user, health, running commands and forwards. Use it when you have lost \
a session_id or before opening another session to the same host. Find the row whose host and username match, and copy \
its session_id.";

pub(super) const LIST_HOSTS: &str = "\
List the host aliases of the user's ssh configuration. Use it when the user names a host by a word: pass the alias to \
ssh_connect as address, and nothing else; user, key and jump hosts come from the configuration.";
