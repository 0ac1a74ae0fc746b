//! Asking the human who sits at the client, in mid-call or by return, whichever the protocol has.
//!
//! Up to 2025-11-25 the server sends an elicitation while the call waits. In 2026-07-28 the call ends
//! with the question, and the client repeats it with the answer: the handler runs again from its
//! start and finds the answer where it asks. A handler cannot tell the two apart. What it did before
//! it asks must bear being done twice.

mod replay;

use std::{fmt, time::Duration};

use rmcp::{
    Peer, RoleServer,
    model::{
        BooleanSchema, ClientResult, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction,
        ElicitationSchema, PrimitiveSchemaDefinition, ProtocolVersion, ServerRequest, StringSchema,
    },
    service::{PeerRequestOptions, RequestContext, ServiceError},
};
use serde_json::Value;
use tokio::sync::mpsc;

use self::replay::Given;
pub(super) use self::replay::{Retry, Suspended};
pub use self::replay::{Returned, Seals};
use crate::secret::Secret;

/// How long a person may think, where the protocol leaves it to us. In mid-call the answer limit is
/// shorter.
pub const ASK_LIMIT: Duration = Duration::from_secs(120);

/// The one field of a form that asks for a yes.
const CONSENT: &str = "trust";

/// The longest text that the human types, in bytes.
const MAX_ANSWER_BYTES: usize = 1_024;

/// What the human fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A yes.
    Consent,
    /// One line of text for each title.
    Texts(Vec<String>),
}

/// A question for the human.
#[derive(Clone)]
pub struct Question {
    /// Names the question among those of one call.
    pub key: &'static str,
    /// What it is about, to the letter: an answer is good for this and nothing else.
    pub about: String,
    /// What the human reads.
    pub message: String,
    /// What the human fills in.
    pub form: Form,
    /// What has to come back with the answer, and nobody may read on the way.
    pub carried: Option<Secret>,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("key", &self.key).field("about", &self.about).finish_non_exhaustive()
    }
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
        consent(&self.ask(question, within).await?)
    }

    /// Asks for texts, in the order of the titles of the question. `within` as for [`Asker::consent`].
    ///
    /// # Errors
    ///
    /// Anything but a whole answer.
    pub async fn texts(&self, question: Question, within: Duration) -> Result<Vec<Secret>, NoConsent> {
        let Form::Texts(titles) = &question.form else { return Err(NoConsent::CannotAsk) };
        let count = titles.len();
        match &self.0 {
            Way::ByReturn { given, .. } if given.is_expired() => Err(NoConsent::TimedOut),
            // An answer that came along was taken before: this is another question.
            Way::ByReturn { suspend, .. } => {
                let _ = suspend.send(question).await;
                std::future::pending().await
            }
            _ => texts(self.ask(question, within).await?, count),
        }
    }

    /// What the human answered to the question of this key, where the call is the repetition of one that put it.
    #[must_use]
    pub fn returned(&self, key: &str) -> Option<Returned> {
        match &self.0 {
            Way::ByReturn { given, .. } => given.returned(key),
            Way::Nobody | Way::InMidCall(_) => None,
        }
    }

    /// What the last question of the call carried, whichever that was ([`Question::carried`]).
    #[must_use]
    pub fn carried(&self) -> Option<Secret> {
        match &self.0 {
            Way::ByReturn { given, .. } => given.carried(),
            Way::Nobody | Way::InMidCall(_) => None,
        }
    }

    async fn ask(&self, question: Question, within: Duration) -> Result<ElicitResult, NoConsent> {
        match &self.0 {
            Way::Nobody => Err(NoConsent::CannotAsk),
            Way::InMidCall(peer) => {
                elicit(peer, form(&question), within.min(ASK_LIMIT)).await.map_err(|error| match error {
                    ServiceError::Timeout { .. } => NoConsent::TimedOut,
                    ServiceError::Cancelled { .. } => NoConsent::Cancelled,
                    _ => NoConsent::CannotAsk,
                })
            }
            Way::ByReturn { given, suspend } => match given.answer_to(&question) {
                Some(answer) => answer,
                None => {
                    // The call ends here: whoever holds the other end drops it.
                    let _ = suspend.send(question).await;
                    std::future::pending().await
                }
            },
        }
    }
}

/// What rmcp has as `create_elicitation_with_timeout` behind a feature that brings `url` and Unicode's tables along.
async fn elicit(
    peer: &Peer<RoleServer>,
    params: ElicitRequestParams,
    within: Duration,
) -> Result<ElicitResult, ServiceError> {
    let request = ServerRequest::ElicitRequest(ElicitRequest::new(params));
    let sent = peer.send_request_with_option(request, PeerRequestOptions::with_timeout(within)).await?;
    match sent.await_response().await? {
        ClientResult::ElicitResult(answer) => Ok(answer),
        _ => Err(ServiceError::UnexpectedResponse),
    }
}

fn shows_forms(context: &RequestContext<RoleServer>) -> bool {
    let capability = context.client_capabilities().and_then(|capabilities| capabilities.elicitation);
    // Neither of the two named means forms, as it was when there was nothing else.
    capability.is_some_and(|capability| capability.form.is_some() || capability.url.is_none())
}

fn form(question: &Question) -> ElicitRequestParams {
    let fields: Vec<(String, PrimitiveSchemaDefinition)> = match &question.form {
        Form::Consent => {
            let field = BooleanSchema::new().title("Trust it").description("Yes only if you have compared it");
            vec![(CONSENT.to_owned(), PrimitiveSchemaDefinition::Boolean(field))]
        }
        Form::Texts(titles) => {
            let field = |title: &String| PrimitiveSchemaDefinition::String(StringSchema::new().title(title.clone()));
            titles.iter().enumerate().map(|(index, title)| (text_field(index), field(title))).collect()
        }
    };
    let names = fields.iter().map(|(name, _)| name.clone()).collect();
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: question.message.clone(),
        requested_schema: ElicitationSchema::new(fields.into_iter().collect()).with_required(names),
    }
}

fn text_field(index: usize) -> String {
    format!("answer_{}", index + 1)
}

/// Only an accepted form with every field in it is an answer.
fn texts(answer: ElicitResult, count: usize) -> Result<Vec<Secret>, NoConsent> {
    match answer.action {
        ElicitationAction::Accept => {}
        ElicitationAction::Decline => return Err(NoConsent::Declined),
        _ => return Err(NoConsent::Cancelled),
    }
    let text = |index| match answer.content.as_ref()?.get(text_field(index))? {
        Value::String(text) if text.len() <= MAX_ANSWER_BYTES => Some(text.trim_end_matches(['\r', '\n']).into()),
        _ => None,
    };
    (0..count).map(text).collect::<Option<_>>().ok_or(NoConsent::Declined)
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
