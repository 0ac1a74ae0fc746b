//! Questions of 2026-07-28: the call ends with one, and the retry carries the answer.
//!
//! The client keeps what we have to remember, sealed: which question was put, and what about. The
//! seal binds it to the principal and to the very call. Nobody else's answer, nor one that was given
//! for other arguments, opens.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
};
use rmcp::model::{
    CallToolRequestParams, ElicitRequest, ElicitResult, InputRequest, InputRequiredResult, InputResponses,
    RequestStateCodec, RequestStateError, SealOptions,
};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{ASK_LIMIT, NoConsent, Question, form};
use crate::{secret::Secret, ssh::ids::Owner};

/// The key of all seals, of this process alone. After a restart a question is put again.
#[derive(Clone, Debug)]
pub struct Seals {
    codec: RequestStateCodec,
    /// The seal can be read; what nobody may read is encrypted in it.
    cipher: Option<Arc<LessSafeKey>>,
}

impl Default for Seals {
    fn default() -> Self {
        // Four times 122 random bits: more than the 256 that the seal has.
        let random = || [(); 4].map(|()| uuid::Uuid::new_v4().into_bytes()).concat();
        // SHA-256 gives the 32 bytes that the cipher takes.
        let key = UnboundKey::new(&CHACHA20_POLY1305, digest(&SHA256, &random()).as_ref()).ok();
        let cipher = key.map(|key| Arc::new(LessSafeKey::new(key)));
        Self { codec: RequestStateCodec::new_unchecked(random()), cipher }
    }
}

impl Seals {
    /// Nonce and ciphertext. Random nonces: a process asks far fewer questions than would make two alike.
    fn encrypt(&self, text: &Secret, call: &[u8]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = uuid::Uuid::new_v4().as_bytes()[..NONCE_LEN].try_into().ok()?;
        let mut sealed = text.expose().as_bytes().to_vec();
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        self.cipher.as_ref()?.seal_in_place_append_tag(nonce_of, Aad::from(call), &mut sealed).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    fn decrypt(&self, sealed: &[u8], call: &[u8]) -> Option<Secret> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let text = self.cipher.as_ref()?.open_in_place(nonce, Aad::from(call), &mut sealed).ok()?;
        std::str::from_utf8(text).ok().map(Secret::from)
    }
}

/// What is sealed.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    key: String,
    about: String,
    #[serde(default)]
    carried: Option<Vec<u8>>,
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
        let (asked, expired) = match self.seals.codec.open_json_with::<Asked>(state, &self.call) {
            Ok(asked) => (Some(asked), false),
            Err(error) => (None, matches!(error, RequestStateError::Expired)),
        };
        let asked = asked.map(|Asked { key, about, carried }| {
            let answer = self.responses.get(&key).cloned();
            let carried = carried.and_then(|sealed| self.seals.decrypt(&sealed, &self.call));
            Put { key, about, answer, carried }
        });
        Given { asked, expired }
    }

    /// The result that puts the question to the client.
    pub(in crate::mcp) fn put(&self, question: &Question) -> InputRequiredResult {
        let carried = question.carried.as_ref().and_then(|text| self.seals.encrypt(text, &self.call));
        let asked = Asked { key: question.key.into(), about: question.about.clone(), carried };
        let options = SealOptions::new().associated_data(&self.call).ttl(ASK_LIMIT);
        let state = self.seals.codec.seal_json_with(&asked, &options).ok();
        let request = InputRequest::Elicitation(ElicitRequest::new(form(question)));
        InputRequiredResult::new(Some(BTreeMap::from([(question.key.to_owned(), request)])), state)
    }
}

/// What came with a call.
#[derive(Clone, Default)]
pub(super) struct Given {
    asked: Option<Put>,
    expired: bool,
}

/// The question that was put, and the answer.
#[derive(Clone)]
struct Put {
    key: String,
    about: String,
    answer: Option<Value>,
    carried: Option<Secret>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("expired", &self.expired).finish_non_exhaustive()
    }
}

/// A form that came back with texts, and what it was about.
pub struct Returned {
    /// As [`Question::about`].
    pub about: String,
    answer: Option<Value>,
}

impl Returned {
    /// The texts.
    ///
    /// # Errors
    ///
    /// Anything but `count` of them.
    pub fn texts(self, count: usize) -> Result<Vec<Secret>, NoConsent> {
        let answer = serde_json::from_value(self.answer.unwrap_or_default());
        super::texts(answer.map_err(|_| NoConsent::CannotAsk)?, count)
    }
}

impl Given {
    pub(super) fn returned(&self, key: &str) -> Option<Returned> {
        let put = self.asked.clone().filter(|put| put.key == key)?;
        Some(Returned { about: put.about, answer: put.answer })
    }

    pub(super) fn carried(&self) -> Option<Secret> {
        self.asked.as_ref()?.carried.clone()
    }

    pub(super) const fn is_expired(&self) -> bool {
        self.expired
    }

    /// The answer to this question; none where it has to be put.
    pub(super) fn answer_to(&self, question: &Question) -> Option<Result<ElicitResult, NoConsent>> {
        if self.expired {
            return Some(Err(NoConsent::TimedOut));
        }
        let Put { about, answer, .. } = self.asked.as_ref().filter(|put| put.key == question.key)?;
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
