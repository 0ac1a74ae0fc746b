//! The legacy transport: an event stream of `GET /sse` down, `POST` to the path that it names up.

use std::{io, pin::Pin};

use futures_util::{Sink, Stream, sink, stream};
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
};

use super::http::open;

type Up = Pin<Box<dyn Sink<TxJsonRpcMessage<RoleClient>, Error = io::Error> + Send>>;
type Down = Pin<Box<dyn Stream<Item = RxJsonRpcMessage<RoleClient>> + Send>>;

/// Opens the stream and gives what rmcp takes as a transport.
pub(super) async fn connect(port: u16) -> (Up, Down) {
    let headers = [("Accept", "text/event-stream")];
    let mut events = open(port, "GET", "/sse", &headers, "").await.expect("an HTTP reply");
    assert_eq!(events.status, 200, "GET /sse");
    let first = events.event().await.expect("an event").expect("an event");
    assert_eq!(first.name, "endpoint", "the first event");
    let endpoint = path(&first.data);

    let up = sink::unfold((), move |(), message| {
        let endpoint = endpoint.clone();
        async move { post(port, &endpoint, &message).await }
    });
    let down = stream::unfold(events, |mut events| async {
        loop {
            let event = events.event().await.ok()??;
            if event.name != "message" || event.data.is_empty() {
                continue;
            }
            match serde_json::from_str(&event.data) {
                Ok(message) => return Some((message, events)),
                Err(error) => panic!("not a message: {error}: {}", event.data),
            }
        }
    });
    (Box::pin(up), Box::pin(down))
}

async fn post(port: u16, endpoint: &str, message: &TxJsonRpcMessage<RoleClient>) -> io::Result<()> {
    let headers = [("Content-Type", "application/json")];
    let reply = open(port, "POST", endpoint, &headers, &serde_json::to_string(message)?).await?;
    if reply.status == 202 { Ok(()) } else { Err(io::Error::other(format!("HTTP {}", reply.status))) }
}

/// The endpoint is a path, or a whole URL of the same server.
fn path(endpoint: &str) -> String {
    let rest = endpoint.strip_prefix("http://").and_then(|rest| rest.find('/').map(|slash| &rest[slash..]));
    rest.unwrap_or(endpoint).to_owned()
}
