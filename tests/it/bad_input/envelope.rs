//! Messages that are none, on stdio and on `POST /mcp`: the answer, and that the same connection goes on.

use std::fs;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::support::{
    mcp_client::{HttpServer, RawStdio},
    wait::bounded,
};

/// Bytes that are no request, the code that they get, and the id of the answer.
fn garbage() -> Vec<(Vec<u8>, i64, Value)> {
    let deep = |open: &str| open.repeat(1_000_000).into_bytes();
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        (text("hello"), -32700, Value::Null),
        (text(r#"{"jsonrpc":"2.0","id":1,"method":"pi"#), -32700, Value::Null),
        (deep("["), -32700, Value::Null),
        (deep("{\"a\":"), -32700, Value::Null),
        (text(r#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#), -32700, Value::Null),
        (text(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1e400}}"#), -32700, Value::Null),
        (text(r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#), -32700, Value::Null),
        (b"\xff\xfe{\x00}\x00".to_vec(), -32700, Value::Null),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec(), -32700, Value::Null),
        (text(r#"{"jsonrpc":"2.0","id":1,"method":"ping"} {}"#), -32700, Value::Null),
        (text(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#), -32600, Value::Null),
        (text("[]"), -32600, Value::Null),
        (text("3"), -32600, Value::Null),
        (text("null"), -32600, Value::Null),
        (text(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#), -32600, Value::Null),
        (text(r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#), -32600, Value::Null),
        (text(r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#), -32600, Value::Null),
        (text(r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#), -32600, json!(7)),
        (text(r#"{"id":7,"method":"ping"}"#), -32600, json!(7)),
        (text(r#"{"jsonrpc":"2.0","id":7}"#), -32600, json!(7)),
        (text(r#"{"jsonrpc":"2.0","id":7,"method":5}"#), -32600, json!(7)),
        (text(r#"{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/list"}"#), -32600, json!(7)),
        (text(r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#), -32600, Value::Null),
        (call(r#"{"session_id":"S","command":"true","c\u006fmmand":"id"}"#), -32600, json!(7)),
        (call(r#"{"address":"h","password":"canary-1","password":"canary-2"}"#), -32600, json!(7)),
        (text(r#"{"jsonrpc":"2.0","id":7,"method":"no/such"}"#), -32601, json!(7)),
        (text(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":5}}"#), -32602, json!(7)),
        (text(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"no_such"}}"#), -32602, json!(7)),
        (text(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[]}"#), -32602, json!(7)),
    ]
}

fn call(arguments: &str) -> Vec<u8> {
    let params = format!(r#"{{"name":"ssh_execute","arguments":{arguments}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#).into_bytes()
}

#[track_caller]
fn assert_refused(answer: &Value, code: i64, id: &Value, bytes: &[u8]) {
    let what = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]);
    assert_eq!((&answer["error"]["code"], answer.get("id")), (&json!(code), Some(id)), "{what}: {answer}");
    assert!(answer.to_string().len() < 600 && !answer.to_string().contains("canary"), "{what}: {answer}");
}

#[tokio::test]
async fn garbage_on_stdio_is_answered_and_the_next_request_is_served() {
    let mut client = RawStdio::initialized(&[]).await;
    for (bytes, code, id) in garbage() {
        client.write(&bytes).await;
        client.write(b"\n").await;
        assert_refused(&client.message().await, code, &id, &bytes);
        assert_eq!(client.request(100, "ping", json!({})).await["result"], json!({}));
    }
    client.write(b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":101,\"method\":\"ping\"}\r\n").await;
    assert_eq!(client.message().await["id"], 101, "a byte order mark is passed over");
}

#[tokio::test]
async fn a_line_of_64_mib_costs_no_memory_and_the_next_request_is_served() {
    let mut client = RawStdio::initialized(&[]).await;
    let pid = client.process().pid();
    let before = peak(pid);
    let piece = vec![b'x'; 1 << 20];
    client.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"").await;
    for _ in 0..64 {
        client.write(&piece).await;
    }
    client.write(b"\"}\n").await;
    assert_refused(&client.message().await, -32700, &Value::Null, b"64 MiB");
    assert_eq!(client.request(2, "ping", json!({})).await["result"], json!({}));
    let grown = peak(pid) - before;
    // The longest line that is read, and half of it again while the buffer grows.
    assert!(grown < 40 << 10, "{grown} KiB more");
}

/// The most memory that a process ever had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of Linux");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    kib.expect("its peak")
}

#[tokio::test]
async fn garbage_over_http_is_answered_and_the_same_connection_goes_on() {
    let server = HttpServer::start(&[]).await;
    let mut connection = Connection::open(server.port()).await;
    for (bytes, code, id) in garbage() {
        if bytes.len() > 4 << 20 {
            continue;
        }
        let (status, answer) = connection.post(&bytes).await;
        // A request that can be read is answered as a request; the rest is a bad one of HTTP too.
        let expected: &[u16] = if matches!(code, -32700 | -32600) { &[400] } else { &[200, 400, 404] };
        assert!(expected.contains(&status), "{status}: {answer}");
        assert_refused(&serde_json::from_str(&answer).expect("JSON"), code, &id, &bytes);
        let (status, answer) = connection.post(br#"{"jsonrpc":"2.0","id":100,"method":"ping"}"#).await;
        assert_eq!((status, answer.contains("\"result\":{}")), (200, true), "{answer}");
    }
}

#[tokio::test]
async fn a_body_of_64_mib_is_refused_and_costs_no_memory() {
    let mut server = HttpServer::start(&[]).await;
    let (port, pid) = (server.port(), server.process().pid());
    let before = peak(pid);
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        64 << 20
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the server");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let piece = vec![b'['; 1 << 20];
    for _ in 0..64 {
        // It may close as soon as it has answered.
        if stream.write_all(&piece).await.is_err() {
            break;
        }
    }
    let grown = peak(pid) - before;
    assert!(grown < 40 << 10, "{grown} KiB more");
    let (status, answer) = Connection::open(port).await.post(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    assert_eq!(status, 200, "{answer}");
}

/// One connection for many requests.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(port: u16) -> Self {
        Self(BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.expect("the server")))
    }

    /// `POST /mcp`; gives status and body.
    async fn post(&mut self, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(&[head.as_bytes(), body].concat()).await.expect("it reads");
        bounded("a response", self.response()).await
    }

    async fn response(&mut self) -> (u16, String) {
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            assert_ne!(self.0.read_line(&mut line).await.expect("a response"), 0, "the connection was closed");
            let lower = line.trim().to_ascii_lowercase();
            if lower.is_empty() {
                break;
            } else if let Some(rest) = lower.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().expect("a status");
            } else if let Some(rest) = lower.strip_prefix("content-length:") {
                length = rest.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.expect("a body");
        (status, String::from_utf8(body).expect("text"))
    }
}
