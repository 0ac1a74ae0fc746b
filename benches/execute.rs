//! What a command costs: `cargo bench --bench execute`.
//!
//! Runs `true` on one OpenSSH server of loopback in three ways that take turns: `ssh_execute` of the
//! real `ssh-mcp-stdio`, `ssh -S` through a master connection, and bare russh. Only the ratios mean
//! something: the three share whatever else the machine does.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "numbers are what a benchmark is for")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot run says where it stopped")]

#[path = "../tests/it"]
mod it {
    #[expect(dead_code, unused_imports, reason = "the tests use the rest of it")]
    pub(crate) mod support;
}

use std::{
    borrow::Cow,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

// Its modules name each other by this path.
use it::support;
use russh::{
    ChannelMsg, Preferred, cipher,
    client::{Config, Handle, Handler, connect},
    keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key},
};
use serde_json::{Value, json};
use support::{openssh::Sshd, wait::eventually};
use tokio::runtime::Runtime;

/// Rounds that count, and those before them that fill caches.
const ROUNDS: usize = 300;
const WARM_UP: usize = 30;

/// At most this much of the time of `ssh -S`.
const RATIO_GOAL: f64 = 0.45;
/// At most this much above bare russh, in milliseconds.
const EXTRA_GOAL: f64 = 0.7;

fn main() {
    let runtime = Runtime::new().unwrap();
    let Some(mut sshd) = runtime.block_on(Sshd::start()) else {
        return;
    };
    if Command::new("ssh").arg("-V").stderr(Stdio::null()).status().is_err() {
        return eprintln!("skipped, this needs OpenSSH's client");
    }
    let mut ours = Ours::start(&sshd);
    let mut master = runtime.block_on(Master::start(&sshd));
    let bare = runtime.block_on(bare_russh(&sshd));

    let mut times: [Vec<f64>; 3] = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        // Who comes first changes, so that nobody always runs in the wake of the same other.
        for turn in 0..times.len() {
            let row = (round + turn) % times.len();
            let began = Instant::now();
            match row {
                0 => ours.execute(),
                1 => master.execute(),
                _ => runtime.block_on(execute(&bare)),
            }
            if round >= WARM_UP {
                times[row].push(began.elapsed().as_secs_f64() * 1_000.0);
            }
        }
    }
    master.stop();
    ours.stop();
    sshd.stop();
    report(times);
}

fn report(mut times: [Vec<f64>; 3]) {
    println!("{:<24} {:>9} {:>9}   of {ROUNDS}, in ms", "true", "p50", "p99");
    for (name, row) in ["ssh_execute over stdio", "ssh -S (ControlMaster)", "bare russh"].iter().zip(&mut times) {
        row.sort_by(f64::total_cmp);
        println!("{name:<24} {:>9.2} {:>9.2}", percentile(row, 50), percentile(row, 99));
    }
    let [ours, master, bare] = times.map(|row| percentile(&row, 50));
    let verdict = |holds: bool| if holds { "holds" } else { "MISSED" };
    let ratio = ours / master;
    println!("ssh_execute / ssh -S       {ratio:.3} (at most {RATIO_GOAL}: {})", verdict(ratio <= RATIO_GOAL));
    let extra = ours - bare;
    println!("ssh_execute - bare russh   {extra:.2} ms (at most {EXTRA_GOAL}: {})", verdict(extra <= EXTRA_GOAL));
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// The real binary, and a client that sends one call after the other.
struct Ours {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    session: String,
    requests: u64,
}

impl Ours {
    fn start(sshd: &Sshd) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ssh-mcp-stdio"));
        command.env_clear().env("HOME", sshd.directory()).env("RUST_LOG", "warn");
        command.env("SSH_KEY_ROOTS", sshd.directory());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut ours = Self { process, stdin, stdout, session: String::new(), requests: 0 };
        let client = json!({"name": "bench", "version": "0"});
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
        ours.request("initialize", &hello);
        ours.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        let address = format!("{}@127.0.0.1:{}", sshd.user().name, sshd.port());
        let opened = ours.call("ssh_connect", &json!({"address": address, "key_path": sshd.client_key()}));
        ours.session = opened["session_id"].as_str().expect("a session").to_owned();
        ours
    }

    fn execute(&mut self) {
        let arguments = json!({"session_id": self.session, "command": "true"});
        let ran = self.call("ssh_execute", &arguments);
        assert_eq!(ran["exit_code"], 0, "{ran}");
    }

    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let mut result = self.request("tools/call", &json!({"name": tool, "arguments": arguments}));
        assert_ne!(result["isError"], true, "{result}");
        result["structuredContent"].take()
    }

    fn request(&mut self, method: &str, params: &Value) -> Value {
        self.requests += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.requests, "method": method, "params": params}));
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).expect("an answer");
        assert_eq!(answer["id"], self.requests, "{line}");
        answer["result"].take()
    }

    fn send(&mut self, message: &Value) {
        self.stdin.write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    fn stop(self) {
        let Self { mut process, stdin, .. } = self;
        drop(stdin);
        process.wait().unwrap();
    }
}

/// A master connection of OpenSSH's client, and what runs a command through it.
struct Master {
    process: Child,
    execute: Command,
}

impl Master {
    async fn start(sshd: &Sshd) -> Self {
        let socket = sshd.directory().join("master");
        let known_hosts = sshd.directory().join("known_hosts");
        std::fs::write(&known_hosts, sshd.known_hosts()).unwrap();
        let mut master = ssh(sshd, &socket);
        master.args(["-M", "-N", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]);
        master.arg("-o").arg(format!("UserKnownHostsFile={}", known_hosts.display()));
        let process = master.arg("-i").arg(sshd.client_key()).arg("127.0.0.1").spawn().unwrap();
        eventually("the master connection is up", async || {
            let mut check = ssh(sshd, &socket);
            check.args(["-O", "check", "127.0.0.1"]).stderr(Stdio::null());
            check.status().is_ok_and(|status| status.success())
        })
        .await;
        let mut execute = ssh(sshd, &socket);
        execute.args(["127.0.0.1", "true"]);
        Self { process, execute }
    }

    fn execute(&mut self) {
        assert!(self.execute.status().unwrap().success());
    }

    fn stop(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn ssh(sshd: &Sshd, socket: &Path) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-F", "none", "-p", &sshd.port().to_string(), "-l", &sshd.user().name, "-S"]).arg(socket);
    command.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Trusts the server that this benchmark has just started.
struct TrustAll;

impl Handler for TrustAll {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _offered: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// A connection of russh with nothing of ours around it but the same ciphers.
async fn bare_russh(sshd: &Sshd) -> Handle<TrustAll> {
    const CIPHERS: &[cipher::Name] = &[cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::CHACHA20_POLY1305];
    let preferred = Preferred { cipher: Cow::Borrowed(CIPHERS), ..Preferred::DEFAULT };
    let config = Config { nodelay: true, preferred, ..Config::default() };
    let mut handle = connect(Arc::new(config), ("127.0.0.1", sshd.port()), TrustAll).await.unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(load_secret_key(sshd.client_key(), None).unwrap()), None);
    let login = handle.authenticate_publickey(&sshd.user().name, key).await.unwrap();
    assert!(login.success());
    handle
}

async fn execute(handle: &Handle<TrustAll>) {
    let mut channel = handle.channel_open_session().await.unwrap();
    channel.exec(true, "true").await.unwrap();
    let mut status = None;
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                ChannelMsg::Close => break,
                _ => {}
            }
        }
    });
    ended.await.expect("the command ends");
    assert_eq!(status, Some(0));
}
