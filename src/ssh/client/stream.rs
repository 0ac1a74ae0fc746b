//! The stream under a connection.
//!
//! Does three things that russh leaves open. It acknowledges at once: sshd keeps Nagle's algorithm on
//! for channels without a terminal, and with a delayed acknowledgement on our side a small packet
//! then waits 40 ms; through a jump host or a program that is their affair. It reads ahead: russh asks twice
//! per packet, for the length and for the rest. And it can be cut, so that russh's task ends although the peer is silent.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::{
    io::poll_read_buf,
    sync::{CancellationToken, WaitForCancellationFutureOwned},
};

use super::{handler::LinkState, route::Stream};

/// What is read at once while there is much to read.
const READ_MUCH: usize = 128 << 10;
/// What is read at once otherwise: it is kept for as long as the connection.
const READ_LITTLE: usize = 4 << 10;
/// What is read on at most while a write waits. The peer sends no more than the windows of its channels meanwhile.
const READ_ON: usize = 32 << 20;
/// So many small reads one after the other show that there is not much any more.
const CALM: u8 = 16;

pub(super) struct LinkStream {
    stream: Stream,
    /// Read and not yet asked for: what is in `ahead` from `taken` on.
    ahead: BytesMut,
    taken: usize,
    /// Small reads since the last that was not.
    calm: u8,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    link: Arc<LinkState>,
    greeted: bool,
    /// Something was read since the last acknowledgement that was asked for.
    unacknowledged: bool,
}

impl LinkStream {
    pub(super) fn new(stream: Stream, cut: CancellationToken, link: Arc<LinkState>) -> Self {
        Self {
            stream,
            ahead: BytesMut::with_capacity(READ_LITTLE),
            taken: 0,
            calm: 0,
            cut: Box::pin(cut.cancelled_owned()),
            link,
            greeted: false,
            unacknowledged: false,
        }
    }

    /// Waits until there are bytes ahead; none at the end of the stream.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.ahead.len() {
            return Poll::Ready(Ok(()));
        }
        self.make_room();
        let read = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.ahead);
        if read.is_pending() {
            self.acknowledge();
        }
        ready!(read)?;
        if !self.ahead.is_empty() {
            self.link.hear();
            self.unacknowledged = true;
        }
        self.greet();
        // While there is more to read, the next read does it.
        if self.ahead.len() < self.ahead.capacity() {
            self.acknowledge();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads on while a write waits. Below may be a channel of another connection, in this process too: that connection
    /// would wait for this one to read, and this one for that to take what it writes.
    fn read_on(&mut self, cx: &mut Context<'_>) {
        self.ahead.advance(std::mem::take(&mut self.taken));
        while self.ahead.len() < READ_ON {
            self.ahead.reserve(READ_LITTLE);
            // What ends the stream is met again by the next read.
            let Poll::Ready(Ok(1..)) = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.ahead) else { return };
            self.link.hear();
        }
    }

    /// Empties what is ahead, for a read of the size that the last ones call for.
    fn make_room(&mut self) {
        if self.ahead.capacity() > READ_MUCH {
            // What was read on while a write waited.
            self.ahead = BytesMut::with_capacity(READ_MUCH);
        }
        let much = self.ahead.capacity() > READ_LITTLE;
        self.calm = if self.ahead.len() < READ_LITTLE { self.calm.saturating_add(1) } else { 0 };
        if much && self.calm >= CALM {
            self.ahead = BytesMut::with_capacity(READ_LITTLE);
        } else if !much && self.ahead.len() >= READ_LITTLE {
            self.ahead = BytesMut::with_capacity(READ_MUCH);
        }
        self.ahead.clear();
        self.taken = 0;
    }

    /// Keeps the first bytes, so that "not SSH" can say what is there instead.
    fn greet(&mut self) {
        if !self.greeted {
            self.greeted = true;
            self.link.set_greeting(&self.ahead);
        }
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
        ready!(self.poll_ahead(cx))?;
        let ahead = &self.ahead[self.taken..];
        let read = ahead.len().min(buf.remaining());
        buf.put_slice(&ahead[..read]);
        self.taken += read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_pending() && matches!(self.stream, Stream::Other(_)) && self.greeted {
            self.read_on(cx);
        }
        written
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_write_that_waits_reads_on_up_to_a_limit_and_loses_nothing() -> io::Result<()> {
        let (mut server, ours) = tokio::io::duplex(READ_MUCH);
        let mut link = LinkStream::new(Stream::Other(Box::new(ours)), CancellationToken::new(), Arc::default());
        let piece: Vec<u8> = (0..READ_MUCH).map(|at| (at % 251) as u8).collect();
        let mut greeting = [0; 3];
        server.write_all(&piece[..3]).await?;
        link.read_exact(&mut greeting).await?;
        // The server takes nothing, and sends for as long as something takes it.
        let mut sent = 3;
        tokio::task::unconstrained(std::future::poll_fn(|cx| {
            loop {
                while Pin::new(&mut link).poll_write(cx, &piece)?.is_ready() {}
                match Pin::new(&mut server).poll_write(cx, &piece[sent % READ_MUCH..])? {
                    Poll::Ready(taken) => sent += taken,
                    Poll::Pending => return Poll::Ready(io::Result::Ok(())),
                }
            }
        }))
        .await?;
        assert!((READ_ON..READ_ON + 4 * READ_MUCH).contains(&sent), "{sent}");
        drop(server);
        let mut received = greeting.to_vec();
        link.read_to_end(&mut received).await?;
        assert!(received.chunks(READ_MUCH).all(|chunk| *chunk == piece[..chunk.len()]) && received.len() == sent);
        assert!(link.ahead.capacity() <= READ_MUCH);
        Ok(())
    }

    #[tokio::test]
    async fn much_is_read_ahead_only_while_there_is_much() -> io::Result<()> {
        let (mut server, ours) = tokio::io::duplex(READ_MUCH);
        let stream = Stream::Other(Box::new(ours));
        let mut link = LinkStream::new(stream, CancellationToken::new(), Arc::default());
        let mut heard = vec![0; READ_MUCH];

        assert_eq!(link.ahead.capacity(), READ_LITTLE);
        server.write_all(&heard).await?;
        link.read_exact(&mut heard).await?;
        assert_eq!(link.ahead.capacity(), READ_MUCH);

        for _ in 0..=CALM {
            server.write_all(b"little").await?;
            link.read_exact(&mut heard[..6]).await?;
        }
        assert_eq!(link.ahead.capacity(), READ_LITTLE);
        Ok(())
    }
}
