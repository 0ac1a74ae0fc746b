//! `ssh-mcp` on a free port, and a small HTTP/1.1 client that sends exactly what it is told.

use std::{
    io,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, UnixListener},
    task::JoinHandle,
};

use super::ServerProcess;
use crate::support::{
    free_port,
    wait::{bounded, eventually},
};

/// The server is started on another port this often, when the first one is taken meanwhile.
const ATTEMPTS: usize = 5;

/// A running `ssh-mcp`.
pub(crate) struct HttpServer {
    process: ServerProcess,
    port: u16,
    stdout: Arc<Mutex<Vec<u8>>>,
}

impl HttpServer {
    /// Starts it on a free port of 127.0.0.1 and waits until `GET /health` answers.
    pub(crate) async fn start(env: &[(&str, &str)]) -> Self {
        Self::start_with(env, ServerProcess::http).await
    }

    /// The same through `nohup`.
    pub(crate) async fn start_nohup() -> Self {
        Self::start_with(&[], ServerProcess::http_nohup).await
    }

    /// The same as another user, which takes root.
    pub(crate) async fn start_as(user: &str) -> Self {
        Self::start_with(&[], |env| ServerProcess::http_as(user, env)).await
    }

    async fn start_with(env: &[(&str, &str)], start: impl Fn(&[(&str, &str)]) -> ServerProcess) -> Self {
        for _ in 0..ATTEMPTS {
            let port = free_port();
            let number = port.to_string();
            let mut process = start(&[env, &[("MCP_PORT", number.as_str())]].concat());
            let stdout = process.collect_stdout();
            eventually("the server answers or ends", async || {
                process.ended().is_some() || get(port, "/health").await.is_ok_and(|reply| reply.status == 200)
            })
            .await;
            if process.ended().is_none() {
                return Self { process, port, stdout };
            }
            assert!(process.stderr().contains("in use"), "the server ended: {}", process.stderr());
        }
        panic!("no free port in {ATTEMPTS} attempts");
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The process itself.
    pub(crate) fn process(&mut self) -> &mut ServerProcess {
        &mut self.process
    }

    /// What it logged to stdout and stderr so far.
    pub(crate) fn log(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.stdout.lock().expect("no panic")).into_owned();
        stdout + &self.process.stderr()
    }

    /// `GET` of a path.
    pub(crate) async fn get(&self, path: &str) -> HttpReply {
        bounded(path, get(self.port, path)).await.expect("an HTTP reply")
    }

    /// `POST /mcp` with these headers and no other but Host and Content-Length.
    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: &str) -> HttpReply {
        self.send("POST", "/mcp", headers, body).await
    }

    /// `POST /mcp` whose answer may be a stream of events.
    pub(crate) async fn stream(&self, headers: &[(&str, &str)], body: &str) -> HttpStream {
        bounded("/mcp", open(self.port, "POST", "/mcp", headers, body)).await.expect("the head of a reply")
    }

    /// Calls a tool as the bare `curl` line of the README does, and gives the JSON-RPC reply.
    pub(crate) async fn curl(&self, tool: &str, arguments: Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let headers = [("Content-Type", "application/json"), ("Accept", "*/*")];
        self.post(&headers, &request.to_string()).await.json()
    }

    /// Any request; a `Host` among the headers replaces the right one.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> HttpReply {
        let reply = async { open(self.port, method, path, headers, body).await?.collect().await };
        bounded(path, reply).await.expect("an HTTP reply")
    }
}

/// A whole reply.
#[derive(Clone, Debug)]
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl HttpReply {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body, which must be JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// An event of an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// `message` unless the server named it.
    pub(crate) name: String,
    pub(crate) data: String,
}

/// A reply whose body is still coming.
pub(crate) struct HttpStream {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    connection: BufReader<TcpStream>,
    /// Bytes of the body that are read and not yet used.
    buffer: Vec<u8>,
}

impl HttpStream {
    /// The next event; nothing at the end of the stream. Comments are passed over.
    pub(crate) async fn event(&mut self) -> io::Result<Option<Event>> {
        let (mut name, mut data) = ("message".to_owned(), Vec::new());
        while let Some(line) = self.line().await? {
            match line.split_once(':').unwrap_or((&line, "")) {
                ("", "") if !data.is_empty() => {
                    return Ok(Some(Event { name, data: data.join("\n") }));
                }
                ("event", value) => value.trim_start().clone_into(&mut name),
                ("data", value) => data.push(value.strip_prefix(' ').unwrap_or(value).to_owned()),
                _ => {}
            }
        }
        Ok(None)
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()));
            }
            match self.piece().await? {
                Some(piece) => self.buffer.extend(piece),
                None => return Ok(None),
            }
        }
    }

    pub(crate) async fn collect(mut self) -> io::Result<HttpReply> {
        let mut body = Vec::new();
        let whole = header(&self.headers, "content-length").and_then(|length| length.parse().ok());
        let bodiless = matches!(self.status, 100..200 | 204 | 304);
        while !bodiless && whole != Some(body.len()) {
            let Some(piece) = self.piece().await? else {
                break;
            };
            body.extend(piece);
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(HttpReply { status: self.status, headers: self.headers, body })
    }

    /// The next bytes of the body, chunked or not.
    async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if header(&self.headers, "transfer-encoding").is_none_or(|coding| coding != "chunked") {
            let piece = self.connection.fill_buf().await?.to_vec();
            self.connection.consume(piece.len());
            return Ok((!piece.is_empty()).then_some(piece));
        }
        let mut size = String::new();
        self.connection.read_line(&mut size).await?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        let mut piece = vec![0; size + "\r\n".len()];
        self.connection.read_exact(&mut piece).await?;
        piece.truncate(size);
        Ok((size > 0).then_some(piece))
    }
}

/// Sends one request on a connection of its own and reads the head of the reply.
pub(crate) async fn open(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<HttpStream> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request += &format!("Host: 127.0.0.1:{port}\r\n");
    }
    if method != "GET" {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let mut connection = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?);
    connection.write_all(format!("{request}\r\n{body}").as_bytes()).await?;

    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines[0].split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(lines[0].clone()))?;
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers = lines[1..].iter().filter_map(header).collect();
    Ok(HttpStream { status, headers, connection, buffer: Vec::new() })
}

async fn get(port: u16, path: &str) -> io::Result<HttpReply> {
    open(port, "GET", path, &[], "").await?.collect().await
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// A Unix socket that leads to a port of 127.0.0.1.
///
/// rmcp's own HTTP client is either reqwest, which brings some twenty crates, or hyper, which is here
/// anyway but dials Unix sockets only.
pub(super) struct UnixRelay {
    dir: TempDir,
    task: JoinHandle<()>,
}

impl UnixRelay {
    pub(super) fn start(port: u16) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { dir, task }
    }

    pub(super) fn socket(&self) -> String {
        let socket: PathBuf = self.dir.path().join("socket");
        socket.display().to_string()
    }
}

impl Drop for UnixRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
