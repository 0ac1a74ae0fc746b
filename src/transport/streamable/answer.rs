//! The forms of an answer: one JSON object, or an event stream that may begin before the answer is there.

use std::time::Duration;

use futures_util::{StreamExt, future::BoxFuture};
use http::{StatusCode, header::CONTENT_TYPE};
use poem::{Body, Response};
use rmcp::model::RequestId;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{EVENT_STREAM, JSON, SESSION_ID, json, plain};
use crate::transport::{calls::panicked, message};

/// A stateless call that has no answer by then gets an event stream, if its client takes one. 2026-07-28 wants the call of
/// a client that is gone cancelled, but Poem 3.1.12 polls a connection on when hyper has found it closed: only a failed
/// write tells.
const EARLY_STREAM: Duration = Duration::from_millis(500);

/// How often an early stream writes something. The first write after a client has gone still succeeds, so a call is
/// cancelled two pulses later at most.
const PULSE: Duration = Duration::from_secs(1);

/// The largest answer that is turned from an event stream into one JSON object.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Waits for the answer of a stateless call; after [`EARLY_STREAM`] in an event stream, where the client takes one.
pub(super) async fn within(mut call: BoxFuture<'static, Response>, events: bool, id: Option<RequestId>) -> Response {
    if !events {
        return call.await;
    }
    match timeout(EARLY_STREAM, &mut call).await {
        Ok(response) => response,
        Err(_) => early_stream(call, id),
    }
}

/// An event stream that shows signs of life until the call has its answer. Dropping it cancels the call.
fn early_stream(call: BoxFuture<'static, Response>, id: Option<RequestId>) -> Response {
    let mut pulse = interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let waiting = futures_util::stream::unfold((pulse, Some((call, id))), alive_or_answered);
    let stream = waiting.flat_map(|body| body.into_bytes_stream());
    Response::builder()
        .content_type(EVENT_STREAM)
        .header("Cache-Control", "no-cache")
        .header("X-Accel-Buffering", "no")
        .body(Body::from_bytes_stream(stream))
}

type Waiting = (Interval, Option<(BoxFuture<'static, Response>, Option<RequestId>)>);

async fn alive_or_answered((mut pulse, waiting): Waiting) -> Option<(Body, Waiting)> {
    let (mut call, id) = waiting?;
    tokio::select! {
        response = &mut call => Some((events_of(response, id).await, (pulse, None))),
        _ = pulse.tick() => Some((Body::from(": still running\n\n"), (pulse, Some((call, id))))),
    }
}

/// The answer as events.
async fn events_of(response: Response, id: Option<RequestId>) -> Body {
    match media_type(&response) {
        Some(EVENT_STREAM) => response.into_body(),
        Some(JSON) => {
            let body = response.into_body().into_bytes_limit(MAX_ANSWER_BYTES).await.unwrap_or_default();
            Body::from([b"data: ", &body[..], b"\n\n"].concat())
        }
        // The status is gone with the head of the stream; a plain text is nothing that a client could read.
        _ => {
            let error = id.map(|id| message::encode(&panicked(id))).unwrap_or_default();
            Body::from([b"data: ", &error[..], b"\n\n"].concat())
        }
    }
}

fn media_type(response: &Response) -> Option<&str> {
    let value = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

/// An event stream's answer alone, as one JSON object, for a client that did not ask for events.
pub(super) async fn one_object(response: Response) -> Response {
    if media_type(&response) != Some(EVENT_STREAM) {
        return whole(response).await;
    }
    let session = response.headers().get(SESSION_ID).cloned();
    let Ok(events) = response.into_body().into_bytes_limit(MAX_ANSWER_BYTES).await else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be read");
    };
    // Notifications come before it: an answer is what has no method.
    let lines = events.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data: "));
    let answer = lines.rev().find(|line| {
        serde_json::from_slice::<serde_json::Value>(line)
            .is_ok_and(|message| message.is_object() && message.get("method").is_none())
    });
    let mut response = match answer {
        Some(answer) => json(StatusCode::OK, answer.to_vec()),
        None => plain(StatusCode::INTERNAL_SERVER_ERROR, "the call ended without an answer"),
    };
    if let Some(session) = session {
        response.headers_mut().insert(SESSION_ID, session);
    }
    response
}

/// Gives a body that is known its length: rmcp's come without one.
async fn whole(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    match body.into_bytes_limit(MAX_ANSWER_BYTES).await {
        Ok(body) => Response::from_parts(parts, Body::from(body)),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be read"),
    }
}

/// Keeps the exchange counted until the last byte of an event stream is taken.
pub(super) fn held_open(response: Response, exchange: TaskTrackerToken) -> Response {
    if media_type(&response) != Some(EVENT_STREAM) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let stream = body.into_bytes_stream().inspect(move |_| {
        let _ = &exchange;
    });
    Response::from_parts(parts, Body::from_bytes_stream(stream))
}
