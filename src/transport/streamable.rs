//! `/mcp`: streamable HTTP for sessions, for stateless clients, and for a bare `curl`.
//!
//! Two rmcp services stand behind it. One keeps sessions (revisions up to 2025-11-25). The other has none: it serves
//! 2026-07-28 and bare requests, which ask for no session and get one JSON object.

mod answer;

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, ALLOW},
};
use poem::{
    Endpoint, IntoResponse, Request, Response, Result,
    endpoint::{BoxEndpoint, EndpointExt, TowerCompatExt},
};
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, GetMeta, ProtocolVersion, RequestId, ServerJsonRpcMessage},
    transport::{
        StreamableHttpServerConfig, StreamableHttpService, streamable_http_server::session::never::NeverSessionManager,
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Handler,
    bodies::{Bodies, Body, MAX_BODY_BYTES},
    calls::{PanicWatch, panicked, stopped},
    message::{self, Refused},
    sessions::Sessions,
};
use crate::ssh::ids::Owner;

const SESSION_ID: &str = "mcp-session-id";
const PROTOCOL_VERSION: &str = "mcp-protocol-version";
const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";

/// The endpoint behind `/mcp`.
pub(super) struct Streamable {
    sessions: Arc<Sessions>,
    with_sessions: BoxEndpoint<'static, Response>,
    stateless: Arc<BoxEndpoint<'static, Response>>,
    /// POSTs that are not answered to their end.
    exchanges: TaskTracker,
    /// The end: what has no answer then gets none.
    closing: CancellationToken,
    bodies: Bodies,
}

impl Streamable {
    pub(super) fn new<S: Handler>(
        handler: S,
        sessions: Arc<Sessions>,
        exchanges: TaskTracker,
        closing: &CancellationToken,
        bodies: Bodies,
    ) -> Self {
        // Host and Origin are the guard's business: it is stricter, and it knows the port.
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_max_request_body_bytes(MAX_BODY_BYTES)
            .with_sse_retry(None)
            .with_cancellation_token(closing.clone());
        let alone = config.clone().with_legacy_session_mode(false).with_json_response(true);
        let factory = {
            let handler = handler.clone();
            move || Ok(handler.clone())
        };
        let with_sessions = StreamableHttpService::new(factory, sessions.clone(), config);
        let stateless =
            StreamableHttpService::new(move || Ok(handler.clone()), Arc::new(NeverSessionManager::default()), alone);
        Self {
            sessions,
            with_sessions: with_sessions.compat().boxed(),
            stateless: Arc::new(stateless.compat().boxed()),
            exchanges,
            closing: closing.clone(),
            bodies,
        }
    }

    async fn post(&self, mut request: Request) -> Response {
        // The place is held until rmcp has read the message too; that of a stateless call until its answer.
        let Body { message, bytes, place: _place } = match self.bodies.read(&mut request).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        let (kind, opens, id) = (Kind::of(&message, request.headers()), opens_session(&message), id_of(&message));
        // rmcp reads the body again: two messages at a time would be one too many.
        drop(message);
        request.set_body(bytes);
        let exchange = self.exchanges.token();
        let events = names(request.headers(), EVENT_STREAM);
        complete_accept(request.headers_mut());
        let response = match kind {
            Kind::Session if opens && request.header(SESSION_ID).is_none() => self.opened(request).await,
            Kind::Session => self.in_session(request, id).await,
            Kind::Modern => answer::within(self.alone(request, id.clone()), events, id).await,
            Kind::Bare => self.to_its_end(self.alone(request, id)).await,
        };
        let response = if events { response } else { answer::one_object(response).await };
        answer::held_open(response, exchange)
    }

    /// Opens a session, where there is room for it.
    async fn opened(&self, request: Request) -> Response {
        let owner = request.extensions().get::<Owner>().cloned();
        let Some(_place) = self.sessions.make_room(owner.as_ref()).await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many MCP sessions are in use: try again later");
        };
        self.forward(request).await
    }

    async fn in_session(&self, request: Request, call: Option<RequestId>) -> Response {
        // Whose session it is comes first: what runs in another's is nothing to tell.
        if let (Some(session), Some(call)) = (request.header(SESSION_ID), call)
            && self.sessions.touch(session, request.extensions().get())
            && let Err(why) = self.sessions.check_call(session, &call)
        {
            return refusal(Refused::invalid_request(None, why.message()));
        }
        self.forward(request).await
    }

    /// Passes a request to the service with sessions, unless its session is unknown or another principal's.
    async fn forward(&self, request: Request) -> Response {
        let owner = request.extensions().get::<Owner>();
        if let Some(id) = request.header(SESSION_ID)
            && !self.sessions.touch(id, owner)
        {
            return plain(StatusCode::NOT_FOUND, "no such MCP session: initialize again");
        }
        self.with_sessions.get_response(request).await
    }

    /// A call without a session. Dropping it cancels the call.
    fn alone(&self, mut request: Request, id: Option<RequestId>) -> BoxFuture<'static, Response> {
        let panic = CancellationToken::new();
        let alarm = panic.clone();
        request.extensions_mut().insert(PanicWatch::new(move || alarm.cancel()));
        let (service, closing) = (self.stateless.clone(), self.closing.clone());
        async move {
            tokio::select! {
                // First: rmcp has a plain text for it.
                biased;
                () = closing.cancelled() => unanswered(id.map(stopped), StatusCode::SERVICE_UNAVAILABLE),
                () = panic.cancelled() => unanswered(id.map(panicked), StatusCode::INTERNAL_SERVER_ERROR),
                response = service.get_response(request) => response,
            }
        }
        .boxed()
    }

    /// Runs a call to its end even if its client goes away: up to 2025-11-25 a disconnect cancels nothing.
    async fn to_its_end(&self, call: BoxFuture<'static, Response>) -> Response {
        let failed = |_| StatusCode::INTERNAL_SERVER_ERROR.into_response();
        self.exchanges.spawn(call).await.unwrap_or_else(failed)
    }
}

/// What is said instead of an answer; only a status where nobody waits for one.
fn unanswered(message: Option<ServerJsonRpcMessage>, status: StatusCode) -> Response {
    match message {
        Some(message) => json(StatusCode::OK, message::encode(&message)),
        None => status.into_response(),
    }
}

impl Endpoint for Streamable {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        Ok(match *request.method() {
            Method::POST => self.post(request).await,
            Method::GET | Method::DELETE => {
                complete_accept(request.headers_mut());
                self.forward(request).await
            }
            _ => Response::builder().status(StatusCode::METHOD_NOT_ALLOWED).header(ALLOW, "GET, POST, DELETE").finish(),
        })
    }
}

/// Which of the three kinds of client sent a POST.
enum Kind {
    /// `initialize`, or a message that belongs to a session.
    Session,
    /// 2026-07-28 or later: every request stands alone, and a dropped answer cancels its call.
    Modern,
    /// Neither: `curl`.
    Bare,
}

impl Kind {
    fn of(message: &ClientJsonRpcMessage, headers: &HeaderMap) -> Self {
        let version = headers.get(PROTOCOL_VERSION).and_then(|version| version.to_str().ok());
        let modern = |version: &str| version >= ProtocolVersion::V_2026_07_28.as_str();
        let in_meta = match message {
            ClientJsonRpcMessage::Request(request) => request.request.get_meta().protocol_version(),
            _ => None,
        };
        let discovers = matches!(message, ClientJsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::DiscoverRequest(_)));
        if opens_session(message) {
            Self::Session
        } else if discovers || in_meta.is_some() || version.is_some_and(modern) {
            Self::Modern
        } else if version.is_some() || headers.contains_key(SESSION_ID) {
            Self::Session
        } else {
            Self::Bare
        }
    }
}

fn opens_session(message: &ClientJsonRpcMessage) -> bool {
    matches!(message, ClientJsonRpcMessage::Request(request)
        if matches!(request.request, ClientRequest::InitializeRequest(_)))
}

fn id_of(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
        _ => None,
    }
}

/// The answer to a body that is no message.
pub(super) fn refusal(refused: Refused) -> Response {
    json(StatusCode::BAD_REQUEST, refused.encode())
}

pub(super) fn plain(status: StatusCode, text: &str) -> Response {
    Response::builder().status(status).content_type("text/plain; charset=utf-8").body(format!("{text}\n"))
}

pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    Response::builder().status(status).content_type(JSON).body(body)
}

/// Whether the client itself named a media type; `*/*` names none.
fn names(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = values.flat_map(|value| value.split(',')).filter_map(|one| one.split(';').next());
    types.any(|one| one.trim().eq_ignore_ascii_case(media_type))
}

/// rmcp wants both media types named. A client that says nothing, or anything, takes what it gets.
fn complete_accept(headers: &mut HeaderMap) {
    let wild = |headers: &HeaderMap| names(headers, "*/*") || names(headers, "application/*");
    if !headers.contains_key(ACCEPT) || wild(headers) || names(headers, JSON) {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    }
}
