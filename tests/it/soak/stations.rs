//! The hosts, and the programs of ours that lead there. A program that is ended gets a successor.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    model::{Model, Record, Rule},
    pipe::Pipe,
};
use crate::support::{
    mcp_client::{HttpServer, ServerProcess},
    namespace::{FAR, Link},
    openssh::{Sshd, is_root},
    proxy::Proxy,
    resources::Resources,
    wait::holds_within,
};

/// What all programs have: short limits, so that much happens in a minute.
const SETTINGS: [(&str, &str); 8] = [
    ("SSH_ANSWER_LIMIT", "12"),
    ("SSH_CONNECT_TIMEOUT", "11"),
    ("SSH_MAX_RETRIES", "1"),
    ("SSH_RETRY_DELAY_MS", "100"),
    ("SSH_OUTPUT_MEMORY", "16"),
    ("SSH_OUTPUT_MEMORY_TOTAL", "24"),
    // The client may be slow on a loaded machine, and that is not what is looked at.
    ("MCP_HEADER_TIMEOUT", "60"),
    ("RUST_LOG", "warn"),
];

/// The principals of the HTTP programs.
pub(crate) const TOKENS: [(&str, &str); 2] =
    [("alice", "aaaaaaaaaaaaaaaaaaaaaaaa"), ("bob", "bbbbbbbbbbbbbbbbbbbbbbbb")];

/// How long a program may take to end, and its commands on hosts that are well: 5 s, and what a loaded machine takes.
const END_BOUND: Duration = Duration::from_secs(12);

/// An SSH server.
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) sshd: Sshd,
    pub(crate) proxy: Option<Proxy>,
    address: String,
}

impl Host {
    pub(crate) fn login(&self, user: &str) -> Value {
        let user = if user == "root" { "root" } else { &self.sshd.user().name };
        json!({"address": self.address, "username": user, "key_path": self.sshd.client_key()})
    }
}

/// Everything that is not ours to test.
pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    pub(crate) stations: Vec<Station>,
    /// A full disk, where it can be mounted.
    _disk: Option<TinyDisk>,
    /// The last to go.
    pub(crate) link: Option<Link>,
}

impl World {
    /// Nothing where there is no sshd.
    pub(crate) async fn start(model: &Arc<Model>) -> Option<Self> {
        // At its debug levels sshd writes into the standard error of root's commands.
        let sshd = || Sshd::builder().config("LogLevel INFO");
        let local = |sshd: &Sshd| format!("127.0.0.1:{}", sshd.port());
        let mut hosts = Vec::new();
        for (name, sshd) in [("first", sshd().start().await?), ("few", sshd().config("MaxSessions 4").start().await?)] {
            let proxy = Proxy::before(sshd.port()).await;
            hosts.push(Host { name, address: format!("127.0.0.1:{}", proxy.port()), sshd, proxy: Some(proxy) });
        }
        let third = sshd().start().await?;
        hosts.push(Host { name: "third", address: local(&third), sshd: third, proxy: None });
        let link = Link::new();
        if let Some(link) = &link {
            let far = sshd().within(link.far(), FAR).start().await?;
            hosts.push(Host { name: "far", address: format!("{FAR}:{}", far.port()), sshd: far, proxy: None });
            let near = sshd().within(link.near(), std::net::Ipv4Addr::LOCALHOST).start().await?;
            hosts.push(Host { name: "near", address: local(&near), sshd: near, proxy: None });
        }
        let disk = TinyDisk::mount();
        let spill = disk.as_ref().map(|disk| disk.0.path().to_owned());
        let mut stations = vec![
            Station::new("http", Kind::Http, spill),
            Station::new("http-ended", Kind::Http, None),
            Station::new("stdio", Kind::Stdio(None), None),
            Station::new("stdio-ended", Kind::Stdio(None), None),
        ];
        stations.extend(
            link.as_ref().map(|link| Station::new("stdio-far", Kind::Stdio(Some(link.near().to_owned())), None)),
        );
        for station in &stations {
            station.begin(model).await;
        }
        Some(Self { hosts, stations, _disk: disk, link })
    }

    pub(crate) fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    pub(crate) fn station(&self, name: &str) -> Option<&Station> {
        self.stations.iter().find(|station| station.name == name)
    }

    /// All faults are over.
    pub(crate) fn heal(&self) {
        for host in &self.hosts {
            host.sshd.signal_connections("CONT");
            if let Some(proxy) = &host.proxy {
                proxy.stall(false);
                proxy.drip(false);
            }
        }
        if let Some(link) = &self.link {
            link.mend();
        }
    }
}

enum Kind {
    Http,
    /// In a network namespace, where one is named.
    Stdio(Option<String>),
}

enum Process {
    Http(HttpServer),
    Stdio(ServerProcess),
}

impl Process {
    fn process(&mut self) -> &mut ServerProcess {
        match self {
            Self::Http(server) => server.process(),
            Self::Stdio(process) => process,
        }
    }
}

/// One start of a program.
pub(crate) struct Generation {
    pub(crate) station: &'static str,
    pub(crate) number: u64,
    /// It is being ended: what it does not answer is lost for a reason.
    pub(crate) ending: AtomicBool,
    pub(crate) port: u16,
    pub(crate) pipe: Option<Arc<Pipe>>,
    pub(crate) pid: u32,
    process: tokio::sync::Mutex<Process>,
}

/// A program of ours.
pub(crate) struct Station {
    pub(crate) name: &'static str,
    kind: Kind,
    home: TempDir,
    spill: PathBuf,
    current: Mutex<Option<Arc<Generation>>>,
}

impl Station {
    fn new(name: &'static str, kind: Kind, spill: Option<PathBuf>) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let tokens: String = TOKENS.iter().map(|(name, token)| format!("{name}:{token}\n")).collect();
        fs::write(home.path().join("tokens"), tokens).expect("a file");
        fs::set_permissions(home.path().join("tokens"), fs::Permissions::from_mode(0o600)).expect("permissions");
        let spill = spill.unwrap_or_else(|| home.path().join("spill"));
        Self { name, kind, home, spill, current: Mutex::default() }
    }

    /// The program that runs now, or that is just ending.
    pub(crate) fn current(&self) -> Arc<Generation> {
        self.current.lock().expect("no panic").clone().expect("it was begun")
    }

    async fn begin(&self, model: &Arc<Model>) {
        let tokens = self.home.path().join("tokens");
        let own = [
            ("SSH_SPILL_DIR", self.spill.to_str().expect("UTF-8")),
            ("MCP_TOKEN_FILE", tokens.to_str().expect("UTF-8")),
        ];
        let env = [SETTINGS.as_slice(), &own].concat();
        let number = self.current.lock().expect("no panic").as_ref().map_or(0, |current| current.number + 1);
        let (mut process, port, pipe) = match &self.kind {
            Kind::Http => {
                let server = HttpServer::start(&env).await;
                let port = server.port();
                (Process::Http(server), port, None)
            }
            Kind::Stdio(namespace) => {
                let mut process = match namespace {
                    None => ServerProcess::stdio(&env),
                    Some(namespace) => ServerProcess::stdio_within(namespace, &env),
                };
                let (stdin, stdout) = (process.take_stdin(), process.take_stdout());
                let pipe = Arc::new(Pipe::stdio(model, stdin, stdout).await);
                (Process::Stdio(process), 0, Some(pipe))
            }
        };
        let pid = process.process().pid();
        let ending = AtomicBool::new(false);
        let process = tokio::sync::Mutex::new(process);
        let generation = Generation { station: self.name, number, ending, port, pipe, pid, process };
        *self.current.lock().expect("no panic") = Some(Arc::new(generation));
    }

    /// Ends the program, by a signal or by the end of its input, looks at what it leaves, and starts another.
    pub(crate) async fn end_and_begin(&self, model: &Arc<Model>, by_signal: bool) {
        let old = self.current();
        model.closing(format!("{} {}", self.name, old.number));
        old.ending.store(true, Ordering::SeqCst);
        if let Some(pipe) = &old.pipe {
            pipe.expect_the_end();
        }
        let mut process = old.process.lock().await;
        let process = process.process();
        match &old.pipe {
            Some(pipe) if !by_signal => pipe.end().await,
            _ => process.signal("TERM"),
        }
        let asked = model.now();
        let ended = holds_within(END_BOUND, async || process.ended().is_some()).await;
        let status = process.ended();
        let fine = ended && status.is_some_and(|status| status.success());
        let what = || {
            format!("{} {}: {status:?} {:?} after its end was asked for", self.name, old.number, model.now() - asked)
        };
        model.holds(Rule::NothingAfterTheEnd, "-", fine, what);
        if !ended {
            process.signal("KILL");
        }
        let own = |record: &Record| (record.scene.station, record.scene.generation) == (self.name, old.number);
        model.check_gone(END_BOUND, own, "its program was ended").await;
        self.begin(model).await;
    }

    /// What the program holds now. Spilled output is no leak: its files go with their records.
    pub(crate) fn resources(&self) -> Resources {
        let pid = self.current().pid;
        let spilled = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter(|entry| {
            let target = entry.as_ref().ok().and_then(|entry| fs::read_link(entry.path()).ok());
            target.is_some_and(|target| target.starts_with(&self.spill))
        });
        let spilled = spilled.count();
        let resources = Resources::of(pid);
        Resources { descriptors: resources.descriptors.saturating_sub(spilled), ..resources }
    }
}

/// A file system of 4 MiB, unmounted when dropped.
struct TinyDisk(TempDir);

impl TinyDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs"]).arg(directory.path());
        (is_root() && mount.status().is_ok_and(|status| status.success())).then_some(Self(directory))
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        // Lazily: a program that is just being killed may still hold a file there.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
