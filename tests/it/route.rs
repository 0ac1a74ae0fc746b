//! How the stream to a server comes about, as the core makes it: addresses, programs, shared jump hosts.

use std::{sync::Arc, time::Duration};

use ssh_mcp::{
    config::{Compression, HostKeyPolicy},
    error::{Code, Explain},
    ssh::{
        client::{
            self, ClientError, ConnectSpec, Connection, KeyFile, RetryPolicy, Target,
            host_key::KnownHosts,
            login::{AgentUse, Given, Identity, LoginPlan},
            route::{AddressFamily, Dial, JumpPool, ProxyCommand, Route},
        },
        ids::Owner,
    },
};
use tempfile::TempDir;
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::{
    namespace::Chain,
    openssh::{KeyFormat, KeyType, Sshd, ssh_keygen},
    process::with_environment,
    wait::eventually,
};

/// A server, and what a connection to it is made of.
struct Server {
    sshd: Sshd,
    known_hosts: TempDir,
}

impl Server {
    async fn start() -> Option<Self> {
        Some(Self { sshd: Sshd::start().await?, known_hosts: tempfile::tempdir().unwrap() })
    }

    async fn spec(&self, route: Route) -> ConnectSpec {
        self.spec_with(self.sshd.client_key(), route).await
    }

    async fn spec_with(&self, key: &std::path::Path, route: Route) -> ConnectSpec {
        let roots = vec![key.parent().unwrap().to_owned()];
        let file = KeyFile { path: key.display().to_string(), passphrase: None, home: None, roots };
        let identities = vec![Identity { file, given: Given::ByCall }];
        let login = LoginPlan { identities, identities_only: true, ..LoginPlan::new(AgentUse::Off) };
        let own = self.known_hosts.path().join("known_hosts");
        ConnectSpec {
            target: Target {
                host: "127.0.0.1".into(),
                port: self.sshd.port(),
                username: self.sshd.user().name.clone(),
            },
            route,
            credentials: login.prepare().await.unwrap(),
            retry: RetryPolicy { max_retries: 0, first_delay: Duration::ZERO },
            compression: Compression::Auto,
            algorithms: Default::default(),
            host_key_alias: None,
            environment: Default::default(),
            forward_agent: None,
            known_hosts: Arc::new(KnownHosts::new(Some(own), None, HostKeyPolicy::AcceptNew)),
            approved_key: None,
            timeout: Duration::from_secs(10),
            reconnect: true,
            max_connections: 1,
        }
    }

    async fn through(&self, command: &Program) -> Result<Connection, ClientError> {
        connect(&self.spec(Route::Command(command.0.clone())).await).await
    }
}

async fn connect(spec: &ConnectSpec) -> Result<Connection, ClientError> {
    client::connect(spec, Instant::now() + spec.timeout).await.0
}

/// A ProxyCommand whose processes can be found.
struct Program(ProxyCommand, String);

impl Program {
    fn new(line: String) -> Self {
        let id = Uuid::new_v4().to_string();
        let path = std::env::var_os("PATH").unwrap();
        let environment = vec![("PATH".into(), path), ("SSH_MCP_TEST_PROGRAM".into(), id.clone().into())];
        Self(ProxyCommand { line, environment }, format!("SSH_MCP_TEST_PROGRAM={id}"))
    }

    fn processes(&self) -> usize {
        with_environment(&self.1).len()
    }
}

fn has_nc() -> bool {
    let found = std::process::Command::new("sh").args(["-c", "command -v nc"]).output();
    found.is_ok_and(|found| found.status.success())
}

#[tokio::test]
async fn a_program_carries_the_connection_and_ends_with_it() {
    let Some(server) = Server::start().await.filter(|_| has_nc()) else { return };
    let port = server.sshd.port();
    let lines = [
        (format!("nc 127.0.0.1 {port}"), 1),
        (format!("nc '127.0.0.1' {port}"), 1),
        (format!("sh -c 'sleep 300 & yes | head -c 1000000 >&2; nc 127.0.0.1 {port}; true'"), 3),
    ];
    for (line, processes) in lines {
        let program = Program::new(line.clone());
        let connection = server.through(&program).await.unwrap();
        assert!(connection.answers(Duration::from_secs(5)).await, "{line}");
        assert_eq!(program.processes(), processes, "{line}");
        drop(connection);
        eventually("it and all that it started are gone", async || program.processes() == 0).await;
    }
}

#[tokio::test]
async fn a_lost_program_is_a_lost_connection() {
    let Some(server) = Server::start().await.filter(|_| has_nc()) else { return };
    let program = Program::new(format!("nc 127.0.0.1 {}", server.sshd.port()));
    let connection = server.through(&program).await.unwrap();
    crate::support::process::kill(&with_environment(&program.1), "KILL");
    tokio::time::timeout(Duration::from_secs(5), connection.closed()).await.unwrap();
}

#[tokio::test]
async fn the_failure_of_a_program_has_its_end_and_its_last_words() {
    let Some(server) = Server::start().await else { return };
    let script = r#"sh -c 'echo first >&2; printf "no \033[31mway\n\n" >&2; exit 3'"#;
    let error = server.through(&Program::new(script.into())).await.unwrap_err();
    assert_eq!(error.code(), Code::ProxyFailed);
    let message = error.to_string();
    assert!(message.ends_with(r"ProxyCommand ended (exit status: 3); it said: no \u{1b}[31mway"), "{message}");
    assert!(!error.is_transient() && !error.is_final());

    let error = server.through(&Program::new("/no/such/program x".into())).await.unwrap_err();
    assert_eq!(error.code(), Code::ProxyFailed);
    assert!(error.to_string().contains("cannot be started"), "{error}");

    let error = server.through(&Program::new("exec kill -s KILL $$".into())).await.unwrap_err();
    assert!(error.to_string().contains("ProxyCommand ended ("), "{error}");
    let error = server.through(&Program::new("echo hello".into())).await.unwrap_err();
    assert!(error.to_string().contains("ProxyCommand ended (exit status: 0)"), "{error}");
}

#[tokio::test]
async fn a_program_sees_the_environment_that_it_is_given_and_no_more() {
    let Some(server) = Server::start().await else { return };
    let script = r#"sh -c 'echo "<$CARGO_MANIFEST_DIR$HOME><$(pwd)>" >&2; exit 1'"#;
    let error = server.through(&Program::new(script.into())).await.unwrap_err();
    assert!(error.to_string().ends_with("it said: <></>"), "{error}");
}

#[tokio::test]
async fn a_silent_program_is_killed_when_the_time_is_over() {
    let Some(server) = Server::start().await else { return };
    let program = Program::new("sleep 300".into());
    let mut spec = server.spec(Route::Command(program.0.clone())).await;
    spec.timeout = Duration::from_millis(500);
    assert_eq!(connect(&spec).await.unwrap_err().code(), Code::ConnectTimeout);
    eventually("it is gone", async || program.processes() == 0).await;
}

#[tokio::test]
async fn the_own_address_and_the_family_are_those_that_were_chosen() {
    let Some(server) = Server::start().await else { return };
    let dial =
        |family, bind: Option<&str>| Route::Direct(Dial { family, bind: bind.map(Into::into), tcp_keepalive: true });
    connect(&server.spec(dial(AddressFamily::Any, Some("127.0.0.77"))).await).await.unwrap();
    assert_eq!(server.sshd.logged("Connection from 127.0.0.77"), 1, "{}", server.sshd.log());

    let error = connect(&server.spec(dial(AddressFamily::Any, Some("192.0.2.7"))).await).await.unwrap_err();
    assert!(error.to_string().contains("\"192.0.2.7\""), "{error}");
    assert_eq!(error.code(), Code::Unreachable);
    let error = connect(&server.spec(dial(AddressFamily::Inet6, None)).await).await.unwrap_err();
    assert_eq!(error.code(), Code::ResolveFailed);
    let mut by_name = server.spec(dial(AddressFamily::Inet, None)).await;
    by_name.target.host = "localhost".into();
    connect(&by_name).await.unwrap();
}

#[tokio::test]
async fn a_jump_host_is_shared_by_the_same_login_of_one_principal_only() {
    let (Some(hop), Some(server)) = (Server::start().await, Server::start().await) else { return };
    let pool = Arc::new(JumpPool::default());
    let (alice, bob) = (pool.of(&Owner::new("alice")), pool.of(&Owner::new("bob")));
    let through = async |hop: ConnectSpec, jumps| server.spec(Route::through(vec![hop], jumps).unwrap()).await;
    let direct = Route::default;
    let first = connect(&through(hop.spec(direct()).await, &alice).await).await.unwrap();
    let _second = connect(&through(hop.spec(direct()).await, &alice).await).await.unwrap();
    assert_eq!((pool.count(), hop.sshd.logged("Accepted publickey")), (1, 1));

    let _others = connect(&through(hop.spec(direct()).await, &bob).await).await.unwrap();
    assert_eq!((pool.count(), hop.sshd.logged("Accepted publickey")), (2, 2), "of another principal");

    let key = ssh_keygen(hop.sshd.directory(), "another", KeyType::Ed25519, KeyFormat::OpenSsh);
    hop.sshd.authorize(&key);
    let _key = connect(&through(hop.spec_with(&key, direct()).await, &alice).await).await.unwrap();
    assert_eq!((pool.count(), hop.sshd.logged("Accepted publickey")), (3, 3), "with another key");
    let mut compressed = hop.spec(direct()).await;
    compressed.compression = Compression::On;
    let _on = connect(&through(compressed, &alice).await).await.unwrap();
    assert_eq!((pool.count(), hop.sshd.logged("Accepted publickey")), (4, 4), "on other terms");

    let wrong = ssh_keygen(hop.sshd.directory(), "wrong", KeyType::Ed25519, KeyFormat::OpenSsh);
    let refused = connect(&through(hop.spec_with(&wrong, direct()).await, &alice).await).await.unwrap_err();
    assert_eq!((refused.code(), refused.hop()), (Code::AuthFailed, Some(1)));
    assert!(refused.is_final());
    assert_eq!((pool.count(), hop.sshd.logged("Accepted publickey")), (4, 4), "what failed is not kept");

    pool.shutdown().await;
    assert_eq!(pool.count(), 0);
    tokio::time::timeout(Duration::from_secs(5), first.closed()).await.unwrap();
    eventually("nothing is left", async || hop.sshd.connections().is_empty() && server.sshd.connections().is_empty())
        .await;
}

#[tokio::test]
async fn more_jump_hosts_than_the_limit_are_refused() {
    let Some(server) = Server::start().await else { return };
    let pool = Arc::new(JumpPool::default()).of(&Owner::new("alice"));
    let spec = server.spec(Route::default()).await;
    let eight = Route::through(vec![spec.clone(); 8], &pool).unwrap();
    assert_eq!(eight.targets().len(), 8);
    assert_eq!(Route::through(vec![spec.clone(); 9], &pool).unwrap_err().count, 9);
    let through_eight = ConnectSpec { route: eight, ..spec.clone() };
    assert_eq!(Route::through(vec![through_eight, spec], &pool).unwrap_err().count, 10, "those of the first one count");
}

#[tokio::test]
async fn eight_jump_hosts_lead_to_a_ninth_server() {
    let Some(server) = Server::start().await else { return };
    let pool = Arc::new(JumpPool::default());
    let spec = server.spec(Route::default()).await;
    let route = Route::through(vec![spec.clone(); 8], &pool.of(&Owner::new("alice"))).unwrap();
    let connection = connect(&ConnectSpec { route, timeout: Duration::from_secs(20), ..spec }).await.unwrap();
    assert!(connection.answers(Duration::from_secs(5)).await);
    assert_eq!((pool.count(), server.sshd.logged("Accepted publickey")), (8, 9));
}

#[tokio::test]
async fn ssh_itself_leads_through_a_namespace_as_a_proxy_command() {
    let Some(chain) = Chain::new(3) else { return };
    let within = |at| Sshd::builder().within(chain.namespace(at), Chain::address(at));
    let (Some(bastion), Some(inner)) = (within(1).start().await, within(2).start().await) else { return };
    let inner = Server { sshd: inner, known_hosts: tempfile::tempdir().unwrap() };
    let (key, name) = (bastion.client_key().display(), &bastion.user().name);
    let options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes";
    let (port, to) = (bastion.port(), format!("{}:{}", Chain::address(2), inner.sshd.port()));
    let ssh = format!("ssh -F none -q {options} -i {key} -p {port} -W {to} {name}@{}", Chain::address(1));
    let program = Program::new(format!("ip netns exec {} {ssh}", chain.namespace(0)));
    let mut spec = inner.spec(Route::Command(program.0.clone())).await;
    spec.target.host = Chain::address(2).to_string();
    let connection = connect(&spec).await.unwrap();
    assert!(connection.answers(Duration::from_secs(5)).await);
    assert_eq!((bastion.connections().is_empty(), inner.sshd.connections().is_empty()), (false, false));
    drop(connection);
    let is_idle = async || program.processes() == 0 && bastion.connections().is_empty();
    eventually("nothing is left", is_idle).await;
    eventually("nor behind it", async || inner.sshd.connections().is_empty()).await;

    // The bastion refuses: ssh says so, and that is told.
    drop(bastion);
    let error = connect(&spec).await.unwrap_err();
    assert!(error.to_string().contains("ProxyCommand ended (exit status: 255)"), "{error}");
}
