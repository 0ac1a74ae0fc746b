//! Host × Origin × content type × token, with the status that each combination gets.

use ssh_mcp::config::{AllowedHost, HttpSettings};

use crate::{
    http::{Running, settings},
    wire::{Ask, TestResult, ping},
};

const HOSTS: [(&str, Option<u16>); 6] = [
    ("localhost", None),
    ("127.0.0.1", None),
    ("mcp.example.org", None),
    ("127.0.0.1.evil", Some(403)),
    ("sub.mcp.example.org", Some(403)),
    ("0.0.0.0", Some(403)),
];

const ORIGINS: [(&str, Option<u16>); 7] = [
    ("", None),
    ("http://localhost:6274", None),
    ("https://app.example.org", None),
    ("null", Some(403)),
    ("http://localhost.evil.com", Some(403)),
    ("http://app.example.org", Some(403)),
    ("https://app.example.org:444", Some(403)),
];

const TOKENS: [(&str, Option<u16>); 6] = [
    ("Bearer Secret-Token", None),
    ("bEARER other", None),
    ("Bearer secret-token", Some(401)),
    ("Basic Secret-Token", Some(401)),
    ("in the query", Some(401)),
    ("none", Some(401)),
];

const TYPES: [(&str, Option<u16>); 4] = [
    ("application/json", None),
    ("application/json;charset=utf-8", None),
    ("text/plain", Some(415)),
    ("application/x-www-form-urlencoded", Some(415)),
];

fn request(host: &str, origin: &str, token: &str, content_type: &str) -> Ask {
    let path = if token == "in the query" { "/mcp?token=Secret-Token&access_token=Secret-Token" } else { "/mcp" };
    let mut ask = Ask::new("POST", path).header("Host", host).header("Content-Type", content_type);
    if !origin.is_empty() {
        ask = ask.header("Origin", origin);
    }
    if token.contains("-Token") || token.contains("other") || token.contains("-token") {
        ask = ask.header("Authorization", token);
    }
    ask.body(&ping(1).to_string())
}

/// The table is long: a part of a row that decides stands first, and the rest of it does not matter.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the table is what --nocapture is for")]
async fn every_combination_of_host_origin_token_and_type_has_its_status() -> TestResult {
    let server = Running::with(HttpSettings {
        allowed_hosts: vec![AllowedHost { host: "mcp.example.org".into(), port: None }],
        allowed_origins: vec!["https://app.example.org".into()],
        ..settings(&[("alice", "Secret-Token"), ("bob", "other")])
    })
    .await?;
    println!("{:20} {:28} {:20} {:34} status", "Host", "Origin", "Authorization", "Content-Type");
    let (mut combinations, mut wrong) = (0, Vec::new());
    for (host, host_status) in HOSTS {
        for (origin, origin_status) in ORIGINS {
            for (token, token_status) in TOKENS {
                for (content_type, type_status) in TYPES {
                    let reply = request(host, origin, token, content_type).send(server.address).await?;
                    let expected = [host_status, origin_status, token_status, type_status];
                    let expected = expected.into_iter().flatten().next().unwrap_or(200);
                    let row = format!("{host:20} {origin:28} {token:20} {content_type:34} {}", reply.status);
                    println!("{row}");
                    combinations += 1;
                    let challenge = reply.header("www-authenticate") == (expected == 401).then_some("Bearer");
                    let no_cors = !reply.head.to_ascii_lowercase().contains("access-control-");
                    if reply.status != expected || !challenge || !no_cors {
                        wrong.push(format!("{row}, not {expected}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(combinations, HOSTS.len() * ORIGINS.len() * TOKENS.len() * TYPES.len());
    Ok(())
}

#[tokio::test]
async fn an_allowed_host_with_a_port_needs_that_port() -> TestResult {
    let hosts = vec![AllowedHost { host: "mcp.example.org".into(), port: Some(8443) }];
    let server = Running::with(HttpSettings { allowed_hosts: hosts, ..settings(&[]) }).await?;
    for (host, status) in [("mcp.example.org:8443", 200), ("mcp.example.org", 403), ("mcp.example.org:84430", 403)] {
        let reply = request(host, "", "none", "application/json").send(server.address).await?;
        assert_eq!(reply.status, status, "{host}");
    }
    Ok(())
}
