//! The tools that do something.

#![expect(deprecated, reason = "the suite tests logging and sampling up to 2025-11-25")]

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientResult, ContentBlock,
        CreateMessageRequestParams, ElicitRequest, JsonObject, LoggingLevel, LoggingMessageNotificationParam,
        ProgressNotificationParam, ProtocolVersion, ServerRequest,
    },
    service::RequestContext,
};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    rounds::{Next, Retry},
    server::{Change, Suite},
};

/// Between two messages of a tool, as the suite describes it.
const PAUSE: Duration = Duration::from_millis(50);

type Context = RequestContext<RoleServer>;

impl Suite {
    pub(crate) async fn call(
        &self,
        request: CallToolRequestParams,
        context: &Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let CallToolRequestParams { name, arguments, input_responses, request_state, .. } = request;
        let arguments = arguments.unwrap_or_default();
        if let Some(blocks) = self.fixtures().answers.get(&*name) {
            return Ok(CallToolResult::success(blocks.clone()).into());
        }
        match &*name {
            "test_tool_with_progress" | "test_streaming_elicitation" => progress(context).await,
            "test_tool_with_logging" | "test_logging_tool" => self.log(context).await,
            "test_trigger_tool_change" => self.announce(Change::Tools),
            "test_trigger_prompt_change" => self.announce(Change::Prompts),
            _ => {}
        }
        let retry = Retry { responses: input_responses, state: request_state };
        if let Some(next) = self.next_round(&name, &retry, context)? {
            return Ok(match next {
                Next::Ask(question) => question.into(),
                Next::Answer(answer) => text(answer),
            });
        }
        match &*name {
            "test_error_handling" => {
                let why = ContentBlock::text("This tool intentionally returns an error for testing");
                Ok(CallToolResult::error(vec![why]).into())
            }
            "test_missing_capability" => Err(ErrorData::missing_required_client_capability(
                ClientCapabilities::builder().enable_sampling().build(),
            )),
            "test_sampling" => Ok(sample(&arguments, context).await),
            "test_elicitation" | "test_elicitation_sep1034_defaults" | "test_elicitation_sep1330_enums" => {
                Ok(self.elicit(&name, &arguments, context).await)
            }
            known if self.fixtures().tool(known).is_some() => Ok(text("Done.")),
            _ => Err(ErrorData::invalid_params("unknown tool", None)),
        }
    }

    /// Tells the client, unless it wants less or, since 2026-07-28, has not asked for it.
    async fn log(&self, context: &Context) {
        let modern = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        let wanted = if modern { context.meta.log_level() } else { Some(self.log_level()) };
        let messages = ["Tool execution started", "Tool processing data", "Tool execution completed"];
        for (n, message) in messages.into_iter().enumerate() {
            if n > 0 {
                sleep(PAUSE).await;
            }
            // Their order is that of severity.
            if wanted.is_some_and(|wanted| wanted as u8 <= LoggingLevel::Info as u8) {
                let param = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(message));
                let _ = context.peer.notify_logging_message(param).await;
            }
        }
    }

    async fn elicit(&self, name: &str, arguments: &JsonObject, context: &Context) -> CallToolResponse {
        if context.client_capabilities().is_none_or(|client| client.elicitation.is_none()) {
            return failed("the client does not elicit");
        }
        let Some(question) = self.fixtures().elicitation(name, arguments) else {
            return failed("no such question");
        };
        match context.peer.send_request(ServerRequest::ElicitRequest(ElicitRequest::new(question))).await {
            Ok(ClientResult::ElicitResult(result)) => {
                let action = json!(result.action);
                let content = result.content.unwrap_or_default();
                let said = if name == "test_elicitation" { "User response:" } else { "Elicitation completed:" };
                text(format!("{said} action={}, content={content}", action.as_str().unwrap_or_default()))
            }
            Ok(_) => failed("not the answer to a question"),
            Err(error) => failed(error),
        }
    }
}

async fn progress(context: &Context) {
    for (n, done) in [0.0, 50.0, 100.0].into_iter().enumerate() {
        if n > 0 {
            sleep(PAUSE).await;
        }
        if let Some(token) = context.meta.get_progress_token() {
            let param = ProgressNotificationParam::new(token, done).with_total(100.0);
            let _ = context.peer.notify_progress(param).await;
        }
    }
}

async fn sample(arguments: &JsonObject, context: &Context) -> CallToolResponse {
    if context.client_capabilities().is_none_or(|client| client.sampling.is_none()) {
        return failed("the client does not sample");
    }
    let question = json!({"role": "user", "content": {"type": "text", "text": arguments.get("prompt")}});
    let params: CreateMessageRequestParams =
        match serde_json::from_value(json!({"messages": [question], "maxTokens": 100})) {
            Ok(params) => params,
            Err(error) => return failed(error),
        };
    match context.peer.create_message(params).await {
        Ok(result) => {
            let content = json!(result.message.content);
            text(format!("LLM response: {}", content["text"].as_str().unwrap_or_default()))
        }
        Err(error) => failed(error),
    }
}

fn text(text: impl Into<String>) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(text)]).into()
}

fn failed(why: impl std::fmt::Display) -> CallToolResponse {
    CallToolResult::error(vec![ContentBlock::text(why.to_string())]).into()
}
