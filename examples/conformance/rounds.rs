//! Requests that are answered with questions (2026-07-28): the client asks its user or its model, and sends the request
//! again with what it learned and with the state that it was given.

use std::collections::BTreeMap;

use rmcp::{
    ErrorData,
    model::{
        ClientCapabilities, InputRequest, InputRequests, InputRequiredResult, InputResponses, RequestStateCodec,
        SealOptions,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The questions of one tool or prompt, and its answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rounds {
    ask: Vec<InputRequests>,
    /// Whether what is known after each round travels with the client, sealed.
    #[serde(default)]
    sealed: bool,
    /// What was learned stands in it by its key, in braces.
    answer: String,
}

/// What comes next.
pub(crate) enum Next {
    Ask(InputRequiredResult),
    Answer(String),
}

/// What a client sends when it tries again.
#[derive(Default)]
pub(crate) struct Retry {
    pub(crate) responses: Option<InputResponses>,
    pub(crate) state: Option<String>,
}

/// What travels with the client.
#[derive(Debug, Default, Deserialize, Serialize)]
struct State {
    round: usize,
    learned: BTreeMap<String, String>,
}

impl Rounds {
    /// `name` is the tool's or the prompt's: the state of one is none of another.
    pub(crate) fn next(
        &self,
        name: &str,
        codec: &RequestStateCodec,
        retry: &Retry,
        client: &ClientCapabilities,
    ) -> Result<Next, ErrorData> {
        let mut state = match &retry.state {
            Some(sealed) if self.sealed => open(codec, name, sealed)?,
            _ => State::default(),
        };
        let can_be_asked = |round: usize| -> InputRequests {
            let requests = self.ask.get(round).into_iter().flatten();
            let declared = requests.filter(|(_, request)| is_declared(request, client));
            declared.map(|(key, request)| (key.clone(), request.clone())).collect()
        };
        let asked = can_be_asked(state.round);
        if asked.is_empty() {
            return Err(ErrorData::missing_required_client_capability(needed(self.ask.get(state.round))));
        }
        let none = InputResponses::new();
        let responses = retry.responses.as_ref().unwrap_or(&none);
        let learned: BTreeMap<_, _> = asked
            .iter()
            .filter_map(|(key, request)| Some((key.clone(), said(request, responses.get(key)?)?)))
            .collect();
        // A state that is sealed and missing was never given: the answers belong to no question of ours.
        let answered = learned.len() == asked.len() && (!self.sealed || retry.state.is_some());
        if !answered {
            return Ok(Next::Ask(self.question(name, codec, asked, &state)?));
        }
        state.learned.extend(learned);
        state.round += 1;
        if state.round < self.ask.len() {
            return Ok(Next::Ask(self.question(name, codec, can_be_asked(state.round), &state)?));
        }
        let fill = |text: String, (key, value): (&String, &String)| text.replace(&format!("{{{key}}}"), value);
        Ok(Next::Answer(state.learned.iter().fold(self.answer.clone(), fill)))
    }

    fn question(
        &self,
        name: &str,
        codec: &RequestStateCodec,
        requests: InputRequests,
        state: &State,
    ) -> Result<InputRequiredResult, ErrorData> {
        let seal = || codec.seal_json_with(state, &SealOptions::new().associated_data(name.as_bytes()));
        let state = self.sealed.then(seal).transpose();
        let state = state.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(InputRequiredResult::new(Some(requests), state))
    }
}

fn open(codec: &RequestStateCodec, name: &str, sealed: &str) -> Result<State, ErrorData> {
    codec.open_json_with(sealed, name.as_bytes()).map_err(|error| ErrorData::invalid_params(error.to_string(), None))
}

fn is_declared(request: &InputRequest, client: &ClientCapabilities) -> bool {
    match request {
        InputRequest::CreateMessage(_) => client.sampling.is_some(),
        InputRequest::Elicitation(_) => client.elicitation.is_some(),
        InputRequest::ListRoots(_) => client.roots.is_some(),
        _ => false,
    }
}

/// What a client has to declare to be asked this.
fn needed(requests: Option<&InputRequests>) -> ClientCapabilities {
    let mut needed = ClientCapabilities::default();
    for request in requests.into_iter().flat_map(InputRequests::values) {
        match request {
            InputRequest::CreateMessage(_) => needed.sampling = Some(Default::default()),
            InputRequest::Elicitation(_) => needed.elicitation = Some(Default::default()),
            InputRequest::ListRoots(_) => needed.roots = Some(Default::default()),
            _ => {}
        }
    }
    needed
}

/// What a response says, if it is an answer to the request.
fn said(request: &InputRequest, response: &Value) -> Option<String> {
    match request {
        InputRequest::CreateMessage(_) => response.pointer("/content/text")?.as_str().map(str::to_owned),
        InputRequest::Elicitation(_) if response["action"] == "accept" => {
            let request = serde_json::to_value(request).ok()?;
            let required = request.pointer("/params/requestedSchema/required")?.as_array()?;
            let values = required.iter().map(|key| response["content"].get(key.as_str()?).map(shown));
            Some(values.collect::<Option<Vec<_>>>()?.join(", "))
        }
        InputRequest::ListRoots(_) => {
            let roots = response["roots"].as_array()?;
            Some(roots.iter().map(|root| shown(&root["uri"])).collect::<Vec<_>>().join(", "))
        }
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
