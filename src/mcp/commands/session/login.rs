//! What a server, or a key file, asks of the person: a one-time code, a passphrase.
//!
//! The answer goes from the person to the server, and never through the model. The protocol wants no passwords in a
//! form: none is asked for. A passphrase is: the other way is a secret by name, and without either the key cannot be
//! used at all.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    app::{Asking, Error, TypedAnswer},
    error::Details,
    mcp::{
        ask::{Form, NoConsent, Question},
        commands::tool::Call,
        failure::{Failure, escaped},
    },
    secret::Secret,
    ssh::{
        client::{
            Target,
            login::{Answered, Asked, NeedsAnswers},
        },
        error::{ToAnswer, target_details},
    },
};

const KEY: &str = "login";

/// One question and, where it is carried on, its answer.
#[derive(Serialize, Deserialize)]
enum Word {
    Prompt { text: String, echo: bool },
    Passphrase { path: PathBuf },
}

impl From<&Asked> for Word {
    fn from(asked: &Asked) -> Self {
        match asked.clone() {
            Asked::Prompt { text, echo } => Self::Prompt { text, echo },
            Asked::Passphrase(path) => Self::Passphrase { path },
        }
    }
}

impl From<Word> for Asked {
    fn from(word: Word) -> Self {
        match word {
            Word::Prompt { text, echo } => Self::Prompt { text, echo },
            Word::Passphrase { path } => Self::Passphrase(path),
        }
    }
}

/// [`Asking`] on its way through the client.
#[derive(Serialize, Deserialize)]
struct To {
    host: String,
    port: u16,
    username: String,
    hop: Option<usize>,
}

impl From<Asking> for To {
    fn from(Asking { target: Target { host, port, username }, hop }: Asking) -> Self {
        Self { host, port, username, hop }
    }
}

impl From<To> for Asking {
    fn from(To { host, port, username, hop }: To) -> Self {
        Self { target: Target { host, port, username }, hop }
    }
}

/// What is carried from question to question.
#[derive(Default, Serialize, Deserialize)]
struct Carried {
    questions: usize,
    answers: Vec<(Option<To>, Word, String)>,
}

/// What came of the questions before this call was repeated.
pub(super) struct Returned {
    pub(super) answers: Vec<TypedAnswer>,
    /// How many there were.
    pub(super) questions: usize,
}

/// What a person answered before this call was repeated; nothing where it is no repetition.
pub(super) fn returned(call: &Call) -> Result<Returned, Failure> {
    let carried = call.asker.carried();
    let Carried { questions, answers } =
        carried.and_then(|carried| serde_json::from_str(carried.expose()).ok()).unwrap_or_default();
    let earlier = answers.into_iter().map(|(to, word, text)| typed(to.map(Into::into), word.into(), text.into()));
    let mut answers: Vec<_> = earlier.collect();
    if let Some(returned) = call.asker.returned(KEY) {
        let (to, words): (Option<To>, Vec<Word>) =
            serde_json::from_str(&returned.about).map_err(|_| unanswered(NoConsent::OtherThing, None))?;
        let to: Option<Asking> = to.map(Into::into);
        let texts = returned.texts(words.len()).map_err(|why| unanswered(why, to.as_ref()))?;
        answers.extend(words.into_iter().zip(texts).map(|(word, text)| typed(to.clone(), word.into(), text)));
    }
    Ok(Returned { answers, questions })
}

fn typed(to: Option<Asking>, asked: Asked, answer: Secret) -> TypedAnswer {
    TypedAnswer { to, answered: Answered { asked, answer } }
}

/// What is put to the person.
pub(super) struct Put {
    to: Option<Asking>,
    asked: Vec<Asked>,
}

impl Put {
    pub(super) fn of(wanted: ToAnswer<'_>) -> Self {
        match wanted {
            ToAnswer::Prompts { needed, hop } => {
                Self { to: Some(Asking { target: needed.target.clone(), hop }), asked: needed.asked.clone() }
            }
            ToAnswer::Passphrase(path) => Self { to: None, asked: vec![Asked::Passphrase(path.to_path_buf())] },
        }
    }

    /// A code is good for one login. Where another server asks now, those that were answered before have had theirs:
    /// one that has to be logged in to once more asks for a new one.
    pub(super) fn forget_others(&self, answers: &mut Vec<TypedAnswer>) {
        if self.to.is_some() {
            answers.retain(|typed| typed.to.is_none() || typed.to == self.to);
        }
    }
}

/// Asks what `error` says is to be answered.
pub(super) async fn answers(
    call: &Call,
    address: &str,
    (error, wanted, put): (&Error, ToAnswer<'_>, Put),
    (carried, within): (Option<Secret>, Duration),
) -> Result<Vec<TypedAnswer>, Failure> {
    let Put { to, asked } = put;
    let words: Vec<Word> = asked.iter().map(Into::into).collect();
    let question = Question {
        key: KEY,
        about: serde_json::to_string(&(to.clone().map(To::from), words)).unwrap_or_default(),
        message: match wanted {
            ToAnswer::Prompts { needed, hop } => prompts_message(needed, hop, address),
            ToAnswer::Passphrase(path) => passphrase_message(&path.to_string_lossy(), address),
        },
        form: Form::Texts(titles(&asked)),
        carried,
    };
    match call.asker.texts(question, within).await {
        Ok(texts) => Ok(asked.into_iter().zip(texts).map(|(asked, answer)| typed(to.clone(), asked, answer)).collect()),
        Err(why) => Err(refusal(error, why)),
    }
}

/// What goes with a question, so that it is there when the call is repeated. Encrypted on the way.
pub(super) fn carried(answers: &[TypedAnswer], questions: usize) -> Option<Secret> {
    let answer = |TypedAnswer { to, answered }: &TypedAnswer| {
        (to.clone().map(Into::into), Word::from(&answered.asked), answered.answer.expose().to_owned())
    };
    let carried = Carried { questions, answers: answers.iter().map(answer).collect() };
    serde_json::to_string(&carried).ok().map(Secret::from)
}

/// The words of the server stand in quotes, on lines that begin with `>`: they are data.
fn prompts_message(needed: &NeedsAnswers, hop: Option<usize>, address: &str) -> String {
    let target = &needed.target;
    let said = [needed.instructions.clone()].into_iter().chain(needed.asked.iter().map(Asked::text));
    let quoted: Vec<String> = said
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.trim().is_empty())
        .map(|line| format!("> {}", escaped(&line)))
        .collect();
    let who = match hop {
        Some(hop) => {
            format!("The jump host {target} (hop {hop} of {} on the way to {})", needed.hops.max(hop), escaped(address))
        }
        None => format!("The SSH server {}, port {},", target.host, target.port),
    };
    format!(
        "{who} asks this before {} may log in. Its own words:\n{}\nAnswer only if you want this login. The answer goes \
         to that server and not through the AI model. Never type a password here.",
        target.username,
        quoted.join("\n")
    )
}

fn passphrase_message(path: &str, address: &str) -> String {
    format!(
        "The private key file {} is encrypted and is needed to connect to {}. Type its passphrase to use it for this \
         session. It stays in the memory of ssh-mcp and does not go through the AI model.",
        escaped(path),
        escaped(address)
    )
}

fn titles(asked: &[Asked]) -> Vec<String> {
    let title = |(index, asked): (usize, &Asked)| match asked {
        Asked::Prompt { .. } => format!("Answer {}", index + 1),
        Asked::Passphrase(_) => "Passphrase".into(),
    };
    asked.iter().enumerate().map(title).collect()
}

pub(super) fn refusal(error: &Error, why: NoConsent) -> Failure {
    let mut failure = Failure::from(error.clone());
    failure.hint = hint(why).map(Into::into).or(failure.hint);
    failure.details.put("why", why.as_str());
    failure
}

/// Where there is no end to the questions.
pub(super) fn too_many(error: &Error) -> Failure {
    let mut failure = Failure::from(error.clone());
    failure.hint = Some("More is asked than is put to a person in one login. Ask the user to look at it.".into());
    failure.details.put("why", "too_many_prompts");
    failure
}

/// Where a repeated call brings no answer: nothing was connected.
fn unanswered(why: NoConsent, to: Option<&Asking>) -> Failure {
    let hint = hint(why).unwrap_or("The user has to answer; use a client that shows questions, or totp_ref.");
    let mut failure = Failure::new(crate::error::Code::AuthFailed, "the question of the login was not answered", hint);
    if let Some(Asking { target, hop }) = to {
        let details = hop.map_or_else(Details::new, |hop| Details::new().number("hop", hop as u64));
        failure.details = target_details(details, target);
    }
    failure.details.put("why", why.as_str());
    failure
}

const fn hint(why: NoConsent) -> Option<&'static str> {
    match why {
        // The core's own words.
        NoConsent::CannotAsk => None,
        NoConsent::Declined => Some("The user does not answer. Do not ask again unless the user says so."),
        NoConsent::Cancelled => Some("The user closed the question. Ask what to do before you connect again."),
        NoConsent::TimedOut => Some("The user did not answer in time. Connect again when the user is ready."),
        NoConsent::OtherThing => Some("The server asks something else now. Connect again."),
    }
}
