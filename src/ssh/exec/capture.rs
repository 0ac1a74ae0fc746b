//! A short command of our own on a fresh channel: a probe, or the end of other commands.

use russh::ChannelMsg;
use tokio::time::{Instant, timeout_at};

use crate::ssh::client::Channel;

/// Most that is kept of its standard output.
const MAX_CAPTURED_BYTES: usize = 64 << 10;

/// Runs `line` with `stdin` and gives its standard output; none where it did not end by `deadline`.
pub(crate) async fn capture(mut channel: Channel, line: &str, stdin: &str, deadline: Instant) -> Option<String> {
    let captured = timeout_at(deadline, exchange(&mut channel, line, stdin)).await.ok().flatten();
    if captured.is_none() {
        // Not waited for: the connection may be the reason.
        let _ = timeout_at(deadline, channel.close()).await;
    }
    captured
}

async fn exchange(channel: &mut Channel, line: &str, stdin: &str) -> Option<String> {
    channel.exec(true, line).await.ok()?;
    if !stdin.is_empty() {
        channel.data_bytes(stdin.as_bytes().to_vec()).await.ok()?;
    }
    channel.eof().await.ok()?;
    let mut output = Vec::new();
    loop {
        match channel.wait().await? {
            ChannelMsg::Data { data } if output.len() + data.len() <= MAX_CAPTURED_BYTES => {
                output.extend_from_slice(&data);
            }
            ChannelMsg::Failure => return None,
            ChannelMsg::Close => return Some(String::from_utf8_lossy(&output).into_owned()),
            _ => {}
        }
    }
}
