//! The local end of a forwarded connection, where a program that does not read would hold up others.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use crate::ssh::client::STALL_LIMIT;

/// What the system keeps for it then, in bytes. It takes more once a third of this is free: so a slow program that does
/// read is not taken for one that does not.
const SEND_BUFFER: usize = 128 << 10;

/// A local connection; with a limit, one that fails when its program does not read on.
pub(super) struct Reader {
    tcp: TcpStream,
    limit: Option<Duration>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Reader {
    pub(super) fn new(tcp: TcpStream, holds_up_others: bool) -> Self {
        if holds_up_others && let Err(error) = socket2::SockRef::from(&tcp).set_send_buffer_size(SEND_BUFFER) {
            tracing::debug!(%error, "cannot set the send buffer");
        }
        Self { tcp, limit: holds_up_others.then_some(STALL_LIMIT), stalled: None }
    }
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Reader {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        let (Poll::Pending, Some(limit)) = (&written, self.limit) else {
            self.stalled = None;
            return written;
        };
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => {
                tracing::warn!("a forwarded connection was closed: its program did not read, and held up the session");
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
