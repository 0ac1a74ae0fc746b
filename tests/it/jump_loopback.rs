//! Jump hosts that need no namespaces: servers on loopback addresses, as any user.

use serde_json::{Value, json};

use crate::support::{
    home::{Home, with},
    mcp_client::{Does, HttpServer, Human, McpClient},
    openssh::{Agent, Sshd},
    session::{Session, login, text},
    wait::eventually,
};

/// Two jump hosts and a server, whose keys one agent holds.
struct Scene {
    hops: [Sshd; 2],
    server: Sshd,
    agent: Agent,
    home: Home,
}

impl Scene {
    async fn start() -> Option<Self> {
        let (hops, server) = ([Sshd::start().await?, Sshd::start().await?], Sshd::start().await?);
        let agent = Agent::start(&[hops[0].client_key(), hops[1].client_key()]).await;
        Some(Self { hops, server, agent, home: Home::new() })
    }

    fn env(&self) -> [(&'static str, String); 2] {
        let home = self.home.path().display().to_string();
        [("HOME", home), ("SSH_AUTH_SOCK", self.agent.socket().display().to_string())]
    }

    /// The key file is for the server alone; the jump hosts take the agent's.
    fn arguments(&self) -> Value {
        let [first, second] = &self.hops;
        let jump = format!("127.0.0.1:{}, ssh://{}@127.0.0.1:{}", first.port(), second.user().name, second.port());
        with(login(&self.server, &self.server.user().name), json!({"jump": jump, "max_retries": 0}))
    }

    fn logins(&self) -> [usize; 3] {
        [&self.hops[0], &self.hops[1], &self.server].map(|server| server.logged("Accepted publickey"))
    }
}

fn pairs<'a>(env: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    env.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[tokio::test]
async fn commands_run_behind_two_jump_hosts_and_nothing_is_left() {
    let Some(scene) = Scene::start().await else { return };
    let session = Session::open(McpClient::stdio(&pairs(&scene.env())).await, scene.arguments()).await;
    assert_eq!(session.run("echo here").await["stdout"], "here\n");
    let big = session.run("head -c 3000000 /dev/zero | tr '\\0' x").await;
    assert_eq!(big["stdout_bytes"], 3_000_000, "more than a window");
    assert_eq!(scene.logins(), [1, 1, 1]);
    session.disconnect().await;
    let closed = session.call("ssh_execute", json!({"command": "true"})).await;
    let user = &scene.server.user().name;
    let [first, second] = [&scene.hops[0], &scene.hops[1]].map(|hop| format!("{user}@127.0.0.1:{}", hop.port()));
    assert!(text(&closed.structured["hint"]).contains(&format!("jump \"{first},{second}\"")), "{}", closed.text);
    let pid = session.client.pid();
    drop(session);
    eventually("nothing is left", async || {
        let idle = [&scene.hops[0], &scene.hops[1], &scene.server].iter().all(|server| server.connections().is_empty());
        idle && !crate::support::process::alive(pid)
    })
    .await;
}

#[tokio::test]
async fn the_key_and_password_of_a_call_are_never_offered_to_a_jump_host() {
    let Some(scene) = Scene::start().await else { return };
    // A key that every server takes is given for the target; the agent holds none that the hop takes.
    for hop in &scene.hops {
        hop.authorize(scene.server.client_key());
    }
    let agent = Agent::start(&[scene.hops[1].client_key()]).await;
    let socket = agent.socket().display().to_string();
    let client = McpClient::stdio(&[("HOME", &scene.env()[0].1), ("SSH_AUTH_SOCK", &socket)]).await;
    let refused = client.call("ssh_connect", scene.arguments()).await;
    assert_eq!((refused.code(), &refused.structured["hop"]), ("auth_failed", &json!(1)), "{}", refused.text);
    if let Some(password) = &scene.server.user().password {
        let arguments = with(scene.arguments(), json!({"key_path": null, "password": password}));
        assert_eq!(client.call("ssh_connect", arguments).await.code(), "auth_failed");
        assert_eq!(scene.hops[0].logged("for password") + scene.hops[0].logged("method password"), 0);
    }
    assert_eq!(scene.logins(), [0, 0, 0]);
}

#[tokio::test]
async fn a_person_is_asked_about_each_server_on_the_way_in_either_era() {
    for newer in [false, true] {
        let Some(scene) = Scene::start().await else { return };
        let human = Human::who_trusts();
        let mut env = scene.env().to_vec();
        env.push(("SSH_HOST_KEY_POLICY", "ask".into()));
        let client = McpClient::stdio_with(&pairs(&env), &human, newer).await;
        client.call_and_answer("ssh_connect", scene.arguments()).await.success();
        let asked: Vec<_> = human.asked().iter().map(|question| text(&question["message"])).collect();
        assert_eq!(asked.len(), 3, "{asked:?}");
        for (message, server) in asked.iter().zip([&scene.hops[0], &scene.hops[1], &scene.server]) {
            assert!(message.contains(&format!("port {}", server.port())), "{message}");
            assert!(message.contains(&server.fingerprint()), "{message}");
        }
        assert_eq!(scene.home.recorded().lines().count(), 3);

        let Some(scene) = Scene::start().await else { return };
        let (human, mut env) = (Human::who(Does::Decline), scene.env().to_vec());
        env.push(("SSH_HOST_KEY_POLICY", "ask".into()));
        let client = McpClient::stdio_with(&pairs(&env), &human, newer).await;
        let refused = client.call_and_answer("ssh_connect", scene.arguments()).await;
        assert_eq!((refused.code(), &refused.structured["hop"]), ("host_key_unknown", &json!(1)));
        assert_eq!(refused.structured["why"], "declined", "{}", refused.text);
        assert_eq!((scene.home.recorded().as_str(), scene.logins()), ("", [0, 0, 0]));
    }
}

#[tokio::test]
async fn principals_of_one_server_share_no_jump_host() {
    let Some(scene) = Scene::start().await else { return };
    let tokens = scene.home.path().join("tokens");
    std::fs::write(&tokens, "alice:alice-0123456789abcdef\nbob:bob-0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&tokens, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut env = scene.env().to_vec();
    env.push(("MCP_TOKEN_FILE", tokens.display().to_string()));
    let server = HttpServer::start(&pairs(&env)).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "ssh_connect", "arguments": scene.arguments()}});
    for token in ["alice-0123456789abcdef", "alice-0123456789abcdef", "bob-0123456789abcdef"] {
        let bearer = format!("Bearer {token}");
        let reply =
            server.post(&[("Authorization", &bearer), ("Content-Type", "application/json")], &call.to_string()).await;
        assert!(reply.body.contains("session_id"), "{}", reply.body);
    }
    assert_eq!(scene.logins(), [2, 2, 3], "one each for two principals");
}
