//! One forwarded connection: bytes between a local socket and a channel, as they come.
//!
//! russh forgets a channel only when the server closes it; of one that is closed from here about 3.5 KB stay until
//! the connection ends. So the server's close is waited for, and [`Carried`] says where there was none.

use std::{collections::VecDeque, future::pending, io, io::IoSlice, pin::pin, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::timeout,
};

use super::line::Line;
use crate::ssh::client::{Channel, STALL_LIMIT};

/// Room for what is read from the local socket at once; more gained nothing on loopback.
const READ_ROOM: usize = 64 << 10;
/// Below this, new room is made.
const LEAST_ROOM: usize = 16 << 10;
/// What is written to the local socket at once, where it has come already.
const GATHER: usize = 256 << 10;
/// The same in packets.
const GATHER_PARTS: usize = 16;
/// What the system keeps for the local end of a shared connection, in bytes. It takes more once a third of this is free.
const SEND_BUFFER: usize = 128 << 10;
/// After this long without taking anything the local end counts as stalled.
const STALL: Duration = Duration::from_millis(500);
/// How long the server may go on after the local end is gone, until the channel is closed from here.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// What it may send in that time.
const CLOSE_BYTES: usize = 1 << 20;

/// How a forwarded connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// The server closed the channel, or the connection is lost: nothing is left of it.
    ByServer,
    /// It was closed from here, and the connection keeps a rest of it.
    FromHere,
}

/// Carries one connection until both directions have ended; each side's end of stream is passed on by itself.
pub(super) async fn carry(mut local: TcpStream, channel: Channel, line: &Line) -> Carried {
    let (mut read, write) = channel.split();
    // So that a slow program that does read is not taken for one that does not.
    if line.connection.is_shared()
        && let Err(error) = socket2::SockRef::from(&local).set_send_buffer_size(SEND_BUFFER)
    {
        tracing::debug!(%error, "cannot set the send buffer");
    }
    let mut told_end = false;
    let (from_local, to_local) = local.split();
    let ended = tokio::select! {
        ended = receive(&mut read, to_local, line) => ended,
        error = send(from_local, &write, &mut told_end) => Err(error),
    };
    let Err(error) = ended else { return Carried::ByServer };
    if error.kind() == io::ErrorKind::TimedOut {
        tracing::warn!("a forwarded connection was closed: its program did not read, and held up the session");
    } else {
        tracing::debug!(%error, "the local end of a forwarded connection is gone");
    }
    drop(local);
    // Read on meanwhile: what nobody reads holds up the connection, and with it the word that is to be sent.
    let ending = async {
        // A target that sees the end of its input usually ends too.
        let told = async {
            if !told_end {
                let _ = write.eof().await;
            }
        };
        tokio::join!(closed(&mut read), told).0
    };
    if timeout(CLOSE_TIMEOUT, ending).await == Ok(true) {
        return Carried::ByServer;
    }
    close(read, &write).await;
    Carried::FromHere
}

/// Closes a channel that the server does not close. What is still to come is taken by nobody.
pub(super) async fn close(read: ChannelReadHalf, write: &ChannelWriteHalf<Msg>) {
    drop(read);
    let _ = timeout(CLOSE_TIMEOUT, write.close()).await;
}

/// Channel to socket, until the server closes the channel. An error is the socket's.
async fn receive(read: &mut ChannelReadHalf, mut to_local: WriteHalf<'_>, line: &Line) -> io::Result<()> {
    let (mut gathered, mut next) = (Gathered::default(), None);
    loop {
        let message = match next.take() {
            Some(message) => message,
            None => read.wait().await,
        };
        match message {
            Some(ChannelMsg::Data { data }) => {
                gathered.add(data);
                next = gather(read, &mut gathered);
                write(&mut to_local, &mut gathered, line).await?;
            }
            Some(ChannelMsg::Eof) => to_local.shutdown().await?,
            Some(ChannelMsg::Close) | None => return Ok(()),
            Some(_) => {}
        }
    }
}

/// Writes it all. An end that takes nothing holds up what else is on the line: those that come later are spared that,
/// and where the line is shared with commands too, the end is given up.
async fn write(to_local: &mut WriteHalf<'_>, gathered: &mut Gathered, line: &Line) -> io::Result<()> {
    while gathered.has_remaining() {
        let mut writing = pin!(to_local.write_buf(gathered));
        if let Some(written) = writing.as_mut().now_or_never() {
            written?;
        } else if line.connection.is_shared() {
            timeout(STALL_LIMIT, writing).await.map_err(|_| io::ErrorKind::TimedOut)??;
        } else if let Ok(written) = timeout(STALL, &mut writing).await {
            written?;
        } else {
            let _held_up = line.hold_up();
            writing.await?;
        }
    }
    Ok(())
}

/// Takes what has come already, for one write; the first message that is no data is handed back.
fn gather(read: &mut ChannelReadHalf, gathered: &mut Gathered) -> Option<Option<ChannelMsg>> {
    while !gathered.is_full() {
        match read.wait().now_or_never()? {
            Some(ChannelMsg::Data { data }) => gathered.add(data),
            other => return Some(other),
        }
    }
    None
}

/// Packets that wait for one write.
#[derive(Debug, Default)]
struct Gathered {
    parts: VecDeque<Bytes>,
    len: usize,
}

impl Gathered {
    fn add(&mut self, part: Bytes) {
        self.len += part.len();
        if !part.is_empty() {
            self.parts.push_back(part);
        }
    }

    fn is_full(&self) -> bool {
        self.len >= GATHER || self.parts.len() >= GATHER_PARTS
    }
}

impl Buf for Gathered {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let slices = into.iter_mut().zip(&self.parts);
        slices.map(|(slot, part)| *slot = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.len -= count;
        while let Some(part) = self.parts.front_mut().filter(|_| count > 0) {
            let taken = count.min(part.len());
            part.advance(taken);
            count -= taken;
            if part.is_empty() {
                self.parts.pop_front();
            }
        }
    }
}

/// Socket to channel; after the end of its stream this only waits to be dropped. A writer on a closed channel waits
/// for ever, too: whoever reads from the channel sees the end, and so it is where the connection is lost.
async fn send(mut from_local: ReadHalf<'_>, write: &ChannelWriteHalf<Msg>, told_end: &mut bool) -> io::Error {
    let mut room = BytesMut::new();
    loop {
        if room.capacity() < LEAST_ROOM {
            room.reserve(READ_ROOM);
        }
        let sent = match from_local.read_buf(&mut room).await {
            Ok(0) => {
                *told_end = true;
                write.eof().await
            }
            Ok(_) => write.data_bytes(room.split().freeze()).await,
            Err(error) => return error,
        };
        if *told_end || sent.is_err() {
            return pending().await;
        }
    }
}

/// Whether the server closed the channel before it sent too much.
async fn closed(read: &mut ChannelReadHalf) -> bool {
    let mut left = CLOSE_BYTES;
    loop {
        match read.wait().await {
            Some(ChannelMsg::Data { data }) if data.len() > left => return false,
            Some(ChannelMsg::Data { data }) => left -= data.len(),
            Some(ChannelMsg::Close) | None => return true,
            Some(_) => {}
        }
    }
}
