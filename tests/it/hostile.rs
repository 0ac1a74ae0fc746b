//! SSH servers that break the rules, at every stage: each attack ends in a typed error or an exact outcome within its
//! time, takes little memory, and leaves other sessions of the process alone.
//!
//! `cargo test --test it hostile -- --nocapture` prints what each attack led to.

mod before_login;
mod in_session;

use std::{fs, io, time::Duration};

use futures_util::{
    FutureExt,
    future::LocalBoxFuture,
    stream::{self, StreamExt},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    embedded_host::EmbeddedHost,
    fake_server::{HostileServer, wire::Wire},
    mcp_client::ToolAnswer,
    session::Session,
};

/// The time limit of each connect.
const LIMIT: u64 = 3;
/// That of each command.
const COMMAND_LIMIT: u64 = 1;
/// An answer may take so much longer than the limit: ending a command has steps of its own, and the machine is busy.
const SLACK: Duration = Duration::from_secs(6);
/// What one connection may take, in bytes.
const MEMORY: u64 = 8 << 20;
/// The same before there is any SSH: the server may say what it likes.
const BANNER_MEMORY: u64 = 1 << 20;
/// What one answer may have, in bytes: the output that is shown, and what stands around it.
const ANSWER: usize = 20_000;

/// So many attacks of a test go on at once. They are such as wait: one flood keeps a processor busy.
const AT_ONCE: usize = 4;

/// An attack of [`all_of`], which fails by a panic.
type Attack = LocalBoxFuture<'static, ()>;

/// Runs attacks, each on a process of its own.
async fn all_of(attacks: impl IntoIterator<Item = Attack>) {
    stream::iter(attacks).for_each_concurrent(AT_ONCE, |attack| attack).await;
}

/// What became of an attack.
struct Told {
    answer: ToolAnswer,
    took: Duration,
    memory: u64,
}

impl Told {
    /// The code of the failure; the status of a command that was no failure.
    fn code(&self) -> &str {
        let code =
            if self.answer.is_error { &self.answer.structured["code"] } else { &self.answer.structured["status"] };
        let error = self.answer.structured["error"]["code"].as_str();
        error.or(code.as_str()).unwrap_or_default()
    }

    #[expect(clippy::print_stdout, reason = "the table of the attacks")]
    #[track_caller]
    fn assert(&self, attack: &str, codes: &[&str], memory: u64) {
        let (code, text) = (self.code(), &self.answer.text);
        println!("| {attack} | {code} | {:.1} s | {} KiB |", self.took.as_secs_f64(), self.memory >> 10);
        assert!(codes.contains(&code), "{attack}: {code}, not one of {codes:?}: {text}");
        assert!(text.len() < ANSWER, "{attack}: {} bytes of answer", text.len());
        assert!(self.took < Duration::from_secs(LIMIT) + SLACK, "{attack}: {:?}", self.took);
        assert!(self.memory <= memory, "{attack}: {} KiB", self.memory >> 10);
    }
}

/// A process with a session to an honest host besides the one that is attacked.
struct Victim {
    honest: Session,
    _host: EmbeddedHost,
    server: HostileServer,
}

impl Victim {
    async fn of<F>(script: impl Fn(Wire) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let host = EmbeddedHost::start().await.expect("a host");
        let honest = Session::on_host(&host, &[]).await;
        honest.run("echo before").await;
        Self { honest, _host: host, server: HostileServer::start(script).await }
    }

    /// Calls a tool, and looks at the time and the memory that it takes.
    async fn measured(&self, tool: &str, arguments: Value) -> Told {
        let pid = self.honest.client.pid();
        let before = memory(pid, "VmRSS:");
        // Lets the kernel forget the peak that was (proc(5)).
        fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("Linux, and a process of ours");
        let begun = Instant::now();
        let answer = self.honest.client.call(tool, arguments).await;
        let took = begun.elapsed();
        Told { answer, took, memory: memory(pid, "VmHWM:").saturating_sub(before) }
    }

    async fn connect(&self, more: Value) -> Told {
        let mut arguments = json!({"address": self.server.address(), "username": "victim", "password": "canary-7261",
            "timeout_secs": LIMIT, "max_retries": 0});
        let all = arguments.as_object_mut().expect("an object");
        all.extend(more.as_object().cloned().unwrap_or_default());
        self.measured("ssh_connect", arguments).await
    }

    /// The process has not suffered: the same client, the same honest session, and its log tells of no panic.
    #[track_caller]
    fn assert_unharmed(&self, attack: &str, view: &Value) {
        assert_eq!((&view["stdout"], &view["exit_code"]), (&json!("after\n"), &json!(0)), "{attack}: {view}");
        let log = self.honest.client.stderr();
        assert!(!log.contains("panicked"), "{attack}: {log}");
    }
}

/// Attacks while connecting.
async fn at_connect<F>(attack: &str, script: impl Fn(Wire) -> F + Send + 'static, codes: &[&str], memory: u64)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let victim = Victim::of(script).await;
    let told = victim.connect(json!({})).await;
    victim.assert_unharmed(attack, &victim.honest.run("echo after").await);
    told.assert(attack, codes, memory);
    assert!(!told.answer.text.contains("canary-7261"), "{attack}: {}", told.answer.text);
}

/// [`at_connect`] as one of several.
fn attack<F>(
    name: impl Into<String>,
    script: impl Fn(Wire) -> F + Send + 'static,
    codes: &'static [&'static str],
    memory: u64,
) -> Attack
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let name = name.into();
    async move { at_connect(&name, script, codes, memory).await }.boxed_local()
}

/// Attacks while a command runs; gives what its caller is told.
async fn at_command<F>(attack: &str, script: impl Fn(Wire) -> F + Send + 'static, more: Value, codes: &[&str]) -> Value
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let victim = Victim::of(script).await;
    let login = victim.connect(more).await;
    assert!(!login.answer.is_error, "{attack}: {}", login.answer.text);
    let session = login.answer.structured["session_id"].clone();
    let arguments = json!({"session_id": session, "command": "true", "timeout_secs": COMMAND_LIMIT, "stdin": "typed"});
    let told = victim.measured("ssh_execute", arguments).await;
    victim.assert_unharmed(attack, &victim.honest.run("echo after").await);
    told.assert(attack, codes, MEMORY);
    // The first, one for the question for the login shell, one for the command.
    assert!(victim.server.connections() <= 3, "{attack}: {} logins", victim.server.connections());
    let begun = Instant::now();
    victim.honest.client.call("ssh_disconnect", json!({"session_id": session})).await.success();
    assert!(begun.elapsed() < SLACK, "{attack}: {:?} to disconnect", begun.elapsed());
    told.answer.structured
}

/// A line of `/proc/PID/status`, in bytes.
fn memory(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
    let kib = status.lines().find_map(|found| found.strip_prefix(line)?.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("a number") << 10
}
