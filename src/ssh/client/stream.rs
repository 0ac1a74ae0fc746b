//! The stream under a connection.
//!
//! Does three things that russh leaves open. It acknowledges at once: sshd keeps Nagle's algorithm on
//! for channels without a terminal, and with a delayed acknowledgement on our side a small packet
//! then waits 40 ms; through a jump host or a program that is their affair. It reads ahead, since russh asks for
//! four bytes and then for the rest of each packet. And it can be cut, so that russh's task ends although the peer
//! is silent.

use std::{
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{handler::LinkState, route::Stream};

/// Bytes that are read ahead: many packets of an interactive command. What russh wants more of goes straight to it.
const READ_AHEAD: usize = 4 << 10;

pub(super) struct LinkStream {
    stream: Stream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    link: Arc<LinkState>,
    greeted: bool,
    ahead: Box<[u8]>,
    /// What of `ahead` russh has not taken yet.
    left: Range<usize>,
    /// Something was read since the last acknowledgement that was asked for.
    unacknowledged: bool,
}

impl LinkStream {
    pub(super) fn new(stream: Stream, cut: CancellationToken, link: Arc<LinkState>) -> Self {
        Self {
            stream,
            cut: Box::pin(cut.cancelled_owned()),
            link,
            greeted: false,
            ahead: vec![0; READ_AHEAD].into_boxed_slice(),
            left: 0..0,
            unacknowledged: false,
        }
    }

    /// Keeps the first bytes, so that "not SSH" can say what is there instead.
    fn greet(&mut self, bytes: &[u8]) {
        if !self.greeted {
            self.greeted = true;
            self.link.set_greeting(bytes);
        }
    }

    /// Reads from the peer. Acknowledges when there is no more for now: while there is, the next read does.
    fn poll_peer(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() {
            self.acknowledge();
        }
        ready!(read)?;
        self.greet(&buf.filled()[before..]);
        self.unacknowledged = true;
        if buf.remaining() > 0 {
            self.acknowledge();
        }
        Poll::Ready(Ok(()))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn acknowledge(&mut self) {
        // Not sticky (tcp(7)): it is set again after what has been read. A failure costs time, nothing else.
        if let Stream::Tcp(tcp) = &self.stream
            && std::mem::take(&mut self.unacknowledged)
        {
            let _ = tcp.set_quickack(true);
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn acknowledge(&mut self) {
        self.unacknowledged = false;
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let this = &mut *self;
        if this.left.is_empty() {
            if buf.remaining() >= READ_AHEAD {
                return this.poll_peer(cx, buf);
            }
            let mut ahead = std::mem::take(&mut this.ahead);
            let mut reading = ReadBuf::new(&mut ahead);
            let read = this.poll_peer(cx, &mut reading);
            this.left = 0..reading.filled().len();
            this.ahead = ahead;
            ready!(read)?;
        }
        let taken = this.left.len().min(buf.remaining());
        buf.put_slice(&this.ahead[this.left.start..this.left.start + taken]);
        this.left.start += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Other(other) => Pin::new(other).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Other(other) => Pin::new(other).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Other(other) => Pin::new(other).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Other(other) => Pin::new(other).poll_shutdown(cx),
        }
    }
}
