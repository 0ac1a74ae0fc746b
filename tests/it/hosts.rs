//! The hosts that the configuration of `ssh` names: as a list, as resources and as completions.

use serde_json::{Value, json};

use crate::{
    alias::{block, connect, home_with},
    support::{mcp_client::RawStdio, openssh::Sshd},
};

const CONFIG: &str = "\
Host bastion gate
  HostName bastion.example.org
  User ops

Host prod-* !prod-old
  ProxyJump bastion

Host prod-db
  HostName 10.1.0.5
  Port 2222
  User deploy

Host team/web
  HostName web.example.org
  User www

Host *
  User someone
";

fn names(answer: &Value) -> Vec<&str> {
    answer["hosts"].as_array().unwrap().iter().map(|row| row["alias"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn aliases_are_listed_with_what_they_mean_and_filtered() {
    let home = home_with(CONFIG);
    let client = home.client(&[]).await;
    let list = async |arguments: Value| client.call("ssh_list_hosts", arguments).await.success();
    let all = list(json!({})).await;
    assert_eq!(names(&all), ["bastion", "gate", "prod-db", "team/web"]);
    assert_eq!((&all["count"], &all["more"]), (&json!(4), &json!(false)));
    let db = json!({
        "alias": "prod-db", "host": "10.1.0.5", "port": 2222, "username": "deploy", "jump": "bastion", "session_ids": []
    });
    assert_eq!(all["hosts"][2], db);
    for (filter, expected) in [
        ("PROD", vec!["prod-db"]),
        ("10.1.", vec!["prod-db"]),
        ("www", vec!["team/web"]),
        ("bastion", vec!["bastion", "gate", "prod-db"]),
        ("nowhere", vec![]),
    ] {
        let found = list(json!({"filter": filter})).await;
        assert_eq!(names(&found), expected, "{filter}");
        assert_eq!(found.get("hint").is_some(), expected.is_empty(), "{found}");
    }
}

#[tokio::test]
async fn the_list_is_bounded_and_says_so() {
    let config: String = (0..250).map(|n| format!("Host h{n}\n  User u\n")).collect();
    let home = home_with(&config);
    let client = home.client(&[]).await;
    let all = client.call("ssh_list_hosts", json!({})).await.success();
    assert_eq!((all["count"].clone(), all["more"].clone(), names(&all)[99]), (json!(100), json!(true), "h99"));
    let one = client.call("ssh_list_hosts", json!({"filter": "h249"})).await.success();
    assert_eq!((names(&one), &one["more"]), (vec!["h249"], &json!(false)));
}

#[tokio::test]
async fn a_session_that_is_open_stands_beside_its_host() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = home_with(&(block("web", &sshd, "") + &block("other", &sshd, "  Port 1")));
    let client = home.client(&[]).await;
    let id = connect(&client, json!({"address": "web"})).await["session_id"].clone();
    let listed = client.call("ssh_list_hosts", json!({})).await.success();
    assert_eq!(listed["hosts"][0]["session_ids"], json!([id]), "{listed}");
    client.call("ssh_disconnect", json!({"session_id": id})).await.success();
    let listed = client.call("ssh_list_hosts", json!({})).await.success();
    assert_eq!(listed["hosts"][0]["session_ids"], json!([]), "{listed}");
}

#[tokio::test]
async fn nothing_is_run_to_list_hosts_and_a_broken_file_is_told() {
    let home = home_with("");
    let trace = home.path().join("trace");
    crate::alias::write_config(&home, &format!("Match exec \"touch {}\"\n  User x\nHost web\n", trace.display()));
    let client = home.client(&[("SSH_CONFIG_EXEC", "true")]).await;
    assert_eq!(names(&client.call("ssh_list_hosts", json!({})).await.success()), ["web"]);
    assert!(!trace.exists());
    crate::alias::write_config(&home, "Host web\n  Prot 1\n");
    assert_eq!(client.call("ssh_list_hosts", json!({})).await.code(), "ssh_config_invalid");
}

async fn raw(config: &str) -> (RawStdio, crate::support::home::Home) {
    let home = home_with(config);
    let stdio = RawStdio::initialized(&[("HOME", home.path().to_str().unwrap())]).await;
    (stdio, home)
}

#[tokio::test]
async fn hosts_are_resources_too() {
    let (mut client, home) = raw(CONFIG).await;
    let listed = client.request(1, "resources/list", json!({})).await;
    let rows = listed["result"]["resources"].as_array().unwrap();
    let uris: Vec<_> = rows.iter().map(|row| row["uri"].as_str().unwrap()).collect();
    let expected = ["bastion", "gate", "prod-db", "team%2Fweb"].map(|name| format!("ssh-mcp://host/{name}"));
    assert_eq!(uris, expected);
    assert_eq!(rows[2]["description"], "deploy@10.1.0.5:2222");
    let read = client.request(2, "resources/read", json!({"uri": "ssh-mcp://host/prod-db"})).await;
    let text: Value = serde_json::from_str(read["result"]["contents"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(text["host"]["jump"], "bastion", "{text}");
    let port = text["resolved"].as_array().unwrap().iter().find(|row| row["keyword"] == "port").unwrap();
    assert_eq!((&port["value"], &port["line"]), (&json!("2222"), &json!(10)));
    assert_eq!(port["file"], json!(home.path().join(".ssh/config")));
    for uri in ["ssh-mcp://host/nobody", "ssh-mcp://host/", "ssh-mcp://host/prod-x", "ssh-mcp://host/%zz"] {
        let missing = client.request(3, "resources/read", json!({"uri": uri})).await;
        assert_eq!(missing["error"]["code"], -32002, "{uri}: {missing}");
    }
    let templates = client.request(4, "resources/templates/list", json!({})).await;
    assert!(templates.to_string().contains("ssh-mcp://host/{address}"), "{templates}");
    // A file that cannot be used hides no other resource.
    crate::alias::write_config(&home, "Prot 22\n");
    assert_eq!(client.request(5, "resources/list", json!({})).await["result"]["resources"], json!([]));
}

#[tokio::test]
async fn addresses_are_completed() {
    let (mut client, _home) = raw(CONFIG).await;
    let mut complete = async |id, uri: &str, name: &str, value: &str| {
        let params = json!({"ref": {"type": "ref/resource", "uri": uri}, "argument": {"name": name, "value": value}});
        client.request(id, "completion/complete", params).await
    };
    let form = "ssh-mcp://host/{address}";
    for (id, value, expected) in [
        (1, "", json!(["bastion", "gate", "prod-db", "team/web"])),
        (2, "PR", json!(["prod-db"])),
        (3, "b", json!(["bastion", "prod-db", "team/web"])),
        (4, "zzz", json!([])),
    ] {
        let found = complete(id, form, "address", value).await["result"]["completion"].clone();
        assert_eq!((&found["values"], &found["hasMore"]), (&expected, &json!(false)), "{value}");
    }
    for (id, uri, name) in [(5, form, "host"), (6, "ssh-mcp://command/{command_id}/stdout{?offset}", "command_id")] {
        assert_eq!(complete(id, uri, name, "").await["error"]["code"], -32602, "{uri} {name}");
    }
}
