//! Agent forwarding: the SSH agent of this machine, lent to the commands of one connection.
//!
//! Whoever is root on the host can use it as long as the connection lasts. So it is lent for no more than it is needed
//! for: listing keys and signing. What would change the agent (keys added or removed, a lock, a PKCS#11 library as in
//! CVE-2023-38408) is answered with a failure here and never reaches it. The agent is told first whose connection it
//! is, so that keys with destination constraints stay within them.

mod requests;

use std::{
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Fuse, FusedFuture},
};
use russh::{
    ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf,
    client::{ChannelOpenHandle, Msg},
    keys::agent::AgentSessionBinding,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::requests::{FAILURE, MAX_MESSAGE_BYTES, Requests, is_lent};
use super::{
    Channel, Target,
    login::{self, AgentSocket, AgentUse},
};

/// Channels to the agent that are open at once on one connection; a host that wants more is refused.
const MAX_AGENT_CHANNELS: usize = 16;
/// How long the agent may take to answer. A person may have to confirm, or to touch a key.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// How long the host may take to take an answer in.
const TAKE_LIMIT: Duration = Duration::from_secs(30);
/// A channel is closed after this long without a word: an agent is asked, and left again.
const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// How long the server may take to say whether it takes the agent.
const REPLY_LIMIT: Duration = Duration::from_secs(5);
/// How long the server may take to close a channel that has ended.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Channels that the server did not close, of each of which russh keeps about 3.5 KB; then no more are let in.
const MAX_UNCLOSED: usize = 256;

/// The agent as one connection lends it.
#[derive(Debug)]
pub(crate) struct AgentForward {
    agent: AgentUse,
    target: Target,
    /// The connection, as the agent is told of it.
    binding: OnceLock<AgentSessionBinding>,
    /// A command asked for it. Before, and on a connection without commands, no channel is let in.
    asked: AtomicBool,
    /// Channels that were closed from here.
    unclosed: AtomicUsize,
    /// So that the first to ask is the first on the wire.
    turn: Mutex<()>,
}

impl AgentForward {
    pub(super) fn new(agent: AgentUse, target: Target) -> Self {
        Self {
            agent,
            target,
            binding: OnceLock::new(),
            asked: AtomicBool::new(false),
            unclosed: AtomicUsize::new(0),
            turn: Mutex::default(),
        }
    }

    /// Notes what the key exchange gave.
    pub(super) fn bind(&self, binding: Option<&AgentSessionBinding>) {
        if let Some(binding) = binding {
            let _ = self.binding.set(binding.clone());
        }
    }

    /// Offers the agent on the channel of a command, before it; whether that was refused. Only the first on a
    /// connection waits for the answer: sshd takes the agent once for all of them, and refuses it a second time.
    pub(crate) async fn offer(&self, read: &mut ChannelReadHalf, write: &ChannelWriteHalf<Msg>) -> bool {
        let turn = self.turn.lock().await;
        let first = !self.asked.swap(true, Ordering::AcqRel);
        // One that cannot be sent is a lost connection, which the command learns of by itself.
        let sent = write.agent_forward(first).await.is_ok();
        drop(turn);
        if !first || !sent {
            return false;
        }
        let answer = async {
            loop {
                match read.wait().await {
                    Some(ChannelMsg::Failure) => return true,
                    Some(ChannelMsg::Success) | None => return false,
                    Some(_) => {}
                }
            }
        };
        let refused = timeout(REPLY_LIMIT, answer).await.unwrap_or(true);
        tracing::info!(host = %self.target, refused, "the SSH agent is offered to commands");
        refused
    }

    async fn serve(&self, channel: Channel, reply: ChannelOpenHandle) {
        let agent = match login::forwarded_agent(&self.agent, self.binding.get(), ANSWER_LIMIT).await {
            Ok(agent) => agent,
            Err(error) => {
                tracing::warn!(host = %self.target, %error, "the SSH agent cannot be lent");
                return reply.reject(ChannelOpenFailure::ConnectFailed).await;
            }
        };
        reply.accept().await;
        tracing::debug!(host = %self.target, "the SSH agent is in use");
        let (mut read, write) = channel.split();
        relay(&mut read, &write, agent).await;
        // Read on meanwhile: what nobody reads holds up the connection, and with it the word that is to be sent.
        let closed = async { while !matches!(read.wait().await, Some(ChannelMsg::Close) | None) {} };
        if timeout(CLOSE_LIMIT, async { tokio::join!(write.eof(), closed) }).await.is_err() {
            self.unclosed.fetch_add(1, Ordering::Relaxed);
            drop(read);
            let _ = timeout(CLOSE_LIMIT, write.close()).await;
        }
    }
}

/// Lets channels to the agent in. It is part of what russh drops with the connection, and takes them along.
pub(super) struct Lender {
    forward: Arc<AgentForward>,
    open: JoinSet<()>,
}

impl Lender {
    pub(super) fn new(forward: Arc<AgentForward>) -> Self {
        Self { forward, open: JoinSet::new() }
    }

    /// Serves a channel beside the connection; refuses it where nobody asked for it, or there are too many.
    pub(super) fn open(&mut self, channel: Channel, reply: ChannelOpenHandle) {
        while self.open.try_join_next().is_some() {}
        let asked = self.forward.asked.load(Ordering::Acquire);
        let worn = self.forward.unclosed.load(Ordering::Relaxed) >= MAX_UNCLOSED;
        if !asked || worn || self.open.len() >= MAX_AGENT_CHANNELS {
            tracing::warn!(host = %self.forward.target, asked, open = self.open.len(), "a channel to the SSH agent is refused");
            // Refuses when dropped.
            return drop(reply);
        }
        let forward = self.forward.clone();
        self.open.spawn(async move { forward.serve(channel, reply).await });
    }
}

/// Carries requests one after the other until either side ends. The channel is read on meanwhile, so that one that is
/// full never holds up its connection.
async fn relay(read: &mut ChannelReadHalf, write: &ChannelWriteHalf<Msg>, agent: AgentSocket) {
    let (mut requests, mut free, mut no_more) = (Requests::default(), Some(agent), false);
    let mut asking = pin!(Fuse::terminated());
    loop {
        if let Some(agent) = free.take() {
            match requests.next() {
                Ok(Some(request)) => asking.set(exchange(agent, request, write).fuse()),
                Ok(None) if !no_more => free = Some(agent),
                Ok(None) | Err(_) => return,
            }
        }
        tokio::select! {
            message = read.wait() => match message {
                Some(ChannelMsg::Data { data }) => if requests.add(&data).is_err() { return },
                Some(ChannelMsg::Eof) => no_more = true,
                Some(ChannelMsg::Close) | None => return,
                Some(_) => {}
            },
            agent = &mut asking, if !asking.is_terminated() => match agent {
                Some(agent) => free = Some(agent),
                None => return,
            },
            () = sleep(IDLE_LIMIT), if asking.is_terminated() => return,
        }
    }
}

/// One request and its answer; gives the agent back, or nothing where it is of no more use.
async fn exchange(mut agent: AgentSocket, request: Vec<u8>, write: &ChannelWriteHalf<Msg>) -> Option<AgentSocket> {
    let answer = if is_lent(&request) {
        timeout(ANSWER_LIMIT, ask(&mut agent, &request)).await.ok()??
    } else {
        FAILURE.to_vec()
    };
    timeout(TAKE_LIMIT, write.data_bytes(answer)).await.ok()?.ok()?;
    Some(agent)
}

/// The whole answer of the agent, its length before it.
async fn ask(agent: &mut AgentSocket, request: &[u8]) -> Option<Vec<u8>> {
    agent.write_all(request).await.ok()?;
    agent.flush().await.ok()?;
    let length = agent.read_u32().await.ok()?;
    let bytes = usize::try_from(length).ok().filter(|bytes| (1..=MAX_MESSAGE_BYTES).contains(bytes))?;
    let mut answer = length.to_be_bytes().to_vec();
    answer.resize(answer.len() + bytes, 0);
    agent.read_exact(&mut answer[4..]).await.ok()?;
    Some(answer)
}
