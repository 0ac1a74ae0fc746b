//! Jump hosts: real servers in a row of network namespaces, each reachable from the one before it alone.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    home::{Home, with},
    mcp_client::McpClient,
    namespace::Chain,
    openssh::{Agent, Sshd},
    session::{Session, text},
    wait::{eventually, holds_within},
};

/// A client, and three servers behind one another.
struct Row {
    home: Home,
    agent: Agent,
    /// Hop 1 and onwards.
    servers: Vec<Sshd>,
    /// The last to go.
    chain: Chain,
}

impl Row {
    async fn start(length: usize) -> Option<Self> {
        Self::with_options(length, &[]).await
    }

    /// `options` are lines of sshd_config and the place of the server that has them.
    async fn with_options(length: usize, options: &[(usize, &str)]) -> Option<Self> {
        let chain = Chain::new(length + 1)?;
        let mut servers = Vec::new();
        for at in 1..=length {
            let lines = options.iter().filter(|(of, _)| *of == at);
            let builder = lines.fold(Sshd::builder(), |builder, (_, line)| builder.config(line));
            servers.push(builder.within(chain.namespace(at), Chain::address(at)).start().await?);
        }
        let keys: Vec<_> = servers.iter().map(Sshd::client_key).collect();
        let agent = Agent::start(&keys).await;
        Some(Self { home: Home::new(), agent, servers, chain })
    }

    async fn client(&self) -> McpClient {
        self.client_with(&[]).await
    }

    async fn client_with(&self, env: &[(&str, &str)]) -> McpClient {
        let (home, socket) = (self.home.path().display().to_string(), self.agent.socket().display().to_string());
        let env = [&[("HOME", home.as_str()), ("SSH_AUTH_SOCK", &socket)], env].concat();
        McpClient::stdio_within(self.chain.namespace(0), &env).await
    }

    /// The server at a place, from 1 on.
    fn server(&self, at: usize) -> &Sshd {
        &self.servers[at - 1]
    }

    fn host_port(&self, at: usize) -> String {
        format!("{}:{}", Chain::address(at), self.server(at).port())
    }

    /// Root at odd places, the ordinary user at even ones.
    fn user(&self, at: usize) -> &str {
        if at % 2 == 1 { "root" } else { &self.server(at).user().name }
    }

    /// The arguments that lead to a server through all before it.
    fn to(&self, at: usize) -> Value {
        let arguments = json!({"address": self.host_port(at), "username": self.user(at), "max_retries": 0});
        if at == 1 {
            return arguments;
        }
        let hops: Vec<_> = (1..at).map(|hop| format!("{}@{}", self.user(hop), self.host_port(hop))).collect();
        with(arguments, json!({"jump": hops.join(",")}))
    }

    /// Connections that each server serves.
    fn connections(&self) -> Vec<usize> {
        self.servers.iter().map(|server| server.logged("Accepted publickey")).collect()
    }

    fn is_idle(&self) -> bool {
        self.servers.iter().all(|server| server.connections().is_empty())
    }
}

#[tokio::test]
async fn servers_are_reached_through_up_to_three_others_each_with_its_own_user_and_key() {
    let Some(row) = Row::start(4).await else { return };
    let client = std::sync::Arc::new(row.client().await);
    for at in 1..=4 {
        let opened = client.call("ssh_connect", row.to(at)).await.success();
        assert_eq!(opened["host"], Chain::address(at).to_string(), "{opened}");
        let run = json!({"session_id": opened["session_id"], "command": "id -un; echo $SSH_CONNECTION"});
        let ran = client.call("ssh_execute", run).await.success();
        let shown = text(&ran["stdout"]);
        let mut lines = shown.lines();
        assert_eq!(lines.next(), Some(row.user(at)));
        let (from, to) = (format!("10.200.{}.1 ", 80 + at), Chain::address(at).to_string());
        let connection = lines.next().unwrap();
        assert!(connection.starts_with(&from) && connection.contains(&to), "{connection}");
        let key = format!("[{to}]:{}", row.server(at).port());
        assert!(row.home.knows(&key), "its host key was checked: {}", row.home.recorded());
    }
    // One login each, for all that went through it.
    let client = std::sync::Arc::into_inner(client).unwrap();
    let logins = row.connections();
    drop(client);
    assert_eq!(logins, [2, 2, 2, 1], "a session of its own and one for all that go on");
    eventually("nothing is left", async || row.is_idle()).await;
}

#[tokio::test]
async fn a_server_behind_a_jump_host_is_not_reached_without_it() {
    let Some(row) = Row::start(2).await else { return };
    let client = row.client().await;
    let direct = with(row.to(2), json!({"jump": "none", "timeout_secs": 5}));
    assert_eq!(client.call("ssh_connect", direct).await.code(), "unreachable");
    client.call("ssh_connect", row.to(2)).await.success();
}

#[tokio::test]
async fn a_changed_host_key_of_a_hop_ends_the_way_before_any_login_there() {
    let Some(mut row) = Row::start(3).await else { return };
    let client = row.client().await;
    let opened = client.call("ssh_connect", row.to(3)).await.success();
    client.call("ssh_disconnect", json!({"session_id": opened["session_id"]})).await.success();
    drop(client);
    row.servers[1].restart_with_other_host_keys().await;

    let client = row.client().await;
    let refused = client.call("ssh_connect", with(row.to(3), json!({"max_retries": 3}))).await;
    assert_eq!(refused.code(), "host_key_changed");
    let answer = &refused.structured;
    assert_eq!((&answer["hop"], &answer["host"]), (&json!(2), &json!(Chain::address(2).to_string())), "{answer}");
    assert_eq!((&answer["retryable"], &answer["retry_attempts"]), (&json!(false), &json!(0)), "{answer}");
    assert!(text(&answer["message"]).starts_with("at hop 2 of the way: "), "{answer}");
    let log = row.server(2).log();
    assert!(log.contains("Connection from"), "it was reached: {log}");
    assert!(!log.contains("userauth-request") && !log.contains("publickey"), "no login was tried: {log}");
    assert_eq!(row.server(3).connections(), [0; 0]);
}

#[tokio::test]
async fn sessions_of_a_lost_jump_host_end_their_commands_and_connect_again_through_a_new_one() {
    let Some(row) = Row::start(3).await else { return };
    let client = std::sync::Arc::new(row.client().await);
    let open = async |at| {
        let opened = client.call("ssh_connect", row.to(at)).await.success();
        text(&opened["session_id"])
    };
    let (near, behind) = (open(1).await, open(3).await);
    let run = |id: &str, command: &str| json!({"session_id": id, "command": command});
    let other = client.call("ssh_execute_async", run(&near, "sleep 4; echo unharmed")).await.success();
    let command = client.call("ssh_execute_async", run(&behind, "echo begun; sleep 300")).await.success();
    let output = async |started: &Value, wait: Option<u64>| {
        let mut arguments = json!({"command_id": started["command_id"]});
        if let Some(secs) = wait {
            arguments = with(arguments, json!({"wait": true, "wait_timeout_secs": secs}));
        }
        client.call("ssh_get_command_output", arguments).await.success()
    };
    eventually("it runs", async || output(&command, None).await["stdout"] == "begun\n").await;

    // The login that serves the way on, and not the session on the same server.
    let carrier = carriers(row.server(1));
    crate::support::process::kill(&carrier, "KILL");
    let lost = output(&command, Some(3)).await;
    assert_eq!((&lost["status"], &lost["error"]["code"]), (&json!("failed"), &json!("outcome_unknown")), "{lost}");
    assert_eq!(lost["stdout"], "begun\n");

    let again = client.call("ssh_execute", run(&behind, "echo again")).await.success();
    assert_eq!((&again["stdout"], &again["reconnected"]), (&json!("again\n"), &json!(true)), "{again}");
    let other = output(&other, Some(20)).await;
    assert_eq!((&other["stdout"], &other["exit_code"]), (&json!("unharmed\n"), &json!(0)), "{other}");
}

/// The processes of a server that carry others' connections: those which have a connection onwards.
fn carriers(server: &Sshd) -> Vec<u32> {
    let sessions = |pid: &u32| {
        crate::support::process::descendants(*pid)
            .iter()
            .any(|below| crate::support::process::name(*below).is_some_and(|name| !name.starts_with("sshd")))
    };
    let (with_session, mut without): (Vec<_>, Vec<_>) = server.connections().into_iter().partition(sessions);
    // The monitor of a session has no child of another name where that has just ended.
    without.retain(|pid| !with_session.iter().any(|of| crate::support::process::descendants(*pid).contains(of)));
    without.retain(|pid| !with_session.iter().any(|of| crate::support::process::descendants(*of).contains(pid)));
    without
}

#[tokio::test]
async fn connections_to_jump_hosts_are_shared_and_closed_when_unused() {
    let Some(row) = Row::start(2).await else { return };
    let client = row.client().await;
    let (a, b) = tokio::join!(client.call("ssh_connect", row.to(2)), client.call("ssh_connect", row.to(2)));
    let (a, b) = (a.success(), b.success());
    assert_eq!(row.connections(), [1, 2], "one login at the hop for both");
    client.call("ssh_disconnect", json!({"session_id": a["session_id"]})).await.success();
    let ran =
        client.call("ssh_execute", json!({"session_id": b["session_id"], "command": "echo here"})).await.success();
    assert_eq!(ran["stdout"], "here\n", "the other one still uses it");
    client.call("ssh_disconnect", json!({"session_id": b["session_id"]})).await.success();
    // Used again within its time.
    let c = client.call("ssh_connect", row.to(2)).await.success();
    assert_eq!(row.connections(), [1, 3]);
    client.call("ssh_disconnect", json!({"session_id": c["session_id"]})).await.success();
    assert!(!row.server(1).connections().is_empty(), "kept for a while");
    assert!(holds_within(Duration::from_secs(45), async || row.is_idle()).await, "nothing is left");
}

#[tokio::test]
async fn a_failure_says_at_which_hop_and_why() {
    let options = [(1, "AllowTcpForwarding yes"), (2, "AllowTcpForwarding no")];
    let Some(mut row) = Row::with_options(3, &options).await else { return };
    let client = row.client().await;
    let fails = async |arguments: Value| {
        let answer = client.call("ssh_connect", with(arguments, json!({"max_retries": 0, "timeout_secs": 8}))).await;
        assert!(answer.is_error, "{answer:?}");
        answer.structured
    };
    let denied = fails(row.to(3)).await;
    assert_eq!((&denied["code"], &denied["via_hop"]), (&json!("forward_denied"), &json!(2)), "{denied}");
    assert_eq!((&denied["host"], &denied["via"]), (&json!(Chain::address(3).to_string()), &json!(row.host_port(2))));

    let nobody = format!("nobody-here@{},{}", row.host_port(1), row.host_port(2));
    let login = fails(with(row.to(3), json!({"jump": nobody}))).await;
    assert_eq!((&login["code"], &login["hop"]), (&json!("auth_failed"), &json!(1)), "{login}");
    assert_eq!((&login["username"], &login["retryable"]), (&json!("nobody-here"), &json!(false)), "{login}");

    row.servers[1].stop();
    let refused = fails(row.to(3)).await;
    assert_eq!((&refused["code"], &refused["hop"]), (&json!("connect_refused"), &json!(2)), "{refused}");
    assert_eq!((&refused["via_hop"], &refused["retryable"]), (&json!(1), &json!(true)), "{refused}");
    row.servers[0].stop();
    let first = fails(row.to(2)).await;
    assert_eq!((&first["code"], &first["hop"]), (&json!("connect_refused"), &json!(1)), "{first}");
}

#[tokio::test]
async fn a_silent_hop_is_named_when_the_time_is_over() {
    let Some(row) = Row::start(3).await else { return };
    row.server(2).signal_all("STOP");
    let client = row.client().await;
    for retries in [0, 3] {
        let arguments = with(row.to(3), json!({"timeout_secs": 2, "max_retries": retries}));
        let late = client.call("ssh_connect", arguments).await;
        assert_eq!((late.code(), &late.structured["hop"]), ("connect_timeout", &json!(2)), "{}", late.text);
    }
    row.server(2).signal_all("CONT");
}

#[tokio::test]
async fn a_hop_that_comes_up_late_is_waited_for() {
    let Some(mut row) = Row::start(2).await else { return };
    row.servers[1].stop();
    let client = row.client().await;
    let arguments = with(row.to(2), json!({"max_retries": 10, "retry_delay_ms": 300, "timeout_secs": 20}));
    let (opened, ()) = tokio::join!(client.call("ssh_connect", arguments), async {
        let jumped = || row.servers[0].logged("Accepted publickey") == 1;
        eventually("it got to the hop", async || jumped()).await;
        row.servers[1].restart().await;
    });
    let opened = opened.success();
    assert!(opened["retry_attempts"].as_u64().unwrap() >= 1, "{opened}");
    assert_eq!(row.servers[0].logged("Accepted publickey"), 1, "one login at the hop for all attempts");
}

#[tokio::test]
async fn a_session_is_reused_only_for_the_same_way() {
    let Some(row) = Row::start(2).await else { return };
    let client = row.client().await;
    let session = Session::open(client, row.to(2)).await;
    let same = session.client.call("ssh_connect", with(row.to(2), json!({"session_id": session.id}))).await.success();
    assert_eq!(same["reused"], true);
    let direct = with(row.to(2), json!({"session_id": session.id, "jump": "none", "timeout_secs": 5}));
    assert_eq!(session.client.call("ssh_connect", direct).await.code(), "unreachable", "not that session");
}

/// The connection behind waits for room in a channel of the one before, and that one for the reader behind.
#[tokio::test]
async fn much_goes_both_ways_at_once_through_a_jump_host() {
    let Some(row) = Row::start(2).await else { return };
    let session = Session::open(row.client().await, row.to(2)).await;
    let stdin = "0123456789abcde\n".repeat(64 << 10);
    let echoed = (0..6).map(async |_| {
        let ran = session.call("ssh_execute", json!({"command": "cat", "stdin": stdin, "timeout_secs": 30})).await;
        let ran = ran.success();
        assert_eq!((&ran["exit_code"], &ran["stdout_bytes"]), (&json!(0), &json!(stdin.len())), "{ran}");
    });
    join_all(echoed).await;
}

#[tokio::test]
async fn a_forward_through_jump_hosts_holds_up_nobody_else() {
    let Some(row) = Row::start(2).await else { return };
    let session = Session::open(row.client().await, row.to(2)).await;
    let server = session.start("exec python3 -c 'import socket\ns=socket.socket(); s.bind((\"127.0.0.1\",0)); s.listen(); print(s.getsockname()[1],flush=True)\nc=s.accept()[0]\nwhile 1: c.sendall(bytes(65536))'").await;
    let port = session.pid(&server).await;
    let forward = json!({"local_port": 0, "remote_address": "127.0.0.1", "remote_port": port});
    let opened = session.call("ssh_forward", forward).await.success();
    let local = text(&opened["local_address"]);
    let port = local.rsplit_once(':').unwrap().1;
    // Somebody connects and never reads.
    let script = format!(
        "import socket,sys\ns=socket.create_connection(('127.0.0.1',{port})); s.recv(1); print('in',flush=True); sys.stdin.read()"
    );
    let mut reader = std::process::Command::new("ip")
        .args(["netns", "exec", row.chain.namespace(0), "python3", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..20 {
        let begun = std::time::Instant::now();
        assert_eq!(session.run("echo on").await["stdout"], "on\n");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(reader.stdin.take());
    reader.wait().unwrap();
}

#[tokio::test]
async fn a_hop_that_cannot_be_read_is_named() {
    let client = McpClient::stdio(&[]).await;
    for (jump, hop) in [("a,b c", 2), ("-oProxyCommand=id", 1), ("a,b:0,c", 2), ("a,,b", 2), ("a,b,c,d,e,f,g,h,i", 9)] {
        let answer = client.call("ssh_connect", json!({"address": "u@h", "jump": jump})).await;
        assert_eq!(answer.code(), "invalid_argument", "{jump}");
        assert_eq!(
            (&answer.structured["argument"], &answer.structured["hop"]),
            (&json!("jump"), &json!(hop)),
            "{jump}"
        );
    }
}
