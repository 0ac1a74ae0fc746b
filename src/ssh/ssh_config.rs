//! `~/.ssh/config`: what `ssh` would do for a name, without running `ssh`. `ssh -G` is the measure.
//!
//! Owns the reading of the files and their meaning; connects to nothing, and runs and looks up nothing by itself:
//! `Match exec` and `CanonicalizeHostname` ask a [`Probe`]. A file that `ssh` refuses is an error here too.
//!
//! In reading order: `files` reads, `line` takes a line apart, `keywords` says what a keyword takes, `pass` decides
//! which lines count (`pattern`, `criteria`), `apply` keeps the first value of each, `resolve` makes a [`Resolved`].

mod accounts;
mod algorithms;
mod apply;
mod canonical;
mod criteria;
mod error;
mod files;
mod forward;
mod glob;
mod jump;
mod keywords;
mod line;
mod names;
mod options;
mod pass;
mod pattern;
mod probe;
mod resolve;
mod resolved;
mod tokens;
mod value;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

pub use self::{
    algorithms::{AlgorithmEdit, AlgorithmMode},
    error::{Fault, Problem, SshConfigError},
    files::{MAX_DEPTH, MAX_FILE_BYTES, MAX_FILES, MAX_TOTAL_BYTES},
    forward::{Endpoint, LocalForward},
    jump::Hop,
    options::{Origin, Setting},
    probe::{Exec, NoProbe, Probe, ShellProbe},
    resolved::{Entry, IdentityAgent, KeyPath, Notice, NoticeKind, Proxy, Resolved},
    value::{AddressFamily, CanonicalizeHostname, PubkeyAuthentication, RequestTty, StrictHostKeyChecking},
};
use self::{
    files::{ConfigFile, Reader},
    names::{aliases, near, speaks_of},
};

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// `~/.ssh/config`.
    pub user_file: Option<PathBuf>,
    /// `/etc/ssh/ssh_config`, read after it.
    pub system_file: Option<PathBuf>,
    /// What a relative `Include` of the user's file is relative to.
    pub user_dir: PathBuf,
    /// The same for the system's.
    pub system_dir: PathBuf,
    /// The user's file was named: it must exist, and its owner does not matter, as with `ssh -F`.
    pub exact: bool,
}

impl Places {
    /// Where `ssh` looks.
    #[must_use]
    pub fn standard(home: &Path) -> Self {
        let (user_dir, system_dir) = (home.join(".ssh"), PathBuf::from("/etc/ssh"));
        Self {
            user_file: Some(user_dir.join("config")),
            system_file: Some(system_dir.join("ssh_config")),
            user_dir,
            system_dir,
            exact: false,
        }
    }

    /// One file and what it includes, as `ssh -F` reads it.
    #[must_use]
    pub fn only(file: &Path, home: &Path) -> Self {
        Self { user_file: Some(file.into()), system_file: None, exact: true, ..Self::standard(home) }
    }
}

/// Who asks, and where: what tokens, variables and `Match localuser` look at.
#[derive(Clone, PartialEq, Eq)]
pub struct Local {
    /// The home directory, as the password database has it where `HOME` is not set.
    pub home: PathBuf,
    /// The user's name here.
    pub user: String,
    /// The user's number here.
    pub uid: u32,
    /// This machine's name.
    pub host_name: String,
    /// The environment, for `${NAME}`.
    pub variables: BTreeMap<String, String>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may hold secrets.
        f.debug_struct("Local").field("home", &self.home).field("user", &self.user).finish_non_exhaustive()
    }
}

/// What the caller says, as on the command line of `ssh`: it comes before every file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `-l`.
    pub user: Option<String>,
    /// `-p`.
    pub port: Option<u16>,
    /// `-J`.
    pub jump: Option<String>,
}

/// The files as they are now. Read anew for each use: an edit counts from the next connect.
pub struct SshConfig {
    files: Vec<ConfigFile>,
    local: Local,
}

impl fmt::Debug for SshConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The lines may hold secrets, as SetEnv does.
        let paths: Vec<_> = self.files.iter().map(|file| &file.path).collect();
        f.debug_struct("SshConfig").field("files", &paths).field("local", &self.local).finish()
    }
}

impl SshConfig {
    /// Reads the files and what they include.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be read, could be written by others, or is beyond a bound.
    pub fn load(places: &Places, local: Local) -> Result<Self, SshConfigError> {
        let files = Reader::new(places, &local).read_all()?;
        Ok(Self { files, local })
    }

    /// Takes a text in place of the user's file; its `Include` lines include nothing.
    ///
    /// # Errors
    ///
    /// Fails when the text is longer than [`MAX_FILE_BYTES`].
    pub fn from_text(text: &str, local: Local) -> Result<Self, SshConfigError> {
        Ok(Self { files: vec![files::from_text(text)?], local })
    }

    /// What `ssh` would do for `alias`.
    ///
    /// # Errors
    ///
    /// Fails where `ssh` does: an unknown keyword, a bad value or token anywhere in the files, a name that no host or
    /// user can have.
    pub fn resolve(&self, alias: &str, given: &Given, probe: &dyn Probe) -> Result<Resolved, SshConfigError> {
        resolve::resolve(&self.files, alias, given, &self.local, probe)
    }

    /// The names of all `Host` lines that are no patterns, once, in the order of the files.
    #[must_use]
    pub fn aliases(&self) -> Vec<String> {
        aliases(&self.files)
    }

    /// Whether a `Host` line speaks of `name` itself or by a pattern that says more than "all".
    #[must_use]
    pub fn speaks_of(&self, name: &str) -> bool {
        speaks_of(&self.files, name)
    }

    /// The aliases that `name`, which is none, may have been meant to be: the nearest first, at most ten.
    #[must_use]
    pub fn near(&self, name: &str) -> Vec<String> {
        near(&self.aliases(), name)
    }
}
