//! One login: methods in order, factor after factor, over as many connections as its keys need.
//!
//! A server counts each key that it is offered as a failure, and hangs up after six by default. So a few are offered on
//! each connection, and the untried ones on a further one. Only keys: a password is sent once, whatever comes of it.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use russh::{
    MethodKind, MethodSet,
    client::{AuthResult, Handle},
    keys::HashAlg,
};
use tokio::time::Instant;

use super::{
    AgentUse, Credentials, KEPT, LoginPlan, Method, PASSWORD_LIMIT, Why, agent,
    candidates::{self, Candidate, Offer},
    signer::{By, NotSigned, Signing},
};
use crate::ssh::client::{
    ClientError, Target,
    handler::{ClientHandler, LinkState},
    key_file::KeyFileError,
};

/// Keys that are offered on one connection. OpenSSH hangs up at the sixth failure.
const OFFERS: usize = 5;
/// Connections of one login.
const CONNECTIONS: u32 = 4;
/// Methods that are run on one connection; each either gets further or is over.
const STEPS: usize = 16;
/// What one login remembers from connection to connection.
pub(in crate::ssh::client) struct Progress<'a> {
    pub(super) credentials: &'a Credentials,
    connections: u32,
    pub(super) tried: Vec<String>,
    pub(super) notes: Vec<String>,
    /// What a person typed was sent: without them the login cannot be done again.
    pub(in crate::ssh::client) typed: bool,
    /// Keys that are not offered again: refused, or without a signature.
    spent: HashSet<Vec<u8>>,
    /// The agent was asked, and is not usable; said once.
    agent_trouble: Option<ClientError>,
}

/// How a connection ended.
pub(in crate::ssh::client) enum Outcome {
    /// Logged in by these methods.
    In(String),
    /// There are keys left, for a further connection.
    Further,
}

impl<'a> Progress<'a> {
    pub(in crate::ssh::client) fn new(credentials: &'a Credentials) -> Self {
        Self {
            credentials,
            connections: 0,
            tried: Vec::new(),
            notes: credentials.prepared.loaded.notes.clone(),
            typed: false,
            spent: HashSet::new(),
            agent_trouble: None,
        }
    }

    /// A further connection that fails does not begin the login anew: the host has refused keys already.
    pub(in crate::ssh::client) fn judge(self, error: ClientError, target: &Target) -> ClientError {
        if self.tried.is_empty() || !error.is_transient() {
            return error;
        }
        ClientError::LostInLogin { target: target.clone(), tried: self.tried.join(", "), cause: error.to_string() }
    }

    pub(super) fn plan(&self) -> &'a LoginPlan {
        &self.credentials.prepared.plan
    }
}

/// Logs in on one connection.
pub(in crate::ssh::client) async fn authenticate(
    handle: &mut Handle<ClientHandler>,
    target: &Target,
    link: &LinkState,
    deadline: Instant,
    progress: &mut Progress<'_>,
) -> Result<Outcome, ClientError> {
    progress.connections += 1;
    let login = Login {
        handle,
        target,
        link,
        deadline,
        progress,
        offered: None,
        over: Vec::new(),
        passed: Vec::new(),
        why: Why::NothingToOffer,
        said: Vec::new(),
        password_sent: false,
        refused_here: 0,
        locked: None,
    };
    login.run().await
}

/// How far a method got.
pub(super) enum Step {
    In(&'static str),
    /// It was taken, and more is wanted.
    Passed(&'static str),
    /// It has no more to give.
    Over,
    Further,
}

pub(super) struct Login<'a, 'b> {
    pub(super) handle: &'a mut Handle<ClientHandler>,
    pub(super) target: &'a Target,
    pub(super) link: &'a LinkState,
    pub(super) deadline: Instant,
    pub(super) progress: &'a mut Progress<'b>,
    /// What the server takes next; unknown before its first answer.
    pub(super) offered: Option<MethodSet>,
    over: Vec<Method>,
    passed: Vec<&'static str>,
    pub(super) why: Why,
    /// Texts of the server beside its banner.
    pub(super) said: Vec<String>,
    pub(super) password_sent: bool,
    refused_here: usize,
    /// A key that the server would take, in a file that is encrypted.
    locked: Option<PathBuf>,
}

impl Login<'_, '_> {
    async fn run(mut self) -> Result<Outcome, ClientError> {
        for _ in 0..STEPS {
            let Some(method) = self.next() else { break };
            if method != Method::PublicKey && self.offered.is_none() {
                // Costs nothing, and says what the server takes.
                if let Step::In(how) = self.probe().await? {
                    return Ok(Outcome::In(how.into()));
                }
                continue;
            }
            let step = match method {
                Method::PublicKey => self.public_key().await?,
                Method::KeyboardInteractive => self.keyboard_interactive().await?,
                Method::Password => self.password().await?,
            };
            match step {
                Step::In(how) => {
                    self.passed.push(how);
                    return Ok(Outcome::In(self.passed.join(",")));
                }
                Step::Passed(how) => {
                    self.passed.push(how);
                    self.over.clear();
                }
                Step::Over => self.over.push(method),
                Step::Further => return Ok(Outcome::Further),
            }
        }
        Err(self.refused())
    }

    /// The next method of the plan that has not been used up, and that the server takes.
    fn next(&self) -> Option<Method> {
        let wanted = |method: &&Method| {
            !self.over.contains(method) && self.offered.as_ref().is_none_or(|offered| offered.contains(&kind(**method)))
        };
        if self.handle.is_closed() {
            return None;
        }
        self.progress.plan().methods.iter().find(wanted).copied()
    }

    async fn probe(&mut self) -> Result<Step, ClientError> {
        let result = self.handle.authenticate_none(self.target.username.clone()).await;
        let result = result.map_err(|error| self.lost(&error))?;
        Ok(self.judged("none", result))
    }

    async fn password(&mut self) -> Result<Step, ClientError> {
        let Some(password) = self.progress.credentials.password().filter(|_| !self.password_sent) else {
            if !self.password_sent && self.why == Why::NothingToOffer {
                self.why = Why::PasswordWanted;
            }
            return Ok(Step::Over);
        };
        self.progress.tried.push("password".into());
        self.password_sent = true;
        let limit = self.patience(PASSWORD_LIMIT);
        let sending = self.handle.authenticate_password(self.target.username.clone(), password.expose());
        let Ok(result) = tokio::time::timeout(limit, sending).await else {
            return Err(self.failed(Why::Unanswered));
        };
        let result = result.map_err(|error| self.lost(&error))?;
        match self.judged("password", result) {
            // Whatever else there is: nobody is to guess with it.
            Step::Over => Err(self.failed(Why::WrongPassword)),
            step => Ok(step),
        }
    }

    async fn public_key(&mut self) -> Result<Step, ClientError> {
        let candidates = self.candidates().await?;
        for candidate in &candidates {
            if self.progress.spent.contains(&candidate.blob()) {
                continue;
            }
            if self.refused_here >= OFFERS && self.may_go_further() {
                return Ok(Step::Further);
            }
            let Some(hash) = self.accepted_hash(candidate).await? else {
                self.progress.spent.insert(candidate.blob());
                self.progress.notes.push(format!("{}: its algorithm is not allowed", candidate.describe()));
                continue;
            };
            match self.offer(candidate, hash).await? {
                Step::Over if self.handle.is_closed() => {
                    let untried = candidates.iter().any(|left| !self.progress.spent.contains(&left.blob()));
                    let hung_up = self.link.disconnected_by_server();
                    if untried && hung_up && self.may_go_further() {
                        return Ok(Step::Further);
                    }
                    return Err(self.refused());
                }
                Step::Over => {}
                step => return Ok(step),
            }
        }
        match self.locked.take() {
            // Worth a question, before other methods are; but not where a password is at hand.
            Some(path) if self.progress.credentials.password().is_none() => {
                Err(ClientError::Key(KeyFileError::Encrypted { path }))
            }
            _ => Ok(Step::Over),
        }
    }

    /// Keys only: nothing else was done on this connection.
    fn may_go_further(&self) -> bool {
        self.progress.connections < CONNECTIONS && self.passed.is_empty() && !self.password_sent
    }

    /// What there is to offer, and first what this host took the last time.
    async fn candidates(&mut self) -> Result<Vec<Candidate>, ClientError> {
        let plan = self.progress.plan();
        let loaded = &self.progress.credentials.prepared.loaded;
        let held = match self.agent_identities(&plan.agent).await {
            Ok(held) => held,
            Err(error) if loaded.keys.is_empty() && plan.password.is_none() && plan.totp.is_none() => {
                return Err(error);
            }
            Err(error) => {
                if self.progress.agent_trouble.is_none() {
                    self.progress.notes.push(error.to_string());
                    self.progress.agent_trouble = Some(error);
                }
                Vec::new()
            }
        };
        let mut candidates = candidates::in_order(held, loaded, plan.identities_only);
        if let Some(worked) = plan.worked.of(self.target) {
            candidates.sort_by_key(|candidate| candidate.blob() != worked);
        }
        Ok(candidates)
    }

    async fn agent_identities(
        &mut self,
        which: &AgentUse,
    ) -> Result<Vec<russh::keys::agent::AgentIdentity>, ClientError> {
        if !which.is_named() || self.progress.agent_trouble.is_some() {
            return Ok(Vec::new());
        }
        let binding = self.handle.agent_session_binding();
        let mut agent = agent::connect(which, binding, agent::LIST_LIMIT).await?;
        let held = agent::identities(&mut agent).await?;
        if held.is_empty() { Err(ClientError::AgentEmpty) } else { Ok(held) }
    }

    async fn offer(&mut self, candidate: &Candidate, hash: Option<HashAlg>) -> Result<Step, ClientError> {
        self.progress.tried.push(candidate.describe());
        self.progress.spent.insert(candidate.blob());
        let binding = self.handle.agent_session_binding().cloned();
        let limit = self.patience(Duration::MAX);
        let agent = &self.progress.plan().agent;
        let mut signing = Signing { by: &candidate.by, agent, binding: binding.as_ref(), limit };
        let username = self.target.username.clone();
        let result = match &candidate.offer {
            Offer::Key(key) => self.handle.authenticate_publickey_with(username, key.clone(), hash, &mut signing).await,
            Offer::Certificate(certificate) => {
                self.handle.authenticate_certificate_with(username, (**certificate).clone(), hash, &mut signing).await
            }
        };
        let result = match result {
            Ok(result) => result,
            Err(NotSigned::Ended) => return Err(self.lost(&russh::Error::SendError)),
            Err(why) => {
                self.unsigned(candidate, &why);
                return Ok(Step::Over);
            }
        };
        let how = if matches!(candidate.by, By::Agent(_)) { "agent" } else { "publickey" };
        let step = self.judged(how, result);
        match step {
            Step::In(_) | Step::Passed(_) => self.progress.plan().worked.remember(self.target, &candidate.blob()),
            Step::Over | Step::Further => {
                self.refused_here += 1;
                if self.why != Why::NotSigned {
                    self.why = Why::KeysRefused;
                }
                self.explain_certificate(candidate);
            }
        }
        Ok(step)
    }

    /// The server would take the key.
    fn unsigned(&mut self, candidate: &Candidate, why: &NotSigned) {
        if let (NotSigned::Locked, By::Locked(path)) = (why, &candidate.by) {
            self.locked.get_or_insert_with(|| path.clone());
        }
        self.why = Why::NotSigned;
        self.progress.notes.push(format!("{}: {why}", candidate.describe()));
    }

    /// Notes what the server takes next.
    fn judged(&mut self, how: &'static str, result: AuthResult) -> Step {
        match result {
            AuthResult::Success => Step::In(how),
            AuthResult::Failure { remaining_methods, partial_success } => {
                self.offered = Some(remaining_methods);
                if partial_success { Step::Passed(how) } else { Step::Over }
            }
        }
    }

    /// How long to wait for something, at most `longest`: so that it fails before the whole of connecting does.
    pub(super) fn patience(&self, longest: Duration) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).saturating_sub(KEPT).min(longest)
    }

    pub(super) fn step_of(&mut self, how: &'static str, offered: MethodSet, partial: bool) -> Step {
        self.judged(how, AuthResult::Failure { remaining_methods: offered, partial_success: partial })
    }
}

const fn kind(method: Method) -> MethodKind {
    match method {
        Method::PublicKey => MethodKind::PublicKey,
        Method::KeyboardInteractive => MethodKind::KeyboardInteractive,
        Method::Password => MethodKind::Password,
    }
}
