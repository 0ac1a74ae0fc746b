//! Every server with every way to log in, as a table; and what TinySSH can do.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::support::{
    dropbear::Dropbear,
    home::{Home, with},
    mcp_client::McpClient,
    openssh::{Agent, KeyFormat, KeyType, Sshd, SshdBuilder},
    proxy::Proxy,
    session::Session,
    tinysshd::Tinysshd,
    wait::eventually,
};

fn by_key(server: &Tinysshd, user: &str) -> Value {
    json!({"address": format!("127.0.0.1:{}", server.port()), "username": user, "key_path": server.client_key()})
}

async fn on_tinysshd(server: &Tinysshd) -> Session {
    Session::open(McpClient::stdio(&[]).await, by_key(server, &server.user().name)).await
}

#[tokio::test]
async fn commands_on_tinyssh_have_output_exit_codes_and_stdin() {
    let Some(server) = Tinysshd::start() else { return };
    for user in [server.user().name.as_str(), "root"] {
        let session = Session::open(McpClient::stdio(&[]).await, by_key(&server, user)).await;
        let ran = session.run("id -un; echo oops >&2; exit 7").await;
        assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!(format!("{user}\n")), &json!(7)), "{ran}");
        assert_eq!(ran["stderr"], "oops\n", "{ran}");
        let ran = session.call("ssh_execute", json!({"command": "wc -c; pwd", "stdin": "abc", "cwd": "/"})).await;
        let ran = ran.success();
        assert_eq!(ran["stdout"], "3\n/\n", "{ran}");
        let ran = session.run("head -c 3000000 /dev/zero | wc -c; printf x | cat").await;
        assert_eq!(ran["stdout"], "3000000\nx", "{ran}");
    }
}

#[tokio::test]
async fn several_commands_at_once_run_on_tinyssh() {
    let Some(server) = Tinysshd::start() else { return };
    let session = on_tinysshd(&server).await;
    let mut started = Vec::new();
    for n in 0..4 {
        started.push(session.start(&format!("echo begun; sleep 1; echo {n}")).await);
    }
    for (n, id) in started.iter().enumerate() {
        let view = session.ended(id).await;
        assert_eq!((&view["stdout"], &view["exit_code"]), (&json!(format!("begun\n{n}\n")), &json!(0)), "{view}");
    }
    assert!(server.connections() <= 6, "{}", server.connections());
}

#[tokio::test]
async fn cancel_ends_a_command_on_tinyssh() {
    let Some(server) = Tinysshd::start() else { return };
    let session = on_tinysshd(&server).await;
    let id = session.start("echo $$; sleep 300").await;
    let pid = session.pid(&id).await;
    let cancelled = session.cancel(&id).await;
    assert_eq!((&cancelled["status"], &cancelled["remote_ended"]), (&json!("cancelled"), &json!(true)), "{cancelled}");
    eventually("the command is gone", async || !crate::support::process::alive(pid)).await;
    assert_eq!(session.run("echo on").await["stdout"], "on\n");
}

/// TinySSH ends each connection after its first channel: that is no loss, and nobody is told of one.
#[tokio::test]
async fn a_session_on_tinyssh_outlives_its_connections() {
    let Some(server) = Tinysshd::start() else { return };
    let login = by_key(&server, &server.user().name);
    let session = Session::open(McpClient::stdio(&[("SSH_RECONNECT", "false")]).await, login).await;
    eventually("the connection of the question for the shell has ended", async || server.log().contains("finished"))
        .await;
    for n in 0..3 {
        let listed = session.listed().await.expect("it is open");
        assert_eq!(listed["healthy"], true, "{listed}");
        let ran = session.run(&format!("echo {n}")).await;
        assert_eq!((&ran["stdout"], ran.get("reconnected")), (&json!(format!("{n}\n")), None), "{ran}");
    }
    let again = session
        .client
        .call(
            "ssh_connect",
            json!({"address": session.login()["address"],
        "username": server.user().name, "session_id": session.id}),
        )
        .await
        .success();
    assert_eq!((&again["reused"], &again["session_id"]), (&json!(true), &json!(session.id)), "{again}");
}

/// It rests between its channels. A connection that failed is forgotten once one was made.
#[tokio::test]
async fn a_session_on_tinyssh_is_well_again_after_a_connection_that_failed() {
    let Some(server) = Tinysshd::start() else { return };
    let proxy = Proxy::before(server.port()).await;
    let mut login = by_key(&server, &server.user().name);
    login["address"] = json!(format!("127.0.0.1:{}", proxy.port()));
    let session = Session::open(McpClient::stdio(&[("SSH_MAX_RETRIES", "0")]).await, login).await;
    let healthy = async || session.listed().await.map(|listed| listed["healthy"] == true);
    eventually("it rests", async || server.log().contains("finished")).await;
    proxy.refuse(true);
    let failed = session.call("ssh_execute", json!({"command": "true"})).await;
    assert_eq!(failed.code(), "connection_lost", "{failed:?}");
    assert_eq!(healthy().await, Some(false));
    proxy.refuse(false);
    assert_eq!(session.run("echo on").await["stdout"], "on\n");
    eventually("it rests and is well", async || healthy().await == Some(true)).await;
}

/// It has no forwards: the port is open, as ssh's would be, and each connection to it is closed.
#[tokio::test]
async fn a_forward_on_tinyssh_carries_nothing_and_harms_no_command() {
    let Some(server) = Tinysshd::start() else { return };
    let session = on_tinysshd(&server).await;
    let to = json!({"local_port": 0, "remote_address": "127.0.0.1", "remote_port": server.port()});
    let forward = session.call("ssh_forward", to).await.success();
    let mut local = TcpStream::connect(forward["local_address"].as_str().unwrap()).await.unwrap();
    let mut got = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), local.read_to_end(&mut got)).await.expect("it is closed");
    assert!(read.is_err() || got.is_empty(), "{got:?}");
    assert_eq!(session.run("echo on").await["stdout"], "on\n");
}

/// A server, and how to log in there by each method: none where the server has no such method.
struct Row {
    name: &'static str,
    port: u16,
    user: String,
    /// As [`METHODS`]; `-` is not tried: the server cannot have it.
    expected: [&'static str; METHODS.len()],
}

const METHODS: [&str; 8] =
    ["password", "ed25519", "ecdsa", "rsa", "agent", "certificate", "keyboard-interactive", "none of them"];

/// What a cell shows when it works.
const IN: &str = "in";
/// What a cell shows when the server refuses the login.
const NO: &str = "auth_failed";
/// Keyboard-interactive with the password as its answer: not supported yet.
const ASKED: &str = IN;

fn old_sshd(by_authority: &str) -> SshdBuilder {
    let lines = [
        "KexAlgorithms diffie-hellman-group14-sha1",
        "HostKeyAlgorithms ssh-rsa",
        "Ciphers aes128-cbc",
        "MACs hmac-sha1",
        by_authority,
    ];
    lines.into_iter().fold(Sshd::builder().host_key(KeyType::Rsa), SshdBuilder::config)
}

/// Takes the password as an answer to a question of PAM's only.
fn asking_sshd() -> SshdBuilder {
    let lines = ["UsePAM yes", "PasswordAuthentication no", "KbdInteractiveAuthentication yes"];
    lines.into_iter().fold(Sshd::builder(), SshdBuilder::config)
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the table is there to be read")]
async fn every_server_takes_every_method_that_it_has() {
    let keys = Home::new();
    let kinds = [KeyType::Ed25519, KeyType::Ecdsa, KeyType::Rsa];
    let [ed25519, ecdsa, rsa] = kinds.map(|kind| keys.key(&format!("{kind:?}"), kind, KeyFormat::OpenSsh));
    let certified = keys.key("certified", KeyType::Ed25519, KeyFormat::OpenSsh);
    let authority = keys.key("authority", KeyType::Ed25519, KeyFormat::OpenSsh);
    let by_authority = format!("TrustedUserCAKeys {}.pub", authority.display());
    let (sshd, old, asking, dropbear) = tokio::join!(
        Sshd::builder().config(&by_authority).start(),
        old_sshd(&by_authority).start(),
        asking_sshd().start(),
        Dropbear::start()
    );
    let (Some(sshd), Some(old), Some(asking)) = (sshd, old, asking) else { return };
    let (Some(dropbear), Some(tinyssh)) = (dropbear, Tinysshd::start()) else { return };
    let Some(password) = sshd.user().password.as_deref() else { return };
    for key in [&ed25519, &ecdsa, &rsa] {
        sshd.authorize(key);
        old.authorize(key);
        dropbear.authorize(key);
        tinyssh.authorize(key);
    }
    certify(&authority, &certified, &sshd.user().name);
    let agent = Agent::start(&[&certified, &ecdsa, &rsa, &ed25519]).await;
    let only_certificate = Agent::start(&[&certified]).await;
    let row = |name, port, expected| Row { name, port, user: sshd.user().name.clone(), expected };
    let rows = [
        row("OpenSSH", sshd.port(), [IN, IN, IN, IN, IN, IN, "-", NO]),
        row("OpenSSH, old algorithms", old.port(), [IN, IN, IN, IN, IN, IN, "-", NO]),
        row("OpenSSH that asks", asking.port(), ["-", "-", "-", "-", "-", "-", ASKED, NO]),
        row("Dropbear", dropbear.port(), [IN, IN, IN, IN, IN, NO, "-", NO]),
        // It knows ed25519 alone.
        row("TinySSH", tinyssh.port(), [NO, IN, NO, NO, IN, NO, "-", NO]),
    ];
    let unknown = keys.key("unknown", KeyType::Ed25519, KeyFormat::OpenSsh);
    let mut table = format!("| server |{}\n", METHODS.map(|method| format!(" {method} |")).concat());
    let mut wrong = Vec::new();
    for row in &rows {
        table.push_str(&format!("| {} |", row.name));
        for (method, expected) in METHODS.into_iter().zip(row.expected) {
            let (socket, more) = match method {
                _ if expected == "-" => {
                    table.push_str(" - |");
                    continue;
                }
                "password" | "keyboard-interactive" => (None, json!({"password": password})),
                "ed25519" => (None, json!({"key_path": ed25519})),
                "ecdsa" => (None, json!({"key_path": ecdsa})),
                "rsa" => (None, json!({"key_path": rsa})),
                "agent" => (Some(agent.socket()), json!({})),
                "certificate" => (Some(only_certificate.socket()), json!({})),
                _ => (None, json!({"key_path": unknown})),
            };
            let got = logged_in(row, socket, more).await;
            table.push_str(&format!(" {got} |"));
            if got != expected {
                wrong.push(format!("{}, {method}: {got}, not {expected}", row.name));
            }
        }
        table.push('\n');
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{wrong:#?}\n{table}\n{}", tinyssh.log());
}

/// `in`, once a command ran there; else the code of the refusal.
async fn logged_in(row: &Row, agent: Option<PathBuf>, more: Value) -> String {
    let home = Home::new();
    let socket = agent.map(|socket| socket.display().to_string());
    let mut env: Vec<_> = socket.iter().map(|socket| ("SSH_AUTH_SOCK", socket.as_str())).collect();
    let address = format!("127.0.0.1:{}", row.port);
    if row.name.contains("old") {
        env.push(("SSH_LEGACY_HOSTS", &address));
    }
    let client = home.client(&env).await;
    let login = with(json!({"address": address, "username": row.user}), more);
    let answer = client.call("ssh_connect", login).await;
    if answer.is_error {
        return answer.code().to_owned();
    }
    let id = answer.success()["session_id"].clone();
    let ran = client.call("ssh_execute", json!({"session_id": id, "command": "id -un; exit 3"})).await.success();
    assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!(format!("{}\n", row.user)), &json!(3)), "{}", row.name);
    IN.into()
}

fn certify(authority: &Path, key: &Path, user: &str) {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-I", "test", "-n", user, "-V", "+1h", "-s"])
        .arg(authority)
        .arg(format!("{}.pub", key.display()));
    assert!(command.status().unwrap().success());
}
