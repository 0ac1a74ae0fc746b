//! What a configuration may ask of the outside: whether a command succeeds, whether a name exists.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::secret::process::kill_group;

/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(5);

/// The answer to `Match exec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exec {
    /// It ended with status 0 or another one.
    Ended {
        /// Whether the status was 0.
        success: bool,
    },
    /// Commands are not run: the block does not match, and a notice says so.
    NotAllowed,
    /// It could not be started, or did not end: the configuration cannot be used, as with `ssh`.
    Failed(String),
}

/// Answers questions of a configuration. Called from a thread that may block.
pub trait Probe {
    /// Whether commands are run at all.
    fn allows_exec(&self) -> bool;

    /// Runs the command of `Match exec`, its tokens expanded, in the user's shell.
    fn exec(&self, command: &str) -> Exec;

    /// Whether the name has an address; for `CanonicalizeHostname`. `None`: names are not looked up.
    fn exists(&self, name: &str) -> Option<bool>;
}

/// Runs nothing and looks nothing up.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    fn allows_exec(&self) -> bool {
        false
    }

    fn exec(&self, _: &str) -> Exec {
        Exec::NotAllowed
    }

    fn exists(&self, _: &str) -> Option<bool> {
        None
    }
}

/// Runs commands in a shell, each with a deadline, and looks nothing up.
#[derive(Clone, Debug)]
pub struct ShellProbe {
    /// `$SHELL`, or `/bin/sh`.
    pub shell: PathBuf,
    /// How long a command may take. Then it and what it has started are killed.
    pub deadline: Duration,
    /// The whole environment of a command.
    pub environment: BTreeMap<String, String>,
}

impl Probe for ShellProbe {
    fn allows_exec(&self) -> bool {
        true
    }

    fn exec(&self, command: &str) -> Exec {
        let mut shell = Command::new(&self.shell);
        shell.arg("-c").arg(command).env_clear().envs(&self.environment);
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            shell.process_group(0).current_dir("/");
        }
        // stdout is the protocol's, stderr the log's: a command of the configuration has neither.
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match shell.spawn() {
            Ok(child) => self.wait(child),
            Err(error) => Exec::Failed(error.to_string()),
        }
    }

    fn exists(&self, _: &str) -> Option<bool> {
        None
    }
}

impl ShellProbe {
    fn wait(&self, mut child: Child) -> Exec {
        let end = Instant::now() + self.deadline;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.code().is_some() => return Exec::Ended { success: status.success() },
                Ok(Some(_)) => return Exec::Failed("it was killed".into()),
                Ok(None) if Instant::now() < end => thread::sleep(POLL),
                Ok(None) => break,
                Err(error) => return Exec::Failed(error.to_string()),
            }
        }
        // It is not reaped yet: the number is still that of its group.
        kill_group(child.id());
        let ended = child.kill().and_then(|()| child.wait());
        let why = format!("it did not end within {} s", self.deadline.as_secs_f64());
        Exec::Failed(ended.err().map_or(why, |error| error.to_string()))
    }
}
