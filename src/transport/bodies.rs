//! Bodies of requests: read within bounds of size, of time, and of the memory that all of them take together.
//!
//! A body of 4 MiB is small; as a message it is not. An array of one-digit numbers takes forty times its size, and many
//! connections may send one at the same time. So bodies have places, in all and for each principal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, EXPECT, RETRY_AFTER},
};
use poem::{Request, Response};
use rmcp::model::ClientJsonRpcMessage;
use tokio::time::timeout;

use super::{
    message::{self, Refused},
    streamable::{json, plain, refusal},
};
use crate::ssh::ids::Owner;

/// The largest body that is read.
pub(super) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of all bodies that are read, parsed or handed over at the same time.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Those of one principal.
const MAX_BYTES_OF_ONE: usize = 8 * 1024 * 1024;

/// What a body counts for at least.
const LEAST_BYTES: usize = 4 * 1024;

/// A longer body is parsed where it holds up nobody.
const PARSED_ASIDE: usize = 256 * 1024;

/// When a client that found no place may try again.
const TRY_AGAIN_SECS: &str = "1";

/// The bodies of one server.
#[derive(Clone)]
pub(super) struct Bodies {
    held: Arc<Mutex<Held>>,
    within: Duration,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    of: HashMap<Option<Owner>, usize>,
}

/// The bytes that one body holds until this is dropped.
pub(super) struct Place {
    held: Arc<Mutex<Held>>,
    owner: Option<Owner>,
    bytes: usize,
}

/// A body that was read.
pub(super) struct Body {
    pub(super) message: ClientJsonRpcMessage,
    pub(super) bytes: Vec<u8>,
    pub(super) place: Place,
}

/// Why a body was not read.
enum Unread {
    TooLarge,
    NoPlace,
    Broken,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds `bytes` from now on, where it held less. False where there is no room; then nothing has changed.
    fn cover(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let mut held = self.lock();
        let own = held.of.get(&self.owner).copied().unwrap_or(0);
        if held.all + more > MAX_BYTES || own + more > MAX_BYTES_OF_ONE {
            return false;
        }
        held.all += more;
        held.of.insert(self.owner.clone(), own + more);
        drop(held);
        self.bytes += more;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.lock();
        held.all -= self.bytes;
        if let Some(own) = held.of.get_mut(&self.owner) {
            *own -= self.bytes;
            if *own == 0 {
                held.of.remove(&self.owner);
            }
        }
    }
}

impl Bodies {
    /// Bodies that may take `within` to arrive.
    pub(super) fn new(within: Duration) -> Self {
        Self { held: Arc::default(), within }
    }

    /// Reads the message of a request. Otherwise what its client is answered.
    pub(super) async fn read(&self, request: &mut Request) -> Result<Body, Response> {
        let owner = request.extensions().get::<Owner>().cloned();
        let mut place = Place { held: self.held.clone(), owner, bytes: 0 };
        // What is announced is held at once; a body without a length holds what has come.
        let length = request.header(CONTENT_LENGTH).and_then(|length| length.parse().ok()).unwrap_or(0);
        // Who asks first is told before anything is sent. Others find out once they have sent too much: a connection
        // that is closed with a body still to come may be reset before its answer is read.
        if length > MAX_BODY_BYTES && request.headers().contains_key(EXPECT) {
            return Err(too_large());
        }
        if !place.cover(MAX_BODY_BYTES.min(length).max(LEAST_BYTES)) {
            return Err(full());
        }
        let bytes = match timeout(self.within, collect(request.take_body(), &mut place)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(Unread::TooLarge)) => return Err(too_large()),
            Ok(Err(Unread::NoPlace)) => return Err(full()),
            Ok(Err(Unread::Broken)) => return Err(plain(StatusCode::BAD_REQUEST, "the body could not be read")),
            Err(_) => {
                return Err(plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time (MCP_BODY_TIMEOUT)"));
            }
        };
        parse(bytes, place).await
    }
}

async fn collect(body: poem::Body, place: &mut Place) -> Result<Vec<u8>, Unread> {
    let (mut bytes, mut pieces) = (Vec::new(), std::pin::pin!(body.into_bytes_stream()));
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Unread::Broken)?;
        let length = bytes.len() + piece.len();
        if length > MAX_BODY_BYTES {
            return Err(Unread::TooLarge);
        }
        if !place.cover(length) {
            return Err(Unread::NoPlace);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The place goes with the work: it is held to the end of it even where the client is gone.
async fn parse(bytes: Vec<u8>, place: Place) -> Result<Body, Response> {
    let long = bytes.len() > PARSED_ASIDE;
    let parse = move || {
        let bytes = message::without_mark(bytes);
        let message = message::parse(&bytes)?;
        Ok(Body { message, bytes, place })
    };
    let parsed = if long { tokio::task::spawn_blocking(parse).await } else { Ok(parse()) };
    match parsed {
        Ok(parsed) => parsed.map_err(refusal),
        Err(_) => Err(plain(StatusCode::INTERNAL_SERVER_ERROR, "the body could not be parsed")),
    }
}

fn too_large() -> Response {
    plain(StatusCode::PAYLOAD_TOO_LARGE, "a request may have 4 MiB at most")
}

fn full() -> Response {
    let refused = Refused::busy("too many bytes of requests are being read: try again later");
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, refused.encode());
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(TRY_AGAIN_SECS));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bodies: &Bodies, owner: &str) -> Place {
        Place { held: bodies.held.clone(), owner: Some(Owner::new(owner)), bytes: 0 }
    }

    #[test]
    fn a_principal_has_its_share_and_all_together_have_theirs() {
        let bodies = Bodies::new(Duration::from_secs(1));
        let mut places = Vec::new();
        for n in 0..MAX_BYTES / MAX_BYTES_OF_ONE {
            let mut own = place(&bodies, &n.to_string());
            assert!(own.cover(MAX_BYTES_OF_ONE));
            assert!(!own.cover(MAX_BYTES_OF_ONE + 1) && !place(&bodies, &n.to_string()).cover(1));
            places.push(own);
        }
        assert!(!place(&bodies, "late").cover(1));
        drop(places.pop());
        assert!(place(&bodies, "late").cover(MAX_BYTES_OF_ONE));
        drop(places);
        let held = bodies.held.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(held.all == 0 && held.of.is_empty(), "{held:?}");
    }
}
