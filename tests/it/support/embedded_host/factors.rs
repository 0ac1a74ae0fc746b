//! Several factors in a row, and questions with their right answers.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use russh::{
    MethodKind, MethodSet,
    server::{Auth, Response},
};

/// A question of keyboard-interactive.
#[derive(Clone)]
pub(crate) struct Ask {
    prompt: String,
    is_right: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prompt)
    }
}

impl Ask {
    pub(crate) fn new(prompt: &str, right: &str) -> Self {
        let right = right.to_owned();
        Self::judged(prompt, move |answer| answer == right)
    }

    pub(crate) fn judged(prompt: &str, is_right: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { prompt: prompt.to_owned(), is_right: Arc::new(is_right) }
    }
}

/// What a login needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Factors {
    /// In this order; any single one where it is empty.
    pub(crate) chain: Vec<MethodKind>,
    pub(crate) instructions: String,
    pub(crate) rounds: Vec<Vec<Ask>>,
    pub(crate) banner: Option<String>,
    pub(crate) typed: Arc<Mutex<Vec<String>>>,
}

/// How far one connection is.
#[derive(Debug, Default)]
pub(super) struct Passed {
    factors: usize,
    round: usize,
}

impl Factors {
    pub(super) fn methods(&self) -> Option<MethodSet> {
        self.chain.first().map(|first| MethodSet::from(&[*first][..]))
    }

    /// The method was taken: in, or to the next.
    pub(super) fn pass(&self, passed: &mut Passed, method: MethodKind) -> Auth {
        if self.chain.is_empty() {
            return Auth::Accept;
        }
        if self.chain.get(passed.factors) != Some(&method) {
            return Auth::reject();
        }
        passed.factors += 1;
        match self.chain.get(passed.factors) {
            None => Auth::Accept,
            Some(next) => {
                Auth::Reject { proceed_with_methods: Some(MethodSet::from(&[*next][..])), partial_success: true }
            }
        }
    }

    pub(super) fn answered(&self, passed: &mut Passed, response: Option<Response<'_>>) -> Auth {
        if self.rounds.is_empty() {
            return Auth::reject();
        }
        match response {
            None => passed.round = 0,
            Some(answers) => {
                let answers: Vec<String> = answers.map(|answer| String::from_utf8_lossy(&answer).into()).collect();
                self.typed.lock().unwrap_or_else(PoisonError::into_inner).extend(answers.iter().cloned());
                let Some(asked) = self.rounds.get(passed.round) else { return Auth::reject() };
                let right = asked.iter().zip(&answers).filter(|(ask, answer)| (ask.is_right)(answer)).count();
                if right != asked.len() {
                    return Auth::reject();
                }
                passed.round += 1;
            }
        }
        match self.rounds.get(passed.round) {
            None => self.pass(passed, MethodKind::KeyboardInteractive),
            Some(asks) => Auth::Partial {
                name: Cow::Borrowed(""),
                instructions: Cow::Owned(self.instructions.clone()),
                prompts: asks.iter().map(|ask| (Cow::Owned(ask.prompt.clone()), false)).collect::<Vec<_>>().into(),
            },
        }
    }
}
