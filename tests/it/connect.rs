//! `ssh_connect` from outside: address forms, what it answers, names, reuse, compression, bad input.

use std::net::Ipv6Addr;

use serde_json::{Value, json};

use crate::support::{
    embedded_host::EmbeddedHost,
    fake_server::{FakeServer, Play},
    home::{Home, by_key, logins, with},
    mcp_client::{HttpServer, McpClient},
    openssh::Sshd,
    wait::eventually,
};

async fn connect(client: &McpClient, sshd: &Sshd, more: Value) -> Value {
    client.call("ssh_connect", by_key(sshd, &sshd.user().name, more)).await.success()
}

#[tokio::test]
async fn every_form_of_address_leads_to_the_host() {
    let Some(sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[]).await;
    let (port, user) = (sshd.port(), sshd.user().name.as_str());
    let cases = [
        (format!("127.0.0.1:{port}"), Some(user), "127.0.0.1"),
        (format!("{user}@127.0.0.1:{port}"), None, "127.0.0.1"),
        (format!("{user}@127.0.0.1:{port}"), Some(user), "127.0.0.1"),
        (format!("{user}@127.0.0.1:{port}"), Some(""), "127.0.0.1"),
        (format!("ssh://{user}@127.0.0.1:{port}"), None, "127.0.0.1"),
        (format!("SSH://{user}@127.0.0.1:{port}/"), None, "127.0.0.1"),
        (format!("ssh://127.0.0.1:{port}"), Some(user), "127.0.0.1"),
        (format!(" \t127.0.0.1:{port}\n"), Some(user), "127.0.0.1"),
        (format!("LocalHost:{port}"), Some(user), "localhost"),
    ];
    for (address, username, host) in cases {
        let arguments = json!({"address": address, "username": username, "key_path": sshd.client_key()});
        let answer = client.call("ssh_connect", arguments).await;
        assert!(!answer.is_error, "{address:?}: {}", answer.text);
        let session = answer.success();
        assert_eq!(
            (&session["host"], &session["port"], &session["username"]),
            (&json!(host), &json!(port), &json!(user))
        );
    }
}

#[tokio::test]
async fn ipv6_address_in_brackets_leads_to_the_host() {
    let Some(sshd) = Sshd::start().await else { return };
    let play = Play::Relay { first: b"", refused: 0, port: sshd.port() };
    // A machine without IPv6 has nothing to show here.
    let Ok(relay) = FakeServer::start_on(Ipv6Addr::LOCALHOST.into(), play).await else { return };
    let home = Home::new();
    let client = home.client(&[]).await;
    let session = connect(&client, &sshd, json!({"address": relay.address()})).await;
    assert_eq!((&session["host"], &session["port"]), (&json!("::1"), &json!(relay.port())));
    assert!(session["message"].as_str().unwrap().contains(&format!("[::1]:{}", relay.port())), "{session}");
    assert!(home.knows(&format!("[::1]:{}", relay.port())), "{}", home.recorded());
}

#[tokio::test]
async fn answer_tells_everything_about_the_session_in_its_order() {
    let Some(sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[]).await;
    for login in logins(&sshd) {
        let more =
            json!({"name": format!("box {login}"), "agent_id": "agent 7", "persistent": true, "timeout_secs": 9});
        let answer = client.call("ssh_connect", by_key(&sshd, login, more)).await;
        let text: Value = serde_json::from_str(&answer.text).unwrap();
        let session = answer.success();
        assert_eq!(text, session, "both places hold the same");
        let expected = json!({
            "host": "127.0.0.1", "port": sshd.port(), "username": login, "name": format!("box {login}"),
            "agent_id": "agent 7", "authenticated": true, "auth_method": "publickey", "retry_attempts": 0,
            "reused": false, "persistent": true, "timeout_secs": 9, "compression_enabled": false,
            "other_sessions": [],
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&session[name], value, "{name}");
        }
        let version = session["server_version"].as_str().unwrap();
        assert!(version.starts_with("SSH-2.0-OpenSSH_"), "{version}");
        assert_eq!(session["host_key"]["fingerprint"], sshd.fingerprint());
        let id = session["session_id"].as_str().unwrap();
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
        let order = [
            "session_id",
            "message",
            "host",
            "port",
            "username",
            "name",
            "agent_id",
            "authenticated",
            "auth_method",
            "retry_attempts",
            "reused",
            "persistent",
            "timeout_secs",
            "compression_enabled",
            "host_key",
            "server_version",
            "other_sessions",
        ];
        let fields: Vec<_> = session.as_object().unwrap().keys().map(String::as_str).collect();
        let known: Vec<_> = fields.iter().filter(|field| order.contains(field)).copied().collect();
        assert_eq!(known, order);
        let other: Vec<_> = fields.iter().filter(|field| !order.contains(field)).collect();
        assert!(other.is_empty(), "{other:?}");
    }
}

#[tokio::test]
async fn embedded_host_gives_the_same_answer() {
    let host = EmbeddedHost::start().await.unwrap();
    let home = Home::new();
    let key = home.path().join("key");
    host.write_client_key(&key).unwrap();
    let client = home.client(&[]).await;
    let arguments = json!({"address": format!("u@127.0.0.1:{}", host.port()), "key_path": key});
    let session = client.call("ssh_connect", arguments).await.success();
    assert_eq!(session["host_key"]["fingerprint"], host.fingerprint());
    assert!(session["server_version"].as_str().unwrap().starts_with("SSH-2.0-"), "{session}");
    assert_eq!((&session["compression_enabled"], &session["persistent"]), (&json!(false), &json!(false)));
    assert_eq!((session.get("name"), session.get("agent_id"), session.get("hint")), (None, None, None));
}

#[tokio::test]
async fn compression_is_what_was_negotiated_and_commands_work_with_it() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    let none: &[(&str, &str)] = &[];
    let cases = [
        (none, json!({}), false),
        (none, json!({"compress": true}), true),
        (none, json!({"compress": "true"}), true),
        (&[("SSH_COMPRESSION", "yes")], json!({}), true),
        (&[("SSH_COMPRESSION", "true")], json!({"compress": false}), false),
        (&[("SSH_COMPRESSION", "off")], json!({"compress": true}), true),
    ];
    for (env, more, compressed) in cases {
        let client = home.client(env).await;
        let session = connect(&client, &sshd, more).await;
        assert_eq!(session["compression_enabled"], compressed, "{env:?} {session}");
        let id = &session["session_id"];
        let stdin = "compressible ".repeat(20_000);
        let arguments = json!({"session_id": id, "command": "wc -c; seq 100000 | tail -n 1", "stdin": stdin});
        let ran = client.call("ssh_execute", arguments).await.success();
        assert_eq!(ran["stdout"], format!("{}\n100000\n", stdin.len()), "{ran}");
        let listed = client.call("ssh_list_sessions", json!({})).await.success();
        assert_eq!(listed["sessions"][0]["compression_enabled"], compressed);
    }
}

#[tokio::test]
async fn compression_that_the_server_refuses_is_told_as_off() {
    let Some(sshd) = Sshd::builder().config("Compression no").start().await else { return };
    let client = Home::new().client(&[]).await;
    let session = connect(&client, &sshd, json!({"compress": true})).await;
    assert_eq!(session["compression_enabled"], false);
}

#[tokio::test]
async fn settings_are_the_defaults_of_the_parameters() {
    let Some(sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[("SSH_CONNECT_TIMEOUT", "7")]).await;
    for (more, secs) in [
        (json!({}), 7),
        (json!({"timeout_secs": 0}), 7),
        (json!({"timeout_secs": null}), 7),
        (json!({"timeout_secs": "11"}), 11),
        (json!({"timeout_secs": 12.0}), 12),
    ] {
        assert_eq!(connect(&client, &sshd, more.clone()).await["timeout_secs"], secs, "{more}");
    }
    let client = Home::new().client(&[]).await;
    assert_eq!(connect(&client, &sshd, json!({})).await["timeout_secs"], 30);
}

#[tokio::test]
async fn name_is_unique_among_live_sessions_to_different_targets() {
    let Some(sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[]).await;
    let first = connect(&client, &sshd, json!({"name": "db"})).await;
    let same_target = connect(&client, &sshd, json!({"name": "db"})).await;
    assert_ne!(first["session_id"], same_target["session_id"]);

    // Another host name is another target, though it is the same machine.
    let other = json!({"name": "db", "address": format!("localhost:{}", sshd.port())});
    let other = by_key(&sshd, &sshd.user().name, other);
    let answer = client.call("ssh_connect", other.clone()).await;
    assert_eq!(answer.code(), "name_in_use", "{}", answer.text);
    let holders = [&first["session_id"], &same_target["session_id"]];
    assert!(holders.contains(&&answer.structured["session_id"]), "{}", answer.text);
    assert_eq!(sshd.logged("Accepted publickey"), 2, "nobody logged in for it");

    // A name is no id.
    let arguments = json!({"session_id": "db", "command": "true"});
    let answer = client.call("ssh_execute", arguments).await;
    assert_eq!(answer.code(), "session_not_found");
    assert!(answer.structured["candidates"].as_array().unwrap().len() >= 2, "{}", answer.text);

    for session in [&first, &same_target] {
        client.call("ssh_disconnect", json!({"session_id": session["session_id"]})).await.success();
    }
    assert_eq!(client.call("ssh_connect", other).await.success()["name"], "db", "the name is free again");
}

#[tokio::test]
async fn name_that_is_taken_at_the_same_moment_goes_to_one_only() {
    let Some(sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[]).await;
    let to = |host: &str| {
        let more = json!({"name": "one", "address": format!("{host}:{}", sshd.port())});
        client.call("ssh_connect", by_key(&sshd, &sshd.user().name, more))
    };
    let (a, b) = tokio::join!(to("127.0.0.1"), to("localhost"));
    let refused: Vec<_> = [&a, &b].into_iter().filter(|answer| answer.is_error).collect();
    assert_eq!(refused.len(), 1, "{}\n{}", a.text, b.text);
    assert_eq!(refused[0].code(), "name_in_use");
    let listed = client.call("ssh_list_sessions", json!({})).await.success();
    assert_eq!(listed["count"], 1, "{listed}");
    let id = &listed["sessions"][0]["session_id"];
    client.call("ssh_disconnect", json!({"session_id": id})).await.success();
    eventually("the refused connection is gone too", async || sshd.connections().is_empty()).await;
}

#[tokio::test]
async fn session_is_reused_only_if_it_lives_and_leads_to_the_target() {
    let Some(sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[]).await;
    let first = connect(&client, &sshd, json!({})).await;
    let id = first["session_id"].as_str().unwrap();

    // White space and upper case are read over; no credential is needed for what is open.
    let said = format!(" {} ", id.to_uppercase());
    let arguments =
        json!({"address": format!("127.0.0.1:{}", sshd.port()), "username": sshd.user().name, "session_id": said});
    let reused = client.call("ssh_connect", arguments).await.success();
    assert_eq!((&reused["reused"], &reused["session_id"]), (&json!(true), &json!(id)));
    assert_eq!((&reused["auth_method"], reused.get("reuse_refused")), (&json!("publickey"), None));
    assert_eq!((&reused["other_sessions"], &reused["host_key"]), (&json!([]), &first["host_key"]));
    assert_eq!(sshd.logged("Accepted publickey"), 1);

    let other = json!({"session_id": id, "address": format!("localhost:{}", sshd.port())});
    let other = connect(&client, &sshd, other).await;
    assert_eq!((&other["reused"], &other["reuse_refused"]), (&json!(false), &json!("other_target")));
    assert_ne!(other["session_id"], id);
    assert!(other["hint"].as_str().unwrap().contains("session_id"), "{other}");

    for unknown in ["00000000-0000-4000-8000-000000000000", "no id at all"] {
        let session = connect(&client, &sshd, json!({"session_id": unknown})).await;
        assert_eq!((&session["reused"], &session["reuse_refused"]), (&json!(false), &json!("unknown")));
    }

    client.call("ssh_disconnect", json!({"session_id": id})).await.success();
    let dead = connect(&client, &sshd, json!({"session_id": id})).await;
    assert_eq!((&dead["reused"], &dead["reuse_refused"]), (&json!(false), &json!("dead")));
    assert_ne!(dead["session_id"], id);
}

/// The answer of a connect that names a session whose server was silenced, not closed: only asking it
/// shows that it is gone.
async fn reuse_silenced(env: &[(&str, &str)]) -> Option<(Value, Value)> {
    let sshd = Sshd::start().await?;
    let client = Home::new().client(env).await;
    let first = connect(&client, &sshd, json!({})).await;
    // sshd forks once more after the login; whoever runs a command runs in that child.
    let arguments = json!({"session_id": first["session_id"], "command": "true"});
    client.call("ssh_execute", arguments).await.success();
    sshd.signal_connections("STOP");
    let again = connect(&client, &sshd, json!({"session_id": first["session_id"]})).await;
    Some((first, again))
}

#[tokio::test]
async fn session_whose_server_no_longer_answers_is_reused_over_a_new_connection() {
    let Some((first, again)) = reuse_silenced(&[]).await else { return };
    assert_eq!(again["session_id"], first["session_id"]);
    assert_eq!((&again["reused"], &again["reconnected"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn session_whose_server_no_longer_answers_is_dead_without_reconnect() {
    let Some((first, again)) = reuse_silenced(&[("SSH_RECONNECT", "false")]).await else { return };
    assert_ne!(again["session_id"], first["session_id"]);
    assert_eq!((&again["reused"], &again["reuse_refused"]), (&json!(false), &json!("dead")));
}

#[tokio::test]
async fn other_live_sessions_to_the_same_target_are_named() {
    let Some(sshd) = Sshd::start().await else { return };
    let server = HttpServer::start(&[]).await;
    let (one, two) = (McpClient::http(&server).await, McpClient::sse(&server).await);
    let first = connect(&one, &sshd, json!({})).await;
    assert_eq!((&first["other_sessions"], first.get("hint")), (&json!([]), None));
    let elsewhere = json!({"address": format!("localhost:{}", sshd.port())});
    assert_eq!(connect(&one, &sshd, elsewhere).await["other_sessions"], json!([]));
    // The same principal over another transport has the same sessions.
    let second = connect(&two, &sshd, json!({})).await;
    assert_eq!(second["other_sessions"], json!([first["session_id"]]));
    assert!(second["hint"].as_str().unwrap().contains("ssh_disconnect"), "{second}");
    two.call("ssh_disconnect", json!({"session_id": first["session_id"]})).await.success();
    assert_eq!(connect(&one, &sshd, json!({})).await["other_sessions"], json!([second["session_id"]]));
}

#[tokio::test]
async fn of_many_other_sessions_the_newest_are_named_and_the_rest_counted() {
    let Some(sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[]).await;
    let mut opened = Vec::new();
    for _ in 0..21 {
        opened.insert(0, connect(&client, &sshd, json!({})).await["session_id"].clone());
    }
    opened.pop();
    let last = connect(&client, &sshd, json!({})).await;
    assert_eq!(last["other_sessions"], json!(opened));
    let notices = last["notices"].to_string();
    assert!(notices.contains("1 more of your sessions lead to this host: ssh_list_sessions"), "{notices}");
}

#[tokio::test]
async fn persistent_session_is_not_closed_for_idleness() {
    let Some(sshd) = Sshd::start().await else { return };
    let client = Home::new().client(&[("SSH_INACTIVITY_TIMEOUT", "1")]).await;
    let kept = connect(&client, &sshd, json!({"persistent": true})).await;
    let idle = connect(&client, &sshd, json!({})).await;
    assert_eq!((&kept["persistent"], &idle["persistent"]), (&json!(true), &json!(false)));
    // Looked at from the server: a call would be a use.
    eventually("the idle session is closed", async || sshd.logged("Disconnected from user") == 1).await;
    let listed = client.call("ssh_list_sessions", json!({})).await.success();
    assert_eq!((&listed["count"], &listed["sessions"][0]["session_id"]), (&json!(1), &kept["session_id"]), "{listed}");
    let answer = client.call("ssh_execute", json!({"session_id": idle["session_id"], "command": "true"})).await;
    assert_eq!(answer.code(), "session_closed", "{}", answer.text);
}

/// What a refusal of input has to be: short, escaped, and with a next step.
#[track_caller]
fn assert_well_said(error: &Value, input: &str) {
    for field in ["message", "hint"] {
        let text = error[field].as_str().unwrap_or_default();
        assert!(!text.is_empty() && text.chars().count() <= 300, "{field}: {error}");
        let invisible = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
        assert!(!text.chars().any(invisible), "{field}: {text:?}");
    }
    assert!(input.len() < 200 || !error.to_string().contains(input), "not repeated whole");
    assert_eq!(error["retryable"], false);
}

#[tokio::test]
async fn what_is_no_address_is_refused_before_anything_is_dialled() {
    let home = Home::new();
    let client = home.client(&[]).await;
    let long = "h".repeat(300);
    let inputs = [
        "",
        "   ",
        "-oProxyCommand=id",
        "h\nbank ssh-ed25519 AAA",
        "h:0",
        "h:",
        ":22",
        ":65536",
        "h:65536",
        "h:22x",
        "h:+22",
        "h:-1",
        "[::1",
        "[::1]22",
        "[h]:22",
        "::1:22",
        "::1",
        "h\0",
        "bаnk",
        "h h",
        "ssh://",
        "http://h",
        "ssh://h/path",
        "h/../../etc",
        "h;id",
        "$(id)",
        "h\u{202e}",
        "[fe80::1%../x]:22",
        long.as_str(),
    ];
    for address in inputs {
        let arguments = json!({"address": address, "username": "u", "password": "p", "max_retries": 0});
        let answer = client.call("ssh_connect", arguments).await;
        assert_eq!(answer.code(), "invalid_address", "{address:?}: {}", answer.text);
        assert_well_said(&answer.structured, address);
        let colons = address.starts_with("::");
        assert!(!colons || answer.structured["hint"].as_str().unwrap().contains("[::1]"), "{}", answer.text);
    }
    assert_eq!(home.recorded(), "", "no line can be made");
}

#[tokio::test]
async fn what_is_no_username_is_refused_before_anything_is_dialled() {
    let server = FakeServer::start(Play::Silent).await;
    let client = Home::new().client(&[]).await;
    let long = "u".repeat(1 << 20);
    for username in [
        "-l root",
        "-root",
        "a;id",
        "$(id)",
        "`id`",
        "a\u{202e}b",
        "a\u{200b}",
        "a\0",
        "a b",
        " ",
        "a\nb",
        "a/b",
        &long,
    ] {
        let arguments = json!({"address": server.address(), "username": username, "password": "p"});
        let answer = client.call("ssh_connect", arguments).await;
        assert_eq!(answer.code(), "invalid_username", "{}", answer.text);
        assert_well_said(&answer.structured, username);
    }
    let answer =
        client.call("ssh_connect", json!({"address": format!("@{}", server.address()), "password": "p"})).await;
    assert_eq!(answer.code(), "invalid_username", "{}", answer.text);
    for none in [json!({}), json!({"username": ""}), json!({"username": null})] {
        let arguments = with(json!({"address": server.address(), "password": "p"}), none);
        let answer = client.call("ssh_connect", arguments).await;
        assert_eq!(answer.code(), "missing_argument", "{}", answer.text);
        assert!(answer.structured["hint"].as_str().unwrap().contains("user@host"), "{}", answer.text);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn usernames_of_windows_and_of_mail_like_logins_are_taken() {
    let host = crate::support::embedded_host::Options::default().password("p").start().await.unwrap();
    let client = Home::new().client(&[]).await;
    for username in ["CORP\\jo", "jo@corp.example", "machine$", "jo.doe-2_x", "José"] {
        let address = format!("127.0.0.1:{}", host.port());
        let arguments = json!({"address": address, "username": username, "password": "p"});
        assert_eq!(client.call("ssh_connect", arguments).await.success()["username"], username);
    }
}

#[tokio::test]
async fn usernames_that_differ_are_not_chosen_between() {
    let server = FakeServer::start(Play::Silent).await;
    let client = Home::new().client(&[]).await;
    let arguments = json!({"address": format!("root@{}", server.address()), "username": "deploy", "password": "p"});
    let answer = client.call("ssh_connect", arguments).await;
    assert_eq!(answer.code(), "conflicting_arguments");
    let message = answer.structured["message"].as_str().unwrap();
    assert!(message.contains("root") && message.contains("deploy"), "{message}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn labels_that_are_not_for_people_are_refused() {
    let server = FakeServer::start(Play::Silent).await;
    let client = Home::new().client(&[]).await;
    let long = "n".repeat(10_000);
    for label in ["\u{1b}[31mred", "a\u{202e}b", "a\nb", "   ", "00000000-0000-4000-8000-000000000000", &long] {
        for field in ["name", "agent_id"] {
            let mut arguments = json!({"address": server.address(), "username": "u", "password": "p"});
            arguments[field] = json!(label);
            if field == "agent_id" && label.trim().is_empty() {
                continue;
            }
            let answer = client.call("ssh_connect", arguments).await;
            assert_eq!(answer.code(), "invalid_name", "{field} {}", answer.text);
            assert_well_said(&answer.structured, label);
        }
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn numbers_out_of_range_are_refused_with_the_limits() {
    let server = FakeServer::start(Play::Silent).await;
    let client = Home::new().client(&[]).await;
    let cases = [
        ("timeout_secs", json!(-1), "out_of_range"),
        ("timeout_secs", json!(86_401), "out_of_range"),
        ("timeout_secs", json!(1e308), "out_of_range"),
        ("timeout_secs", json!(u64::MAX), "out_of_range"),
        ("timeout_secs", json!("5s"), "invalid_argument"),
        ("timeout_secs", json!(1.5), "invalid_argument"),
        ("max_retries", json!(-1), "out_of_range"),
        ("max_retries", json!(101), "out_of_range"),
        ("retry_delay_ms", json!(60_001), "out_of_range"),
        ("compress", json!("maybe"), "invalid_argument"),
        ("persistent", json!(1), "invalid_argument"),
    ];
    for (field, value, code) in cases {
        let mut arguments = json!({"address": server.address(), "username": "u", "password": "p"});
        arguments[field] = value;
        let answer = client.call("ssh_connect", arguments).await;
        assert_eq!(answer.code(), code, "{}", answer.text);
        assert_eq!(answer.structured["argument"], field);
        assert!(code != "out_of_range" || answer.structured["maximum"].is_u64(), "{}", answer.text);
    }
    assert_eq!(server.connections(), 0);
}
