//! `address` as an alias of `~/.ssh/config`: one call with a name and nothing else, as with `ssh`.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::support::{
    home::{Home, with},
    mcp_client::McpClient,
    namespace::Chain,
    openssh::{Agent, KeyFormat, KeyType, Sshd, is_root},
};

/// A home with this configuration.
pub(crate) fn home_with(config: &str) -> Home {
    let home = Home::new();
    write_config(&home, config);
    home
}

pub(crate) fn write_config(home: &Home, config: &str) {
    fs::create_dir_all(home.path().join(".ssh")).unwrap();
    fs::write(home.path().join(".ssh/config"), config).unwrap();
}

/// A `Host` block that leads to the server, logged in to by its own key.
pub(crate) fn block(alias: &str, sshd: &Sshd, more: &str) -> String {
    format!(
        "Host {alias}\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {}\n  IdentitiesOnly yes\n{more}\n",
        sshd.port(),
        sshd.user().name,
        sshd.client_key().display()
    )
}

/// What is said of a keyword: value, file and line.
fn row<'a>(answer: &'a Value, keyword: &str) -> &'a Value {
    let rows = answer["resolved"].as_array().unwrap_or_else(|| panic!("{answer}"));
    rows.iter().find(|row| row["keyword"] == keyword).unwrap_or_else(|| panic!("{keyword}: {answer}"))
}

pub(crate) async fn connect(client: &McpClient, arguments: Value) -> Value {
    client.call("ssh_connect", arguments).await.success()
}

async fn run(client: &McpClient, session: &Value, command: &str) -> String {
    let arguments = json!({"session_id": session["session_id"], "command": command});
    client.call("ssh_execute", arguments).await.success()["stdout"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_alias_and_nothing_else_runs_uptime_two_hops_away() {
    let (Some(bastion), Some(inner), Some(db)) = (Sshd::start().await, Sshd::start().await, Sshd::start().await) else {
        return;
    };
    let home = Home::new();
    let key = home.key("id", KeyType::Ed25519, KeyFormat::OpenSsh);
    let agent = Agent::start(&[&key]).await;
    for sshd in [&bastion, &inner, &db] {
        sshd.authorize(&key);
    }
    let (user, admin) = (bastion.user().name.as_str(), if is_root() { "root" } else { bastion.user().name.as_str() });
    write_config(
        &home,
        &format!(
            "Host bastion\n  HostName 127.0.0.1\n  Port {}\n  User {user}\n\nHost inner\n  HostName localhost\n  \
             Port {}\n  User {admin}\n  ProxyJump bastion\n\nHost prod-db\n  HostName 127.0.0.1\n  Port {}\n  \
             ProxyJump inner\n\nHost *\n  User {user}\n  ServerAliveInterval 60\n",
            bastion.port(),
            inner.port(),
            db.port()
        ),
    );
    let client = home.client(&[("SSH_AUTH_SOCK", agent.socket().to_str().unwrap())]).await;
    let answer = connect(&client, json!({"address": "prod-db"})).await;
    assert!(run(&client, &answer, "uptime").await.contains("load average"));
    assert_eq!((&answer["host"], &answer["port"]), (&json!("127.0.0.1"), &json!(db.port())));
    assert_eq!((&answer["username"], &answer["auth_method"]), (&json!(user), &json!("agent")));
    let jumps: Vec<_> = answer["resolved"].as_array().unwrap().iter().filter(|row| row["keyword"] == "jump").collect();
    let hops = [format!("{user}@127.0.0.1:{}", bastion.port()), format!("{admin}@localhost:{}", inner.port())];
    assert_eq!(jumps.iter().map(|row| row["value"].clone()).collect::<Vec<_>>(), hops);
    // Each server saw the one before it, and the last one is the one that was meant.
    for (sshd, login) in [(&bastion, user), (&inner, admin), (&db, user)] {
        assert!(sshd.log().contains(&format!("Accepted publickey for {login}")), "{}", sshd.log());
    }
    assert!(bastion.log().contains("direct-tcpip") && inner.log().contains("direct-tcpip"));
    assert!(!db.log().contains("direct-tcpip"));
}

#[tokio::test]
async fn everything_comes_from_the_configuration_and_the_answer_says_from_which_line() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = home_with(&block("web", &sshd, "  ConnectionAttempts 2\n  Compression yes"));
    let client = home.client(&[]).await;
    let answer = connect(&client, json!({"address": "web"})).await;
    assert_eq!(answer["compression_enabled"], true, "{answer}");
    let file = home.path().join(".ssh/config");
    for (keyword, value, line) in [
        ("hostname", json!("127.0.0.1"), 2),
        ("port", json!(sshd.port().to_string()), 3),
        ("user", json!(sshd.user().name), 4),
        ("identityfile", json!(sshd.client_key()), 5),
        ("identitiesonly", json!("yes"), 6),
        ("connectionattempts", json!("2"), 7),
    ] {
        let row = row(&answer, keyword);
        assert_eq!((&row["value"], &row["file"], &row["line"]), (&value, &json!(file), &json!(line)), "{row}");
    }
    assert!(answer["resolved"].as_array().unwrap().iter().all(|row| row["keyword"] != "sendenv"), "{answer}");
    assert_eq!(answer.get("notices"), None, "{answer}");
}

#[tokio::test]
async fn what_the_call_says_goes_before_the_configuration() {
    let Some(sshd) = Sshd::start().await else { return };
    let config = block("web", &sshd, "").replace(&sshd.port().to_string(), "1");
    let home = home_with(&config.replace(&format!("User {}", sshd.user().name), "User nobody"));
    let client = home.client(&[]).await;
    let address = format!("{}@web:{}", sshd.user().name, sshd.port());
    let answer = connect(&client, json!({"address": address, "max_retries": 0})).await;
    assert_eq!((&answer["username"], &answer["port"]), (&json!(sshd.user().name), &json!(sshd.port())));
    assert_eq!(row(&answer, "hostname")["value"], "127.0.0.1");
    let again = json!({"address": format!("ssh://web:{}", sshd.port()), "username": sshd.user().name});
    assert_eq!(connect(&client, again).await["other_sessions"], json!([answer["session_id"]]));
}

#[tokio::test]
async fn an_edit_counts_from_the_next_connect() {
    let (Some(one), Some(two)) = (Sshd::start().await, Sshd::start().await) else { return };
    let home = home_with(&block("web", &one, ""));
    let client = home.client(&[]).await;
    assert_eq!(connect(&client, json!({"address": "web"})).await["port"], one.port());
    write_config(&home, &block("web", &two, ""));
    assert_eq!(connect(&client, json!({"address": "web"})).await["port"], two.port());
    fs::remove_file(home.path().join(".ssh/config")).unwrap();
    let gone = client.call("ssh_connect", json!({"address": "web"})).await;
    assert_eq!((gone.code(), &gone.structured["argument"]), ("missing_argument", &json!("username")));
}

#[tokio::test]
async fn a_name_near_to_an_alias_reaches_nothing_and_gets_the_candidates() {
    let Some(sshd) = Sshd::start().await else { return };
    let config = [block("prod-db", &sshd, ""), block("PROD-web", &sshd, ""), "Host lab?\n  User lab\n".into()].concat();
    let home = home_with(&config);
    let client = home.client(&[]).await;
    for (name, candidate) in
        [("prod-bd", "prod-db"), ("prod-d", "prod-db"), ("Prod-db", "prod-db"), ("prod", "prod-db")]
    {
        for arguments in [
            json!({"address": name, "username": "u"}),
            json!({"address": format!("u@{name}:22")}),
            json!({"address": "10.0.0.1", "username": "u", "jump": name}),
        ] {
            let refused = client.call("ssh_connect", arguments).await;
            assert_eq!(refused.code(), "invalid_address", "{}", refused.text);
            let candidates = refused.structured["candidates"].as_array().unwrap().clone();
            assert!(candidates.contains(&json!(candidate)), "{name}: {}", refused.text);
            let hint = refused.structured["hint"].as_str().unwrap();
            assert!(hint.contains(&format!("\"{name}.\"")), "{hint}");
        }
    }
    // A host of that very name, a name with a dot, or one that a pattern speaks of, is what it is.
    for address in ["prod-bd.", "prod-db.example.invalid", "lab2", "localhost:1", "127.0.0.1:1"] {
        let arguments = json!({"address": address, "username": "u", "max_retries": 0, "key_path": sshd.client_key()});
        let answer = client.call("ssh_connect", arguments).await;
        assert!(["resolve_failed", "connect_refused"].contains(&answer.code()), "{address}: {}", answer.text);
    }
    assert_eq!(sshd.logged("Connection from"), 0);
}

#[tokio::test]
async fn the_local_user_is_taken_for_an_alias_only_and_the_answer_says_so() {
    let Some(sshd) = Sshd::start().await else { return };
    let text = String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let me = text.trim();
    let home = home_with(&block("web", &sshd, "").replace(&format!("  User {}\n", sshd.user().name), ""));
    let client = home.client(&[]).await;
    let answer = connect(&client, json!({"address": "web"})).await;
    assert_eq!(answer["username"], me);
    assert_eq!(row(&answer, "user"), &json!({"keyword": "user", "value": me}));
    let other = client.call("ssh_connect", json!({"address": format!("127.0.0.1:{}", sshd.port())})).await;
    assert_eq!((other.code(), &other.structured["argument"]), ("missing_argument", &json!("username")));
}

#[tokio::test]
async fn a_configuration_that_ssh_refuses_is_an_error_with_its_line_and_none_turns_it_off() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = home_with("Host web\n  Prot 22\n");
    let client = home.client(&[]).await;
    let by_key = json!({
        "address": format!("127.0.0.1:{}", sshd.port()), "username": sshd.user().name, "key_path": sshd.client_key()
    });
    let refused = client.call("ssh_connect", by_key.clone()).await;
    assert_eq!(refused.code(), "ssh_config_invalid", "{}", refused.text);
    assert_eq!((&refused.structured["line"], &refused.structured["keyword"]), (&json!(2), &json!("prot")));
    let without = home.client(&[("SSH_CONFIG_FILE", "none")]).await;
    assert_eq!(connect(&without, by_key).await.get("resolved"), None);
    // One file in place of both.
    let other = home.path().join("other");
    fs::write(&other, block("web", &sshd, "")).unwrap();
    let named = home.client(&[("SSH_CONFIG_FILE", other.to_str().unwrap())]).await;
    assert_eq!(row(&connect(&named, json!({"address": "web"})).await, "port")["file"], json!(other));
}

#[tokio::test]
async fn commands_of_match_run_only_where_a_setting_allows_it() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let trace = home.path().join("trace");
    let home_config = format!("Match host web exec \"touch {}\"\n  Port {}\n", trace.display(), sshd.port());
    write_config(&home, &(home_config + &block("web", &sshd, "").replace(&format!("Port {}", sshd.port()), "Port 1")));
    let client = home.client(&[]).await;
    let refused = client.call("ssh_connect", json!({"address": "web", "max_retries": 0})).await;
    assert_eq!(refused.code(), "connect_refused");
    assert!(!trace.exists());
    let client = home.client(&[("SSH_CONFIG_EXEC", "true")]).await;
    assert_eq!(connect(&client, json!({"address": "web"})).await["port"], sshd.port());
    assert!(trace.exists());
}

#[tokio::test]
async fn commands_of_match_have_the_environment_without_secrets_and_no_user_name_that_a_shell_acts_on() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let trace = home.path().join("trace");
    let exec = format!("Match host web exec \"(env; echo asked for %r; pwd) > {}\"\n  Port 1\n", trace.display());
    write_config(&home, &(exec + &block("web", &sshd, "")));
    fs::create_dir_all(home.path().join(".config/ssh-mcp")).unwrap();
    fs::write(home.path().join(".config/ssh-mcp/config.toml"), "[secrets.one]\nenv = \"THE_SECRET\"\n").unwrap();
    let env = [
        ("SSH_CONFIG_EXEC", "true"),
        ("THE_SECRET", "canary-5c1"),
        ("MCP_TOKEN", "canary-5c2-0123456789"),
        ("PLAIN", "seen"),
    ];
    let client = home.client(&env).await;
    client.call("ssh_connect", json!({"address": "web", "username": "me", "max_retries": 0})).await;
    let seen = fs::read_to_string(&trace).unwrap();
    assert!(seen.contains("PLAIN=seen\n") && seen.ends_with("asked for me\n/\n"), "{seen}");
    assert!(!seen.contains("canary"), "{seen}");
    fs::remove_file(&trace).unwrap();
    let refused = client.call("ssh_connect", json!({"address": "web", "username": "$PLAIN"})).await;
    assert_eq!(refused.code(), "invalid_username", "{}", refused.text);
    assert!(!trace.exists());
    // Where commands are not run, nothing reads the name.
    let without = home.client(&[]).await;
    assert_ne!(
        without.call("ssh_connect", json!({"address": "web", "username": "$PLAIN"})).await.code(),
        "invalid_username"
    );
}

#[tokio::test]
async fn a_user_name_that_a_shell_acts_on_gets_into_no_proxy_command() {
    let home = Home::new();
    let trace = home.path().join("trace");
    let line = |of: &str| format!("  ProxyCommand echo {of} > {}\n", trace.display());
    let config = format!("Host named\n{}Host other\n{}Host own\n  User $HOME\n{0}", line("%r"), line("%h"));
    write_config(&home, &config);
    let client = home.client(&[]).await;
    let attempt = async |arguments: Value| {
        let _ = fs::remove_file(&trace);
        let answer = client.call("ssh_connect", with(arguments, json!({"password": "x", "max_retries": 0}))).await;
        (answer.code().to_owned(), fs::read_to_string(&trace).ok())
    };
    for user in ["$HOME", "CORP\\me", "a$IFS-v"] {
        let (code, ran) = attempt(json!({"address": "named", "username": user})).await;
        assert_eq!((code.as_str(), ran), ("invalid_username", None), "{user}");
    }
    let ran = async |arguments: Value| attempt(arguments).await.1;
    assert_eq!(ran(json!({"address": "named", "username": "me"})).await.as_deref(), Some("me\n"));
    assert_eq!(ran(json!({"address": "other", "username": "CORP\\me"})).await.as_deref(), Some("other\n"));
    // What the user wrote into the file is for the shell, as with ssh.
    let home = format!("{}\n", home.path().display());
    assert_eq!(ran(json!({"address": "own"})).await, Some(home));
}

#[tokio::test]
async fn an_address_that_the_own_one_cannot_reach_leaves_the_next_one() {
    let Some(chain) = Chain::new(1) else { return };
    let namespace = chain.namespace(0);
    let Some(sshd) = Sshd::builder().within(namespace, Ipv4Addr::LOCALHOST).start().await else { return };
    let _names = Names::within(namespace, "::1 dual.test\n127.0.0.1 dual.test\n");
    let config =
        block("dual.test", &sshd, "  BindAddress 127.0.0.1").replace("HostName 127.0.0.1", "HostName dual.test");
    let home = home_with(&config);
    let client = McpClient::stdio_within(namespace, &[("HOME", home.path().to_str().unwrap())]).await;
    connect(&client, json!({"address": "dual.test"})).await;
    // None of them can come from there: the first reason is told.
    let far = config.replace("BindAddress 127.0.0.1", "BindAddress 192.0.2.9");
    write_config(&home, &far);
    let refused = client.call("ssh_connect", json!({"address": "dual.test", "max_retries": 0})).await;
    assert!(refused.is_error && refused.text.contains("192.0.2.9"), "{}", refused.text);
}

#[tokio::test]
async fn a_short_name_gets_its_domain_as_ssh_gives_it() {
    let Some(chain) = Chain::new(1) else { return };
    let namespace = chain.namespace(0);
    let Some(sshd) = Sshd::builder().within(namespace, Ipv4Addr::LOCALHOST).start().await else { return };
    let _names = Names::within(namespace, "127.0.0.1 web.corp.test web.corp.test.\n");
    let home = home_with(&format!(
        "Host *\n  CanonicalizeHostname yes\n  CanonicalDomains nowhere.test corp.test\n\n\
         Match canonical host web.corp.test\n  Port {}\n  User {}\n  IdentityFile {}\n  IdentitiesOnly yes\n\n\
         Match originalhost strict\n  CanonicalizeFallbackLocal no\n",
        sshd.port(),
        sshd.user().name,
        sshd.client_key().display()
    ));
    let client = McpClient::stdio_within(namespace, &[("HOME", home.path().to_str().unwrap())]).await;
    let answer = connect(&client, json!({"address": "web"})).await;
    assert_eq!((&answer["host"], &answer["port"]), (&json!("web.corp.test"), &json!(sshd.port())), "{answer}");
    assert_eq!(run(&client, &answer, "id -un").await, format!("{}\n", sshd.user().name));
    let mut ssh = Command::new("ip");
    ssh.args(["netns", "exec", namespace, "ssh", "-G", "-F"]).arg(home.path().join(".ssh/config")).arg("web");
    let means = String::from_utf8(ssh.output().unwrap().stdout).unwrap();
    assert!(means.contains("hostname web.corp.test\n"), "{means}");
    assert!(means.contains(&format!("port {}\n", sshd.port())), "{means}");
    // A name of no domain is an error where the configuration does not let it stand.
    let refused = client.call("ssh_connect", json!({"address": "strict", "username": "u"})).await;
    assert!(refused.is_error && refused.text.contains("strict"), "{}", refused.text);
    assert_eq!(refused.code(), "resolve_failed", "{}", refused.text);
}

/// The names that a namespace knows: `ip netns exec` shows these files in place of those in `/etc`.
struct Names(PathBuf);

impl Names {
    fn within(namespace: &str, hosts: &str) -> Self {
        let folder = Path::new("/etc/netns").join(namespace);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("hosts"), hosts).unwrap();
        fs::write(folder.join("nsswitch.conf"), "hosts: files\n").unwrap();
        Self(folder)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
