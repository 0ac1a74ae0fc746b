//! What the configuration of `ssh` may change for a host, what it may not, and what is said about it.

use std::fs;

use serde_json::{Value, json};

use crate::{
    alias::{block, connect, home_with, write_config},
    support::{
        home::Home,
        openssh::{KeyFormat, KeyType, Sshd, ssh_keygen},
    },
};

pub(crate) fn notices(answer: &Value) -> Vec<&str> {
    answer["notices"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn strict_checking_of_a_host_is_strict_here_and_no_checking_is_not() {
    let Some(sshd) = Sshd::start().await else { return };
    let config = |more: &str| block("web", &sshd, &format!("  StrictHostKeyChecking {more}"));
    let strict = home_with(&config("yes"));
    let refused = strict.client(&[]).await.call("ssh_connect", json!({"address": "web"})).await;
    assert_eq!(refused.code(), "host_key_unknown", "{}", refused.text);
    let ask = home_with(&config("ask"));
    assert_eq!(ask.client(&[]).await.call("ssh_connect", json!({"address": "web"})).await.code(), "host_key_unknown");
    // What the server wants is never loosened.
    for word in ["no", "off", "accept-new"] {
        let home = home_with(&config(word));
        let client = home.client(&[("SSH_HOST_KEY_POLICY", "strict")]).await;
        assert_eq!(client.call("ssh_connect", json!({"address": "web"})).await.code(), "host_key_unknown", "{word}");
    }
}

#[tokio::test]
async fn a_changed_key_is_refused_whatever_the_configuration_says() {
    let Some(mut sshd) = Sshd::start().await else { return };
    let more = "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null";
    let home = home_with(&block("web", &sshd, more));
    let client = home.client(&[]).await;
    let first = connect(&client, json!({"address": "web"})).await;
    assert!(
        notices(&first).iter().any(|notice| notice.starts_with("stricthostkeychecking is not followed")),
        "{first}"
    );
    sshd.restart_with_other_host_keys().await;
    assert_eq!(client.call("ssh_connect", json!({"address": "web"})).await.code(), "host_key_changed");
}

#[tokio::test]
async fn known_hosts_files_and_the_alias_of_the_key_are_those_of_the_host() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let keys = home.path().join("keys");
    let line = sshd.known_hosts().split_once(' ').map(|(_, key)| format!("the-db {key}")).unwrap();
    fs::write(&keys, line).unwrap();
    let more = format!("  HostKeyAlias the-db\n  UserKnownHostsFile {}\n  StrictHostKeyChecking yes", keys.display());
    write_config(&home, &block("web", &sshd, &more));
    let answer = connect(&home.client(&[]).await, json!({"address": "web"})).await;
    assert_eq!(answer["host_key"]["trust"], "known", "{answer}");
    assert_eq!(home.recorded(), "");
    // A new key is recorded under the alias, without the port.
    let home = home_with(&block("web", &sshd, "  HostKeyAlias the-db"));
    connect(&home.client(&[]).await, json!({"address": "web"})).await;
    assert!(home.knows("the-db") && !home.knows(&format!("[127.0.0.1]:{}", sshd.port())), "{}", home.recorded());
}

#[tokio::test]
async fn names_are_recorded_as_hashes_where_the_configuration_says_so() {
    let Some(sshd) = Sshd::start().await else { return };
    let name = format!("[127.0.0.1]:{}", sshd.port());
    for (says, hashed) in [("yes", true), ("no", false)] {
        let home = home_with(&block("web", &sshd, &format!("  HashKnownHosts {says}")));
        let client = home.client(&[]).await;
        let trust = async || connect(&client, json!({"address": "web"})).await["host_key"]["trust"].clone();
        assert_eq!(trust().await, "accepted_new");
        let recorded = home.recorded();
        assert_eq!((recorded.starts_with("|1|"), recorded.contains(&name)), (hashed, !hashed), "{recorded}");
        assert!(home.knows(&name) && !home.knows("127.0.0.1"), "OpenSSH reads it: {recorded}");
        assert_eq!((trust().await, home.recorded().lines().count()), (json!("known"), 1));
    }
}

#[tokio::test]
async fn gssapi_is_told_where_the_user_asks_for_it_and_not_where_the_system_does() {
    let Some(sshd) = Sshd::start().await else { return };
    let more = "  GSSAPIAuthentication yes\n  GSSAPIDelegateCredentials yes\n  GSSAPIKeyExchange no";
    let home = home_with(&(block("asks", &sshd, more) + &block("plain", &sshd, "")));
    let client = home.client(&[]).await;
    let asks = connect(&client, json!({"address": "asks"})).await;
    let told = notices(&asks);
    for (keyword, line) in [("gssapiauthentication", 7), ("gssapidelegatecredentials", 8)] {
        let said = told.iter().filter(|notice| notice.starts_with(keyword)).count();
        let place = format!(".ssh/config line {line}");
        assert!(said == 1 && told.iter().any(|notice| notice.contains(&place)), "{keyword}: {told:?}");
    }
    assert!(!told.iter().any(|notice| notice.starts_with("gssapikeyexchange")), "{told:?}");
    // Debian's /etc/ssh/ssh_config has it for every host.
    let plain = connect(&client, json!({"address": "plain"})).await;
    assert_eq!(plain.get("notices"), None, "{plain}");
}

#[tokio::test]
async fn revoked_keys_are_refused_and_so_is_a_list_that_cannot_be_read() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let list = home.path().join("revoked");
    write_config(&home, &block("web", &sshd, &format!("  RevokedHostKeys {}", list.display())));
    let client = home.client(&[]).await;
    let code = async || client.call("ssh_connect", json!({"address": "web"})).await.structured["code"].clone();
    assert_ne!(code().await, Value::Null, "there is no such file");
    let (_, key) = sshd.known_hosts().split_once(' ').map(|(host, key)| (host.to_owned(), key.to_owned())).unwrap();
    fs::write(&list, format!("# stolen\n{key}")).unwrap();
    assert_eq!(code().await, "host_key_revoked");
    assert_eq!(home.recorded(), "", "nothing was recorded");
    fs::write(
        &list,
        fs::read(ssh_keygen(home.path(), "k", KeyType::Ed25519, KeyFormat::OpenSsh).with_extension("pub")).unwrap(),
    )
    .unwrap();
    assert_eq!(code().await, Value::Null);
}

#[tokio::test]
async fn variables_reach_the_commands_as_far_as_the_server_takes_them() {
    let Some(sshd) = Sshd::builder().config("AcceptEnv LANG APP_*").start().await else { return };
    let more = "  SetEnv APP_MODE=canary-1 SECRET_X=no\n  SendEnv APP_SENT LANG";
    let home = home_with(&block("web", &sshd, more));
    let client = home.client(&[("APP_SENT", "from here"), ("APP_NOT", "stays here")]).await;
    let session = connect(&client, json!({"address": "web"})).await["session_id"].clone();
    let arguments = json!({"session_id": session, "command": "echo $APP_MODE/$APP_SENT/$APP_NOT/$SECRET_X"});
    assert_eq!(client.call("ssh_execute", arguments).await.success()["stdout"], "canary-1/from here//\n");
}

#[tokio::test]
async fn what_is_not_done_is_said() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let trace = home.path().join("trace");
    let more = format!(
        "  RemoteCommand touch {0}\n  KnownHostsCommand /usr/bin/touch {0}\n  LocalCommand touch {0}\n  \
         PermitLocalCommand yes\n  RequestTTY force\n  ForwardAgent yes\n  LocalForward 8080 localhost:80\n  \
         AddKeysToAgent yes\n  CheckHostIP yes\n  ServerAliveInterval 0\n  RemoteForward 9 localhost:9\n  \
         ControlMaster auto",
        trace.display()
    );
    write_config(&home, &block("web", &sshd, &more));
    let client = home.client(&[]).await;
    let answer = connect(&client, json!({"address": "web"})).await;
    for keyword in [
        "remotecommand",
        "knownhostscommand",
        "localcommand",
        "requesttty",
        "forwardagent",
        "localforward",
        "addkeystoagent",
        "checkhostip",
        "serveraliveinterval",
        "remoteforward",
    ] {
        let said = notices(&answer).iter().filter(|notice| notice.starts_with(keyword)).count();
        assert_eq!(said, 1, "{keyword}: {answer}");
        let notice = notices(&answer).into_iter().find(|notice| notice.starts_with(keyword)).unwrap();
        assert!(notice.contains(".ssh/config line "), "{notice}");
    }
    assert!(!answer.to_string().contains("controlmaster") && !answer.to_string().contains("gssapi"), "{answer}");
    let run = json!({"session_id": answer["session_id"], "command": "echo $SSH_AUTH_SOCK; tty"});
    let ran = client.call("ssh_execute", run).await.success();
    assert_eq!(ran["stdout"], "\nnot a tty\n");
    assert!(!trace.exists(), "no command of the configuration was run");
    let row = answer["resolved"].as_array().unwrap().iter().find(|row| row["keyword"] == "localforward").unwrap();
    assert!(row["value"].as_str().unwrap().contains("8080"), "{row}");
}

#[tokio::test]
async fn a_command_line_of_the_configuration_is_not_repeated_in_the_answer() {
    let Some(sshd) = Sshd::start().await else { return };
    let more = format!("  ProxyCommand sh -c 'exec 3<>/dev/null; exec ssh-canary-4711 127.0.0.1 {}'", sshd.port());
    let home = home_with(&block("web", &sshd, &more));
    let answer = home.client(&[]).await.call("ssh_connect", json!({"address": "web", "max_retries": 0})).await;
    assert!(answer.is_error);
    assert!(!answer.text.contains("canary-4711 127"), "{}", answer.text);
}

#[tokio::test]
async fn the_same_address_behind_another_jump_host_is_another_target() {
    let (Some(one), Some(two), Some(db)) = (Sshd::start().await, Sshd::start().await, Sshd::start().await) else {
        return;
    };
    let config = [
        block("one", &one, ""),
        block("two", &two, ""),
        block("db-one", &db, "  ProxyJump one"),
        block("db-two", &db, "  ProxyJump two"),
        block("db-again", &db, "  ProxyJump one"),
    ];
    let home = home_with(&config.concat());
    let client = home.client(&[]).await;
    let first = connect(&client, json!({"address": "db-one", "name": "db"})).await;
    let id = &first["session_id"];
    let same = connect(&client, json!({"address": "db-again", "session_id": id})).await;
    assert_eq!((&same["reused"], &same["session_id"]), (&json!(true), id));
    let other = connect(&client, json!({"address": "db-two", "session_id": id})).await;
    assert_eq!((&other["reused"], &other["reuse_refused"]), (&json!(false), &json!("other_target")));
    assert_eq!(other["other_sessions"], json!([]));
    let named = client.call("ssh_connect", json!({"address": "db-two", "name": "db"})).await;
    assert_eq!(named.code(), "name_in_use");
}
