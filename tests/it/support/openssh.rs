//! The real OpenSSH server, one per test, on a free port of 127.0.0.1, with host keys of its own.
//!
//! As root it serves root and an ordinary user, otherwise the current user only. Where there is no
//! sshd, [`Sshd::start`] says so and gives nothing; with `SSH_MCP_REQUIRE_SSHD=1` it fails.

mod account;
mod keys;
pub(crate) mod pam;

use std::{
    fs::{self, File, OpenOptions, Permissions},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use uuid::Uuid;

use super::{
    free_port,
    process::{alive, descendants, kill, name, with_environment},
    wait::eventually,
};

pub(crate) use account::{Account, expired_user, is_root, ordinary_user, shell_user};
pub(crate) use keys::{Agent, KeyFormat, KeyType, public_key, ssh_keygen, ssh_keygen_with_passphrase};

/// The server is started again on another port this often, when the first one is taken meanwhile.
const ATTEMPTS: usize = 5;

/// An sshd to be: options first, then [`SshdBuilder::start`].
#[derive(Clone, Debug, Default)]
pub(crate) struct SshdBuilder {
    settings: Vec<String>,
    host_keys: Vec<KeyType>,
    /// The PAM service that is asked.
    pam: Option<String>,
    /// A network namespace, and the address there.
    within: Option<(String, Ipv4Addr)>,
}

impl SshdBuilder {
    /// Adds a line of sshd_config, or a Match block with its lines; it has precedence over the lines
    /// that every server here has.
    pub(crate) fn config(mut self, line: &str) -> Self {
        self.settings.push(line.to_owned());
        self
    }

    /// Adds a host key; without any, the server has one ed25519 key.
    pub(crate) fn host_key(mut self, kind: KeyType) -> Self {
        self.host_keys.push(kind);
        self
    }

    /// Asks PAM, in questions and answers, by this service.
    pub(crate) fn pam(mut self, service: &str) -> Self {
        self.settings.extend(["UsePAM yes", "KbdInteractiveAuthentication yes"].map(str::to_owned));
        self.pam = Some(service.to_owned());
        self
    }

    /// Listens on this address of a network namespace.
    pub(crate) fn within(mut self, namespace: &str, address: Ipv4Addr) -> Self {
        self.within = Some((namespace.to_owned(), address));
        self
    }

    /// Starts the server and waits until it listens; nothing where no sshd can run.
    pub(crate) async fn start(mut self) -> Option<Sshd> {
        let Some(program) = program() else {
            return unavailable("no sshd is installed");
        };
        let user = match account::ordinary_user() {
            Ok(user) => user,
            Err(why) => return unavailable(why),
        };
        if self.host_keys.is_empty() {
            self.host_keys.push(KeyType::Ed25519);
        }
        let dir = tempfile::tempdir().expect("a directory");
        // sshd reads authorized_keys as the user who logs in.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("permissions");
        let client_key = ssh_keygen(dir.path(), "client", KeyType::Ed25519, KeyFormat::OpenSsh);
        let mut sshd = Sshd {
            program,
            user,
            marker: format!("SSH_MCP_TEST_SERVER={}", Uuid::new_v4()),
            builder: self,
            dir,
            client_key: client_key.clone(),
            port: 0,
            log_start: 0,
            listener: None,
        };
        fs::create_dir(sshd.path("empty")).expect("a directory");
        if let Some(service) = &sshd.builder.pam {
            // The name of the program is that of the service, before OpenSSH 9.8.
            let link = sshd.path(service);
            std::os::unix::fs::symlink(&sshd.program, &link).expect("a link");
            sshd.program = link;
        }
        sshd.authorize(&client_key);
        sshd.make_host_keys();
        sshd.listen(&[0; ATTEMPTS]).await;
        Some(sshd)
    }
}

/// A running sshd. Dropped, it is killed together with everything that runs in its sessions.
pub(crate) struct Sshd {
    program: PathBuf,
    user: &'static Account,
    /// Stands in the environment of every command; so commands are found after sshd let go of them.
    marker: String,
    builder: SshdBuilder,
    dir: TempDir,
    client_key: PathBuf,
    port: u16,
    /// Where the log of the present run begins.
    log_start: usize,
    listener: Option<Child>,
}

impl Sshd {
    /// A server with its default options.
    pub(crate) async fn start() -> Option<Self> {
        SshdBuilder::default().start().await
    }

    /// A server with options.
    pub(crate) fn builder() -> SshdBuilder {
        SshdBuilder::default()
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where its files lie; a test may put its own there.
    pub(crate) fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// The ordinary user whom this server lets in, with a password if the tests run as root.
    pub(crate) fn user(&self) -> &'static Account {
        self.user
    }

    /// A private key that opens every account; [`Sshd::authorize`] adds more.
    pub(crate) fn client_key(&self) -> &Path {
        &self.client_key
    }

    /// Lets the owner of a private key in; its public half stands beside it.
    pub(crate) fn authorize(&self, private_key: &Path) {
        self.authorize_line(&public_key(private_key));
    }

    /// Adds a line to authorized_keys, options and all.
    pub(crate) fn authorize_line(&self, line: &str) {
        let path = self.path("authorized_keys");
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, format!("{before}{}\n", line.trim())).expect("authorized_keys");
    }

    /// The lines that a known_hosts file has for this server.
    pub(crate) fn known_hosts(&self) -> String {
        let line = |key: &PathBuf| format!("[127.0.0.1]:{} {}\n", self.port, public_key(key));
        self.host_keys().iter().map(line).collect()
    }

    /// The fingerprint of its first host key (`SHA256:...`).
    pub(crate) fn fingerprint(&self) -> String {
        let mut command = Command::new("ssh-keygen");
        command.arg("-lf").arg(&self.host_keys()[0]);
        let shown = command.output().expect("ssh-keygen starts");
        let shown = String::from_utf8(shown.stdout).expect("text");
        shown.split_whitespace().nth(1).expect("a fingerprint").to_owned()
    }

    /// What the server has logged since it last started, at level DEBUG1.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.path("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[self.log_start.min(log.len())..]).into_owned()
    }

    /// How many lines of the log hold this text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// The server's processes, one per connection.
    pub(crate) fn connections(&self) -> Vec<u32> {
        let Some(listener) = self.listener.as_ref().map(Child::id) else {
            return Vec::new();
        };
        let sshd = |pid: &u32| name(*pid).is_some_and(|name| name.starts_with("sshd"));
        descendants(listener).into_iter().filter(sshd).collect()
    }

    /// Sends a signal to the processes that serve connections: `KILL` loses them, `STOP` silences them.
    pub(crate) fn signal_connections(&self, signal: &str) {
        kill(&self.connections(), signal);
    }

    /// As [`Sshd::signal_connections`], and to the server itself: `STOP` silences the whole host.
    pub(crate) fn signal_all(&self, signal: &str) {
        let listener = self.listener.as_ref().map(Child::id);
        kill(&listener.into_iter().chain(self.connections()).collect::<Vec<_>>(), signal);
    }

    /// Ends the server and all its sessions; the port refuses from then on.
    pub(crate) fn stop(&mut self) {
        let Some(mut listener) = self.listener.take() else {
            return;
        };
        // Stopped, nobody forks: a login that is under way would slip through and serve on.
        kill(&[listener.id()], "STOP");
        let mut below = Vec::new();
        while below != descendants(listener.id()) {
            below = descendants(listener.id());
            kill(&below, "STOP");
        }
        let _ = listener.kill();
        let _ = listener.wait();
        kill(&below, "KILL");
        kill(&with_environment(&self.marker), "KILL");
    }

    /// Starts again on the same port, with the same host keys.
    pub(crate) async fn restart(&mut self) {
        self.stop();
        self.log_start = fs::metadata(self.path("log")).map_or(0, |log| log.len() as usize);
        self.listen(&[self.port; ATTEMPTS]).await;
    }

    /// Starts again on the same port, with other host keys of the same types.
    pub(crate) async fn restart_with_other_host_keys(&mut self) {
        self.stop();
        self.make_host_keys();
        self.restart().await;
    }

    /// Tries these ports in turn until the server listens on one; 0 is any free port.
    async fn listen(&mut self, ports: &[u16]) {
        for port in ports {
            self.port = if *port == 0 { free_port() } else { *port };
            let mut listener = self.spawn();
            let text = format!("Server listening on {} port {}", self.address(), self.port);
            let listening = || self.log().contains(&text);
            let pid = listener.id();
            eventually("sshd listens or ends", async || listening() || !alive(pid)).await;
            if listening() {
                self.listener = Some(listener);
                return;
            }
            let _ = listener.wait();
            // The last run's socket may hold the port for a moment.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("sshd does not start: {}", self.log());
    }

    fn spawn(&self) -> Child {
        let config = self.path("sshd_config");
        let service = self.builder.pam.as_ref().map(|name| format!("\nPAMServiceName {name}")).unwrap_or_default();
        fs::write(&config, self.config(&format!("PerSourcePenalties no{service}"))).expect("sshd_config");
        let test = Command::new(&self.program).arg("-t").arg("-f").arg(&config).output();
        if !test.expect("sshd starts").status.success() {
            // Before OpenSSH 9.8 there are no penalties for refused logins, nor the options.
            fs::write(&config, self.config("")).expect("sshd_config");
        }
        let log = OpenOptions::new().append(true).create(true).open(self.path("log")).expect("a log");
        let mut command = match &self.builder.within {
            None => Command::new(&self.program),
            Some((namespace, _)) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(&self.program);
                command
            }
        };
        command.arg("-D").arg("-e").arg("-f").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().expect("sshd starts")
    }

    fn config(&self, penalties: &str) -> String {
        // A Match block reaches to the next one or to the end, so those of a test come late.
        let is_match = |line: &String| line.starts_with("Match ");
        let (blocks, mut lines): (Vec<_>, Vec<_>) = self.builder.settings.iter().cloned().partition(is_match);
        let host_keys = self.host_keys();
        lines.extend(host_keys.iter().map(|key| format!("HostKey {}", key.display())));
        lines.push(format!("ListenAddress {}:{}", self.address(), self.port));
        let authorized_keys = self.path("authorized_keys");
        lines.push(format!("AuthorizedKeysFile {}", authorized_keys.display()));
        lines.push(format!("SetEnv {}", self.marker));
        lines.push(penalties.to_owned());
        // Of some keywords the last line counts and not the first.
        let keyword = |line: &str| line.split_whitespace().next().map(str::to_owned);
        let set: Vec<_> = lines.iter().map(|line| keyword(line)).collect();
        lines.extend(COMMON.iter().filter(|line| !set.contains(&keyword(line))).map(|line| (*line).to_owned()));
        lines.extend(blocks);
        // Root's own start-up files may do anything: take a while, or hang after a kill in their midst.
        let home = self.path("empty").display().to_string();
        lines.push(format!("Match User root\nSetEnv {} HOME={home}", self.marker));
        lines.join("\n") + "\n"
    }

    fn address(&self) -> Ipv4Addr {
        self.builder.within.as_ref().map_or(Ipv4Addr::LOCALHOST, |(_, address)| *address)
    }

    fn host_keys(&self) -> Vec<PathBuf> {
        (0..self.builder.host_keys.len()).map(|index| self.path(&format!("host_key_{index}"))).collect()
    }

    fn make_host_keys(&self) {
        for (key, kind) in self.host_keys().iter().zip(&self.builder.host_keys) {
            let _ = fs::remove_file(key);
            let name = key.file_name().and_then(|name| name.to_str()).expect("a name");
            ssh_keygen(self.dir.path(), name, *kind, KeyFormat::OpenSsh);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What every server here has, unless a test says otherwise.
const COMMON: [&str; 11] = [
    "LogLevel DEBUG1",
    "UsePAM no",
    "StrictModes no",
    "PermitRootLogin yes",
    "PasswordAuthentication yes",
    "KbdInteractiveAuthentication no",
    "UseDNS no",
    "PrintMotd no",
    "PidFile none",
    // Many tests connect at once, and more than the default would be turned away at random.
    "MaxStartups 100",
    "Subsystem sftp internal-sftp",
];

fn program() -> Option<PathBuf> {
    // sshd starts itself again for each connection, so it insists on an absolute path.
    let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/opt/homebrew/sbin/sshd", "/usr/bin/sshd"];
    places.map(PathBuf::from).into_iter().find(|place| File::open(place).is_ok())
}

#[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
fn unavailable(why: &str) -> Option<Sshd> {
    let required = std::env::var("SSH_MCP_REQUIRE_SSHD").is_ok_and(|value| value == "1");
    assert!(!required, "OpenSSH's server is required here: {why}");
    eprintln!("skipped, this needs OpenSSH's server: {why}");
    None
}
