//! The socket to the SSH agent.
//!
//! Gives each answer a time limit. The signing of a login runs inside russh, where it can neither be timed nor dropped
//! from outside: its session would go on waiting for the signature and answer nothing else.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

pub(super) struct AgentStream<S> {
    socket: S,
    limit: Duration,
    /// Runs from the question to the end of the answer.
    due: Pin<Box<Sleep>>,
    /// What was asked was not answered: nothing that comes later can be told from its answer.
    gave_up: bool,
}

impl<S> AgentStream<S> {
    pub(super) fn new(socket: S, limit: Duration) -> Self {
        Self { socket, limit, due: Box::pin(sleep(limit)), gave_up: false }
    }

    fn unanswered(&self) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", self.limit.as_secs()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AgentStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.gave_up || self.due.as_mut().poll(cx).is_ready() {
            self.gave_up = true;
            return Poll::Ready(Err(self.unanswered()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AgentStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gave_up {
            return Poll::Ready(Err(self.unanswered()));
        }
        let due = Instant::now() + self.limit;
        self.due.as_mut().reset(due);
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
