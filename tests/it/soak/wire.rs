//! The clients: they count every reply, and know which calls have none yet.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    time::timeout,
};

use super::{
    model::{Model, Rule},
    pipe::Pipe,
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
        // The server keeps it for an hour, with some 70 KiB: it stands in the summary beside the slope of memory.
        self.model.operation("MCP session");
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
        let stopped = reply["error"]["message"].as_str().is_some_and(|why| why.starts_with("the server stopped"));
        if stopped && self.is_ending() {
            return Err(Gone);
        }
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
