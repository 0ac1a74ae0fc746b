//! The built binaries, driven as a real client drives them: rmcp's client on every transport.
//!
//! Below it, [`RawStdio`] and [`HttpServer::post`] send what no well-behaved client would.

mod http;
mod human;
mod process;
mod sse;
mod stdio;

use std::time::Duration;

use rmcp::{
    RoleClient, ServiceError,
    model::{CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest, ProtocolVersion},
    service::{ClientLifecycleMode, ClientServiceExt, Peer, PeerRequestOptions, RequestHandle, RunningService},
    transport::{IntoTransport, StreamableHttpClientTransport},
};
use serde_json::Value;

use super::wait::bounded;

pub(crate) use http::{HttpReply, HttpServer, HttpStream, open as open_http};
pub(crate) use human::{Does, Human};
pub(crate) use process::{ServerProcess, run};
pub(crate) use stdio::RawStdio;

/// Longer than any call may take: the answer limit is 45 seconds.
const CALL_BOUND: Duration = Duration::from_secs(90);

/// What a tool answered.
#[derive(Clone, Debug)]
pub(crate) struct ToolAnswer {
    pub(crate) is_error: bool,
    /// `structuredContent`; null if there is none.
    pub(crate) structured: Value,
    /// The first text block.
    pub(crate) text: String,
}

impl ToolAnswer {
    /// The content of a success; panics with the error otherwise.
    #[track_caller]
    pub(crate) fn success(self) -> Value {
        assert!(!self.is_error, "{}", self.text);
        self.structured
    }

    /// The code of a failure; panics with the content of a success.
    #[track_caller]
    pub(crate) fn code(&self) -> &str {
        assert!(self.is_error, "no error: {}", self.text);
        self.structured["code"].as_str().expect("an error has a code")
    }
}

impl From<CallToolResult> for ToolAnswer {
    fn from(result: CallToolResult) -> Self {
        let text = result.content.first().and_then(|block| block.as_text());
        Self {
            is_error: result.is_error.unwrap_or(false),
            structured: result.structured_content.unwrap_or_default(),
            text: text.map(|block| block.text.clone()).unwrap_or_default(),
        }
    }
}

/// An MCP client after the handshake. Calls may run at the same time.
pub(crate) struct McpClient {
    service: RunningService<RoleClient, Human>,
    /// The server behind stdio; an HTTP server is shared and owned by the test.
    process: Option<ServerProcess>,
    _relay: Option<http::UnixRelay>,
}

impl McpClient {
    /// Starts `ssh-mcp-stdio` with these variables and initializes.
    pub(crate) async fn stdio(env: &[(&str, &str)]) -> Self {
        Self::stdio_as(env, ClientLifecycleMode::Initialize).await
    }

    /// The same, with a person who answers; in the newer era where `newer` is set.
    pub(crate) async fn stdio_with(env: &[(&str, &str)], human: &Human, newer: bool) -> Self {
        let mut process = ServerProcess::stdio(env);
        let transport = (process.take_stdout(), process.take_stdin());
        let service = serve(transport, era(newer), human.clone()).await;
        Self { service, process: Some(process), _relay: None }
    }

    /// As [`McpClient::stdio_with`], on `/mcp`.
    pub(crate) async fn http_with(server: &HttpServer, human: &Human, newer: bool) -> Self {
        let relay = http::UnixRelay::start(server.port());
        let uri = format!("http://127.0.0.1:{}/mcp", server.port());
        let transport = StreamableHttpClientTransport::from_unix_socket(&relay.socket(), uri);
        Self { service: serve(transport, era(newer), human.clone()).await, process: None, _relay: Some(relay) }
    }

    /// As [`McpClient::stdio_with`], on `GET /sse`, which has the older era only.
    pub(crate) async fn sse_with(server: &HttpServer, human: &Human) -> Self {
        let transport = bounded("the event stream", sse::connect(server.port())).await;
        let service = serve(transport, ClientLifecycleMode::Initialize, human.clone()).await;
        Self { service, process: None, _relay: None }
    }

    /// Calls a tool and lets the person answer what is asked meanwhile, in either era.
    pub(crate) async fn call_and_answer(&self, tool: &str, arguments: Value) -> ToolAnswer {
        let answer = tokio::time::timeout(CALL_BOUND, self.service.call_tool(parameters(tool, arguments))).await;
        answer.unwrap_or_else(|_| panic!("{tool}: no answer")).unwrap_or_else(|error| panic!("{tool}: {error}")).into()
    }

    /// The same, in a network namespace.
    pub(crate) async fn stdio_within(namespace: &str, env: &[(&str, &str)]) -> Self {
        Self::over(ServerProcess::stdio_within(namespace, env), ClientLifecycleMode::Initialize).await
    }

    /// The same, in the revision that has `server/discover` in place of `initialize`.
    pub(crate) async fn stdio_discover(env: &[(&str, &str)]) -> Self {
        Self::stdio_as(env, discover()).await
    }

    /// A session on `/mcp`.
    pub(crate) async fn http(server: &HttpServer) -> Self {
        Self::http_as(server, ClientLifecycleMode::Initialize).await
    }

    /// The same, in the revision that has `server/discover` and no session.
    pub(crate) async fn http_discover(server: &HttpServer) -> Self {
        Self::http_as(server, discover()).await
    }

    /// `GET /sse` with `POST /message`.
    pub(crate) async fn sse(server: &HttpServer) -> Self {
        let transport = bounded("the event stream", sse::connect(server.port())).await;
        Self {
            service: serve(transport, ClientLifecycleMode::Initialize, Human::default()).await,
            process: None,
            _relay: None,
        }
    }

    async fn stdio_as(env: &[(&str, &str)], lifecycle: ClientLifecycleMode) -> Self {
        Self::over(ServerProcess::stdio(env), lifecycle).await
    }

    async fn over(mut process: ServerProcess, lifecycle: ClientLifecycleMode) -> Self {
        let transport = (process.take_stdout(), process.take_stdin());
        Self { service: serve(transport, lifecycle, Human::default()).await, process: Some(process), _relay: None }
    }

    async fn http_as(server: &HttpServer, lifecycle: ClientLifecycleMode) -> Self {
        let relay = http::UnixRelay::start(server.port());
        let uri = format!("http://127.0.0.1:{}/mcp", server.port());
        let transport = StreamableHttpClientTransport::from_unix_socket(&relay.socket(), uri);
        Self { service: serve(transport, lifecycle, Human::default()).await, process: None, _relay: Some(relay) }
    }

    /// Calls a tool; panics where the answer is a JSON-RPC error and not a tool's result.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> ToolAnswer {
        match self.try_call(tool, arguments).await {
            Ok(answer) => answer,
            Err(error) => panic!("{tool}: {error}\n{}", self.stderr()),
        }
    }

    /// Calls a tool whose answer may be a JSON-RPC error.
    pub(crate) async fn try_call(&self, tool: &str, arguments: Value) -> Result<ToolAnswer, ServiceError> {
        let call = self.peer().call_tool_once(parameters(tool, arguments));
        let answer = tokio::time::timeout(CALL_BOUND, call).await;
        match answer.unwrap_or_else(|_| panic!("{tool}: no answer within {CALL_BOUND:?}"))? {
            CallToolResponse::Complete(result) => Ok(result.into()),
            other => panic!("{tool}: neither result nor error: {other:?}"),
        }
    }

    /// Starts a call that can be cancelled through its handle.
    pub(crate) async fn begin(&self, tool: &str, arguments: Value) -> RequestHandle<RoleClient> {
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(parameters(tool, arguments)));
        let options = PeerRequestOptions::no_options();
        self.peer().send_cancellable_request(request, options).await.expect("the request is sent")
    }

    /// Everything else that a client may ask.
    pub(crate) fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    /// The process id of a server behind stdio.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("a server behind stdio").pid()
    }

    /// What a server behind stdio has logged.
    pub(crate) fn stderr(&self) -> String {
        self.process.as_ref().map(ServerProcess::stderr).unwrap_or_default()
    }
}

fn parameters(tool: &str, arguments: Value) -> CallToolRequestParams {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments)
}

fn discover() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

fn era(newer: bool) -> ClientLifecycleMode {
    if newer { discover() } else { ClientLifecycleMode::Initialize }
}

async fn serve<T, E, A>(transport: T, lifecycle: ClientLifecycleMode, human: Human) -> RunningService<RoleClient, Human>
where
    T: IntoTransport<RoleClient, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    let service = bounded("the handshake", human.serve_with_lifecycle(transport, lifecycle)).await;
    service.expect("the handshake succeeds")
}
