//! Which files of `ssh` are read, and what they may ask about the user and the machine.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{
    layers::{Layers, absolute},
    vars,
};

/// What is taken from the configuration of `ssh`.
#[derive(Clone, Debug, Default)]
pub struct SshConfigSettings {
    /// Which files.
    pub files: SshConfigFiles,
    /// Commands of `Match exec` are run.
    pub exec: bool,
    /// Whose configuration it is.
    pub account: Account,
}

/// The files that are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SshConfigFiles {
    /// `~/.ssh/config`, then `/etc/ssh/ssh_config`.
    Standard,
    /// This one, as with `ssh -F`.
    Only(PathBuf),
    /// None.
    #[default]
    None,
}

/// The user of this process and its machine.
#[derive(Clone, Default)]
pub struct Account {
    /// Login name.
    pub user: String,
    /// Number.
    pub uid: u32,
    /// Name of the machine.
    pub host_name: String,
    /// The environment, but for the secrets of our own settings.
    pub variables: BTreeMap<String, String>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may hold secrets.
        f.debug_struct("Account").field("user", &self.user).field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl SshConfigSettings {
    pub(super) fn read(layers: &mut Layers<'_>) -> Self {
        let home = layers.environment().home();
        let named = layers.get(&vars::CONFIG_FILE, |text| match text {
            text if text.eq_ignore_ascii_case("none") => Some(SshConfigFiles::None),
            text => absolute(text, home.as_deref()).map(SshConfigFiles::Only),
        });
        Self {
            files: named.unwrap_or(SshConfigFiles::Standard),
            exec: layers.boolean(&vars::CONFIG_EXEC),
            account: Account::of_process(layers.environment().variables()),
        }
    }
}

impl Account {
    /// As the password database has it; where that does not know the user, as the environment does.
    fn of_process(variables: BTreeMap<String, String>) -> Self {
        let said = ["LOGNAME", "USER", "USERNAME"].iter().find_map(|name| variables.get(*name).cloned());
        let (user, uid) = known_user();
        let user = user.or(said).unwrap_or_else(|| uid.to_string());
        Self { user, uid, host_name: host_name(&variables), variables }
    }
}

#[cfg(unix)]
fn known_user() -> (Option<String>, u32) {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    (user, uid.as_raw())
}

#[cfg(not(unix))]
fn known_user() -> (Option<String>, u32) {
    (None, 0)
}

#[cfg(unix)]
fn host_name(_: &BTreeMap<String, String>) -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host_name(variables: &BTreeMap<String, String>) -> String {
    variables.get("COMPUTERNAME").cloned().unwrap_or_default()
}
