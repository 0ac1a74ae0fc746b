//! The accounts that log in: root, and an ordinary user who is made on first use.

use std::{
    fs::{self, DirBuilder, File},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use uuid::Uuid;

/// The user whom the tests make if they run as root. It stays: making it anew each time is slow.
const NAME: &str = "sshmcp-test";

/// Only root writes here, so nobody else can choose the password. Test processes take turns on it.
const STATE: &str = "/run/sshmcp-test";

/// Somebody who may log in.
#[derive(Debug)]
pub(crate) struct Account {
    /// The user name.
    pub(crate) name: String,
    /// The password, unless the account is one that the tests found.
    pub(crate) password: Option<String>,
}

/// Whether the tests run as root; if not, the tests that need root say that they are skipped.
#[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
pub(crate) fn is_root() -> bool {
    let root = id("-u") == "0";
    if !root {
        eprintln!("skipped, this needs root");
    }
    root
}

/// The ordinary user: made once if the tests run as root, the current user otherwise.
pub(crate) fn ordinary_user() -> Result<&'static Account, &'static str> {
    static USER: OnceLock<Result<Account, String>> = OnceLock::new();
    let user = USER.get_or_init(|| match id("-u").as_str() {
        "0" => make_user(NAME).map_err(|error| format!("no ordinary user could be made: {error}")),
        _ => Ok(Account { name: id("-un"), password: None }),
    });
    user.as_ref().map_err(String::as_str)
}

fn id(option: &str) -> String {
    let shown = Command::new("id").arg(option).output().expect("id starts");
    String::from_utf8_lossy(&shown.stdout).trim().to_owned()
}

/// The user whose password has expired: the next login by password is to change it. Nothing where the tests do not run
/// as root.
pub(crate) fn expired_user() -> Option<Account> {
    ordinary_user().ok()?.password.as_ref()?;
    let user = make_user("sshmcp-overdue").expect("a user is made");
    succeed(Command::new("chage").args(["-d", "0", &user.name]), "").expect("its password expires");
    Some(user)
}

fn make_user(name: &str) -> std::io::Result<Account> {
    let directory = |path: &str| DirBuilder::new().recursive(true).mode(0o700).create(path);
    directory(STATE)?;
    // sshd refuses to start without its own.
    DirBuilder::new().recursive(true).mode(0o755).create("/run/sshd")?;
    let lock = File::create(Path::new(STATE).join("lock"))?;
    lock.lock()?;

    let known = Command::new("id").arg(name).output()?.status.success();
    let file = Path::new(STATE).join(if name == NAME { "password" } else { name });
    let password = match fs::read_to_string(&file) {
        Ok(password) if known => password,
        _ => Uuid::new_v4().simple().to_string(),
    };
    if !known {
        // An empty home: start-up files there would slow every command down.
        let skeleton = Path::new(STATE).join("skeleton");
        directory(&skeleton.to_string_lossy())?;
        let mut useradd = Command::new("useradd");
        useradd.args(["--create-home", "--shell", "/bin/bash", "--skel"]).arg(skeleton).arg(name);
        succeed(&mut useradd, "")?;
    }
    if !known || !file.exists() {
        succeed(&mut Command::new("chpasswd"), &format!("{name}:{password}\n"))?;
        fs::write(&file, &password)?;
    }
    Ok(Account { name: name.to_owned(), password: Some(password) })
}

/// A user with a password whose dates `chage` sets. One test has each of them.
pub(super) fn aged_user(name: &str, dates: &[&str]) -> Account {
    let password = Uuid::new_v4().simple().to_string();
    let lock = File::create(Path::new(STATE).join("lock")).expect("the state of the tests");
    lock.lock().expect("a lock");
    if !Command::new("id").arg(name).output().expect("id starts").status.success() {
        let mut useradd = Command::new("useradd");
        useradd.args(["--create-home", "--shell", "/bin/bash", "--skel"]).arg(Path::new(STATE).join("skeleton"));
        succeed(useradd.arg(name), "").expect("a user is made");
    }
    succeed(&mut Command::new("chpasswd"), &format!("{name}:{password}\n")).expect("a password is set");
    succeed(Command::new("chage").args(dates).arg(name), "").expect("the dates are set");
    Account { name: name.to_owned(), password: Some(password) }
}

fn succeed(command: &mut Command, input: &str) -> std::io::Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().expect("a pipe").write_all(input.as_bytes())?;
    let ended = child.wait_with_output()?;
    if ended.status.success() {
        return Ok(());
    }
    Err(std::io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&ended.stderr))))
}

/// A user whose login shell this is, made on first use; it logs in by key only. Nothing where the tests do
/// not run as root or the shell is not installed.
pub(crate) fn shell_user(shell: &str) -> Option<String> {
    let path = Path::new("/bin").join(shell);
    ordinary_user().ok()?.password.as_ref()?;
    if !path.exists() {
        return None;
    }
    let name = format!("sshmcp-{shell}");
    let lock = File::create(Path::new(STATE).join("lock")).expect("the state of the tests");
    lock.lock().expect("a lock");
    if !Command::new("id").arg(&name).output().expect("id starts").status.success() {
        let mut useradd = Command::new("useradd");
        // `*` is no password, and unlike the default it does not lock the account.
        useradd.args(["--create-home", "--password", "*", "--skel"]).arg(Path::new(STATE).join("skeleton"));
        succeed(useradd.arg("--shell").arg(path).arg(&name), "").expect("a user is made");
    }
    Some(name)
}
