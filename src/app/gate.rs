//! The one place that every verb passes: check, then act, then record.
//!
//! What is checked is what is done: a verb builds its [`Act`] from the same value that it then hands on.

use tokio::time::Instant;

use super::App;
use crate::{
    error::Explain,
    ssh::{
        Error,
        async_command::{Command, CommandSpec},
        client::Target,
        forward::{ForwardSpec, policy},
        ids::{Owner, SessionId},
        session::Session,
    },
};

/// What a principal is about to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act<'a> {
    /// Open a session, or use one again: to the target, through the jump hosts, the nearest first.
    Connect(&'a Target, &'a [Target]),
    /// Run a command. The spec holds exactly the bytes that the login shell gets: command line, directory, input.
    Run(&'a Session, &'a CommandSpec),
    /// Open a forward.
    Forward(&'a Session, &'a ForwardSpec),
    /// Stop a command.
    Cancel(&'a Command),
    /// Close a session.
    Disconnect(&'a Session),
    /// Look at what is there: output, lists. Changes nothing.
    Read(&'static str),
}

/// An act that may be done. Its record is written when it ends, however it ends.
#[derive(Debug)]
#[must_use = "the act is recorded as given up when this is dropped"]
pub(super) struct Admitted {
    owner: Owner,
    name: &'static str,
    session: Option<SessionId>,
    target: Option<Target>,
    /// The jump hosts on the way to it, the nearest first.
    hops: Vec<Target>,
    /// What else tells one act from another. Never a command line: that is no matter for a log at `info`.
    what: String,
    begun: Instant,
    ended: bool,
}

impl App {
    /// Checks an act. One that is refused is recorded here.
    pub(super) fn admit(&self, owner: &Owner, act: Act<'_>) -> Result<Admitted, Error> {
        let admitted = Admitted::new(owner, act);
        match self.check(act) {
            Ok(()) => Ok(admitted),
            Err(error) => admitted.record(Err(error)),
        }
    }

    /// Admits a look at what is there.
    pub(super) fn read(&self, owner: &Owner, what: &'static str) -> Result<Admitted, Error> {
        self.admit(owner, Act::Read(what))
    }

    /// Rules over every act of everybody. How much each may have is asked where it is taken, since only there it is
    /// known whether something new is needed.
    fn check(&self, act: Act<'_>) -> Result<(), Error> {
        match act {
            Act::Connect(..) | Act::Run(..) | Act::Forward(..) if self.shutdown.is_cancelled() => Err(Error::Stopping),
            Act::Forward(session, spec) => {
                let own = self.own_port.get().copied().filter(|_| session.on_this_machine);
                policy::check(&self.settings.ssh.forward, spec, own)
            }
            Act::Connect(..) | Act::Run(..) | Act::Cancel(_) | Act::Disconnect(_) | Act::Read(_) => Ok(()),
        }
    }
}

impl Admitted {
    fn new(owner: &Owner, act: Act<'_>) -> Self {
        let of = |session: &Session| (Some(session.id), Some(session.target().clone()), session.hops().to_vec());
        let (name, (session, target, hops), what) = match act {
            Act::Connect(target, hops) => ("connect", (None, Some(target.clone()), hops.to_vec()), String::new()),
            Act::Run(session, spec) => ("run", of(session), format!("{} bytes", spec.command().len())),
            Act::Forward(session, spec) => {
                ("forward", of(session), format!("{}:{}", spec.remote_host, spec.remote_port))
            }
            Act::Cancel(command) => ("cancel", (Some(command.session_id), None, Vec::new()), command.id.to_string()),
            Act::Disconnect(session) => ("disconnect", of(session), String::new()),
            Act::Read(what) => ("read", (None, None, Vec::new()), what.to_owned()),
        };
        Self { owner: owner.clone(), name, session, target, hops, what, begun: Instant::now(), ended: false }
    }

    /// The session that came of it.
    pub(super) fn on(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// Writes the record, and hands the outcome on.
    pub(super) fn record<T>(mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        self.ended = true;
        self.write(outcome.as_ref().err().map_or("ok", |error| error.code().as_str()));
        outcome
    }

    fn write(&self, code: &str) {
        let Self { owner, name: act, what, .. } = self;
        let ms = self.begun.elapsed().as_millis();
        let (session, host) =
            (self.session.map(tracing::field::display), self.target.as_ref().map(tracing::field::display));
        if *act == "read" {
            tracing::debug!(principal = %owner, act, what, code, ms, "act");
        } else {
            let via = (!self.hops.is_empty()).then(|| Target::chain(&self.hops)).map(tracing::field::display);
            tracing::info!(principal = %owner, act, session, host, via, what, code, ms, "act");
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !self.ended {
            self.write("given_up");
        }
    }
}
