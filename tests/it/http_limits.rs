//! What the HTTP server bears: slow, oversized and malformed requests, and too many connections.

use std::{net::SocketAddr, time::Duration};

use ssh_mcp::config::HttpSettings;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    http::{Running, settings},
    support::wait::eventually,
    wire::{Ask, SOON, TestResult, line_with, ping},
};

/// A bound that a test can wait for.
const SHORT: Duration = Duration::from_millis(300);

async fn connected(server: SocketAddr, bytes: &[u8]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server).await?;
    // A server that refuses early may close before all is written; its answer is what counts.
    let _ = stream.write_all(bytes).await;
    Ok(stream)
}

/// What the server says before it closes. A reset after the answer is an end too.
async fn all(mut stream: TcpStream) -> Result<String, Box<dyn std::error::Error>> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    let end = async {
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            text.extend_from_slice(&buffer[..read]);
        }
    };
    timeout(SOON, end).await.map_err(|_| "the connection stays open")?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

async fn is_served(server: SocketAddr) -> bool {
    Ask::post("/mcp", &ping(1)).send(server).await.is_ok_and(|reply| reply.status == 200)
}

#[tokio::test]
async fn a_head_that_does_not_arrive_ends_its_connection() -> TestResult {
    let server = Running::with(HttpSettings { header_timeout: SHORT, ..settings(&[]) }).await?;
    for half in ["", "POST /mcp HT", "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Le"] {
        assert_eq!(all(connected(server.address, half.as_bytes()).await?).await?, "", "{half:?}");
    }
    // A byte now and then does not prolong it.
    let mut dripping = connected(server.address, b"GET /health HTTP/1.1\r\n").await?;
    let dripped = async {
        while dripping.write_all(b"a").await.is_ok() {
            sleep(SHORT / 10).await;
        }
    };
    timeout(SOON, dripped).await.map_err(|_| "a dripping head is read on")?;
    // An answered connection that says no more.
    let kept = connected(server.address, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    assert_eq!(status(&all(kept).await?), Some(200));
    assert!(is_served(server.address).await);
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_a_timeout() -> TestResult {
    let server = Running::with(HttpSettings { body_timeout: SHORT, ..settings(&[]) }).await?;
    let head = "Host: localhost\r\nContent-Type: application/json\r\n";
    for (path, length) in
        [("/mcp", "Content-Length: 100"), ("/sse", "Content-Length: 100"), ("/mcp", "Transfer-Encoding: chunked")]
    {
        let request = format!("POST {path} HTTP/1.1\r\n{head}{length}\r\n\r\n5\r\n{{\"js");
        let answer = all(connected(server.address, request.as_bytes()).await?).await?;
        assert_eq!(status(&answer), Some(408), "{path} {length}: {answer}");
    }
    assert!(is_served(server.address).await);
    Ok(())
}

#[tokio::test]
async fn a_connection_above_the_limit_is_refused_at_once_and_a_free_one_is_taken() -> TestResult {
    let server = Running::with(HttpSettings { max_connections: 2, ..settings(&[]) }).await?;
    let held = [connected(server.address, b"GET").await?, connected(server.address, b"GET").await?];
    let mut third = String::new();
    eventually("both are counted", async || {
        third = match connected(server.address, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
        {
            Ok(stream) => all(stream).await.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        status(&third) == Some(503)
    })
    .await;
    let (head, body) = third.split_once("\r\n\r\n").ok_or("no head")?;
    assert!(
        head.contains(&format!("content-length: {}", body.len())) && body.contains("MCP_MAX_CONNECTIONS"),
        "{third}"
    );
    drop(held);
    eventually("the slots are free again", async || is_served(server.address).await).await;
    Ok(())
}

#[tokio::test]
async fn a_client_that_reads_nothing_loses_its_connection() -> TestResult {
    let limits = HttpSettings { max_connections: 1, body_timeout: SHORT, ..settings(&[]) };
    let server = Running::with(limits).await?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(1024)?;
    let mut greedy = socket.connect(server.address).await?;
    let requests = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    // It writes until both directions are full, and then waits as long as the server does.
    let written = async { while greedy.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(SOON * 3, written).await.map_err(|_| "the connection stays open")?;
    eventually("the slot is free", async || is_served(server.address).await).await;
    Ok(())
}

#[tokio::test]
async fn bodies_of_a_principal_have_a_bound_in_memory_together() -> TestResult {
    let server = Running::new(&[("alice", "token-a"), ("bob", "token-b")]).await?;
    let of = |token: &str| Ask::post("/mcp", &ping(1)).header("Authorization", &format!("Bearer {token}"));
    let begun = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Authorization: Bearer token-a\r\nContent-Length: 4194304\r\n\r\n{";
    let held = [connected(server.address, begun.as_bytes()).await?, connected(server.address, begun.as_bytes()).await?];
    let mut refused = None;
    eventually("both are being read", async || {
        refused = of("token-a").send(server.address).await.ok().filter(|reply| reply.status == 503);
        refused.is_some()
    })
    .await;
    let refused = refused.ok_or("not refused")?;
    assert_eq!((refused.header("retry-after"), refused.json()?["error"]["code"].as_i64()), (Some("1"), Some(-32_000)));
    assert_eq!(of("token-b").send(server.address).await?.status, 200, "another principal has its own share");
    drop(held);
    eventually("there is room", async || {
        of("token-a").send(server.address).await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    // Small ones, and one that is parsed aside.
    let long = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"{}}}", " ".repeat(1_000_000));
    assert_eq!(of("token-a").body(&long).send(server.address).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn event_streams_of_a_principal_have_a_bound() -> TestResult {
    let server = Running::new(&[("alice", "token-a"), ("bob", "token-b")]).await?;
    let of = |token: &str| Ask::get("/sse").header("Authorization", &format!("Bearer {token}"));
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut stream = of("token-a").open(server.address).await?;
        line_with(&mut stream, "event:").await?;
        open.push(stream);
    }
    assert_eq!(of("token-a").send(server.address).await?.status, 503);
    let mut other = of("token-b").open(server.address).await?;
    assert_eq!(line_with(&mut other, "event:").await?, "endpoint");
    Ok(())
}

/// In place of a status: closed without a word.
const CLOSED: u16 = 0;

/// The HTTP row of the bad input: what is sent, and the status that it gets.
fn bad_input() -> Vec<(&'static str, Vec<u8>, u16)> {
    let json = "Content-Type: application/json\r\n";
    let post = |headers: &str, body: &str| {
        format!("POST /mcp HTTP/1.1\r\nConnection: close\r\n{headers}\r\n{body}").into_bytes()
    };
    let ask = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    let local = format!("Host: localhost\r\n{json}");
    let both = |headers: &str| post(&format!("{local}{headers}"), "2\r\n{}\r\n0\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    let bomb = format!("{}0\r\n\r\n", chunk.repeat(65));
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    vec![
        ("no Host", post(json, ""), 400),
        ("two Host headers", post(&format!("{local}Host: localhost\r\n"), ""), 400),
        ("Host: 127.0.0.1.evil", post(&format!("Host: 127.0.0.1.evil\r\n{json}"), ""), 403),
        ("Origin: null", post(&format!("{local}Origin: null\r\n"), ""), 403),
        ("Origin of a name like ours", post(&format!("{local}Origin: http://localhost.evil.com\r\n"), ""), 403),
        ("Content-Length, then Transfer-Encoding", both("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("Transfer-Encoding, then Content-Length", both("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n"), 400),
        ("two lengths", post(&format!("{local}Content-Length: 2\r\nContent-Length: 3\r\n"), "{}"), 400),
        ("a length that is no number", post(&format!("{local}Content-Length: +2\r\n"), "{}"), 400),
        ("an unknown coding", post(&format!("{local}Transfer-Encoding: gzip\r\n"), ""), 400),
        ("a chunk size that is none", post(&format!("{local}Transfer-Encoding: chunked\r\n"), "zz\r\n"), 400),
        ("a bomb of chunks", post(&format!("{local}Transfer-Encoding: chunked\r\n"), &bomb), 413),
        ("a length above the limit", post(&format!("{local}Content-Length: 5000000\r\n"), &"x".repeat(5_000_000)), 413),
        (
            "the same, asked for first",
            post(&format!("{local}Expect: 100-continue\r\nContent-Length: 5000000\r\n"), ""),
            413,
        ),
        ("a gzip bomb", post(&format!("{local}Content-Encoding: gzip\r\nContent-Length: 2\r\n"), "\u{1f}x"), 415),
        ("text/plain", post("Host: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n", "{}"), 415),
        ("a header of 1 MB", post(&format!("{local}X: {}\r\n", "x".repeat(1_000_000)), ""), 431),
        ("200 headers", post(&format!("{local}{many}"), ""), 431),
        ("a path of 1 MB", ask(&format!("GET /{}", "x".repeat(1_000_000)), "Host: localhost\r\n"), 431),
        ("PUT", ask("PUT /mcp", "Host: localhost\r\n"), 405),
        ("GET /message", ask("GET /message", "Host: localhost\r\n"), 405),
        ("PUT /sse", ask("PUT /sse", "Host: localhost\r\n"), 405),
        ("POST /health", ask("POST /health", &format!("{local}Content-Length: 0\r\n")), 405),
        ("a preflight", ask("OPTIONS /mcp", "Host: localhost\r\nOrigin: http://evil.com\r\n"), 403),
        ("CONNECT", ask("CONNECT localhost:22", "Host: localhost\r\n"), 403),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
        ("a header with NUL", post(&format!("{local}X: a\0b\r\n"), ""), 400),
        ("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), CLOSED),
    ]
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the table is what --nocapture is for")]
async fn malformed_requests_have_their_status_and_the_next_one_is_answered() -> TestResult {
    let server = Running::new(&[]).await?;
    let mut wrong = Vec::new();
    for (what, bytes, expected) in bad_input() {
        let answer = all(connected(server.address, &bytes).await?).await?;
        println!("{what:42} {}", answer.lines().next().unwrap_or("closed"));
        // RFC 9110, 15.5.6: a refused method is told which ones there are.
        let named = expected != 405 || answer.to_ascii_lowercase().contains("\r\nallow: ");
        if status(&answer).unwrap_or(CLOSED) != expected || !named {
            wrong.push(format!("{what}: {expected}, but {answer:.200}"));
        }
        assert!(is_served(server.address).await, "after {what}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[tokio::test]
async fn a_thousand_calls_at_once_are_answered_with_their_own_ids() -> TestResult {
    let server = Running::new(&[]).await?;
    // 250 clients with four calls each, so that the descriptors of this process suffice.
    let client = |first: i64| {
        let address = server.address;
        async move {
            let mut wrong = 0;
            for id in first..first + 4 {
                let body = ping(id).to_string();
                let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
                let request = format!(
                    "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
                let answer = all(stream).await.map_err(|error| error.to_string())?;
                let own = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}");
                wrong += usize::from(answer.split("\r\n\r\n").nth(1) != Some(&own));
            }
            Ok::<_, String>(wrong)
        }
    };
    let wrong = futures_util::future::join_all((0..250).map(|n| client(n * 4))).await;
    let wrong: Result<Vec<_>, _> = wrong.into_iter().collect();
    assert_eq!(wrong?.iter().sum::<usize>(), 0);
    Ok(())
}
