//! What a server, or a key file, asks of the person: a one-time code, a passphrase.
//!
//! The answer goes from the person to the server, and never through the model. The protocol wants no passwords in a
//! form: none is asked for. A passphrase is: the other way is a secret by name, and without either the key cannot be
//! used at all.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    app::{ConnectRequest, Error},
    mcp::{
        ask::{Form, NoConsent, Question},
        commands::tool::Call,
        failure::{Failure, escaped},
    },
    secret::Secret,
    ssh::{
        client::login::{Answered, Asked, NeedsAnswers},
        error::ToAnswer,
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

/// What a person answered before this call was repeated; nothing where it is no repetition.
pub(super) fn returned(call: &Call) -> Result<Vec<Answered>, NoConsent> {
    let Some(returned) = call.asker.returned(KEY) else { return Ok(Vec::new()) };
    let carried: Vec<(Word, String)> = match &returned.carried {
        Some(carried) => serde_json::from_str(carried.expose()).unwrap_or_default(),
        None => Vec::new(),
    };
    let asked: Vec<Word> = serde_json::from_str(&returned.about).map_err(|_| NoConsent::OtherThing)?;
    let texts = returned.texts(asked.len())?;
    let earlier = carried.into_iter().map(|(asked, text)| answered(asked.into(), text.into()));
    let now = asked.into_iter().zip(texts).map(|(asked, answer)| answered(asked.into(), answer));
    Ok(earlier.chain(now).collect())
}

fn answered(asked: Asked, answer: Secret) -> Answered {
    Answered { asked, answer }
}

/// Asks what `error` says is to be answered.
pub(super) async fn answers(
    call: &Call,
    request: &ConnectRequest,
    (error, wanted): (&Error, ToAnswer<'_>),
    within: Duration,
) -> Result<Vec<Answered>, Failure> {
    let asked = match wanted {
        ToAnswer::Prompts(needed) => needed.asked.clone(),
        ToAnswer::Passphrase(path) => vec![Asked::Passphrase(path.to_path_buf())],
    };
    let words: Vec<Word> = asked.iter().map(Into::into).collect();
    let question = Question {
        key: KEY,
        about: serde_json::to_string(&words).unwrap_or_default(),
        message: match wanted {
            ToAnswer::Prompts(needed) => prompts_message(needed),
            ToAnswer::Passphrase(path) => passphrase_message(&path.to_string_lossy(), &request.address),
        },
        form: Form::Texts(titles(&asked)),
        carried: carried(&request.answers),
    };
    match call.asker.texts(question, within).await {
        Ok(texts) => Ok(asked.into_iter().zip(texts).map(|(asked, answer)| answered(asked, answer)).collect()),
        Err(why) => Err(refusal(error, why)),
    }
}

fn carried(answers: &[Answered]) -> Option<Secret> {
    let pairs: Vec<(Word, &str)> =
        answers.iter().map(|answered| (Word::from(&answered.asked), answered.answer.expose())).collect();
    (!pairs.is_empty()).then(|| serde_json::to_string(&pairs).ok().map(Secret::from)).flatten()
}

/// The words of the server stand in quotes, on lines that begin with `>`: they are data.
fn prompts_message(needed: &NeedsAnswers) -> String {
    let target = &needed.target;
    let said = [needed.instructions.clone()].into_iter().chain(needed.asked.iter().map(Asked::text));
    let quoted: Vec<String> = said
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.trim().is_empty())
        .map(|line| format!("> {}", escaped(&line)))
        .collect();
    format!(
        "The SSH server {}, port {}, asks this before {} may log in. Its own words:\n{}\nAnswer only if you want this \
         login. The answer goes to that server and not through the AI model. Never type a password here.",
        target.host,
        target.port,
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

/// Where a repeated call brings no answer: nothing was connected.
pub(super) fn unanswered(why: NoConsent) -> Failure {
    let hint = hint(why).unwrap_or("The user has to answer; use a client that shows questions, or totp_ref.");
    let mut failure = Failure::new(crate::error::Code::AuthFailed, "the question of the login was not answered", hint);
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
