//! Keyboard-interactive (RFC 4256): the server asks, and says only in words what for.

use std::{sync::atomic::Ordering, time::SystemTime};

use russh::client::{KeyboardInteractiveAuthResponse as Response, Prompt};

use super::{
    Asked, NeedsAnswers, Why,
    attempt::{Login, Step},
    prompt::{self, Wanted},
};
use crate::ssh::client::ClientError;

/// Rounds of questions in one go.
const ROUNDS: usize = 8;
/// Questions in one round.
const PROMPTS: usize = 8;
const NAME: &str = "keyboard-interactive";

/// What was sent so far in one go.
#[derive(Default)]
struct Sent {
    password: bool,
    /// A code, or what a person typed.
    answer: bool,
    code: bool,
    /// Which of a person's answers.
    used: Vec<usize>,
}

impl Sent {
    const fn what_is_wrong(&self) -> Why {
        match (self.password, self.answer) {
            (true, true) => Why::WrongPasswordOrCode,
            (true, false) => Why::WrongPassword,
            _ => Why::WrongCode,
        }
    }
}

impl Login<'_, '_> {
    pub(super) async fn keyboard_interactive(&mut self) -> Result<Step, ClientError> {
        let mut sent = Sent::default();
        let started = self.handle.authenticate_keyboard_interactive_start(self.target.username.clone(), None).await;
        let mut response = started.map_err(|error| self.lost(&error))?;
        for _ in 0..ROUNDS {
            let (name, instructions, prompts) = match response {
                Response::Success => return Ok(Step::In(NAME)),
                Response::Failure { remaining_methods, partial_success } => {
                    let step = self.step_of(NAME, remaining_methods, partial_success);
                    let nothing_sent = !sent.password && !sent.answer;
                    return match step {
                        // Nobody is to guess with what else there is.
                        Step::Over if !nothing_sent => Err(self.failed(sent.what_is_wrong())),
                        step => Ok(step),
                    };
                }
                Response::InfoRequest { name, instructions, prompts } => (name, instructions, prompts),
            };
            // Not before: a server may offer it and ask nothing.
            if self.progress.tried.last().is_none_or(|last| last != NAME) {
                self.progress.tried.push(NAME.into());
            }
            let answers = self.answers(&[name, instructions], &prompts, &mut sent).await?;
            let answered = self.handle.authenticate_keyboard_interactive_respond(answers).await;
            response = answered.map_err(|error| self.lost(&error))?;
        }
        Err(self.failed(Why::TooManyPrompts))
    }

    async fn answers(
        &mut self,
        said: &[String],
        prompts: &[Prompt],
        sent: &mut Sent,
    ) -> Result<Vec<String>, ClientError> {
        let said: Vec<String> = said.iter().map(|text| prompt::shown(text)).filter(|text| !text.is_empty()).collect();
        if prompts.len() > PROMPTS {
            return Err(self.failed(Why::TooManyPrompts));
        }
        if prompts.is_empty() {
            // Only something to read.
            self.said.extend(said);
            return Ok(Vec::new());
        }
        let (mut answers, mut open) = (Vec::new(), Vec::new());
        for asked in prompts {
            match self.answer(asked, sent).await? {
                Some(answer) => answers.push(answer),
                None => open.push(Asked::Prompt { text: prompt::shown(&asked.prompt), echo: asked.echo }),
            }
        }
        if open.is_empty() {
            self.said.extend(said);
            return Ok(answers);
        }
        let target = self.target.clone();
        let needed = NeedsAnswers { target, hops: 0, instructions: prompt::shown(&said.join("\n")), asked: open };
        Err(ClientError::NeedsAnswers(Box::new(needed)))
    }

    /// The answer to one prompt; none where a person has to give it.
    async fn answer(&mut self, asked: &Prompt, sent: &mut Sent) -> Result<Option<String>, ClientError> {
        let credentials = self.progress.credentials;
        let wanted = Wanted::of(&asked.prompt, asked.echo);
        if wanted == Wanted::NewPassword {
            self.said.push(prompt::shown(&asked.prompt));
            return Err(self.failed(Why::PasswordExpired));
        }
        if wanted == Wanted::Password {
            return match credentials.password() {
                // Asked again: it was wrong, and there is no other.
                Some(_) if self.password_sent => Err(self.failed(Why::WrongPassword)),
                Some(password) => {
                    (self.password_sent, sent.password) = (true, true);
                    Ok(Some(password.expose().to_owned()))
                }
                None => Err(self.failed(Why::PasswordWanted)),
            };
        }
        let prepared = &credentials.prepared;
        let is_code = wanted == Wanted::Code || (self.password_sent && !asked.echo);
        if let (Some(totp), true) = (&prepared.totp, is_code) {
            if sent.code {
                return Err(self.failed(sent.what_is_wrong()));
            }
            (sent.code, sent.answer) = (true, true);
            // Hosts take a code once; a second connection in the same half minute waits for the next one.
            let now = totp.step_at(SystemTime::now());
            let earliest = prepared.last_step.load(Ordering::Acquire).saturating_add(1);
            let step = now.max(earliest);
            prepared.last_step.store(step, Ordering::Release);
            let begin = totp.begin_of(step).duration_since(SystemTime::now()).unwrap_or_default();
            tokio::time::sleep(begin.min(self.patience(begin))).await;
            return Ok(Some(totp.code(step).to_string()));
        }
        let key = Asked::Prompt { text: prompt::shown(&asked.prompt), echo: asked.echo };
        let (all, same) = (credentials.answers(), |(_, answered): &(usize, &super::Answered)| answered.asked == key);
        let typed: Vec<usize> = all.iter().enumerate().filter(same).map(|(index, _)| index).collect();
        match typed.iter().find(|index| !sent.used.contains(index)) {
            Some(index) => {
                sent.used.push(*index);
                sent.answer = true;
                self.progress.typed = true;
                Ok(all.get(*index).map(|answered| answered.answer.expose().to_owned()))
            }
            // It was answered once: the answer was wrong.
            None if !typed.is_empty() => Err(self.failed(sent.what_is_wrong())),
            None => Ok(None),
        }
    }
}
