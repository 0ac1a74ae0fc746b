//! MCP on stdin and stdout: one JSON-RPC message a line, and nothing else on stdout.
//!
//! The framing is ours, because rmcp's drops garbage without a reply and a last line that has no newline.

use std::{future::Future, sync::Arc, time::Duration};

use rmcp::model::ServerJsonRpcMessage;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Backend, Error, Handler,
    channel::{self, Inbox, NotDelivered},
    message::{self, Refused},
};

/// The longest line that is read. Claude Code's own cap on a message is the same.
pub const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that one read may bring.
const READ_BYTES: usize = 64 * 1024;

/// Refusals that may wait to be written.
const REFUSALS: usize = 64;

/// After the end of stdin, how long calls may take to end by themselves: `echo … | ssh-mcp-stdio` gets its answers.
const GRACE: Duration = Duration::from_millis(250);

/// How long the app may take to end remote commands.
const REMOTE_BUDGET: Duration = Duration::from_millis(1_200);

/// How long the calls whose commands have just ended may take to answer.
const ANSWERS: Duration = Duration::from_millis(200);

/// How long the last answers may take to be written: a client that does not read must not keep the process.
const LAST_WRITES: Duration = Duration::from_millis(200);

/// Serves the process's own stdin and stdout until stdin ends or `stop` is cancelled.
///
/// # Errors
///
/// None today; the signature is that of every server.
pub async fn serve<S: Handler, B: Backend>(handler: S, backend: Arc<B>, stop: CancellationToken) -> Result<(), Error> {
    let (input, output) = rmcp::transport::stdio_pipes();
    serve_on((input, output), handler, backend, stop).await;
    Ok(())
}

/// Serves any pair of streams, as [`serve`] does stdin and stdout.
pub async fn serve_on<R, W, S, B>((input, output): (R, W), handler: S, backend: Arc<B>, stop: CancellationToken)
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
    S: Handler,
    B: Backend,
{
    let (inbox, channel, answers) = channel::open();
    let (refusals, refused) = mpsc::channel(REFUSALS);
    let (cancel, written) = (CancellationToken::new(), CancellationToken::new());
    let mut reading = Owned::spawn(read(BufReader::with_capacity(READ_BYTES, input), inbox, refusals));
    let mut talking = Owned::spawn(channel::converse(handler, channel, cancel.clone()));
    let mut writing = Owned::spawn(write(output, answers, refused, written.clone()));

    tokio::select! {
        // In this order: the end of stdin ends the conversation too, and the log says which of them came first.
        biased;
        () = reading.ended() => info!("stdin ended"),
        () = writing.ended() => warn!("stdout is closed"),
        () = talking.ended() => {}
        () = stop.cancelled() => {}
    }
    // The input ends for rmcp too, once the calls that run have been answered.
    reading.abort();
    if !stop.is_cancelled() {
        let _ = timeout(GRACE, talking.ended()).await;
    }
    backend.shutdown(REMOTE_BUDGET).await;
    let _ = timeout(ANSWERS, talking.ended()).await;
    cancel.cancel();
    written.cancel();
    let _ = timeout(LAST_WRITES, writing.ended()).await;
}

/// A task that ends with its owner.
struct Owned(Option<JoinHandle<()>>);

impl Owned {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(tokio::spawn(task)))
    }

    /// Waits for its end. May be called again, and dropped while it waits.
    async fn ended(&mut self) {
        if let Some(task) = &mut self.0 {
            let _ = task.await;
            self.0 = None;
        }
    }

    fn abort(&self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Reads messages until the input or the connection ends.
async fn read<R: AsyncBufRead + Unpin>(mut input: R, inbox: Inbox, refusals: mpsc::Sender<Vec<u8>>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let refused = match read_line(&mut input, &mut line).await {
            Ok(Line::Whole) if line.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(Line::Whole) => match message::parse(&line) {
                Ok(message) => match inbox.deliver(message).await {
                    Ok(()) => continue,
                    Err(NotDelivered::Refused(why)) => Refused::invalid_request(None, why.message()),
                    Err(NotDelivered::Closed) => return,
                },
                Err(refused) => refused,
            },
            Ok(Line::TooLong) => Refused::parse_error("a line is longer than 16 MiB"),
            Ok(Line::End) => return,
            Err(error) => return warn!(%error, "stdin cannot be read"),
        };
        if refusals.send(refused.encode()).await.is_err() {
            return;
        }
        // What one large message needed is not kept for the next.
        line.shrink_to(READ_BYTES);
    }
}

/// What [`read_line`] found.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// A line, or the bytes before the end of the input.
    Whole,
    /// A line of more than [`MAX_LINE_BYTES`]. It was read over, not kept.
    TooLong,
    /// The input ended.
    End,
}

async fn read_line<R: AsyncBufRead + Unpin>(input: &mut R, line: &mut Vec<u8>) -> std::io::Result<Line> {
    let mut too_long = false;
    loop {
        let bytes = input.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(match (too_long, line.is_empty()) {
                (true, _) => Line::TooLong,
                (false, true) => Line::End,
                (false, false) => Line::Whole,
            });
        }
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let taken = newline.map_or(bytes.len(), |at| at + 1);
        if line.len() + taken > MAX_LINE_BYTES {
            too_long = true;
            *line = Vec::new();
        }
        if !too_long {
            line.extend_from_slice(&bytes[..taken]);
        }
        input.consume(taken);
        if newline.is_some() {
            return Ok(if too_long { Line::TooLong } else { Line::Whole });
        }
    }
}

/// Writes answers and refusals. After `last` it writes what waits, and ends.
async fn write<W: AsyncWrite + Unpin>(
    mut output: W,
    mut answers: mpsc::Receiver<ServerJsonRpcMessage>,
    mut refusals: mpsc::Receiver<Vec<u8>>,
    last: CancellationToken,
) {
    loop {
        let mut line = tokio::select! {
            // In this order: `last` ends it only when both queues are empty.
            biased;
            Some(message) = answers.recv() => message::encode(&message),
            Some(refusal) = refusals.recv() => refusal,
            () = last.cancelled() => return,
        };
        line.push(b'\n');
        if output.write_all(&line).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}
