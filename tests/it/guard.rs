//! Who may talk to the HTTP server.

use crate::{
    http::Running,
    wire::{Ask, TestResult, ping},
};

fn ask(host: &str) -> Ask {
    let ask = Ask::new("POST", "/mcp").header("Host", host).header("Content-Type", "application/json");
    ask.body(&ping(1).to_string())
}

#[tokio::test]
async fn only_names_of_this_machine_with_this_port_are_served() -> TestResult {
    let server = Running::new(&[]).await?;
    let port = server.address.port();
    let other = if port == 65_535 { 1 } else { port + 1 };
    let served = ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"];
    let refused =
        ["evil.com", "127.0.0.1.evil", "localhost.evil.com", "127.0.0.2", "0.0.0.0", "evil@localhost", "[::2]", "::1"];
    for host in ["localhost:99999", "localhost:", "localhost:x", ""] {
        assert_eq!(ask(host).send(server.address).await?.status, 403, "{host}");
    }
    for host in served {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            assert_eq!(ask(&host).send(server.address).await?.status, 200, "{host}");
        }
        let host = format!("{host}:{other}");
        assert_eq!(ask(&host).send(server.address).await?.status, 403, "{host}");
    }
    for host in refused {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            assert_eq!(ask(&host).send(server.address).await?.status, 403, "{host}");
        }
    }
    assert_eq!(ask("localhost").header("Host", "localhost").send(server.address).await?.status, 400);
    let nameless = Ask::new("GET", "/health").send(server.address).await?;
    assert_eq!(nameless.status, 400);
    let absolute = Ask::new("GET", "http://evil.com/health").header("Host", "localhost");
    assert_eq!(absolute.send(server.address).await?.status, 403);
    assert_eq!(Ask::new("GET", "/health").header("Host", "evil.com").send(server.address).await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn only_pages_of_this_machine_may_call() -> TestResult {
    let server = Running::new(&[]).await?;
    let cases = [
        ("http://localhost", 200),
        ("http://localhost:6274", 200),
        ("http://127.0.0.1:3000", 200),
        ("http://[::1]:3000", 200),
        ("http://evil.com", 403),
        ("http://localhost.evil.com", 403),
        ("http://127.0.0.1.evil.com", 403),
        ("http://localhost@evil.com", 403),
        ("file://localhost", 403),
        ("null", 403),
        ("", 403),
    ];
    for (origin, status) in cases {
        for path in ["/mcp", "/sse"] {
            let ask = Ask::post(path, &ping(1)).header("Origin", origin);
            assert_eq!(ask.send(server.address).await?.status, status, "{origin}");
        }
        let reply = Ask::get("/health").header("Origin", origin).send(server.address).await?;
        assert_eq!(reply.status, status, "{origin}");
        assert!(reply.header("access-control-allow-origin").is_none());
    }
    let two = Ask::post("/mcp", &ping(1)).header("Origin", "http://localhost").header("Origin", "http://evil.com");
    assert_eq!(two.send(server.address).await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn a_post_must_be_json() -> TestResult {
    let server = Running::new(&[]).await?;
    let with = |content_type: &str| {
        let ask = Ask::new("POST", "/mcp").header("Host", "localhost").body(&ping(1).to_string());
        if content_type.is_empty() { ask } else { ask.header("Content-Type", content_type) }
    };
    for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(with(content_type).send(server.address).await?.status, 200, "{content_type}");
    }
    for content_type in
        ["", "text/plain", "application/x-www-form-urlencoded", "text/plain; application/json", "application/jsonp"]
    {
        assert_eq!(with(content_type).send(server.address).await?.status, 415, "{content_type}");
    }
    let packed = with("application/json").header("Content-Encoding", "gzip");
    assert_eq!(packed.send(server.address).await?.status, 415);
    Ok(())
}

#[tokio::test]
async fn a_token_is_asked_for_where_there_is_one() -> TestResult {
    let server = Running::new(&[("alice", "Secret-Token"), ("bob", "other")]).await?;
    let cases = [
        ("Bearer Secret-Token", 200),
        ("bearer other", 200),
        ("Bearer secret-token", 401),
        ("Bearer Secret-Token-and-more", 401),
        ("Bearer ", 401),
        ("Basic Secret-Token", 401),
        ("Secret-Token", 401),
    ];
    for (authorization, status) in cases {
        let reply = Ask::post("/mcp", &ping(1)).header("Authorization", authorization).send(server.address).await?;
        assert_eq!(reply.status, status, "{authorization}");
    }
    for ask in [
        Ask::post("/mcp", &ping(1)),
        Ask::post("/mcp?token=Secret-Token", &ping(1)),
        Ask::post("/message?sessionId=x", &ping(1)),
        Ask::get("/sse"),
        Ask::get("/mcp"),
    ] {
        let reply = ask.send(server.address).await?;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")));
    }
    Ok(())
}
