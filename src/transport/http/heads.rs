//! Finds requests that give their length twice: `Content-Length` and `Transfer-Encoding` in one head.
//!
//! Two servers in a row may read such a request differently, and that is how requests are smuggled (RFC 9112, 6.3).
//! hyper takes the coding, drops the length and closes the connection afterwards; so the head is looked at before it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longer than both names with their colon: the rest of a line does not matter.
const KEPT: usize = 24;

/// A connection whose incoming bytes are looked at as they pass.
pub(super) struct Heads<S> {
    stream: S,
    lines: Lines,
    twice: Arc<AtomicBool>,
}

impl<S> Heads<S> {
    /// The stream, and whether it has had such a head.
    pub(super) fn of(stream: S) -> (Self, Arc<AtomicBool>) {
        let twice = Arc::new(AtomicBool::new(false));
        (Self { stream, lines: Lines::default(), twice: twice.clone() }, twice)
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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

    #[test]
    fn one_header_in_each_of_two_heads_is_nothing() {
        assert!(!both(
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(!both("POST / HTTP/1.1\r\nX-Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"));
    }
}
