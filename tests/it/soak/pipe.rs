//! A stream of messages in both directions: which calls wait for their reply, and who may read now.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::model::{Model, Rule};
use crate::support::mcp_client::open_http;

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
    pub(crate) paused: Arc<watch::Sender<bool>>,
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

    pub(crate) async fn sse(model: &Arc<Model>, port: u16, token: &str) -> io::Result<Self> {
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

    pub(crate) async fn request(&self, method: &str, params: Value) -> Result<Value, String> {
        let (_, reply) = self.begin(method, params).await?;
        reply.await.map_err(|_| "the stream ended before the reply".to_owned())
    }

    pub(crate) async fn begin(&self, method: &str, params: Value) -> Result<(u64, oneshot::Receiver<Value>), String> {
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

    pub(crate) async fn cancel(&self, id: u64) {
        {
            let mut pending = self.pending.lock().expect("no panic");
            if pending.waiting.remove(&id).is_some() {
                pending.cancelled.push(id);
            }
        }
        let params = json!({"requestId": id, "reason": "enough"});
        let _ = self.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})).await;
    }

    pub(crate) async fn send(&self, message: &Value) -> io::Result<()> {
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
