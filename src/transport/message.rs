//! JSON-RPC envelopes: bytes to messages, and the refusals that JSON-RPC has for bytes that are none.
//!
//! rmcp drops garbage without a reply on stdio and answers it with plain text on HTTP, so the envelope is checked here.

mod names;

use rmcp::{
    ErrorData,
    model::{
        ClientJsonRpcMessage, ClientRequest, CustomRequest, ErrorCode, GetMeta, ProtocolVersion, RequestId,
        ServerJsonRpcMessage,
    },
};
use serde_json::{Value, json};

/// RFC 8259 lets a parser ignore a leading byte order mark.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Requests that rmcp knows. With malformed `params` it takes them for unknown methods.
const KNOWN_METHODS: &[&str] = &[
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tools/call",
    "tools/list",
];

/// Those of them that 2026-07-28 has removed: there they are unknown, whatever their `params` are.
const REMOVED_METHODS: &[&str] =
    &["initialize", "logging/setLevel", "ping", "resources/subscribe", "resources/unsubscribe"];

/// Bytes that are no message, and the answer that they get.
#[derive(Debug)]
pub struct Refused {
    /// The request that is refused; none where it cannot be read.
    id: Option<RequestId>,
    /// The answer.
    error: Box<ErrorData>,
}

impl Refused {
    fn new(id: Option<RequestId>, code: ErrorCode, message: &'static str) -> Self {
        Self { id, error: Box::new(ErrorData::new(code, message, None)) }
    }

    /// Bytes that are not JSON. The text names no part of the input: it may hold a secret.
    pub(super) fn parse_error(message: &'static str) -> Self {
        Self::new(None, ErrorCode::PARSE_ERROR, message)
    }

    /// JSON that is no request.
    pub(super) fn invalid_request(id: Option<RequestId>, message: &'static str) -> Self {
        Self::new(id, ErrorCode::INVALID_REQUEST, message)
    }

    /// What may be sent again: nothing was done. The code is the first of those that JSON-RPC leaves to servers.
    pub(super) fn busy(message: &'static str) -> Self {
        Self::new(None, ErrorCode(-32_000), message)
    }

    /// The wire form. rmcp would leave the `id` out where JSON-RPC wants it null.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        json!({"jsonrpc": "2.0", "id": self.id, "error": self.error}).to_string().into_bytes()
    }
}

/// What a parser takes that does not know of byte order marks.
pub(super) fn without_mark(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    bytes
}

/// Reads one message.
///
/// # Errors
///
/// What the sender is answered: -32700 for what is no JSON, -32600 for what is no request, or could be
/// read as one in two ways, -32602 for a known method with parameters that do not fit it.
pub fn parse(bytes: &[u8]) -> Result<ClientJsonRpcMessage, Refused> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let message = serde_json::from_slice(bytes).map_err(|_| refuse(bytes))?;
    if names::twice(bytes).anywhere {
        return Err(refuse(bytes));
    }
    if let ClientJsonRpcMessage::Request(request) = &message
        && let ClientRequest::CustomRequest(unknown) = &request.request
        && KNOWN_METHODS.contains(&unknown.method.as_str())
        && !is_removed(unknown, &request.request)
        && !names_a_tool(unknown)
    {
        let id = Some(request.id.clone());
        return Err(Refused::new(id, ErrorCode::INVALID_PARAMS, "the params do not fit this method"));
    }
    Ok(message)
}

/// A method that the revision of its request does not have any more.
fn is_removed(unknown: &CustomRequest, request: &ClientRequest) -> bool {
    let version = request.get_meta().protocol_version();
    REMOVED_METHODS.contains(&unknown.method.as_str())
        && version.is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

/// A call of a tool with arguments that are no object. The model made it, so the model is told, in a result.
fn names_a_tool(request: &CustomRequest) -> bool {
    let name = request.params.as_ref().and_then(|params| params.get("name"));
    request.method == "tools/call" && name.is_some_and(Value::is_string)
}

/// Says what is wrong with bytes that rmcp did not take. Only for them the price of a second reading is paid.
fn refuse(bytes: &[u8]) -> Refused {
    let object = match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => object,
        Ok(Value::Array(_)) => {
            return Refused::invalid_request(None, "batches are not supported: send one request at a time");
        }
        Ok(_) => return Refused::invalid_request(None, "a request is a JSON object"),
        Err(_) => return Refused::parse_error("not valid JSON"),
    };
    let twice = names::twice(bytes);
    let id = object.get("id").filter(|_| !twice.id).and_then(|id| serde_json::from_value(id.clone()).ok());
    if twice.anywhere {
        return Refused::invalid_request(id, "a member name stands twice in one object: send each once");
    }
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Refused::invalid_request(id, "jsonrpc must be \"2.0\"");
    }
    if object.contains_key("id") && id.is_none() {
        return Refused::invalid_request(None, "id must be a string or an integer");
    }
    let is_request = id.is_some() && object.get("method").is_some_and(Value::is_string);
    if is_request && object.get("params").is_some_and(|params| !params.is_object()) {
        return Refused::new(id, ErrorCode::INVALID_PARAMS, "params must be an object");
    }
    Refused::invalid_request(id, "not a JSON-RPC request")
}

/// The wire form of a message.
pub(super) fn encode(message: &ServerJsonRpcMessage) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_else(|error| {
        // Maps with keys that are no strings cannot be encoded; no MCP type has one.
        tracing::error!(%error, "a message could not be encoded");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        let answer = parse(bytes).map_or_else(|refused| refused.encode(), |_| Vec::new());
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn bytes_that_are_not_json_are_a_parse_error_without_id() {
        let deep = "[".repeat(1_000_000);
        for bytes in [&b"hello"[..], b"{\"jsonrpc\":", b"\xff\xfe", deep.as_bytes(), b"{\"id\":1e400}"] {
            let answer = refusal(bytes);
            assert!(answer.contains("\"code\":-32700") && answer.contains("\"id\":null"), "{answer}");
        }
    }

    #[test]
    fn json_that_is_no_request_is_refused_with_its_id() {
        assert!(refusal(b"[]").contains("batches"));
        assert!(refusal(b"3").contains("-32600"));
        assert!(refusal(br#"{"id":7,"method":"ping"}"#).contains("\"id\":7"));
        assert!(refusal(br#"{"jsonrpc":"2.0","id":"a"}"#).contains("\"id\":\"a\""));
        assert!(refusal(br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#).contains("\"id\":null"));
        assert!(refusal(br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#).contains("-32600"));
    }

    #[test]
    fn a_known_method_with_malformed_params_is_not_called_unknown() {
        let answer = refusal(br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}"#);
        assert!(answer.contains("-32602") && answer.contains("\"id\":1"), "{answer}");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let twice = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ssh_execute","arguments":{"command":"true","c\u006fmmand":"rm"}}}"#;
        let answer = refusal(twice.as_bytes());
        assert!(answer.contains("-32600") && answer.contains("\"id\":1") && answer.contains("twice"), "{answer}");
        let answer = refusal(br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#);
        assert!(answer.contains("-32600") && answer.contains("\"id\":null"), "{answer}");
    }

    #[test]
    fn a_method_that_its_revision_has_removed_is_unknown_whatever_its_params() {
        for method in REMOVED_METHODS {
            let with = |version: &str| {
                let meta = json!({"io.modelcontextprotocol/protocolVersion": version});
                json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta}}).to_string()
            };
            assert!(parse(with("2026-07-28").as_bytes()).is_ok(), "{method}");
            if *method != "ping" {
                assert!(refusal(with("2025-11-25").as_bytes()).contains("-32602"), "{method}");
            }
        }
    }

    #[test]
    fn a_refusal_repeats_nothing_of_the_input() {
        assert!(!refusal(br#"{"jsonrpc":"2.0","id":1,"method":5,"password":"hunter2"}"#).contains("hunter2"));
    }

    #[test]
    fn requests_of_any_method_and_a_byte_order_mark_are_taken() {
        assert!(parse(b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"no/such\"}").is_ok());
        assert!(parse(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).is_ok());
    }
}
