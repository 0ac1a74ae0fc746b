//! Places for channels: servers allow few per connection, and a session runs many commands all the same.

use std::{
    fs::{self, File},
    io::Write,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use ssh_mcp::{
    app::{App, CommandRequest, ConnectRequest, Waiter},
    ssh::{ids::Owner, output::Form},
};
use tempfile::TempDir;

use crate::{
    samples,
    support::{
        embedded_host::Options,
        home::with,
        mcp_client::McpClient,
        openssh::{Sshd, is_root},
        process,
        resources::Resources,
        session::{Session, login},
        wait::eventually,
    },
};

/// The line that sshd logs for each login.
const LOGIN: &str = "Accepted publickey for";

/// Where commands of any user say that they run, and wait to be let go on.
struct Gate(TempDir);

impl Gate {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let gate = Self(directory);
        let made = Command::new("mkfifo").arg(gate.path("gate")).status().unwrap();
        assert!(made.success());
        for (path, mode) in [(gate.0.path().to_owned(), 0o777), (gate.path("gate"), 0o666)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        gate
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command that arrives, waits at the gate and says its number.
    fn command(&self, number: usize) -> String {
        let (arrived, gate) = (self.path(&format!("at-{number}")), self.path("gate"));
        format!("echo >{}; read go <{}; echo {number}", arrived.display(), gate.display())
    }

    fn arrived(&self) -> usize {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("at-")).count()
    }

    /// Lets so many go on; the gate is open until the result is dropped.
    fn open(&self, number: usize) -> File {
        // For reading too: so it opens at once, and what nobody has read yet is kept.
        let mut gate = File::options().read(true).write(true).open(self.path("gate")).unwrap();
        gate.write_all("\n".repeat(number).as_bytes()).unwrap();
        gate
    }
}

/// A process that only root can end.
struct KilledAtEnd(u32);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        process::kill(&[self.0], "KILL");
    }
}

#[track_caller]
fn assert_said(view: &Value, number: usize) {
    assert_eq!((&view["status"], &view["exit_code"]), (&json!("completed"), &json!(0)), "{view}");
    assert_eq!(view["stdout"], format!("{number}\n"), "{view}");
}

/// Thirty commands at once, none of which goes on before all have arrived.
async fn thirty_at_the_same_time(session: &Session) {
    let gate = Gate::new();
    let commands: Vec<_> = (0..30).map(|number| gate.command(number)).collect();
    let ids = join_all(commands.iter().map(|command| session.start(command))).await;
    eventually("all thirty run at the same time", async || gate.arrived() == 30).await;
    let _open = gate.open(30);
    for (number, id) in ids.iter().enumerate() {
        assert_said(&session.ended(id).await, number);
    }
}

async fn thirty_on_sshd(max_sessions: usize, env: &[(&str, &str)], connections: usize) {
    let Some(sshd) = Sshd::builder().config(&format!("MaxSessions {max_sessions}")).start().await else { return };
    let session = Session::on_sshd(&sshd, env).await;
    thirty_at_the_same_time(&session).await;
    assert_eq!(sshd.logged(LOGIN), connections, "no connection more than it takes");
    // What the server allows is known now.
    thirty_at_the_same_time(&session).await;
    assert_eq!(sshd.logged(LOGIN), connections);
}

#[tokio::test]
async fn thirty_commands_run_at_the_same_time_on_a_server_with_its_default_limit() {
    // One place of each connection is kept for ending commands.
    thirty_on_sshd(10, &[], 4).await;
}

#[tokio::test]
async fn thirty_commands_run_at_the_same_time_on_a_server_that_allows_four() {
    thirty_on_sshd(4, &[], 10).await;
}

#[tokio::test]
async fn thirty_commands_run_at_the_same_time_on_a_server_that_allows_one() {
    thirty_on_sshd(1, &[("SSH_MAX_CONNECTIONS", "30")], 30).await;
}

#[tokio::test]
async fn ten_commands_run_at_the_same_time_on_another_server() {
    let host = Options::default().max_sessions(2).start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let gate = Gate::new();
    let commands: Vec<_> = (0..10).map(|number| gate.command(number)).collect();
    let ids = join_all(commands.iter().map(|command| session.start(command))).await;
    eventually("all ten run at the same time", async || gate.arrived() == 10).await;
    assert_eq!(host.connections(), 10);
    let _open = gate.open(10);
    for (number, id) in ids.iter().enumerate() {
        assert_said(&session.ended(id).await, number);
    }
}

#[tokio::test]
async fn commands_wait_for_a_place_where_no_further_connection_is_allowed() {
    for max_sessions in ["1", "4"] {
        let limit = format!("MaxSessions {max_sessions}");
        let Some(sshd) = Sshd::builder().config(&limit).start().await else { return };
        let session = Session::on_sshd(&sshd, &[("SSH_MAX_CONNECTIONS", "1")]).await;
        let commands: Vec<_> = (0..30).map(|number| format!("echo {number}")).collect();
        let ids = join_all(commands.iter().map(|command| session.start(command))).await;
        for (number, id) in ids.iter().enumerate() {
            assert_said(&session.ended(id).await, number);
        }
        assert_eq!(sshd.logged(LOGIN), 1);
    }
}

#[tokio::test]
async fn command_without_a_place_ends_at_its_own_time_limit() {
    let Some(sshd) = Sshd::builder().config("MaxSessions 2").start().await else { return };
    let session = Session::on_sshd(&sshd, &[("SSH_MAX_CONNECTIONS", "1")]).await;
    let gate = Gate::new();
    let first = session.start(&gate.command(0)).await;
    eventually("the first runs", async || gate.arrived() == 1).await;
    let answer = session.call("ssh_execute", json!({"command": gate.command(1), "timeout_secs": 1})).await;
    assert_eq!((answer.code(), &answer.structured["retryable"]), ("busy", &json!(true)), "{}", answer.text);
    let _open = gate.open(1);
    assert_said(&session.ended(&first).await, 0);
    assert_eq!(gate.arrived(), 1, "the second never ran");
}

/// sshd counts a channel until its process has ended, and one that its user cannot kill goes on. That costs its place, and
/// not the session.
#[tokio::test]
async fn commands_run_beside_those_that_nobody_can_end() {
    if !is_root() {
        return;
    }
    for (max_sessions, commands) in [(1, 1), (3, 2)] {
        let config = format!("MaxSessions {max_sessions}");
        let Some(sshd) = Sshd::builder().config(&config).start().await else { return };
        let session = Session::on_sshd(&sshd, &[]).await;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let as_root = directory.path().join("setpriv");
        fs::copy("/usr/bin/setpriv", &as_root).unwrap();
        fs::set_permissions(&as_root, fs::Permissions::from_mode(0o4755)).unwrap();
        let mut left = Vec::new();
        for number in 0..commands {
            let command =
                format!("exec {} --reuid=0 --clear-groups sh -c 'echo $$; exec sleep 300'", as_root.display());
            let id = session.start(&command).await;
            left.push(KilledAtEnd(session.pid(&id).await));
            let cancelled = session.cancel(&id).await;
            assert_eq!((&cancelled["status"], &cancelled["remote_ended"]), (&json!("cancelled"), &json!(false)));
            assert_eq!(session.run(&format!("echo {number}")).await["stdout"], format!("{number}\n"), "{max_sessions}");
        }
    }
}

#[tokio::test]
async fn cancel_needs_no_login_when_all_places_are_taken() {
    let Some(sshd) = Sshd::builder().config("MaxSessions 4").start().await else { return };
    let session = Session::on_sshd(&sshd, &[("SSH_MAX_CONNECTIONS", "1")]).await;
    let gate = Gate::new();
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(session.start(&gate.command(number)).await);
        // The first three have places before the others ask for one.
        eventually("it has a place", async || gate.arrived() == 3.min(number + 1)).await;
    }
    // A command that waits, then one that runs, whose place the next one gets.
    let waiting = session.cancel(&ids[4]).await;
    assert_eq!((&waiting["cancelled"], &waiting["remote_ended"]), (&json!(true), &json!(true)), "{waiting}");
    let running = session.cancel(&ids[0]).await;
    assert_eq!((&running["cancelled"], &running["remote_ended"]), (&json!(true), &json!(true)), "{running}");
    eventually("the next one runs", async || gate.arrived() == 4).await;
    let _open = gate.open(3);
    for (number, id) in ids.iter().enumerate().take(4).skip(1) {
        assert_said(&session.ended(id).await, number);
    }
    assert_eq!((gate.arrived(), sshd.logged(LOGIN)), (4, 1));
}

/// One connection that has not logged in takes the only start-up place of the server.
fn hold_startup(sshd: &Sshd) -> TcpStream {
    TcpStream::connect(("127.0.0.1", sshd.port())).unwrap()
}

#[tokio::test]
async fn further_connection_that_the_server_turns_away_is_tried_again() {
    let builder = Sshd::builder().config("MaxSessions 2").config("MaxStartups 1");
    let Some(sshd) = builder.start().await else { return };
    let session = Session::on_sshd(&sshd, &[("SSH_MAX_RETRIES", "0")]).await;
    let gate = Gate::new();
    session.run("true").await;
    let startup = hold_startup(&sshd);
    let ids = [session.start(&gate.command(0)).await, session.start(&gate.command(1)).await];
    eventually("the server turns it away", async || {
        session.client.stderr().contains("no further connection could be opened")
    })
    .await;
    eventually("the other one runs", async || gate.arrived() == 1).await;
    drop(startup);
    eventually("both run", async || gate.arrived() == 2).await;
    let _open = gate.open(2);
    for (number, id) in ids.iter().enumerate() {
        assert_said(&session.ended(id).await, number);
    }
}

#[tokio::test]
async fn reconnect_that_the_server_turns_away_backs_off() {
    let Some(sshd) = Sshd::builder().config("MaxStartups 1").start().await else { return };
    let client = McpClient::stdio(&[("RUST_LOG", "ssh_mcp=debug")]).await;
    let retries = json!({"max_retries": 100, "retry_delay_ms": 20});
    let session = Session::open(client, with(login(&sshd, &sshd.user().name), retries)).await;
    // The server has done all that follows a login.
    session.run("true").await;
    sshd.signal_connections("KILL");
    eventually("the loss is noticed", async || session.listed().await.unwrap()["healthy"] == false).await;
    let startup = hold_startup(&sshd);
    let (view, ()) = tokio::join!(session.run("echo again"), async {
        eventually("it is turned away", async || session.client.stderr().contains("trying again")).await;
        drop(startup);
    });
    assert_eq!((&view["stdout"], &view["reconnected"]), (&json!("again\n"), &json!(true)), "{view}");
}

#[tokio::test]
async fn thousand_commands_leave_nothing_behind() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let run = async |count: usize, at_once: usize| {
        let one = async || {
            for _ in 0..count / at_once {
                let view = session.run("true").await;
                assert_eq!((&view["status"], &view["exit_code"]), (&json!("completed"), &json!(0)), "{view}");
            }
        };
        join_all((0..at_once).map(|_| one())).await;
    };
    // As many as there are records, so that these do not count as growth.
    run(200, 8).await;
    let (before, connections) = (Resources::of(session.client.pid()), sshd.connections().len());
    run(300, 1).await;
    run(704, 8).await;
    let mut after = Resources::of(session.client.pid());
    eventually("descriptors and threads are back", async || {
        after = Resources::of(session.client.pid());
        after.descriptors <= before.descriptors && after.threads <= before.threads
    })
    .await;
    assert!(after.memory < before.memory + (10 << 20), "{before:?} {after:?}");
    // sshd's process for a command may take a moment to go.
    eventually("no process of sshd is left", async || sshd.connections().len() == connections).await;
    assert_eq!(sshd.logged(LOGIN), 1);
}

/// In this process, since only here the clock can be moved.
#[tokio::test]
async fn further_connections_are_closed_when_nothing_has_used_them_for_a_while() {
    let Some(sshd) = Sshd::builder().config("MaxSessions 2").start().await else { return };
    let home = tempfile::tempdir().unwrap();
    let mut settings = samples::settings();
    settings.ssh.home = Some(home.path().to_owned());
    settings.ssh.known_hosts = Some(home.path().join("known_hosts"));
    settings.ssh.key_roots = vec![std::env::temp_dir()];
    let (app, owner) = (App::new(settings), Owner::new("test"));
    let session = app.connect(&owner, connect_request(&sshd)).await.unwrap().session.id.to_string();
    let never = Waiter::default();

    let gate = Gate::new();
    let run = |number| app.run(&owner, &session, request(gate.command(number)), &never);
    let open = async {
        eventually("all run", async || gate.arrived() == 3).await;
        gate.open(3)
    };
    let (first, second, third, _open) = tokio::join!(run(0), run(1), run(2), open);
    for view in [first, second, third] {
        assert_eq!(view.unwrap().info.exit_status, Some(0));
    }
    let connections = sshd.connections().len();
    assert_eq!((sshd.logged(LOGIN), connections % 3), (3, 0), "each has the same number of processes");

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(20)).await;
    tokio::time::resume();
    assert_eq!(app.run(&owner, &session, request("true".into()), &never).await.unwrap().info.exit_status, Some(0));
    assert_eq!(sshd.connections().len(), connections, "not yet");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(25)).await;
    tokio::time::resume();
    eventually("one is left", async || sshd.connections().len() == connections / 3).await;
    let view = app.run(&owner, &session, request("true".into()), &never).await.unwrap();
    assert_eq!((view.info.exit_status, view.info.reconnected), (Some(0), false));
    app.shutdown(Duration::from_secs(5)).await;
}

fn connect_request(sshd: &Sshd) -> ConnectRequest {
    ConnectRequest {
        jump: None,
        address: format!("127.0.0.1:{}", sshd.port()),
        username: Some(sshd.user().name.clone()),
        password: None,
        password_ref: None,
        key_path: Some(sshd.client_key().to_str().unwrap().to_owned()),
        passphrase_ref: None,
        totp_ref: None,
        answers: Vec::new(),
        name: None,
        agent_id: None,
        persistent: false,
        timeout: None,
        max_retries: None,
        retry_delay: None,
        compression: None,
        approved_key: None,
        session_id: None,
    }
}

fn request(command: String) -> CommandRequest {
    CommandRequest { command, cwd: None, timeout: None, stdin: None, form: Form::Text }
}
