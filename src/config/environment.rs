//! A snapshot of the environment: the only place that reads it.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use super::vars;

/// Names that are read besides those of the table.
const LOCATIONS: &[&str] = &["HOME", "PATH", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"];

/// The variables that matter here, and the home directory. An empty one is what a test starts from.
#[derive(Clone, Default)]
pub struct Environment {
    variables: HashMap<String, OsString>,
    /// From the user database, for a process without `HOME`.
    fallback_home: Option<PathBuf>,
    /// Variables that the settings file names are looked up in this process.
    of_process: bool,
}

impl Environment {
    /// Copies what is read from the environment of this process, and nothing else of it.
    #[must_use]
    pub fn of_process() -> Self {
        let names = vars::ALL.iter().map(|var| var.env).chain(LOCATIONS.iter().copied());
        let variables = names.filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?))).collect();
        Self { variables, fallback_home: std::env::home_dir(), of_process: true }
    }

    /// The same with one variable more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// A variable. One that is empty, or white space alone, counts as not set.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(name)?.as_os_str();
        let blank = value.to_str().is_some_and(|text| text.trim().is_empty());
        (!blank).then_some(value)
    }

    /// A variable that the settings file names.
    pub(super) fn named(&self, name: &str) -> Option<OsString> {
        let value = self.variables.get(name).cloned();
        value.or_else(|| self.of_process.then(|| std::env::var_os(name)).flatten())
    }

    /// All of it that is text, but for secrets of our own: what `${NAME}` and `SendEnv` of `ssh` speak of.
    pub(super) fn variables(&self) -> BTreeMap<String, String> {
        let own = || self.variables.iter().map(|(name, value)| (OsString::from(name), value.clone()));
        let process = self.of_process.then(std::env::vars_os).into_iter().flatten();
        let texts = process.chain(own()).filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            (!vars::ALL.iter().any(|var| var.env == name && var.is_secret())).then_some((name, value))
        });
        texts.collect()
    }

    /// Where programs are looked up.
    pub(super) fn search_path(&self) -> Option<OsString> {
        self.get("PATH").map(ToOwned::to_owned)
    }

    /// `~/.ssh`.
    pub(super) fn key_roots(&self) -> Vec<PathBuf> {
        self.home().map(|home| home.join(".ssh")).into_iter().collect()
    }

    /// The home directory of the user.
    pub(super) fn home(&self) -> Option<PathBuf> {
        self.absolute("HOME").or_else(|| self.fallback_home.clone().filter(|home| home.is_absolute()))
    }

    /// `$XDG_CONFIG_HOME/ssh-mcp/config.toml`, or its place below the home directory.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        Some(self.base("XDG_CONFIG_HOME", ".config")?.join("ssh-mcp/config.toml"))
    }

    /// `$XDG_STATE_HOME/ssh-mcp/known_hosts`, or its place below the home directory.
    pub(super) fn known_hosts_file(&self) -> Option<PathBuf> {
        Some(self.base("XDG_STATE_HOME", ".local/state")?.join("ssh-mcp/known_hosts"))
    }

    /// `$XDG_CACHE_HOME/ssh-mcp`, or its place below the home directory.
    pub(super) fn spill_dir(&self) -> Option<PathBuf> {
        Some(self.base("XDG_CACHE_HOME", ".cache")?.join("ssh-mcp"))
    }

    fn base(&self, name: &str, below_home: &str) -> Option<PathBuf> {
        self.absolute(name).or_else(|| Some(self.home()?.join(below_home)))
    }

    /// The XDG base directory specification has relative paths ignored.
    fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(Path::new).filter(|path| path.is_absolute()).map(Path::to_owned)
    }
}

impl std::fmt::Debug for Environment {
    /// Names only: a value may be a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl<N: Into<String>, V: Into<OsString>, const LEN: usize> From<[(N, V); LEN]> for Environment {
    fn from(variables: [(N, V); LEN]) -> Self {
        variables.into_iter().fold(Self::default(), |environment, (name, value)| environment.with(name, value))
    }
}
