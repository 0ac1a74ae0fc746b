//! `GET /sse` with `POST /message`: the HTTP+SSE transport of 2024-11-05, which some clients still speak alone.
//!
//! The stream is the connection: it begins with the address for messages, carries every answer, and its end is the end of
//! the MCP connection. Calls that run then run on, and SSH sessions stay with the app.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use http::StatusCode;
use poem::{
    Endpoint, IntoResponse, Request, Response, Result,
    web::sse::{Event, SSE},
};
use rmcp::model::ServerJsonRpcMessage;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    Handler,
    bodies::{Bodies, Body},
    channel::{self, Inbox, NotDelivered},
    message::{self, Refused},
    streamable::{plain, refusal},
};
use crate::ssh::ids::Owner;

/// Streams that are open at the same time.
const MAX_STREAMS: usize = 256;

/// Those of one principal.
const MAX_STREAMS_OF_ONE: usize = 64;

/// How often a quiet stream shows that it is alive.
const PULSE: Duration = Duration::from_secs(15);

/// Open connections by their id.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<HashMap<Uuid, Connection>>>);

#[derive(Clone)]
struct Connection {
    owner: Option<Owner>,
    inbox: Inbox,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a connection out of the map when its stream is dropped.
struct Listed {
    id: Uuid,
    open: Open,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.open.lock().remove(&self.id);
    }
}

/// The endpoints behind `GET /sse` and `POST /message`.
pub(super) fn endpoints<S: Handler>(
    handler: S,
    tasks: TaskTracker,
    closing: CancellationToken,
    bodies: Bodies,
) -> (Streams<S>, Messages) {
    let open = Open::default();
    (Streams { handler, tasks, closing, open: open.clone() }, Messages { open, bodies })
}

/// `GET /sse`.
pub(super) struct Streams<S> {
    handler: S,
    tasks: TaskTracker,
    closing: CancellationToken,
    open: Open,
}

impl<S: Handler> Endpoint for Streams<S> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let (inbox, channel, answers) = channel::open();
        let id = Uuid::new_v4();
        let owner = request.extensions().get::<Owner>().cloned();
        {
            let mut open = self.open.lock();
            let own = open.values().filter(|connection| connection.owner == owner).count();
            if open.len() >= MAX_STREAMS || own >= MAX_STREAMS_OF_ONE {
                return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "too many event streams are open: try again later"));
            }
            open.insert(id, Connection { owner, inbox });
        }
        self.tasks.spawn(channel::converse(self.handler.clone(), channel, self.closing.clone()));
        let listed = Listed { id, open: self.open.clone() };
        let address = Event::message(format!("/message?sessionId={id}")).event_type("endpoint");
        let answers = stream::unfold((answers, listed), |(mut answers, listed)| async move {
            let answer = answers.recv().await?;
            Some((event(&answer), (answers, listed)))
        });
        let events = stream::once(async { address }).chain(answers);
        Ok(SSE::new(events).keep_alive(PULSE).into_response())
    }
}

/// JSON has no raw line end, so a message is one line of data.
fn event(message: &ServerJsonRpcMessage) -> Event {
    Event::message(String::from_utf8_lossy(&message::encode(message)))
}

/// `POST /message`.
pub(super) struct Messages {
    open: Open,
    bodies: Bodies,
}

impl Endpoint for Messages {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        Ok(self.take(request).await.unwrap_or_else(|refused| refused))
    }
}

impl Messages {
    async fn take(&self, mut request: Request) -> Result<Response, Response> {
        let connection = self.connection(&request).ok_or_else(unknown)?;
        // The place is held until the message is handed over.
        let Body { mut message, place: _place, .. } = self.bodies.read(&mut request).await?;
        let (parts, ()) = http::Request::from(request).map(drop).into_parts();
        message.insert_extension(parts);
        match connection.inbox.deliver(message).await {
            Ok(()) => Ok(plain(StatusCode::ACCEPTED, "accepted")),
            Err(NotDelivered::Refused(why)) => Err(refusal(Refused::invalid_request(None, why.message()))),
            Err(NotDelivered::Closed) => Err(unknown()),
        }
    }

    /// The connection that a message is for. Another principal's is unknown to the caller.
    fn connection(&self, request: &Request) -> Option<Connection> {
        let mut query = request.uri().query()?.split('&');
        let id = query.find_map(|pair| pair.strip_prefix("sessionId="))?.parse().ok()?;
        let connection = self.open.lock().get(&id).cloned()?;
        (connection.owner.as_ref() == request.extensions().get()).then_some(connection)
    }
}

fn unknown() -> Response {
    plain(StatusCode::NOT_FOUND, "no such event stream: open one with GET /sse")
}
