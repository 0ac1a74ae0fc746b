//! A small MCP server and raw clients for the transports' tests: what goes over the wire is what is tested.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities, ServerConfig},
    service::RequestContext,
};
use serde_json::{Value, json};
use ssh_mcp::{app::Health, ssh::ids::Owner, transport::Backend};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

pub(crate) type TestResult = Result<(), Box<dyn std::error::Error>>;

/// The longest that a test waits for what has to come.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What the handlers of one server have seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<watch::Sender<Vec<String>>>);

impl Seen {
    fn note(&self, what: &str) {
        self.0.send_modify(|seen| seen.push(what.to_owned()));
    }

    pub(crate) async fn wait_for(&self, what: &str) -> TestResult {
        let mut seen = self.0.subscribe();
        let found = seen.wait_for(|seen| seen.iter().any(|one| one == what));
        timeout(SOON, found).await.map_err(|_| format!("never {what}"))??;
        Ok(())
    }

    pub(crate) fn has(&self, what: &str) -> bool {
        self.0.borrow().iter().any(|one| one == what)
    }
}

/// Tools: `sleep {ms}`, `panic`, `whoami`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tools {
    pub(crate) seen: Seen,
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let text = match request.name.as_ref() {
            "sleep" => {
                let arguments = request.arguments.unwrap_or_default();
                let ms = arguments.get("ms").and_then(Value::as_u64).unwrap_or(0);
                self.seen.note("begun");
                tokio::select! {
                    () = sleep(Duration::from_millis(ms)) => self.seen.note("slept"),
                    () = context.ct.cancelled() => self.seen.note("cancelled"),
                }
                "slept".to_owned()
            }
            "whoami" => {
                let parts = context.extensions.get::<http::request::Parts>();
                let owner = parts.and_then(|parts| parts.extensions.get::<Owner>());
                owner.map_or_else(|| "nobody".to_owned(), ToString::to_string)
            }
            "panic" => panic!("on purpose"),
            other => return Err(ErrorData::invalid_params(other.to_owned(), None)),
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

/// Counts nothing, and notes that it was shut down.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) shutdowns: Mutex<Vec<Duration>>,
}

impl Backend for Process {
    fn health(&self) -> Health {
        Health { uptime: Duration::from_secs(7), sessions: 1, running_commands: 2, forwards: 3 }
    }

    async fn shutdown(&self, budget: Duration) {
        self.shutdowns.lock().unwrap_or_else(PoisonError::into_inner).push(budget);
    }
}

impl Process {
    pub(crate) fn was_shut_down(&self) -> bool {
        !self.shutdowns.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

pub(crate) fn initialize(id: i64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}})
}

pub(crate) fn ping(id: i64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "ping"})
}

pub(crate) fn call(id: i64, tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// The same for clients of 2026-07-28.
pub(crate) fn modern_call(id: i64, tool: &str, arguments: Value) -> Value {
    let mut call = call(id, tool, arguments);
    call["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    call
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.body)
    }

    /// The messages of an event stream.
    pub(crate) fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data:"));
        data.filter_map(|data| serde_json::from_str(data).ok()).collect()
    }
}

/// A request that is not sent yet.
pub(crate) struct Ask {
    head: String,
    body: String,
}

impl Ask {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self { head: format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n"), body: String::new() }
    }

    /// As `curl` would send it.
    pub(crate) fn post(path: &str, body: &Value) -> Self {
        let ask = Self::new("POST", path).header("Content-Type", "application/json");
        ask.header("Host", "localhost").header("Accept", "*/*").body(&body.to_string())
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path).header("Host", "localhost")
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    /// Sends it and leaves the connection open.
    pub(crate) async fn open(self, server: std::net::SocketAddr) -> io::Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(server).await?;
        let length = self.body.len();
        let request = format!("{}Content-Length: {length}\r\n\r\n{}", self.head, self.body);
        // A server that refuses early may close before all is written; its answer is what counts.
        let _ = stream.write_all(request.as_bytes()).await;
        Ok(BufReader::new(stream))
    }

    /// Sends it and reads the whole response.
    pub(crate) async fn send(self, server: std::net::SocketAddr) -> Result<Reply, Box<dyn std::error::Error>> {
        let mut stream = self.open(server).await?;
        let mut bytes = Vec::new();
        timeout(SOON, stream.read_to_end(&mut bytes)).await.map_err(|_| "no response")??;
        let text = String::from_utf8(bytes)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no response head")?;
        let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
        let reply = Reply { status, head: head.to_owned(), body: body.to_owned() };
        let chunked = reply.header("transfer-encoding") == Some("chunked");
        Ok(if chunked { Reply { body: unchunk(body)?, ..reply } } else { reply })
    }
}

fn unchunk(mut body: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16)?;
        whole += rest.get(..size).ok_or("a chunk is short")?;
        body = rest.get(size + 2..).unwrap_or_default();
    }
    Ok(whole)
}

/// The next line that begins with `prefix`, without it.
pub(crate) async fn line_with<R: AsyncRead + Unpin>(
    stream: &mut BufReader<R>,
    prefix: &str,
) -> Result<String, Box<dyn std::error::Error>> {
    let mut line = String::new();
    loop {
        line.clear();
        let read = timeout(SOON, stream.read_line(&mut line)).await.map_err(|_| format!("no {prefix}"))??;
        if read == 0 {
            return Err(format!("the stream ended before {prefix}").into());
        }
        if let Some(rest) = line.strip_prefix(prefix) {
            return Ok(rest.trim().to_owned());
        }
    }
}
