//! Where a named secret comes from. It is read at each use and kept by nobody but its user.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use secrecy::zeroize::Zeroizing;
use tokio::io::AsyncReadExt;

use super::{MAX_SECRET_BYTES, Secret, file};

/// How long the command of a secret may take; it may ask a person to unlock a vault.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// One of the three places of a secret.
#[derive(Clone)]
pub enum SecretSource {
    /// A variable of this process, as it was at the start.
    Environment {
        /// Its name.
        variable: String,
        /// Its value, where there is one.
        value: Option<Secret>,
    },
    /// A file.
    File(PathBuf),
    /// Standard output of a program.
    Command(SecretCommand),
}

/// A program that prints a secret. No shell; `PATH` and `HOME` are all of our environment that it sees.
#[derive(Clone)]
pub struct SecretCommand {
    /// An absolute path, or a name that is looked up in `path`.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// `PATH` of this process.
    pub path: Option<OsString>,
    /// Home directory of the user.
    pub home: Option<PathBuf>,
}

impl SecretSource {
    /// Reads the secret; a failure says why, and nothing of what was read.
    pub(super) async fn read(&self) -> Result<Secret, String> {
        let text = match self {
            Self::Environment { variable, value } => {
                return value.clone().ok_or_else(|| format!("the variable {variable} is not set, empty or not UTF-8"));
            }
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || file::read(file::open(&path)?)).await;
                let read = read.map_err(|_| "its file could not be read".to_owned())?;
                read.map_err(|fault| format!("its file {fault}"))?
            }
            Self::Command(command) => command.run().await?,
        };
        let text = without_newline(&text);
        if text.is_empty() {
            return Err("it is empty".into());
        }
        Ok(text.into())
    }
}

impl SecretCommand {
    async fn run(&self) -> Result<Zeroizing<String>, String> {
        let limit = COMMAND_TIMEOUT.as_secs();
        let output = tokio::time::timeout(COMMAND_TIMEOUT, self.output()).await;
        let output = output.unwrap_or_else(|_| Err(format!("its command did not end within {limit} s")))?;
        let text = std::str::from_utf8(&output).map_err(|_| "its command wrote something that is not UTF-8")?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    async fn output(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let failed = |error: std::io::Error| format!("its command cannot be run ({})", error.kind());
        let mut child = Child::spawn(self).map_err(failed)?;
        let limit = MAX_SECRET_BYTES;
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
        let stdout = child.process.stdout.take().ok_or("its command has no output")?;
        stdout.take(limit as u64 + 1).read_to_end(&mut bytes).await.map_err(failed)?;
        if bytes.len() > limit {
            return Err("its command wrote more than 64 KiB".into());
        }
        let status = child.process.wait().await.map_err(failed)?;
        if !status.success() {
            return Err(format!("its command failed ({status})"));
        }
        Ok(bytes)
    }
}

/// A process that does not outlive the wait for it, nor do those that it started.
struct Child {
    process: tokio::process::Child,
}

impl Child {
    fn spawn(command: &SecretCommand) -> std::io::Result<Self> {
        use std::process::Stdio;
        let mut spawned = tokio::process::Command::new(&command.program);
        spawned.args(&command.arguments).env_clear().kill_on_drop(true);
        spawned.envs(command.path.as_ref().map(|path| ("PATH", path.as_os_str())));
        spawned.envs(command.home.as_ref().map(|home| ("HOME", home.as_os_str())));
        // Not where a repository happens to be.
        spawned.current_dir("/");
        spawned.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        #[cfg(unix)]
        spawned.process_group(0);
        Ok(Self { process: spawned.spawn()? })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Only while the leader is not reaped: afterwards its number may be that of another group.
        if let Some(leader) = self.process.id() {
            super::process::kill_group(leader);
        }
    }
}

fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}
