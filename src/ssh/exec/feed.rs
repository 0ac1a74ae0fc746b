//! Standard input of a command.

use russh::{ChannelWriteHalf, client::Msg};

/// It is sent in pieces of this size.
const STDIN_PIECE: usize = 256 << 10;

/// Sends stdin and end-of-file.
pub(super) async fn feed(write: &ChannelWriteHalf<Msg>, stdin: Vec<u8>) {
    let mut rest = bytes::Bytes::from(stdin);
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(STDIN_PIECE));
        if write.data_bytes(piece).await.is_err() {
            return;
        }
    }
    let _ = write.eof().await;
}
