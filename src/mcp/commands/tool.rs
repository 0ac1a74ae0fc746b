//! A tool is a row and a handler that knows neither transport nor policy.

use std::{fmt, pin::Pin, sync::Arc};

use rmcp::model::ToolAnnotations;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    app::{App, Waiter},
    error::Code,
    mcp::{
        arguments::{self, Param},
        ask::Asker,
        failure::Failure,
        schema::{self, Object},
        texts::Numbers,
    },
    ssh::ids::Owner,
};

/// The first of these in a result marks the end of its small fields.
const LONG_FIELDS: [&str; 8] = ["error", "command", "commands", "sessions", "hosts", "resolved", "stderr", "stdout"];

/// What a tool does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It looks.
    ReadOnly,
    /// It adds something that was not there.
    Additive,
    /// It may change or end what is there.
    Destructive,
}

/// Who calls, on what state, and until when.
#[derive(Clone, Debug)]
pub struct Call {
    /// The state.
    pub app: Arc<App>,
    /// The principal, verified by the transport.
    pub owner: Owner,
    /// The caller as it waits: it may give up, and may look at what it waits for.
    pub waiter: Waiter,
    /// The human at the client.
    pub asker: Asker,
}

/// What a handler answers.
#[derive(Clone, Debug)]
pub struct Reply<T> {
    body: T,
    hint: Option<String>,
    notices: Vec<String>,
}

impl<T> From<T> for Reply<T> {
    fn from(body: T) -> Self {
        Self { body, hint: None, notices: Vec::new() }
    }
}

impl<T> Reply<T> {
    /// Adds the one next step.
    #[must_use]
    pub fn hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// Adds what the caller should know: a clamp, a warning.
    #[must_use]
    pub fn notices(mut self, notices: Vec<String>) -> Self {
        self.notices.extend(notices);
        self
    }
}

impl<T: Serialize> Reply<T> {
    /// The wire form: hint and notices stand before the long fields, so a client that shows only the
    /// beginning of a result shows them.
    ///
    /// # Errors
    ///
    /// `internal` where the body is no JSON object.
    pub fn into_object(self) -> Result<Object, Failure> {
        let Ok(Value::Object(mut object)) = serde_json::to_value(self.body) else {
            return Err(Failure::new(Code::Internal, "the result could not be written", "Report this as a bug."));
        };
        let mut at = object.keys().position(|key| LONG_FIELDS.contains(&key.as_str())).unwrap_or(object.len());
        if let Some(hint) = self.hint {
            object.shift_insert(at, "hint".into(), hint.into());
            at += 1;
        }
        if !self.notices.is_empty() {
            object.shift_insert(at, "notices".into(), json!(self.notices));
        }
        Ok(object)
    }
}

/// A call on its way.
pub type Answer = Pin<Box<dyn Future<Output = Result<Object, Failure>> + Send>>;

type Handler = Box<dyn Fn(Call, Object) -> Answer + Send + Sync>;

/// A row of the table of tools.
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// Its title for people.
    pub title: &'static str,
    /// What it does, for agents; numbers of the settings are still names.
    pub description: &'static str,
    /// What it does to the world.
    pub access: Access,
    /// Calling it twice with the same arguments changes nothing more.
    pub idempotent: bool,
    /// It reaches out to other machines.
    pub open_world: bool,
    /// Its verb takes the cancellation of the call itself and tidies up; others are dropped.
    pub cancels_itself: bool,
    /// It may have a question for the human before it can be answered.
    pub asks: bool,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Schema of its parameters, with texts and marks.
    pub input: Object,
    /// Schema of its result, with texts.
    pub output: Object,
    handler: Handler,
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("name", &self.name).field("access", &self.access).finish_non_exhaustive()
    }
}

impl Tool {
    /// A row: parameters and result are those of the handler.
    #[must_use]
    pub fn new<P, R, F>(name: &'static str, access: Access, handler: fn(Call, P) -> F) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        R: Serialize + JsonSchema + 'static,
        F: Future<Output = Result<Reply<R>, Failure>> + Send + 'static,
    {
        let input = schema::whole::<P>();
        Self {
            name,
            title: "",
            description: "",
            access,
            // Looking twice is looking once.
            idempotent: access == Access::ReadOnly,
            open_world: false,
            cancels_itself: false,
            asks: false,
            params: Param::all(&input),
            input,
            output: schema::whole::<R>(),
            handler: Box::new(move |call, arguments| Box::pin(run(handler, call, arguments))),
        }
    }

    /// Sets title and description.
    #[must_use]
    pub fn text(self, title: &'static str, description: &'static str) -> Self {
        Self { title, description, ..self }
    }

    /// A second call with the same arguments changes nothing more.
    #[must_use]
    pub fn idempotent(self) -> Self {
        Self { idempotent: true, ..self }
    }

    /// It reaches out to other machines.
    #[must_use]
    pub fn open_world(self) -> Self {
        Self { open_world: true, ..self }
    }

    /// Its verb takes the cancellation of the call itself.
    #[must_use]
    pub fn cancels_itself(self) -> Self {
        Self { cancels_itself: true, ..self }
    }

    /// It may have a question for the human.
    #[must_use]
    pub fn asks(self) -> Self {
        Self { asks: true, ..self }
    }

    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// One failure that tells all faults.
    pub fn read(&self, arguments: Object) -> Result<Object, Failure> {
        arguments::read(&self.params, arguments).map_err(|faults| arguments::failure(&faults))
    }

    /// Runs a call with arguments as [`Tool::read`] gives them.
    pub fn run(&self, call: Call, arguments: Object) -> Answer {
        (self.handler)(call, arguments)
    }

    /// What clients see in the list of tools.
    #[must_use]
    pub fn listed(&self, numbers: &Numbers) -> rmcp::model::Tool {
        let mut input = schema::input(&self.input);
        schema::describe(&mut input, |text| numbers.fill(text));
        rmcp::model::Tool::new(self.name, numbers.fill(self.description), Arc::new(input))
            .with_title(self.title)
            .with_raw_output_schema(Arc::new(schema::output(&self.output)))
            .with_annotations(self.annotations())
    }

    fn annotations(&self) -> ToolAnnotations {
        ToolAnnotations::new()
            .read_only(self.access == Access::ReadOnly)
            .destructive(self.access == Access::Destructive)
            .idempotent(self.idempotent)
            .open_world(self.open_world)
    }
}

async fn run<P, R, F>(handler: fn(Call, P) -> F, call: Call, arguments: Object) -> Result<Object, Failure>
where
    P: DeserializeOwned,
    R: Serialize,
    F: Future<Output = Result<Reply<R>, Failure>>,
{
    // The text of a serde error may repeat a value; the arguments were read before, so it is ours anyway.
    let params = serde_json::from_value(Value::Object(arguments))
        .map_err(|_| Failure::new(Code::Internal, "the arguments did not fit the tool", "Report this as a bug."))?;
    handler(call, params).await?.into_object()
}
