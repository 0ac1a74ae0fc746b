//! A local program whose standard input and output are the stream.
//!
//! It and all that it starts are one process group, which is killed with its connection.

use std::{
    ffi::OsString,
    fmt,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, Join, join},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::{ClientError, Target, address::shorten},
    RouteError,
};
use crate::secret::process::kill_group;

/// What is kept of the end of its standard error, in bytes.
const KEPT: usize = 1024;
/// How long it may take to end after it has closed the stream, before the failure is told without its end.
const END_TIMEOUT: Duration = Duration::from_millis(500);
/// How often it is looked at whether it has ended.
const END_STEP: Duration = Duration::from_millis(10);
/// What a shell does itself; no program of that name need exist.
const SHELL_WORDS: &[&str] = &[
    "exec", "command", "eval", "cd", "export", "if", "while", "for", "until", "case", "set", "unset", "ulimit",
    "umask", "trap", "source", "alias", "builtin", "env", ".",
];

/// A program as `ProxyCommand` names it. Only a person's configuration may: no parameter of a call becomes one.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyCommand {
    /// The line, its tokens expanded. It runs without a shell where nothing in it means something to one; else as
    /// `exec LINE` in `/bin/sh`.
    pub line: String,
    /// The whole environment that it sees.
    pub environment: Vec<(OsString, OsString)>,
}

impl fmt::Debug for ProxyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // People write passwords into such lines.
        f.write_str("ProxyCommand")
    }
}

/// The stream.
pub(super) type CommandStream = Join<ChildStdout, ChildStdin>;

/// The program while it runs. Dropped, it is killed with all that it started.
pub(in super::super) struct Running {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    listener: AbortOnDropHandle<()>,
}

impl ProxyCommand {
    pub(super) fn start(&self, target: &Target) -> Result<(CommandStream, Running), ClientError> {
        let failed = |error| RouteError::CommandStart(Arc::new(error)).at(target);
        let mut command = self.command();
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Not where a repository happens to be.
        command.current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let said = Arc::new(Mutex::new(Vec::new()));
        let listener = AbortOnDropHandle::new(tokio::spawn(listen(stderr, said.clone())));
        let running = Running { child, said, listener };
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
        };
        Ok((join(stdout, stdin), running))
    }

    fn command(&self) -> Command {
        if let Some((program, arguments)) = self.words() {
            let mut command = Command::new(program);
            command.args(arguments);
            return command;
        }
        let mut command = Command::new("/bin/sh");
        // As ssh does: one process less, and it is the program itself that is killed.
        command.arg("-c").arg(format!("exec {}", self.line));
        command
    }

    /// Program and arguments, where no shell is needed to find them.
    fn words(&self) -> Option<(&str, Vec<&str>)> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./- \t".contains(c) || !c.is_ascii();
        if !self.line.chars().all(plain) {
            return None;
        }
        let mut words = self.line.split([' ', '\t']).filter(|word| !word.is_empty());
        let program = words.next()?;
        (!program.contains('=') && !SHELL_WORDS.contains(&program)).then(|| (program, words.collect()))
    }
}

/// Reads on until the program has closed it: one that is not read would block.
async fn listen(stderr: Option<ChildStderr>, said: Arc<Mutex<Vec<u8>>>) {
    let Some(mut stderr) = stderr else { return };
    let mut buffer = [0; KEPT];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&buffer[..read]);
        let over = said.len().saturating_sub(KEPT);
        said.drain(..over);
    }
}

impl Running {
    /// The failure of the handshake as what it is, where the program has ended.
    pub(in super::super) async fn explain(&mut self, target: &Target, error: ClientError) -> ClientError {
        let ended = tokio::time::timeout(END_TIMEOUT, async {
            loop {
                match self.status() {
                    Some(status) => return status,
                    None => tokio::time::sleep(END_STEP).await,
                }
            }
        });
        let Ok(status) = ended.await else { return error };
        // What it started may still hold its standard error open.
        let _ = tokio::time::timeout(END_TIMEOUT, &mut self.listener).await;
        RouteError::CommandEnded { status, said: self.last_line() }.at(target)
    }

    /// How it ended. It is not reaped: its number must not become that of another group before that is killed.
    #[cfg(unix)]
    fn status(&self) -> Option<ExitStatus> {
        use std::os::unix::process::ExitStatusExt;

        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.group()?), options).ok()??;
        let raw = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => (code & 0xff) << 8,
            (None, Some(signal)) => signal,
            (None, None) => return None,
        };
        Some(ExitStatus::from_raw(raw))
    }

    #[cfg(not(unix))]
    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok()?
    }

    #[cfg(unix)]
    fn group(&self) -> Option<rustix::process::Pid> {
        self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()))
    }

    fn last_line(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        shorten(text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only while the leader is not reaped: afterwards its number may be that of another group.
        if let Some(leader) = self.child.id() {
            kill_group(leader);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_used_only_where_the_line_needs_one() {
        let words = |line: &str| {
            let command = ProxyCommand { line: line.into(), environment: Vec::new() };
            command.words().map(|(program, arguments)| format!("{program}|{}", arguments.join("|")))
        };
        assert_eq!(words("nc  -X 5 h-1.example 22").as_deref(), Some("nc|-X|5|h-1.example|22"));
        assert_eq!(words("/usr/bin/ssh -W [::1]:22 b"), None, "a pattern");
        for line in
            ["nc $H 22", "nc 'a' 22", "a | b", "a; b", "exec nc h 22", "A=1 nc h 22", "~/x", "a >b", "a\\ b", "a&"]
        {
            assert_eq!(words(line), None, "{line}");
        }
        assert_eq!(words(" "), None);
    }
}
