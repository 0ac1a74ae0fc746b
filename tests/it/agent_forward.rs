//! Agent forwarding: commands of a host may use the SSH agent of this machine where both the configuration of `ssh`
//! and a setting say so, and for no more than listing keys and signing.

mod hostile;

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    alias::{block, connect, home_with, write_config},
    resolved::notices,
    support::{
        dropbear::Dropbear,
        embedded_host::EmbeddedHost,
        home::{Home, logins},
        mcp_client::McpClient,
        openssh::{Agent, KeyFormat, KeyType, Sshd, public_key, ssh_keygen},
        tinysshd::Tinysshd,
    },
};

/// The name of the setting.
const SETTING: &str = "SSH_FORWARD_AGENT_HOSTS";

/// Starts the server with this agent, and lets these hosts use it.
async fn client(home: &Home, agent: &Path, hosts: &str) -> McpClient {
    let agent = agent.to_str().unwrap();
    let variables = [("SSH_AUTH_SOCK", agent), (SETTING, hosts)];
    home.client(if hosts.is_empty() { &variables[..1] } else { &variables }).await
}

async fn run(client: &McpClient, session: &Value, command: &str) -> Value {
    let arguments = json!({"session_id": session["session_id"], "command": command});
    client.call("ssh_execute", arguments).await.success()
}

/// A block that asks for the agent.
fn entry(alias: &str, port: u16, user: &str, key: &Path) -> String {
    format!(
        "Host {alias}\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {}\n  ForwardAgent yes\n",
        key.display()
    )
}

/// What is said of the agent.
fn about_agent(answer: &Value) -> Vec<String> {
    let all = answer["notices"].as_array().map(|_| notices(answer)).unwrap_or_default();
    all.into_iter().filter(|notice| notice.contains("agent")).map(str::to_owned).collect()
}

/// An agent with one key of this name.
async fn agent_with(home: &Home, name: &str) -> Agent {
    Agent::start(&[&home.key(name, KeyType::Ed25519, KeyFormat::OpenSsh)]).await
}

#[tokio::test]
async fn commands_use_the_agent_where_the_configuration_and_the_setting_allow_it() {
    let (Some(sshd), Some(further)) = (Sshd::start().await, Sshd::start().await) else { return };
    let home = home_with(&block("web", &sshd, "  ForwardAgent yes"));
    let key = home.key("agent-key", KeyType::Ed25519, KeyFormat::OpenSsh);
    let agent = Agent::start(&[&key]).await;
    further.authorize(&key);
    let client = client(&home, &agent.socket(), "build, we?").await;
    for login in logins(&sshd) {
        let session = connect(&client, json!({"address": "web", "username": login})).await;
        let told = about_agent(&session);
        assert!(told.len() == 1 && told[0].contains("is lent") && told[0].contains(SETTING), "{told:?}");
        // sshd takes the agent once for each connection, and refuses it to the second command; both can use it.
        for _ in 0..2 {
            let listed = run(&client, &session, "ssh-add -l").await;
            assert!(listed["stdout"].as_str().unwrap().contains("agent-key"), "{login}: {listed}");
            assert_eq!(about_agent(&listed), [""; 0], "{listed}");
        }
        let onward = format!(
            "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
             -p {} {}@127.0.0.1 id -un",
            further.port(),
            further.user().name
        );
        let ran = run(&client, &session, &onward).await;
        assert_eq!(ran["stdout"], format!("{}\n", further.user().name), "{ran}");
    }
    assert_eq!(further.logged("Accepted publickey"), logins(&sshd).len());
}

#[tokio::test]
async fn without_the_setting_or_without_the_line_no_command_sees_the_agent() {
    let Some(sshd) = Sshd::start().await else { return };
    let (home, quiet) = (home_with(&block("web", &sshd, "  ForwardAgent yes")), home_with(&block("web", &sshd, "")));
    let agent = agent_with(&home, "agent-key").await;
    let elsewhere = format!("127.0.0.1:{}", sshd.port() ^ 1);
    let cases = [
        (&home, "", 1),
        (&home, "build, web2", 1),
        (&home, &elsewhere, 1),
        (&home, "we*, !127.0.0.1", 1),
        (&quiet, "web", 0),
    ];
    for (home, hosts, told) in cases {
        let client = client(home, &agent.socket(), hosts).await;
        for login in logins(&sshd) {
            let session = connect(&client, json!({"address": "web", "username": login})).await;
            let said = about_agent(&session);
            assert_eq!(said.len(), told, "{hosts:?}: {session}");
            let names_it = |notice: &String| notice.contains(SETTING) && notice.contains(".ssh/config line 7");
            assert!(said.iter().all(names_it), "{hosts:?}: {said:?}");
            let ran = run(&client, &session, "echo ${SSH_AUTH_SOCK-none}; ssh-add -l").await;
            assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("none\n"), &json!(2)), "{hosts:?}: {ran}");
        }
    }
    assert_eq!(sshd.logged("auth-agent-req"), 0, "it is not even asked for");
}

#[tokio::test]
async fn the_agent_that_the_configuration_names_is_the_one_that_is_lent() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let (usual, other) = (agent_with(&home, "usual-key").await, agent_with(&home, "other-key").await);
    let config = [
        block("path", &sshd, &format!("  ForwardAgent {}", other.socket().display())),
        block("variable", &sshd, "  ForwardAgent $OTHER_AGENT"),
        block("identity", &sshd, &format!("  ForwardAgent yes\n  IdentityAgent {}", other.socket().display())),
        block("usual", &sshd, "  ForwardAgent yes"),
        block("nowhere", &sshd, "  ForwardAgent $NO_SUCH_VARIABLE"),
        block("none", &sshd, "  ForwardAgent yes\n  IdentityAgent none"),
    ];
    write_config(&home, &config.concat());
    let client = home
        .client(&[
            ("SSH_AUTH_SOCK", usual.socket().to_str().unwrap()),
            ("OTHER_AGENT", other.socket().to_str().unwrap()),
            (SETTING, "127.0.0.1"),
        ])
        .await;
    for (alias, key) in [
        ("path", Some("other-key")),
        ("variable", Some("other-key")),
        ("identity", Some("other-key")),
        ("usual", Some("usual-key")),
        ("nowhere", None),
        ("none", None),
    ] {
        let session = connect(&client, json!({"address": alias})).await;
        let listed = run(&client, &session, "ssh-add -l").await;
        let shown = listed["stdout"].as_str().unwrap();
        assert!(key.is_none_or(|key| shown.contains(key)), "{alias}: {listed}");
        assert_eq!(listed["exit_code"], if key.is_some() { 0 } else { 2 }, "{alias}: {listed}");
        let told = about_agent(&session);
        let expected = if key.is_some() { "is lent" } else { "there is no SSH agent" };
        assert!(told.len() == 1 && told[0].contains(expected), "{alias}: {told:?}");
    }
}

#[tokio::test]
async fn a_host_can_neither_change_the_agent_nor_use_keys_that_are_for_others() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = home_with(&block("web", &sshd, "  ForwardAgent yes"));
    let agent = agent_with(&home, "agent-key").await;
    let client = client(&home, &agent.socket(), "web").await;
    let session = connect(&client, json!({"address": "web"})).await;
    let file = format!("/tmp/{}", uuid::Uuid::new_v4());
    let made = run(&client, &session, &format!("ssh-keygen -q -t ed25519 -N '' -f {file}")).await;
    assert_eq!(made["exit_code"], 0, "{made}");
    let add = format!("ssh-add {file}");
    for command in ["ssh-add -D", "ssh-add -X </dev/null", "ssh-add -s /usr/lib/nothing.so </dev/null", &add] {
        let ran = run(&client, &session, &format!("{command} && echo done")).await;
        assert!(!ran["stdout"].as_str().unwrap().contains("done"), "{command}: {ran}");
    }
    run(&client, &session, &format!("rm {file} {file}.pub")).await;
    assert_eq!(listed(&agent).matches("agent-key").count(), 1, "{}", listed(&agent));
    assert_eq!(listed(&agent).lines().count(), 1, "{}", listed(&agent));

    // Keys that may be used with one other host only, or to log in to this one only: the agent knows who asks, and that
    // it asks from afar.
    let known = home.path().join("known");
    let other = public_key(&ssh_keygen(home.path(), "elsewhere", KeyType::Ed25519, KeyFormat::OpenSsh));
    fs::write(&known, format!("elsewhere {other}\n{}", sshd.known_hosts())).unwrap();
    for (place, name) in
        [("elsewhere".to_owned(), "key-of-elsewhere"), (format!("[127.0.0.1]:{}", sshd.port()), "key-of-it")]
    {
        let bound = home.key(name, KeyType::Ed25519, KeyFormat::OpenSsh);
        let mut add = Command::new("ssh-add");
        add.args(["-q", "-h", &place, "-H"]).arg(&known).arg(&bound).env("SSH_AUTH_SOCK", agent.socket());
        let added = add.output().unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        assert!(listed(&agent).contains(name), "{}", listed(&agent));
    }
    let there = run(&client, &session, "ssh-add -l").await;
    let there = there["stdout"].as_str().unwrap();
    assert!(there.contains("agent-key") && !there.contains("key-of-"), "{there}");
}

/// What the agent holds, as this machine sees it.
fn listed(agent: &Agent) -> String {
    let shown = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", agent.socket()).output().unwrap();
    String::from_utf8(shown.stdout).unwrap()
}

#[tokio::test]
async fn a_server_that_does_not_take_the_agent_is_told_once_and_runs_commands() {
    let Some(sshd) = Sshd::builder().config("AllowAgentForwarding no").start().await else { return };
    let host = EmbeddedHost::start().await.unwrap();
    let home = Home::new();
    let agent = agent_with(&home, "agent-key").await;
    let key = home.path().join("host-key");
    host.write_client_key(&key).unwrap();
    let embedded = entry("embedded", host.port(), "u", &key);
    write_config(&home, &(block("web", &sshd, "  ForwardAgent yes") + &embedded));
    let client = client(&home, &agent.socket(), "web, embedded").await;
    for alias in ["web", "embedded"] {
        let session = connect(&client, json!({"address": alias})).await;
        let first = run(&client, &session, "echo ${SSH_AUTH_SOCK-none}").await;
        let told = about_agent(&first);
        assert!(told.len() == 1 && told[0].contains("does not take"), "{alias}: {first}");
        assert_eq!(first["exit_code"], 0);
        let second = run(&client, &session, "true").await;
        assert_eq!((about_agent(&second).len(), &second["exit_code"]), (0, &json!(0)), "{alias}: {second}");
    }
}

#[tokio::test]
async fn jump_hosts_and_connections_of_forwards_never_get_the_agent() {
    let (Some(jump), Some(end)) = (Sshd::start().await, Sshd::start().await) else { return };
    let config =
        [block("jump", &jump, "  ForwardAgent yes"), block("end", &end, "  ForwardAgent yes\n  ProxyJump jump")];
    let home = home_with(&config.concat());
    let agent = agent_with(&home, "agent-key").await;
    let client = client(&home, &agent.socket(), "jump, end").await;
    let session = connect(&client, json!({"address": "end"})).await;
    let forward = json!({
        "session_id": session["session_id"], "local_port": 0, "remote_address": "127.0.0.1", "remote_port": jump.port()
    });
    client.call("ssh_forward", forward).await.success();
    assert_eq!(end.logged("auth-agent-req"), 0, "without a command nobody asks");
    let listed = run(&client, &session, "ssh-add -l").await;
    assert!(listed["stdout"].as_str().unwrap().contains("agent-key"), "{listed}");
    assert_eq!((jump.logged("auth-agent-req"), end.logged("auth-agent-req") > 0), (0, true));
}

#[tokio::test]
async fn dropbear_takes_the_agent_for_each_command_and_tinyssh_says_that_it_does_not() {
    let (dropbear, tinysshd) = (Dropbear::start().await, Tinysshd::start());
    let home = Home::new();
    let agent = agent_with(&home, "agent-key").await;
    let mut config = String::new();
    if let Some(server) = &dropbear {
        config += &entry("dropbear", server.port(), &server.user().name, server.client_key());
    }
    if let Some(server) = &tinysshd {
        config += &entry("tinyssh", server.port(), &server.user().name, server.client_key());
    }
    write_config(&home, &config);
    let client = client(&home, &agent.socket(), "127.0.0.1").await;
    if let Some(server) = &dropbear {
        for login in [server.user().name.as_str(), "root"] {
            let session = connect(&client, json!({"address": "dropbear", "username": login})).await;
            for _ in 0..2 {
                let listed = run(&client, &session, "ssh-add -l").await;
                assert!(listed["stdout"].as_str().unwrap().contains("agent-key"), "{login}: {listed}");
                assert_eq!(about_agent(&listed), [""; 0], "{login}: {listed}");
            }
        }
    }
    if tinysshd.is_some() {
        let session = connect(&client, json!({"address": "tinyssh"})).await;
        let ran = run(&client, &session, "echo ${SSH_AUTH_SOCK-none}").await;
        assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("none\n"), &json!(0)), "{ran}");
        assert_eq!(about_agent(&ran).len(), 1, "{ran}");
    }
}
