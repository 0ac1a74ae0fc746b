//! Forwarded connections of the embedded host.

use russh::{
    Channel, ChannelOpenFailure,
    server::{ChannelOpenHandle, Msg},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_util::sync::CancellationToken;

/// Connects a direct-tcpip channel; each direction ends on its own, so half-closed connections work.
///
/// A closed channel stops only what would flow back: bytes that the client sent before it closed the
/// channel still reach the target.
pub(super) async fn forward(
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    target: (String, u16),
    closed: CancellationToken,
) {
    let Ok(socket) = TcpStream::connect(target).await else {
        reply.reject(ChannelOpenFailure::ConnectFailed).await;
        return;
    };
    if socket.set_nodelay(true).is_err() {
        return;
    }
    reply.accept().await;
    let (mut from_target, mut to_target) = socket.into_split();
    let (mut from_client, mut to_client) = tokio::io::split(channel.into_stream());
    let there = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_target).await;
        let _ = to_target.shutdown().await;
    };
    let back = async {
        tokio::select! {
            _ = tokio::io::copy(&mut from_target, &mut to_client) => {}
            () = closed.cancelled() => {}
        }
        let _ = to_client.shutdown().await;
    };
    tokio::join!(there, back);
}
