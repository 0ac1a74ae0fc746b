//! The product's processes: a clean environment, a home of their own, killed when dropped.

use std::{
    path::Path,
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::support::{process::kill, wait::bounded};

/// A running `ssh-mcp` or `ssh-mcp-stdio`.
pub(crate) struct ServerProcess {
    child: Child,
    /// Gone with the process.
    _home: TempDir,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl ServerProcess {
    /// Starts `ssh-mcp-stdio`; its stdin and stdout are pipes.
    pub(crate) fn stdio(env: &[(&str, &str)]) -> Self {
        Self::start(env!("CARGO_BIN_EXE_ssh-mcp-stdio"), env, Stdio::piped())
    }

    /// Starts `ssh-mcp-stdio` in a network namespace.
    pub(crate) fn stdio_within(namespace: &str, env: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a home");
        let arguments = ["netns", "exec", namespace, env!("CARGO_BIN_EXE_ssh-mcp-stdio")];
        let command = command("ip", &arguments, home.path(), env);
        Self::spawn(command, home, Stdio::piped())
    }

    /// Starts `ssh-mcp`.
    pub(crate) fn http(env: &[(&str, &str)]) -> Self {
        Self::start(env!("CARGO_BIN_EXE_ssh-mcp"), env, Stdio::null())
    }

    /// Starts `ssh-mcp` through `nohup`, which becomes the server.
    pub(crate) fn http_nohup(env: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a home");
        let command = command("nohup", &[env!("CARGO_BIN_EXE_ssh-mcp")], home.path(), env);
        Self::spawn(command, home, Stdio::null())
    }

    /// Starts `ssh-mcp` as another user, as root can. It has no home, and so no settings file.
    pub(crate) fn http_as(user: &str, env: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a home");
        let group = std::process::Command::new("id").args(["-g", user]).output().expect("id starts").stdout;
        let group = String::from_utf8_lossy(&group).trim().to_owned();
        // It becomes the server; runuser would be its parent, and the server would outlive it.
        let arguments = ["--reuid", user, "--regid", &group, "--clear-groups", env!("CARGO_BIN_EXE_ssh-mcp")];
        let command = command("setpriv", &arguments, Path::new("/nonexistent"), env);
        Self::spawn(command, home, Stdio::null())
    }

    fn start(program: &str, env: &[(&str, &str)], stdin: Stdio) -> Self {
        let home = tempfile::tempdir().expect("a home");
        let command = command(program, &[], home.path(), env);
        Self::spawn(command, home, stdin)
    }

    fn spawn(mut command: Command, home: TempDir, stdin: Stdio) -> Self {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the server starts");
        let stderr = Arc::default();
        collect(child.stderr.take().expect("a pipe"), Arc::clone(&stderr));
        Self { child, _home: home, stderr }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("nobody has waited for its end")
    }

    /// What it wrote to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().expect("no panic")).into_owned()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        kill(self.child.id().as_slice(), signal);
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        bounded("the end of the server", self.child.wait()).await.expect("a child")
    }

    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("stdin is still there")
    }

    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("stdout is still there")
    }

    /// Keeps stdout from filling its pipe where nobody reads it.
    pub(super) fn collect_stdout(&mut self) -> Arc<Mutex<Vec<u8>>> {
        let stdout = Arc::default();
        collect(self.take_stdout(), Arc::clone(&stdout));
        stdout
    }
}

/// Runs `ssh-mcp` or `ssh-mcp-stdio` to its end: for `--help` and for settings that stop the start.
pub(crate) async fn run(stdio: bool, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let home = tempfile::tempdir().expect("a home");
    let program = if stdio { env!("CARGO_BIN_EXE_ssh-mcp-stdio") } else { env!("CARGO_BIN_EXE_ssh-mcp") };
    let mut command = command(program, arguments, home.path(), env);
    command.stdin(Stdio::null()).kill_on_drop(true);
    bounded("the end of the program", command.output()).await.expect("the program starts")
}

fn command(program: &str, arguments: &[&str], home: &Path, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("HOME", home);
    // Where tests put their keys; one about the roots says otherwise.
    command.env("SSH_KEY_ROOTS", std::env::temp_dir());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(env.iter().copied());
    command
}

fn collect(mut from: impl AsyncRead + Unpin + Send + 'static, into: Arc<Mutex<Vec<u8>>>) {
    tokio::spawn(async move {
        let mut buffer = vec![0; 8 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            into.lock().expect("no panic").extend_from_slice(&buffer[..read]);
        }
    });
}
