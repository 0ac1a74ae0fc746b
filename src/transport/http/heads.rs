//! A connection as hyper gets it: heads are looked at, and a client that takes nothing is given up.
//!
//! Heads first. A request may give its length twice: `Content-Length` and `Transfer-Encoding` in one head.
//! Two servers in a row may read such a request differently, and that is how requests are smuggled (RFC 9112, 6.3).
//! hyper takes the coding, drops the length and closes the connection afterwards; so the head is looked at before it.
//!
//! Then answers. hyper has a timer for the head of a request and none for an answer: a client that sends requests and
//! reads nothing would keep its connection for ever.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Longer than both names with their colon: the rest of a line does not matter.
const KEPT: usize = 24;

/// A connection whose incoming bytes are looked at as they pass, and whose outgoing ones have to move.
pub(super) struct Heads<S> {
    stream: S,
    lines: Lines,
    twice: Arc<AtomicBool>,
    patience: Patience,
}

/// How long bytes may wait for a client to take some of them.
struct Patience {
    limit: Duration,
    /// Runs while bytes wait.
    due: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Passes on what a write came to; in place of waiting on, an error once the limit is over.
    fn bound<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.due = None;
            return written;
        }
        let limit = self.limit;
        ready!(self.due.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no answers")))
    }
}

impl<S> Heads<S> {
    /// The stream, and whether it has had such a head. A write that waits for `limit` fails.
    pub(super) fn of(stream: S, limit: Duration) -> (Self, Arc<AtomicBool>) {
        let twice = Arc::new(AtomicBool::new(false));
        let patience = Patience { limit, due: None };
        (Self { stream, lines: Lines::default(), twice: twice.clone(), patience }, twice)
    }
}

/// What is known of the lines since the last empty one.
///
/// Bodies pass by too and need not be told apart: no line of JSON begins with the name of a header and a colon.
#[derive(Default)]
struct Lines {
    /// The beginning of the line, in lower case.
    line: Vec<u8>,
    length: bool,
    coding: bool,
}

impl Lines {
    /// Takes more bytes. True when a block of lines had both headers.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let mut both = false;
        for byte in bytes {
            match byte {
                b'\n' => both |= self.end_line(),
                b'\r' => {}
                byte if self.line.len() < KEPT => self.line.push(byte.to_ascii_lowercase()),
                _ => {}
            }
        }
        both
    }

    fn end_line(&mut self) -> bool {
        self.length |= self.line.starts_with(b"content-length:");
        self.coding |= self.line.starts_with(b"transfer-encoding:");
        let ended = self.line.is_empty();
        self.line.clear();
        ended && {
            let block = std::mem::take(self);
            block.length && block.coding
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.lines.take(buffer.filled().get(before..).unwrap_or_default()) {
            self.twice.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.patience.bound(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.patience.bound(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.patience.bound(cx, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.patience.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte, as a slow client sends it.
    fn both(bytes: &str) -> bool {
        let mut lines = Lines::default();
        bytes.bytes().fold(false, |both, byte| both | lines.take(&[byte]))
    }

    #[test]
    fn both_headers_in_one_head_are_seen_in_any_order_and_case() {
        assert!(both("POST / HTTP/1.1\r\nContent-Length: 3\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(both("POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\ncontent-length:3\r\n\r\n"));
        assert!(both("POST / HTTP/1.1\nCONTENT-LENGTH: 3\nTRANSFER-ENCODING: chunked\n\n"));
        assert!(both(
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n\r\n"
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_fails_when_nothing_is_taken_for_the_limit_and_not_before() -> io::Result<()> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (client, server) = tokio::io::duplex(4);
        let limit = Duration::from_secs(30);
        let (mut heads, _) = Heads::of(server, limit);
        let (mut client, mut bytes) = (client, [0; 4]);
        // Slow, but it reads: four bytes in four fifths of the limit, again and again.
        let reader = async {
            for _ in 0..4 {
                sleep(limit * 4 / 5).await;
                client.read_exact(&mut bytes).await?;
            }
            io::Result::Ok(client)
        };
        let (written, client) = tokio::join!(heads.write_all(&[0; 20]), reader);
        written?;
        let _client = client?;
        let refused = heads.write_all(&[0; 1]).await;
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        Ok(())
    }

    #[test]
    fn one_header_in_each_of_two_heads_is_nothing() {
        assert!(!both(
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(!both("POST / HTTP/1.1\r\nX-Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"));
    }
}
