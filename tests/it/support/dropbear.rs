//! Dropbear's server, as routers and small boxes have it: root and the ordinary user log in by key.
//!
//! It reads `~/.ssh/authorized_keys` and nothing else, so it runs in a mount namespace of its own where
//! these homes are ours: no file of a real account is touched. That needs root. Where it cannot run,
//! [`Dropbear::start`] says so and gives nothing; with `SSH_MCP_REQUIRE_SSHD=1` it fails.

use std::{
    fs::{self, File, Permissions},
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use uuid::Uuid;

use super::{
    free_port,
    openssh::{Account, KeyFormat, KeyType, is_root, ordinary_user, public_key, ssh_keygen},
    process::{descendants, kill, with_environment},
    wait::eventually,
};

/// The server is started on another port this often, when the first one is taken meanwhile.
const ATTEMPTS: usize = 5;

/// Puts our homes in the place of theirs, for the server and what it starts only.
pub(super) const IN_OUR_HOMES: &str = r#"mount --bind "$1" "$2" && mount --bind "$3" "$4" && shift 4 && exec "$@""#;

/// A running Dropbear. Dropped, it is killed together with everything that runs in its sessions.
pub(crate) struct Dropbear {
    program: PathBuf,
    user: &'static Account,
    /// Stands in the environment of every command, so that those that left their session are found.
    marker: String,
    dir: TempDir,
    client_key: PathBuf,
    port: u16,
    listener: Option<Child>,
}

impl Dropbear {
    /// Starts it on a free port of 127.0.0.1 and waits until it listens; nothing where it cannot run.
    pub(crate) async fn start() -> Option<Self> {
        let place = ["/usr/sbin/dropbear", "/usr/local/sbin/dropbear"].map(PathBuf::from);
        let Some(program) = place.into_iter().find(|place| File::open(place).is_ok()) else {
            return unavailable("Dropbear is not installed");
        };
        if !is_root() || !Path::new("/proc/self/stat").exists() {
            return unavailable("it needs root, and Linux");
        }
        let user = match ordinary_user() {
            Ok(user) => user,
            Err(why) => return unavailable(why),
        };
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("permissions");
        let client_key = ssh_keygen(dir.path(), "client", KeyType::Ed25519, KeyFormat::OpenSsh);
        let marker = format!("SSH_MCP_TEST_SERVER={}", Uuid::new_v4());
        let mut dropbear = Self { program, user, marker, dir, client_key, port: 0, listener: None };
        dropbear.make_homes();
        dropbear.make_host_key();
        dropbear.listen().await;
        Some(dropbear)
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The ordinary user whom this server lets in, beside root.
    pub(crate) fn user(&self) -> &'static Account {
        self.user
    }

    /// The private key that opens both accounts.
    pub(crate) fn client_key(&self) -> &Path {
        &self.client_key
    }

    /// Lets the owner of a private key in.
    pub(crate) fn authorize(&self, private_key: &Path) {
        for home in ["root", "user"] {
            let path = self.path(home).join(".ssh/authorized_keys");
            let before = fs::read_to_string(&path).expect("authorized_keys");
            fs::write(&path, before + &public_key(private_key) + "\n").expect("authorized_keys");
        }
    }

    /// Root's home as its sessions see it.
    pub(crate) fn home_of_root(&self) -> PathBuf {
        self.path("root")
    }

    /// Kills the processes that serve connections; their commands live on.
    pub(crate) fn kill_connections(&self) {
        let Some(listener) = self.listener.as_ref().map(Child::id) else { return };
        let serving = |pid: &u32| super::process::name(*pid).is_some_and(|name| name == "dropbear");
        kill(&descendants(listener).into_iter().filter(serving).collect::<Vec<_>>(), "KILL");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn make_homes(&self) {
        for home in ["root", "user"] {
            let keys = self.path(home).join(".ssh");
            fs::create_dir_all(&keys).expect("a home");
            fs::write(keys.join("authorized_keys"), public_key(&self.client_key) + "\n").expect("authorized_keys");
        }
    }

    fn make_host_key(&self) {
        let mut command = Command::new("dropbearkey");
        command.args(["-t", "ed25519", "-f"]).arg(self.path("host_key")).stdin(Stdio::null());
        let made = command.output().expect("dropbearkey starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    async fn listen(&mut self) {
        for _ in 0..ATTEMPTS {
            self.port = free_port();
            let mut listener = self.spawn();
            let mut ended = false;
            eventually("Dropbear listens or ends", async || {
                ended = listener.try_wait().expect("a child").is_some();
                ended || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
            })
            .await;
            if !ended {
                self.listener = Some(listener);
                return;
            }
        }
        panic!("Dropbear does not start: {}", fs::read_to_string(self.path("log")).unwrap_or_default());
    }

    fn spawn(&self) -> Child {
        let (name, value) = self.marker.split_once('=').expect("NAME=value");
        let log = File::options().append(true).create(true).open(self.path("log")).expect("a log");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", IN_OUR_HOMES, "sh"]);
        command.arg(self.path("root")).arg(home_of("root")).arg(self.path("user")).arg(home_of(&self.user.name));
        // -e passes the environment on to commands, the marker with it.
        command.arg(&self.program).args(["-F", "-E", "-e", "-m", "-p", &format!("127.0.0.1:{}", self.port)]);
        command.arg("-r").arg(self.path("host_key")).arg("-P").arg(self.path("pid"));
        command.env(name, value).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().expect("unshare starts")
    }
}

impl Drop for Dropbear {
    fn drop(&mut self) {
        let Some(mut listener) = self.listener.take() else { return };
        // Stopped, nobody forks while the others are looked for.
        kill(&[listener.id()], "STOP");
        let below = descendants(listener.id());
        let _ = listener.kill();
        let _ = listener.wait();
        kill(&below, "KILL");
        kill(&with_environment(&self.marker), "KILL");
    }
}

pub(super) fn home_of(user: &str) -> PathBuf {
    let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = accounts.lines().find_map(|line| line.strip_prefix(&format!("{user}:"))).expect("an account");
    line.split(':').nth(4).expect("a home").into()
}

#[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
fn unavailable(why: &str) -> Option<Dropbear> {
    let required = is_root() && std::env::var("SSH_MCP_REQUIRE_SSHD").is_ok_and(|value| value == "1");
    assert!(!required, "Dropbear is required here: {why}");
    eprintln!("skipped, this needs Dropbear: {why}");
    None
}
