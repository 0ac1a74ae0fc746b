//! TinySSH's server: ed25519, curve25519 and ChaCha20 only, log-in by public key only, no forwards.
//!
//! It serves one connection on its standard input and output, as inetd starts it; the listener is ours. Homes are
//! ours too, in a mount namespace, so it needs root as [`super::dropbear`] does.

use std::{
    fs::{self, File, Permissions},
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use tempfile::TempDir;
use uuid::Uuid;

use super::{
    dropbear::{IN_OUR_HOMES, home_of},
    openssh::{Account, KeyFormat, KeyType, is_root, ordinary_user, public_key, ssh_keygen},
    process::{descendants, kill, with_environment},
};

/// A running TinySSH. Dropped, it is killed together with everything that runs in its sessions.
pub(crate) struct Tinysshd {
    shared: Arc<Shared>,
    user: &'static Account,
    client_key: PathBuf,
    port: u16,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    dir: TempDir,
    user: &'static Account,
    marker: String,
    stopped: AtomicBool,
    servers: Mutex<Vec<Child>>,
}

impl Tinysshd {
    /// Listens on a free port of 127.0.0.1; nothing where it cannot run.
    pub(crate) fn start() -> Option<Self> {
        if File::open(PROGRAM).is_err() {
            return unavailable("TinySSH is not installed");
        }
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
        let made = Command::new("tinysshd-makekey").arg(dir.path().join("keys")).stdin(Stdio::null()).output();
        assert!(made.expect("tinysshd-makekey starts").status.success());
        for home in ["root", "user"] {
            let keys = dir.path().join(home).join(".ssh");
            fs::create_dir_all(&keys).expect("a home");
            fs::write(keys.join("authorized_keys"), public_key(&client_key) + "\n").expect("authorized_keys");
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let marker = format!("SSH_MCP_TEST_SERVER={}", Uuid::new_v4());
        let shared = Arc::new(Shared { dir, user, marker, stopped: AtomicBool::new(false), servers: Mutex::default() });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Some(Self { shared, user, client_key, port, accepting: Some(accepting) })
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
            let path = self.shared.dir.path().join(home).join(".ssh/authorized_keys");
            let before = fs::read_to_string(&path).expect("authorized_keys");
            fs::write(&path, before + &public_key(private_key) + "\n").expect("authorized_keys");
        }
    }

    /// What the servers of all connections have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.shared.dir.path().join("log")).unwrap_or_default()
    }

    /// How many connections there were so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.servers.lock().expect("no panic").len()
    }
}

impl Shared {
    fn accept(&self, listener: &TcpListener) {
        while let Ok((socket, _)) = listener.accept() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let server = self.serve(socket).expect("a server starts");
            self.servers.lock().expect("no panic").push(server);
        }
    }

    fn serve(&self, socket: TcpStream) -> io::Result<Child> {
        socket.set_nodelay(true)?;
        let (name, value) = self.marker.split_once('=').expect("NAME=value");
        let at = |name: &str| self.dir.path().join(name);
        let log = File::options().append(true).create(true).open(at("log"))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", IN_OUR_HOMES, "sh"]);
        command.arg(at("root")).arg(home_of("root")).arg(at("user")).arg(home_of(&self.user.name));
        command.args([PROGRAM, "-v"]).arg(at("keys")).env(name, value);
        command.stdin(OwnedFd::from(socket.try_clone()?)).stdout(OwnedFd::from(socket)).stderr(log).spawn()
    }
}

impl Drop for Tinysshd {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for server in self.shared.servers.lock().expect("no panic").iter_mut() {
            let below = if server.try_wait().is_ok_and(|ended| ended.is_some()) {
                Vec::new()
            } else {
                descendants(server.id())
            };
            let _ = server.kill();
            let _ = server.wait();
            kill(&below, "KILL");
        }
        kill(&with_environment(&self.shared.marker), "KILL");
    }
}

const PROGRAM: &str = "/usr/sbin/tinysshd";

#[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
fn unavailable(why: &str) -> Option<Tinysshd> {
    let required = is_root() && std::env::var("SSH_MCP_REQUIRE_SSHD").is_ok_and(|value| value == "1");
    assert!(!required, "TinySSH is required here: {why}");
    eprintln!("skipped, this needs TinySSH: {why}");
    None
}
