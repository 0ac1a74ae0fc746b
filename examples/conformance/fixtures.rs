//! What the suite expects to find, as data.

use std::collections::BTreeMap;

use rmcp::model::{
    ContentBlock, ElicitRequestParams, Prompt, PromptMessage, Resource, ResourceContents, ResourceTemplate, Tool,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::rounds::Rounds;

/// The content of `fixtures.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fixtures {
    pub(crate) tools: Vec<Tool>,
    /// Tools that always give the same blocks.
    pub(crate) answers: BTreeMap<String, Vec<ContentBlock>>,
    /// What tools ask the user, up to 2025-11-25.
    elicitations: BTreeMap<String, Value>,
    /// Tools and prompts that answer with questions, from 2026-07-28.
    pub(crate) rounds: BTreeMap<String, Rounds>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) templates: Vec<ResourceTemplate>,
    /// By address, or by the template of an address.
    contents: BTreeMap<String, Value>,
    pub(crate) prompts: Vec<Prompt>,
    messages: BTreeMap<String, Value>,
    pub(crate) completions: Vec<String>,
}

impl Fixtures {
    pub(crate) fn read() -> serde_json::Result<Self> {
        serde_json::from_str(include_str!("fixtures.json"))
    }

    pub(crate) fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    pub(crate) fn elicitation(&self, tool: &str, arguments: &Map<String, Value>) -> Option<ElicitRequestParams> {
        filled(self.elicitations.get(tool)?, arguments)
    }

    pub(crate) fn messages(&self, prompt: &str, arguments: &Map<String, Value>) -> Option<Vec<PromptMessage>> {
        filled(self.messages.get(prompt)?, arguments)
    }

    pub(crate) fn contents(&self, address: &str) -> Option<ResourceContents> {
        if let Some(contents) = self.contents.get(address) {
            return filled(contents, &Map::new());
        }
        self.contents.iter().find_map(|(template, contents)| {
            let (before, after) = template.split_once("{id}")?;
            let id = address.strip_prefix(before)?.strip_suffix(after)?;
            filled(contents, &Map::from_iter([("id".to_owned(), id.into())]))
        })
    }
}

/// Puts the arguments in the place of their names in braces.
fn filled<T: DeserializeOwned>(template: &Value, arguments: &Map<String, Value>) -> Option<T> {
    let mut value = template.clone();
    fill(&mut value, arguments);
    serde_json::from_value(value).ok()
}

fn fill(value: &mut Value, arguments: &Map<String, Value>) {
    match value {
        Value::String(text) => {
            let texts = arguments.iter().filter_map(|(name, argument)| Some((name, argument.as_str()?)));
            *text = texts
                .fold(std::mem::take(text), |text, (name, argument)| text.replace(&format!("{{{name}}}"), argument));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, arguments)),
        Value::Object(members) => members.values_mut().for_each(|value| fill(value, arguments)),
        _ => {}
    }
}
