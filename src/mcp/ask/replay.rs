//! Questions of 2026-07-28: the call ends with one, and the retry carries the answer.
//!
//! The client keeps what we have to remember, sealed: which question was put, and what about. The
//! seal binds it to the principal and to the very call. Nobody else's answer, nor one that was given
//! for other arguments, opens.

use std::collections::BTreeMap;

use rmcp::model::{
    CallToolRequestParams, ElicitRequest, ElicitResult, InputRequest, InputRequiredResult, InputResponses,
    RequestStateCodec, RequestStateError, SealOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{ASK_LIMIT, NoConsent, Question, form};
use crate::ssh::ids::Owner;

/// The key of all seals, of this process alone. After a restart a question is put again.
#[derive(Clone, Debug)]
pub struct Seals(RequestStateCodec);

impl Default for Seals {
    fn default() -> Self {
        // Four times 122 random bits: more than the 256 that the seal has.
        let key = [(); 4].map(|()| uuid::Uuid::new_v4().into_bytes()).concat();
        Self(RequestStateCodec::new_unchecked(key))
    }
}

/// What is sealed.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    key: String,
    about: String,
}

/// A call, as far as it may be the repetition of one that asked.
#[derive(Debug)]
pub(in crate::mcp) struct Retry<'a> {
    seals: &'a Seals,
    /// Principal, tool and arguments.
    call: Vec<u8>,
    state: Option<String>,
    responses: InputResponses,
}

impl<'a> Retry<'a> {
    pub(in crate::mcp) fn new(seals: &'a Seals, owner: &Owner, request: &CallToolRequestParams) -> Self {
        let call = json!([owner.to_string(), request.name, request.arguments]).to_string().into_bytes();
        let (state, responses) = (request.request_state.clone(), request.input_responses.clone());
        Self { seals, call, state, responses: responses.unwrap_or_default() }
    }

    /// What the client gave with the call. A seal that does not open is as good as none.
    pub(super) fn open(&self) -> Given {
        let Some(state) = &self.state else { return Given::default() };
        let (asked, expired) = match self.seals.0.open_json_with::<Asked>(state, &self.call) {
            Ok(asked) => (Some(asked), false),
            Err(error) => (None, matches!(error, RequestStateError::Expired)),
        };
        let asked = asked.map(|Asked { key, about }| {
            let answer = self.responses.get(&key).cloned();
            (key, about, answer)
        });
        Given { asked, expired }
    }

    /// The result that puts the question to the client.
    pub(in crate::mcp) fn put(&self, question: &Question) -> InputRequiredResult {
        let asked = Asked { key: question.key.into(), about: question.about.clone() };
        let options = SealOptions::new().associated_data(&self.call).ttl(ASK_LIMIT);
        let state = self.seals.0.seal_json_with(&asked, &options).ok();
        let request = InputRequest::Elicitation(ElicitRequest::new(form(question)));
        InputRequiredResult::new(Some(BTreeMap::from([(question.key.to_owned(), request)])), state)
    }
}

/// What came with a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// Key and subject of the question that was put, and the answer.
    asked: Option<(String, String, Option<Value>)>,
    expired: bool,
}

impl Given {
    /// The answer to this question; none where it has to be put.
    pub(super) fn answer_to(&self, question: &Question) -> Option<Result<ElicitResult, NoConsent>> {
        if self.expired {
            return Some(Err(NoConsent::TimedOut));
        }
        let (_, about, answer) = self.asked.as_ref().filter(|(key, ..)| key == question.key)?;
        if *about != question.about {
            return Some(Err(NoConsent::OtherThing));
        }
        // An answer that is none: the client has nobody to ask.
        let answer = serde_json::from_value(answer.clone().unwrap_or_default());
        Some(answer.map_err(|_| NoConsent::CannotAsk))
    }
}

/// Where a question comes out that ends its call.
#[derive(Debug)]
pub(in crate::mcp) struct Suspended(mpsc::Receiver<Question>);

impl Suspended {
    pub(super) fn channel() -> (mpsc::Sender<Question>, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self(receiver))
    }

    /// Waits for a question; for ever where none can come.
    pub(in crate::mcp) async fn question(&mut self) -> Question {
        match self.0.recv().await {
            Some(question) => question,
            None => std::future::pending().await,
        }
    }
}
