//! The MCP server: find, parse, call, render, once for all tools.

use std::{sync::Arc, time::Instant};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult, ContentBlock,
        CustomRequest, CustomResult, ErrorCode, Implementation, ListPromptsRequestMethod, ListPromptsResult,
        ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProtocolVersion,
        ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig, SubscribeRequestParams,
        SubscriptionFilter, UnsubscribeRequestParams,
    },
    service::{RequestContext, SubscriptionContext},
};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::context::TokioContext;
use tracing::debug;

use super::{
    arguments,
    ask::{Asker, Retry, Seals},
    commands::{
        self,
        tool::{Call, Tool},
    },
    failure::{Failure, shown},
    resources::{self, MAX_SUBSCRIPTIONS, Subscriptions, Uri},
    schema::Object,
    texts::Numbers,
};
use crate::{
    app::{App, Awaited, Error, Waiter},
    ssh::ids::Owner,
};

mod guard;
mod progress;

/// The first of the codes that JSON-RPC leaves to servers.
const SERVER_ERROR: ErrorCode = ErrorCode(-32_000);

/// Methods that rmcp knows. A request for one of them that it cannot read has bad parameters; any
/// other method does not exist.
const METHODS: [&str; 12] = [
    "initialize",
    "server/discover",
    "ping",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "completion/complete",
    "subscriptions/listen",
];

/// Those of them that 2026-07-28 has removed.
const REMOVED_METHODS: [&str; 4] = ["initialize", "ping", "resources/subscribe", "resources/unsubscribe"];

/// One MCP server over the shared state; cloned per connection.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    /// Whose calls these are where the transport names nobody.
    owner: Owner,
    /// Built once: schemas are derived here and never again.
    table: Arc<Table>,
    /// Of this connection; they end when the connection drops its server.
    subscriptions: Subscriptions,
    /// Where calls spawn what they start: sessions, commands, forwards.
    core: Option<Handle>,
}

/// A clone serves another connection: it has no subscriptions.
impl Clone for Server {
    fn clone(&self) -> Self {
        let Self { app, owner, table, core, .. } = self;
        let (app, owner, table, core) = (Arc::clone(app), owner.clone(), Arc::clone(table), core.clone());
        Self { app, owner, table, subscriptions: Subscriptions::default(), core }
    }
}

#[derive(Debug)]
struct Table {
    tools: Vec<Tool>,
    listed: Vec<rmcp::model::Tool>,
    instructions: String,
    seals: Seals,
}

impl Server {
    /// A server whose calls belong to `owner`, unless a transport put another [`Owner`] into the
    /// extensions of the HTTP request. Derives every schema: build one and clone it.
    #[must_use]
    pub fn new(app: Arc<App>, owner: Owner) -> Self {
        let numbers = Numbers::from(app.settings());
        let tools = commands::tools();
        let listed = tools.iter().map(|tool| tool.listed(&numbers)).collect();
        let table = Arc::new(Table { tools, listed, instructions: numbers.instructions(), seals: Seals::default() });
        Self { app, owner, table, subscriptions: Subscriptions::default(), core: None }
    }

    /// What calls start runs there, and not where they are answered: output that floods in holds up no answer.
    #[must_use]
    pub fn working_on(self, core: Handle) -> Self {
        Self { core: Some(core), ..self }
    }

    fn owner_of(&self, context: &RequestContext<RoleServer>) -> Owner {
        let parts = context.extensions.get::<http::request::Parts>();
        parts.and_then(|parts| parts.extensions.get::<Owner>()).unwrap_or(&self.owner).clone()
    }

    /// The answer to `tools/call`, or the question that has to be answered first.
    async fn answer_or_ask(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // A call is kept to the letter where it may be repeated with an answer, and nowhere else.
        if !self.table.tools.iter().any(|tool| tool.asks && tool.name == request.name) {
            let arguments = request.arguments.map_or(Value::Null, Value::Object);
            return Ok(self.answer(&request.name, arguments, Asker::nobody(), context).await?.into());
        }
        let retry = Retry::new(&self.table.seals, &self.owner_of(context), &request);
        let (asker, mut suspended) = Asker::of(context, &retry);
        let arguments = request.arguments.map_or(Value::Null, Value::Object);
        tokio::select! {
            answer = self.answer(&request.name, arguments, asker, context) => Ok(answer?.into()),
            question = suspended.question() => {
                debug!(tool = %request.name, question = question.key, "the call waits for its user");
                Ok(retry.put(&question).into())
            }
        }
    }

    /// The answer to `tools/call`, whatever `arguments` are.
    async fn answer(
        &self,
        name: &str,
        arguments: Value,
        asker: Asker,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let tool = self.table.tools.iter().find(|tool| tool.name == name).ok_or_else(|| unknown_tool(name))?;
        let started = Instant::now();
        // Held until the answer is there.
        let place = self.app.begin_call(&self.owner_of(context));
        let outcome = match place.as_ref().map_err(|full| full.clone().into()).and_then(|_| read(tool, arguments)) {
            Ok(arguments) => {
                let command = Awaited::default();
                progress::reported(context, &command, self.run(tool, arguments, asker, &command, context)).await
            }
            Err(failure) => Err(failure),
        };
        let code = outcome.as_ref().err().map_or("ok", |failure| failure.code.as_str());
        debug!(tool = tool.name, code, ms = started.elapsed().as_millis(), "called");
        Ok(render(outcome))
    }

    async fn run(
        &self,
        tool: &Tool,
        arguments: Object,
        asker: Asker,
        command: &Awaited,
        context: &RequestContext<RoleServer>,
    ) -> Result<Object, Failure> {
        let cancel = context.ct.clone();
        let waiter = Waiter { cancel: cancel.clone(), command: command.clone() };
        let call = Call { app: Arc::clone(&self.app), owner: self.owner_of(context), waiter, asker };
        let given_up = (!tool.cancels_itself).then_some(cancel);
        let answer = tool.run(call, arguments);
        let answer = match &self.core {
            // The call itself stays on its task, see `guard`.
            Some(core) => Box::pin(TokioContext::new(answer, core.clone())),
            None => answer,
        };
        guard::guarded(answer, given_up, self.app.settings().answers.limit).await
    }
}

fn read(tool: &Tool, arguments: Value) -> Result<Object, Failure> {
    match arguments {
        Value::Null => tool.read(Object::new()),
        Value::Object(arguments) => tool.read(arguments),
        other => Err(arguments::failure(&[arguments::not_an_object(&other)])),
    }
}

/// Both places of a result hold the same JSON: some clients show one, some the other.
fn render(outcome: Result<Object, Failure>) -> CallToolResult {
    let failed = outcome.is_err();
    let value = Value::Object(outcome.unwrap_or_else(Failure::into_object));
    let text = vec![ContentBlock::text(value.to_string())];
    let mut result = if failed { CallToolResult::error(text) } else { CallToolResult::success(text) };
    result.structured_content = Some(value);
    result
}

/// A request that has no result to say it in.
fn busy(full: Error) -> ErrorData {
    let failure = Failure::from(full);
    let message = failure.message.clone();
    ErrorData::new(SERVER_ERROR, message, Some(Value::Object(failure.into_object())))
}

fn unknown_tool(name: &str) -> ErrorData {
    ErrorData::invalid_params(format!("unknown tool {}; tools/list names the tools", shown(name)), None)
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_completions()
            .build();
        if let Some(tools) = capabilities.tools.as_mut() {
            tools.list_changed = Some(false);
        }
        let mut info = ServerConfig::new(capabilities).with_instructions(self.table.instructions.clone());
        info.server_info = Implementation::new("ssh-mcp", env!("CARGO_PKG_VERSION"));
        info
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.table.listed.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<rmcp::model::Tool> {
        self.table.listed.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // On the heap: rmcp moves the future that holds it about, three times for each request.
        Box::pin(self.answer_or_ask(request, &context)).await
    }

    /// What rmcp could not read ends here. Arguments that are no object are the model's mistake and
    /// have to reach it as a result.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let CustomRequest { method, params, .. } = request;
        let modern = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        let removed = modern && REMOVED_METHODS.contains(&method.as_str());
        if removed || !METHODS.contains(&method.as_str()) {
            return Err(ErrorData::new(
                ErrorCode::METHOD_NOT_FOUND,
                format!("unknown method {}", shown(&method)),
                None,
            ));
        }
        let bad = || ErrorData::invalid_params(format!("parameters of {method} cannot be read"), None);
        let Some(Value::Object(mut params)) = params else {
            return Err(bad());
        };
        match (method.as_str(), params.remove("name"), params.remove("arguments")) {
            ("tools/call", Some(Value::String(name)), Some(arguments)) if !arguments.is_object() => {
                // Refused for its arguments: nobody is asked anything.
                let mut result = self.answer(&name, arguments, Asker::nobody(), &context).await?;
                // rmcp does this for the results that it knows: the field is of 2026-07-28.
                if !modern {
                    result.result_type = None;
                }
                serde_json::to_value(result).map(CustomResult::new).map_err(|_| bad())
            }
            _ => Err(bad()),
        }
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let owner = self.owner_of(&context);
        let _place = self.app.begin_call(&owner).map_err(busy)?;
        resources::list(&self.app, &owner).await
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(resources::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let owner = self.owner_of(&context);
        let _place = self.app.begin_call(&owner).map_err(busy)?;
        Ok(resources::read(&self.app, &owner, &request.uri).await?.into())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let owner = self.owner_of(&context);
        let _place = self.app.begin_call(&owner).map_err(busy)?;
        self.subscriptions.add(&self.app, &owner, request.uri, context.peer)
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.subscriptions.remove(&request.uri);
        Ok(())
    }

    /// What 2026-07-28 has in place of subscribe. Whose commands they are is seen in `listen`.
    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let addresses = requested.resource_subscriptions.iter().flatten();
        let ours = addresses.filter(|address| Uri::parse(address).is_some()).take(MAX_SUBSCRIPTIONS);
        Some(SubscriptionFilter::builder().resource_subscriptions(ours).build())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let owner = self.owner_of(context.request_context());
        resources::follow_all(&self.app, &owner, &context).await;
        Ok(())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let found = resources::complete(&self.app, &self.owner_of(&context), &request).await?;
        Ok(CompleteResult::new(found))
    }

    // rmcp answers the following with an empty result though we declare no prompts.

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListPromptsRequestMethod>())
    }
}
