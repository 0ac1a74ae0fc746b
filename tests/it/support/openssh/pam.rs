//! What sshd asks by PAM: services of a test's own, and accounts whose time is over.

use std::{
    fs,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::account::{Account, aged_user, is_root, ordinary_user};

/// Where PAM looks for services.
const SERVICES: &str = "/etc/pam.d";

/// A PAM service for one sshd. Gone when dropped.
#[derive(Debug)]
pub(crate) struct PamService {
    name: String,
}

impl PamService {
    /// A service with these lines for `auth`; it lets everybody in who passes them.
    pub(crate) fn new(auth: &str) -> Self {
        // sshd goes by the name of its program.
        let name = format!("sshd-test-{}", &Uuid::new_v4().simple().to_string()[..8]);
        let text = format!("{auth}\naccount required pam_permit.so\nsession required pam_permit.so\n");
        fs::write(Path::new(SERVICES).join(&name), text).expect("a PAM service");
        Self { name }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// One that asks for one-time codes of this secret, after what `before` asks. Nothing where PAM has no module for it
    /// (Debian: libpam-oath).
    pub(crate) fn of_codes(directory: &Path, before: &str, secret: &[u8]) -> Option<Self> {
        if !has_pam() || !has_module("pam_oath.so") {
            return skipped("pam_oath");
        }
        let user = &ordinary_user().ok()?.name;
        let file = directory.join("users.oath");
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(&file, format!("HOTP/T30/6 {user} - {hex}\n")).expect("a file of secrets");
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&file, permissions).expect("permissions");
        let line = format!("auth requisite pam_oath.so usersfile={} window=10 digits=6", file.display());
        Some(Self::new(&format!("{before}\n{line}")))
    }
}

impl Drop for PamService {
    fn drop(&mut self) {
        let _ = fs::remove_file(Path::new(SERVICES).join(&self.name));
    }
}

/// Whether sshd can ask by PAM here; if not, says so.
pub(crate) fn has_pam() -> bool {
    is_root() && (Path::new(SERVICES).join("sshd").exists() || skipped::<()>("PAM with a service sshd").is_some())
}

fn has_module(name: &str) -> bool {
    let folders = ["/lib/security", "/lib64/security", "/usr/lib/security", "/usr/lib64/security"].map(PathBuf::from);
    let by_machine = fs::read_dir("/lib").into_iter().flatten().flatten().map(|entry| entry.path().join("security"));
    folders.into_iter().chain(by_machine).any(|folder| folder.join(name).exists())
}

#[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
fn skipped<T>(what: &str) -> Option<T> {
    eprintln!("skipped, this needs {what}");
    None
}

/// A user who has to choose another password before anything else.
pub(crate) fn user_of_expired_password() -> Account {
    aged_user("sshmcp-expired", &["-d", "0"])
}

/// A user whose account has expired.
pub(crate) fn user_of_expired_account() -> Account {
    aged_user("sshmcp-lapsed", &["-d", "20000", "-E", "20001"])
}

/// The line of the password file that says what the password of a user is.
pub(crate) fn password_line(user: &str) -> String {
    let all = fs::read_to_string("/etc/shadow").expect("the passwords");
    all.lines().find(|line| line.starts_with(&format!("{user}:"))).expect("the user has one").to_owned()
}
