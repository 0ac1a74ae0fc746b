//! The end of a remote process tree: whatever ends a command, nothing of it is left on the host.
//!
//! Each way of ending runs on every kind of host at once, with every shape of tree at once; the ways themselves run one
//! after the other, since each starts two dozen trees, and has them end within the time limits of a machine with room.

mod hangup;
mod program;
mod waiting;

use std::{fs, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use self::program::Program;
use crate::support::{
    fake_server::{FakeServer, Play},
    home::with,
    hosts::Hosts,
    openssh::{Sshd, is_root},
    process::with_argument,
    session::{Session, login, text},
    wait::{eventually, holds_within},
};

/// After this time nothing of a command may be left.
const GONE_WITHIN: Duration = Duration::from_secs(4);

/// A tree of processes. MARK is a length of sleep that nobody else sleeps.
struct Shape {
    name: &'static str,
    command: &'static str,
    /// How many processes sleep for MARK.
    sleeping: usize,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "a plain sleep", command: "sleep MARK", sleeping: 1 },
    Shape { name: "a shell with two children", command: "sh -c 'sleep MARK & sleep MARK & wait; :'; :", sleeping: 2 },
    Shape { name: "a child with a group of its own", command: "set -m; sleep MARK & wait; :", sleeping: 1 },
    Shape { name: "one that ignores TERM", command: "trap '' TERM; sleep MARK; sleep MARK", sleeping: 1 },
    DETACHING,
];

/// The survivor sleeps for MARK with a 7 in place of the 3 in front.
const DETACHING: Shape = Shape {
    name: "a child that left the session",
    command: "setsid sleep SURVIVOR & echo $!; sleep MARK; :",
    sleeping: 1,
};

/// A command that is to be ended.
struct Victim {
    name: String,
    shape: &'static Shape,
    mark: String,
    survivor: String,
}

impl Victim {
    fn new(host: &str, shape: &'static Shape) -> Self {
        let digits = uuid::Uuid::new_v4().as_u128() % 10_u128.pow(15);
        let [mark, survivor] = ["300", "700"].map(|whole| format!("{whole}.{digits:015}"));
        Self { name: format!("{host}: {}", shape.name), shape, mark, survivor }
    }

    fn all(host: &str) -> Vec<Self> {
        SHAPES.iter().map(|shape| Self::new(host, shape)).collect()
    }

    fn command(&self) -> String {
        self.shape.command.replace("MARK", &self.mark).replace("SURVIVOR", &self.survivor)
    }

    fn detaches(&self) -> bool {
        self.shape.command.contains("setsid")
    }

    async fn runs(&self) {
        eventually(&self.name, async || {
            sleeping(&self.mark) == self.shape.sleeping && sleeping(&self.survivor) == usize::from(self.detaches())
        })
        .await;
    }

    /// Waits until nothing is left, at most [`GONE_WITHIN`] after `ended_at`.
    async fn is_gone(&self, ended_at: Instant) {
        let left = GONE_WITHIN.saturating_sub(ended_at.elapsed());
        let gone = holds_within(left, async || with_argument(&self.mark).is_empty()).await;
        assert!(gone, "{}: {:?} is left", self.name, with_argument(&self.mark));
        assert_eq!(sleeping(&self.survivor), usize::from(self.detaches()), "{}: the survivor", self.name);
    }

    /// Checks what an answer says of a child that left the session.
    fn tells_of_survivors(&self, answer: &Value) {
        let notices = answer["notices"].to_string();
        if self.detaches() {
            let pid = answer["stdout"].as_str().unwrap().trim();
            assert!(notices.contains("setsid") && notices.contains(&format!("pid {pid}.")), "{}: {answer}", self.name);
        }
        assert!(!notices.contains("may still run"), "{}: {notices}", self.name);
    }
}

fn sleeping(mark: &str) -> usize {
    with_argument(mark).iter().filter(|arguments| **arguments == ["sleep", mark]).count()
}

async fn all_run(victims: &[Victim]) {
    for victim in victims {
        victim.runs().await;
    }
}

async fn all_gone(victims: &[Victim], ended_at: Instant) {
    join_all(victims.iter().map(|victim| victim.is_gone(ended_at))).await;
}

/// A command beside the victims that must not notice.
struct Sibling {
    id: String,
    directory: TempDir,
}

impl Sibling {
    async fn start(session: &Session) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The ordinary user looks into it.
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let signal = directory.path().join("go");
        let command =
            format!("echo first; while ! [ -e {} ]; do sleep 0.05; done; echo last; exit 7", signal.display());
        let id = session.start(&command).await;
        session.shows(&id, "first\n").await;
        Self { id, directory }
    }

    async fn goes_on(self, session: &Session) {
        assert_eq!(session.output(&self.id, json!({})).await["status"], "running");
        fs::write(self.directory.path().join("go"), "").unwrap();
        let ended = session.ended(&self.id).await;
        let result = (&ended["status"], &ended["exit_code"], &ended["stdout"]);
        assert_eq!(result, (&json!("completed"), &json!(7), &json!("first\nlast\n")), "{ended}");
    }
}

/// The commands of a session by their command line, which must not be longer than the list shows.
async fn listed(session: &Session, victim: &Victim) -> String {
    let list = session.call("ssh_list_commands", json!({})).await.success();
    let rows = list["commands"].as_array().unwrap();
    text(&rows.iter().find(|row| row["command"] == victim.command()).expect("in the list")["command_id"])
}

async fn timed_out(host: &str, session: &Session) {
    let victims = Victim::all(host);
    let sibling = Sibling::start(session).await;
    let begun = Instant::now();
    let run = async |victim: &Victim| {
        let arguments = json!({"command": victim.command(), "timeout_secs": 5});
        session.call("ssh_execute", arguments).await.success()
    };
    let (answers, ()) = tokio::join!(join_all(victims.iter().map(run)), all_run(&victims));
    assert!(begun.elapsed() < Duration::from_secs(5 + 3), "{host}: {:?}", begun.elapsed());
    let ended = Instant::now();
    for (victim, answer) in victims.iter().zip(&answers) {
        let result = (&answer["status"], &answer["timed_out"], answer.get("exit_code"));
        assert_eq!(result, (&json!("completed"), &json!(true), None), "{}: {answer}", victim.name);
        victim.tells_of_survivors(answer);
    }
    all_gone(&victims, ended).await;
    sibling.goes_on(session).await;
}

async fn cancelled(host: &str, session: &Session) {
    let victims = Victim::all(host);
    let sibling = Sibling::start(session).await;
    let commands: Vec<_> = victims.iter().map(Victim::command).collect();
    let ids = join_all(commands.iter().map(|command| session.start(command))).await;
    all_run(&victims).await;
    let begun = Instant::now();
    let answers = join_all(ids.iter().map(|id| session.cancel(id))).await;
    for (victim, answer) in victims.iter().zip(&answers) {
        let result = (&answer["cancelled"], &answer["status"], &answer["remote_ended"]);
        assert_eq!(result, (&json!(true), &json!("cancelled"), &json!(true)), "{}: {answer}", victim.name);
        victim.tells_of_survivors(answer);
    }
    all_gone(&victims, begun).await;
    sibling.goes_on(session).await;
}

async fn cancelled_by_client(host: &str, session: &Session) {
    let victims = Victim::all(host);
    let sibling = Sibling::start(session).await;
    let mut calls = Vec::new();
    for victim in &victims {
        let arguments = json!({"session_id": session.id, "command": victim.command()});
        calls.push(session.client.begin("ssh_execute", arguments).await);
    }
    all_run(&victims).await;
    let begun = Instant::now();
    for call in calls {
        call.cancel(Some("enough".into())).await.unwrap();
    }
    all_gone(&victims, begun).await;
    for victim in &victims {
        let ended = session.ended(&listed(session, victim).await).await;
        assert_eq!((&ended["status"], ended.get("hint")), (&json!("cancelled"), None), "{}: {ended}", victim.name);
        victim.tells_of_survivors(&ended);
    }
    sibling.goes_on(session).await;
}

async fn disconnected(host: &str, session: &Session) {
    let victims = Victim::all(host);
    let other = session.another(json!({})).await;
    let sibling = Sibling::start(&other).await;
    let commands: Vec<_> = victims.iter().map(Victim::command).collect();
    let ids = join_all(commands.iter().map(|command| session.start(command))).await;
    all_run(&victims).await;
    let begun = Instant::now();
    let answer = session.disconnect().await;
    assert_eq!(answer["commands_cancelled"], victims.len(), "{host}: {answer}");
    all_gone(&victims, begun).await;
    for (victim, id) in victims.iter().zip(&ids) {
        let ended = session.ended(id).await;
        assert_eq!((&ended["status"], ended.get("hint")), (&json!("cancelled"), None), "{}: {ended}", victim.name);
        victim.tells_of_survivors(&ended);
    }
    sibling.goes_on(&other).await;
}

/// A login shell that takes its time to start, as root's often does.
fn slow_down_the_shells_of_root(hosts: &Hosts) {
    let slow = "sleep 0.4\n";
    if let Some(sshd) = &hosts.sshd {
        fs::write(sshd.directory().join("empty/.bashrc"), slow).unwrap();
    }
    if let Some(dropbear) = &hosts.dropbear {
        fs::write(dropbear.home_of_root().join(".bashrc"), slow).unwrap();
    }
}

async fn program_ended(hosts: &Hosts, mut program: Program, by: &str) {
    let mut victims = Vec::new();
    for (host, login) in hosts.logins() {
        let session = program.session(login).await;
        for victim in Victim::all(&format!("{by}, {host}")) {
            program.start(&session, &victim.command()).await;
            victims.push(victim);
        }
    }
    all_run(&victims).await;
    let begun = Instant::now();
    program.end(by).await;
    assert!(begun.elapsed() < program.budget(), "{by}: {:?}", begun.elapsed());
    all_gone(&victims, begun).await;
    assert!(!program.stderr().contains("may still run"), "{}", program.stderr());
}

/// A way of ending commands, on every session at once.
async fn on_each(sessions: &[(String, Session)], end: impl AsyncFn(&str, &Session)) {
    join_all(sessions.iter().map(|(host, session)| end(host, session))).await;
}

#[tokio::test]
async fn nothing_is_left_whatever_ends_a_command() {
    let hosts = Hosts::start().await;
    let mut sessions = hosts.sessions(&[]).await;
    on_each(&sessions, timed_out).await;
    on_each(&sessions, cancelled).await;
    on_each(&sessions, cancelled_by_client).await;
    on_each(&sessions, disconnected).await;

    program_ended(&hosts, Program::stdio().await, "EOF").await;
    for by in ["TERM", "INT"] {
        program_ended(&hosts, Program::stdio().await, by).await;
        program_ended(&hosts, Program::http().await, by).await;
    }

    if is_root() {
        slow_down_the_shells_of_root(&hosts);
        sessions = hosts.sessions(&[]).await;
        sessions.retain(|(host, _)| host.ends_with("root"));
        on_each(&sessions, cancelled).await;
    }
}

async fn thirty_are_ended(mut program: Program) {
    let Some(sshd) = Sshd::start().await else { return };
    let session = program.session(login(&sshd, &sshd.user().name)).await;
    let victims: Vec<_> = (0..30).map(|_| Victim::new("thirty", &SHAPES[1])).collect();
    for victim in &victims {
        program.start(&session, &victim.command()).await;
    }
    all_run(&victims).await;
    let begun = Instant::now();
    program.end("TERM").await;
    assert!(begun.elapsed() < program.budget(), "{:?}", begun.elapsed());
    all_gone(&victims, begun).await;
}

#[tokio::test]
async fn thirty_commands_are_ended_with_the_program() {
    tokio::join!(thirty_are_ended(Program::stdio().await), thirty_are_ended(Program::http().await));
}

async fn silent_host_is_logged(mut program: Program, by: &str) {
    let Some(sshd) = Sshd::start().await else { return };
    // A further connection would end the command all the same.
    let relay = FakeServer::start(Play::Once(sshd.port())).await;
    let login = with(login(&sshd, &sshd.user().name), json!({"address": relay.address()}));
    let session = program.session(login).await;
    let victim = Victim::new("silent", &SHAPES[0]);
    program.start(&session, &victim.command()).await;
    victim.runs().await;
    sshd.signal_connections("STOP");
    let begun = Instant::now();
    program.end(by).await;
    assert!(begun.elapsed() < program.budget(), "{:?}", begun.elapsed());
    let warns = |log: &str| log.lines().any(|line| line.contains("WARN") && line.contains("may still run"));
    eventually("what may still run is logged", async || warns(&program.stderr())).await;
}

#[tokio::test]
async fn program_ends_in_time_and_says_what_may_still_run() {
    tokio::join!(
        silent_host_is_logged(Program::stdio().await, "TERM"),
        silent_host_is_logged(Program::stdio().await, "EOF"),
        silent_host_is_logged(Program::http().await, "TERM"),
    );
}
