//! The MCP server that the suite talks to.

#![expect(deprecated, reason = "the suite tests logging and subscriptions up to 2025-11-25")]

use std::sync::{Arc, Mutex, PoisonError};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CompletionInfo,
        GetPromptRequestParams, GetPromptResponse, GetPromptResult, Implementation, ListPromptsResult,
        ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel, PaginatedRequestParams,
        PromptMessage, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, RequestStateCodec, Role,
        ServerCapabilities, ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool,
        UnsubscribeRequestParams,
    },
    service::{RequestContext, SubscriptionContext},
};
use serde_json::json;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::{
    fixtures::Fixtures,
    rounds::{Next, Retry},
};

/// Changes that may wait for a slow listener.
const CHANGES: usize = 16;

/// A list that has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Tools,
    Prompts,
}

/// A server with the suite's fixtures.
pub(crate) struct Suite {
    fixtures: Arc<Fixtures>,
    codec: Arc<RequestStateCodec>,
    changes: broadcast::Sender<Change>,
    /// Of this connection.
    level: Mutex<LoggingLevel>,
}

/// A clone serves another connection.
impl Clone for Suite {
    fn clone(&self) -> Self {
        let (fixtures, codec, changes) = (self.fixtures.clone(), self.codec.clone(), self.changes.clone());
        Self { fixtures, codec, changes, level: Mutex::new(LoggingLevel::Debug) }
    }
}

impl Suite {
    pub(crate) fn new(fixtures: Fixtures) -> Self {
        // Two random ids: 244 bits.
        let key = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        Self {
            fixtures: Arc::new(fixtures),
            codec: Arc::new(RequestStateCodec::new(key)),
            changes: broadcast::Sender::new(CHANGES),
            level: Mutex::new(LoggingLevel::Debug),
        }
    }

    pub(crate) fn fixtures(&self) -> &Fixtures {
        &self.fixtures
    }

    pub(crate) fn log_level(&self) -> LoggingLevel {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn announce(&self, change: Change) {
        // Nobody may be listening.
        let _ = self.changes.send(change);
    }

    /// What comes next where `name` answers with questions.
    pub(crate) fn next_round(
        &self,
        name: &str,
        retry: &Retry,
        context: &RequestContext<RoleServer>,
    ) -> Result<Option<Next>, ErrorData> {
        let client = context.client_capabilities().unwrap_or_default();
        let rounds = self.fixtures.rounds.get(name);
        rounds.map(|rounds| rounds.next(name, &self.codec, retry, &client)).transpose()
    }
}

impl ServerHandler for Suite {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_completions()
            .enable_logging()
            .build();
        let mut info = ServerConfig::new(capabilities);
        info.server_info = Implementation::new("ssh-mcp-conformance", env!("CARGO_PKG_VERSION"));
        info
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.fixtures.tools.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.fixtures.tool(name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.call(request, &context).await
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(self.fixtures.resources.clone()))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(self.fixtures.templates.clone()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let contents = self.fixtures.contents(&request.uri).ok_or_else(|| not_found(&request.uri))?;
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        // Nothing here changes, so nothing is kept.
        self.fixtures.contents(&request.uri).map(drop).ok_or_else(|| not_found(&request.uri))
    }

    async fn unsubscribe(
        &self,
        _request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.changes.subscribe();
        loop {
            let change = tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            // What the client did not ask for is refused by the sink.
            let _ = match change {
                Ok(Change::Tools) => context.sink().notify_tool_list_changed().await,
                Ok(Change::Prompts) => context.sink().notify_prompt_list_changed().await,
                Err(broadcast::error::RecvError::Lagged(_)) => Ok(()),
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            };
        }
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(self.fixtures.prompts.clone()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let retry = Retry { responses: request.input_responses, state: request.request_state };
        match self.next_round(&request.name, &retry, &context)? {
            Some(Next::Ask(question)) => return Ok(question.into()),
            Some(Next::Answer(answer)) => {
                return Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, answer)]).into());
            }
            None => {}
        }
        let messages = self.fixtures.messages(&request.name, &request.arguments.unwrap_or_default());
        let messages = messages.ok_or_else(|| ErrorData::invalid_params("unknown prompt", None))?;
        Ok(GetPromptResult::new(messages).into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let known = self.fixtures.completions.iter();
        let values = known.filter(|value| value.starts_with(&request.argument.value)).cloned().collect();
        let completion = CompletionInfo::with_all_values(values);
        Ok(CompleteResult::new(completion.map_err(|error| ErrorData::internal_error(error, None))?))
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = request.level;
        Ok(())
    }
}

fn not_found(address: &str) -> ErrorData {
    ErrorData::resource_not_found("Resource not found", Some(json!({"uri": address})))
}
