//! Asking the human who sits at the client, in mid-call or by return, whichever the protocol has.
//!
//! Up to 2025-11-25 the server sends an elicitation while the call waits. In 2026-07-28 the call ends
//! with the question, and the client repeats it with the answer: the handler runs again from its
//! start and finds the answer where it asks. A handler cannot tell the two apart. What it did before
//! it asks must bear being done twice.

mod replay;

use std::time::Duration;

use rmcp::{
    Peer, RoleServer,
    model::{
        BooleanSchema, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema,
        PrimitiveSchemaDefinition, ProtocolVersion,
    },
    service::{RequestContext, ServiceError},
};
use serde_json::Value;
use tokio::sync::mpsc;

use self::replay::Given;
pub use self::replay::Seals;
pub(super) use self::replay::{Retry, Suspended};

/// How long a person may think, where the protocol leaves it to us. In mid-call the answer limit is
/// shorter.
pub const ASK_LIMIT: Duration = Duration::from_secs(120);

/// The one field of a form that asks for a yes.
const CONSENT: &str = "trust";

/// A question for the human.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names the question among those of one call.
    pub key: &'static str,
    /// What it is about, to the letter: an answer is good for this and nothing else.
    pub about: String,
    /// What the human reads.
    pub message: String,
}

/// Why there is no yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoConsent {
    /// The human said no.
    Declined,
    /// The human closed the question.
    Cancelled,
    /// The human did not answer in time.
    TimedOut,
    /// The client does not show questions.
    CannotAsk,
    /// The answer is to a question about something else.
    OtherThing,
}

impl NoConsent {
    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Declined => "declined",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::CannotAsk => "cannot_ask",
            Self::OtherThing => "other_thing",
        }
    }
}

/// The way to the human of one call.
#[derive(Clone, Debug)]
pub struct Asker(Way);

#[derive(Clone, Debug)]
enum Way {
    Nobody,
    InMidCall(Peer<RoleServer>),
    ByReturn { given: Given, suspend: mpsc::Sender<Question> },
}

impl Asker {
    /// The way that this client has, and where a question that ends the call comes out.
    pub(super) fn of(context: &RequestContext<RoleServer>, retry: &Retry<'_>) -> (Self, Suspended) {
        let (suspend, suspended) = Suspended::channel();
        let way = if !shows_forms(context) {
            Way::Nobody
        } else if context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28) {
            Way::ByReturn { given: retry.open(), suspend }
        } else {
            Way::InMidCall(context.peer.clone())
        };
        (Self(way), suspended)
    }

    /// No way to anybody.
    #[must_use]
    pub const fn nobody() -> Self {
        Self(Way::Nobody)
    }

    /// Asks for a yes. `within` bounds the wait in mid-call.
    ///
    /// # Errors
    ///
    /// Anything but a yes.
    pub async fn consent(&self, question: Question, within: Duration) -> Result<(), NoConsent> {
        match &self.0 {
            Way::Nobody => Err(NoConsent::CannotAsk),
            Way::InMidCall(peer) => {
                let asked = peer.create_elicitation_with_timeout(form(&question), Some(within.min(ASK_LIMIT))).await;
                consent(&asked.map_err(|error| match error {
                    ServiceError::Timeout { .. } => NoConsent::TimedOut,
                    ServiceError::Cancelled { .. } => NoConsent::Cancelled,
                    _ => NoConsent::CannotAsk,
                })?)
            }
            Way::ByReturn { given, suspend } => match given.answer_to(&question) {
                Some(answer) => consent(&answer?),
                None => {
                    // The call ends here: whoever holds the other end drops it.
                    let _ = suspend.send(question).await;
                    std::future::pending().await
                }
            },
        }
    }
}

fn shows_forms(context: &RequestContext<RoleServer>) -> bool {
    let capability = context.client_capabilities().and_then(|capabilities| capabilities.elicitation);
    // Neither of the two named means forms, as it was when there was nothing else.
    capability.is_some_and(|capability| capability.form.is_some() || capability.url.is_none())
}

fn form(question: &Question) -> ElicitRequestParams {
    let field = BooleanSchema::new().title("Trust it").description("Yes only if you have compared it");
    let properties = [(CONSENT.to_owned(), PrimitiveSchemaDefinition::Boolean(field))].into();
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: question.message.clone(),
        requested_schema: ElicitationSchema::new(properties).with_required(vec![CONSENT.to_owned()]),
    }
}

/// Only an accepted form that says yes is a yes.
fn consent(answer: &ElicitResult) -> Result<(), NoConsent> {
    let says_yes = || answer.content.as_ref().and_then(|content| content.get(CONSENT)) == Some(&Value::Bool(true));
    match answer.action {
        ElicitationAction::Accept if says_yes() => Ok(()),
        ElicitationAction::Accept | ElicitationAction::Decline => Err(NoConsent::Declined),
        // Closed, or an action that is yet to come.
        _ => Err(NoConsent::Cancelled),
    }
}
