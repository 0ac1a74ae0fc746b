//! The clients: they count every reply, and know which calls have none yet.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    model::{Model, Rule},
    stations::Generation,
};
use crate::support::mcp_client::{HttpStream, open_http};

/// No call may take so long: the answer limit is 12 s here, and the machine may be loaded.
const REPLY_BOUND: Duration = Duration::from_secs(40);

/// The server was ended on purpose, or the client went away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone;

/// What a tool said.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) is_error: bool,
    pub(crate) content: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        if self.is_error { self.content["code"].as_str().unwrap_or("none") } else { "" }
    }
}

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Stdio,
    /// `POST /mcp` as curl does it.
    Bare,
    /// `POST /mcp` in a session of 2025-11-25.
    Session,
    /// `POST /mcp` of 2026-07-28: who closes the response cancels the call.
    Modern,
    Sse,
}

/// A client of one start of a program.
pub(crate) struct Wire {
    pub(crate) generation: Arc<Generation>,
    pub(crate) speech: Speech,
    model: Arc<Model>,
    token: &'static str,
    session: Option<String>,
    pipe: Option<Arc<Pipe>>,
    next: AtomicU64,
}

impl Wire {
    pub(crate) async fn new(
        model: &Arc<Model>,
        generation: Arc<Generation>,
        speech: Speech,
        token: &'static str,
    ) -> Result<Self, Gone> {
        let pipe = generation.pipe.clone();
        let mut wire =
            Self { generation, speech, model: Arc::clone(model), token, session: None, pipe, next: AtomicU64::new(1) };
        match speech {
            Speech::Sse => {
                let opened = timeout(REPLY_BOUND, Pipe::sse(model, wire.generation.port, token)).await;
                let Ok(Ok(pipe)) = opened else { return Err(wire.broken("GET /sse fails")) };
                wire.pipe = Some(Arc::new(pipe));
                wire.handshake().await?;
            }
            Speech::Session => wire.handshake().await?,
            Speech::Stdio | Speech::Bare | Speech::Modern => {}
        }
        Ok(wire)
    }

    async fn handshake(&mut self) -> Result<(), Gone> {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "soak", "version": "0"}});
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        if let Some(pipe) = &self.pipe {
            pipe.request("initialize", params).await.map_err(|_| self.broken("no reply to initialize"))?;
            return pipe.send(&initialized).await.map_err(|_| self.broken("cannot send"));
        }
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let opened = self.open(&body).await.map_err(|_| self.broken("no reply to initialize"))?;
        let id = opened.headers.iter().find(|(name, _)| name == "mcp-session-id").map(|(_, value)| value.clone());
        self.session = id;
        let told = self.open(&initialized).await;
        told.map(drop).map_err(|_| self.broken("cannot send"))
    }

    /// Calls a tool, and waits for its one reply.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Result<Answer, Gone> {
        let what = format!("{:?} {tool} {arguments}", self.speech);
        let params = json!({"name": tool, "arguments": arguments});
        let replied = timeout(REPLY_BOUND, async {
            match &self.pipe {
                Some(pipe) => pipe.request("tools/call", params).await,
                None => self.post(params).await,
            }
        });
        let reply = match replied.await {
            Ok(Ok(reply)) => reply,
            Ok(Err(why)) => return Err(self.broken(&format!("{what}: {why}"))),
            Err(_) => return Err(self.broken(&format!("{what}: no reply within {REPLY_BOUND:?}"))),
        };
        let result = &reply["result"];
        let is_tool = result["content"].is_array();
        self.model.holds(Rule::RepliesOnce, "-", is_tool, || format!("{what}: {reply}"));
        if result["isError"] == true && self.is_ending() {
            // It was told to end: what it still says is that.
            return Err(Gone);
        }
        Ok(Answer { is_error: result["isError"] == true, content: result["structuredContent"].clone() })
    }

    /// Calls a tool and goes away after a while, without a word or, where there is one, with the notification. True
    /// where that cancels the call.
    pub(crate) async fn abandon(&self, tool: &str, arguments: Value, after: Duration) -> bool {
        let params = json!({"name": tool, "arguments": arguments});
        match &self.pipe {
            Some(pipe) => {
                let Ok((id, _)) = pipe.begin("tools/call", params).await else { return false };
                tokio::time::sleep(after).await;
                pipe.cancel(id).await;
                true
            }
            None => {
                // Dropped, the connection is closed.
                let _ = timeout(after, self.post(params)).await;
                self.speech == Speech::Modern
            }
        }
    }

    /// Asks many things at once and reads nothing for a while; all replies have to come in the end.
    pub(crate) async fn read_late(&self, calls: Vec<(&'static str, Value)>, after: Duration) -> Result<(), Gone> {
        let Some(pipe) = &self.pipe else { return self.pipelined(calls, after).await };
        pipe.paused.send_replace(true);
        // By itself: the server may not read on before its answers are read.
        let paused = Arc::clone(&pipe.paused);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            paused.send_replace(false);
        });
        let mut begun = Vec::new();
        for (tool, arguments) in calls {
            match pipe.begin("tools/call", json!({"name": tool, "arguments": arguments})).await {
                Ok((_, reply)) => begun.push(reply),
                Err(why) => return Err(self.broken(&why)),
            }
        }
        for reply in begun {
            if !matches!(timeout(REPLY_BOUND, reply).await, Ok(Ok(_))) {
                return Err(self.broken("a reply that was read late is lost"));
            }
        }
        Ok(())
    }

    /// All on one connection, with nothing read: the server has to stop in the midst of its answers.
    async fn pipelined(&self, calls: Vec<(&'static str, Value)>, after: Duration) -> Result<(), Gone> {
        let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", self.generation.port))
            .await
            .map(BufReader::new)
            .map_err(|_| self.broken("cannot connect"))?;
        let count = calls.len();
        let mut requests = String::new();
        for (id, (tool, arguments)) in calls.into_iter().enumerate() {
            let body = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
            let (body, last) = (body.to_string(), if id + 1 == count { "Connection: close\r\n" } else { "" });
            requests += &format!(
                "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nAuthorization: Bearer {}\r\n{last}\
                 Content-Length: {}\r\n\r\n{body}",
                self.generation.port,
                self.token,
                body.len()
            );
        }
        let exchange = async {
            let (mut from, mut to) = connection.get_mut().split();
            let mut replies = Vec::new();
            let write = async { to.write_all(requests.as_bytes()).await };
            let read = async {
                tokio::time::sleep(after).await;
                tokio::io::AsyncReadExt::read_to_end(&mut from, &mut replies).await
            };
            let (wrote, read) = tokio::join!(write, read);
            wrote.and(read).map(|_| replies)
        };
        let Ok(Ok(replies)) = timeout(REPLY_BOUND, exchange).await else {
            return Err(self.broken("a reader that was late gets no replies"));
        };
        let replies = String::from_utf8_lossy(&replies).into_owned();
        for id in 0..count {
            let times = replies.matches(&format!("\"id\":{id},\"result\"")).count();
            self.model.holds(Rule::RepliesOnce, "-", times == 1 || self.is_ending(), || {
                format!("of {count} pipelined calls number {id} has {times} replies; {} bytes", replies.len())
            });
        }
        Ok(())
    }

    /// A call on a connection of its own. What comes is read to its end, so that nothing comes twice.
    async fn post(&self, params: Value) -> Result<Value, String> {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let mut params = params;
        if self.speech == Speech::Modern {
            params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "soak", "version": "0"},
                "io.modelcontextprotocol/clientCapabilities": {}});
        }
        let body = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        let stream = self.open(&body).await.map_err(|error| error.to_string())?;
        let (status, messages) = messages(stream).await.map_err(|error| error.to_string())?;
        let mut replies = messages.into_iter().filter(|message| message["id"] == id);
        match (replies.next(), replies.next()) {
            (Some(reply), None) => Ok(reply),
            (first, second) => Err(format!("HTTP {status}, {first:?} and {second:?}")),
        }
    }

    async fn open(&self, body: &Value) -> io::Result<HttpStream> {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
        match self.speech {
            Speech::Bare => headers.push(("Accept", "*/*")),
            _ => headers.push(("Accept", "application/json, text/event-stream")),
        }
        if let Some(session) = &self.session {
            headers.extend([("Mcp-Session-Id", session.as_str()), ("MCP-Protocol-Version", "2025-11-25")]);
        }
        if self.speech == Speech::Modern {
            let tool = body["params"]["name"].as_str().unwrap_or_default();
            headers.extend([("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", tool)]);
        }
        open_http(self.generation.port, "POST", "/mcp", &headers, &body.to_string()).await
    }

    fn is_ending(&self) -> bool {
        self.generation.ending.load(Ordering::SeqCst)
    }

    /// A reply that does not come is a violation, unless the server was ended.
    fn broken(&self, what: &str) -> Gone {
        self.model.holds(Rule::RepliesOnce, "-", self.is_ending(), || {
            format!("{} generation {}: {what}", self.generation.station, self.generation.number)
        });
        Gone
    }
}

/// Everything that a response holds.
async fn messages(mut stream: HttpStream) -> io::Result<(u16, Vec<Value>)> {
    let status = stream.status;
    let is_stream = stream.headers.iter().any(|(name, value)| name == "content-type" && value.contains("event-stream"));
    let mut messages = Vec::new();
    if is_stream {
        while let Some(event) = stream.event().await? {
            messages.extend(serde_json::from_str(&event.data));
        }
    } else {
        messages.extend(serde_json::from_str(&stream.collect().await?.body));
    }
    Ok((status, messages))
}

/// What a pipe of messages waits for.
#[derive(Default)]
struct Pending {
    waiting: HashMap<u64, oneshot::Sender<Value>>,
    /// May be answered or not.
    cancelled: Vec<u64>,
    closed: bool,
    /// The program was told to end.
    ending: bool,
}

enum Up {
    /// Nothing once it has ended.
    Stdin(tokio::sync::Mutex<Option<ChildStdin>>),
    Sse {
        port: u16,
        endpoint: String,
        bearer: String,
    },
}

/// A stream of messages down and a way up: stdio, or `GET /sse` with `POST /message`.
pub(crate) struct Pipe {
    up: Up,
    pending: Arc<Mutex<Pending>>,
    /// Nobody reads while it is set.
    paused: Arc<watch::Sender<bool>>,
    reader: JoinHandle<()>,
    next: AtomicU64,
}

impl Pipe {
    pub(crate) async fn stdio(model: &Arc<Model>, stdin: ChildStdin, stdout: ChildStdout) -> Self {
        let lines = BufReader::new(stdout).lines();
        let down = futures_util::stream::unfold(lines, |mut lines| async {
            let line = lines.next_line().await.ok()??;
            Some((line, lines))
        });
        let pipe = Self::new(model, Up::Stdin(tokio::sync::Mutex::new(Some(stdin))), down);
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "soak", "version": "0"}});
        pipe.request("initialize", params).await.expect("a reply to initialize");
        pipe.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await.expect("the server reads");
        pipe
    }

    async fn sse(model: &Arc<Model>, port: u16, token: &str) -> io::Result<Self> {
        let bearer = format!("Bearer {token}");
        let headers = [("Accept", "text/event-stream"), ("Authorization", bearer.as_str())];
        let mut events = open_http(port, "GET", "/sse", &headers, "").await?;
        let endpoint = events.event().await?.ok_or(io::ErrorKind::UnexpectedEof)?.data;
        let down = futures_util::stream::unfold(events, |mut events| async {
            loop {
                let event = events.event().await.ok()??;
                if event.name == "message" {
                    return Some((event.data, events));
                }
            }
        });
        Ok(Self::new(model, Up::Sse { port, endpoint, bearer }, down))
    }

    fn new(model: &Arc<Model>, up: Up, down: impl futures_util::Stream<Item = String> + Send + 'static) -> Self {
        let pending: Arc<Mutex<Pending>> = Arc::default();
        let paused = Arc::new(watch::Sender::new(false));
        let (model, shared, mut pause) = (Arc::clone(model), Arc::clone(&pending), paused.subscribe());
        let reader = tokio::spawn(async move {
            let mut down = std::pin::pin!(down);
            loop {
                let _ = pause.wait_for(|paused| !paused).await;
                let Some(line) = futures_util::StreamExt::next(&mut down).await else { break };
                take(&model, &shared, &line);
            }
            let mut pending = shared.lock().expect("no panic");
            pending.closed = true;
            pending.waiting.clear();
        });
        Self { up, pending, paused, reader, next: AtomicU64::new(1) }
    }

    async fn request(&self, method: &str, params: Value) -> Result<Value, String> {
        let (_, reply) = self.begin(method, params).await?;
        reply.await.map_err(|_| "the stream ended before the reply".to_owned())
    }

    async fn begin(&self, method: &str, params: Value) -> Result<(u64, oneshot::Receiver<Value>), String> {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let (sender, reply) = oneshot::channel();
        {
            let mut pending = self.pending.lock().expect("no panic");
            if pending.closed {
                return Err("the stream has ended".to_owned());
            }
            pending.waiting.insert(id, sender);
        }
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send(&request).await.map_err(|error| error.to_string())?;
        Ok((id, reply))
    }

    async fn cancel(&self, id: u64) {
        {
            let mut pending = self.pending.lock().expect("no panic");
            if pending.waiting.remove(&id).is_some() {
                pending.cancelled.push(id);
            }
        }
        let params = json!({"requestId": id, "reason": "enough"});
        let _ = self.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})).await;
    }

    async fn send(&self, message: &Value) -> io::Result<()> {
        match &self.up {
            Up::Stdin(stdin) => {
                let mut stdin = stdin.lock().await;
                let stdin = stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
                stdin.write_all(format!("{message}\n").as_bytes()).await?;
                stdin.flush().await
            }
            Up::Sse { port, endpoint, bearer } => {
                let headers = [("Content-Type", "application/json"), ("Authorization", bearer.as_str())];
                let reply = open_http(*port, "POST", endpoint, &headers, &message.to_string()).await?;
                if reply.status == 202 { Ok(()) } else { Err(io::Error::other(format!("HTTP {}", reply.status))) }
            }
        }
    }

    /// The program is about to be told to end.
    pub(crate) fn expect_the_end(&self) {
        self.pending.lock().expect("no panic").ending = true;
    }

    /// The input of the server ends.
    pub(crate) async fn end(&self) {
        if let Up::Stdin(stdin) = &self.up {
            stdin.lock().await.take();
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn take(model: &Model, shared: &Mutex<Pending>, line: &str) {
    let message: Value = match serde_json::from_str(line) {
        Ok(message) => message,
        Err(error) => {
            // A program that ends does not wait for ever for a reader that is late: its last line may be cut.
            let mut pending = shared.lock().expect("no panic");
            let fine = pending.ending && !pending.closed;
            pending.closed = true;
            drop(pending);
            return model.holds(Rule::RepliesOnce, "-", fine, || format!("{error}: {line}"));
        }
    };
    if message.get("method").is_some() {
        return;
    }
    let id = message["id"].as_u64().unwrap_or(u64::MAX);
    let mut pending = shared.lock().expect("no panic");
    let waiting = pending.waiting.remove(&id);
    let cancelled = pending.cancelled.iter().position(|one| *one == id).map(|at| pending.cancelled.swap_remove(at));
    drop(pending);
    let expected = waiting.is_some() || cancelled.is_some();
    model.holds(Rule::RepliesOnce, "-", expected, || format!("a reply that nobody waits for: {message}"));
    if let Some(waiting) = waiting {
        let _ = waiting.send(message);
    }
}
