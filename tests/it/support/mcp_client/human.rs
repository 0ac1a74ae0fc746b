//! The person at the client, who answers what the server asks.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{
        ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationCapability,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

/// What the person does with a question.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    /// Sends the form with this.
    Accept(Value),
    /// Thinks for so long, and sends the form with this.
    Thinks(Duration, Value),
    /// Sends each form with what stands here at its place; then closes them.
    Each(Vec<Value>),
    Decline,
    Cancel,
    /// Is away for good.
    Nothing,
}

/// Answers questions, or belongs to a client that shows none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Human {
    does: Option<Does>,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Human {
    pub(crate) fn who(does: Does) -> Self {
        Self { does: Some(does), asked: Arc::default() }
    }

    /// Says yes to a form that asks for trust.
    pub(crate) fn who_trusts() -> Self {
        Self::who(Does::Accept(json!({"trust": true})))
    }

    /// The questions so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("no panic").clone()
    }
}

impl ClientHandler for Human {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        let capability = self.does.as_ref().map(|_| ElicitationCapability::default());
        info.capabilities = ClientCapabilities::default();
        info.capabilities.elicitation = capability;
        info
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let before = {
            let mut asked = self.asked.lock().expect("no panic");
            asked.push(json!(request));
            asked.len() - 1
        };
        match self.does.clone() {
            Some(Does::Each(contents)) => Ok(match contents.get(before) {
                Some(content) => ElicitResult::new(ElicitationAction::Accept).with_content(content.clone()),
                None => ElicitResult::new(ElicitationAction::Cancel),
            }),
            Some(Does::Accept(content)) => Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content)),
            Some(Does::Thinks(time, content)) => {
                tokio::time::sleep(time).await;
                Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
            }
            Some(Does::Cancel) => Ok(ElicitResult::new(ElicitationAction::Cancel)),
            Some(Does::Nothing) => std::future::pending().await,
            Some(Does::Decline) | None => Ok(ElicitResult::new(ElicitationAction::Decline)),
        }
    }
}
