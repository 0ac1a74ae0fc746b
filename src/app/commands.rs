//! Verbs on commands.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    App, COMMANDS_PER_PAGE, Cancelled, CommandFilter, CommandPage, CommandRequest, CommandView, Offsets, OutputRequest,
    Until, Waiter, gate::Act,
};
use crate::config::vars;
use crate::ssh::{
    Error,
    async_command::{Command, CommandInfo, CommandSpec, Status},
    client::address::shorten,
    ids::{CommandId, Owner, SessionId},
    output::{Form, Pattern, Source, Turn, View, Watcher},
    quota::{Full, Limit, Scope, Thing},
    registry::Entry,
    session::{STOP_TIMEOUT, Session},
};

/// How long what came last may be looked through when the wait itself is over.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Longer than any command may run.
const EVER: Duration = Duration::from_secs(2 * 86_400);
/// How long a cancel waits for the end of the command: all that ending a tree may take on a host that falls silent
/// meanwhile, and the last signals, the grace after them and a little. Else its answer would be that it still runs.
const CANCEL_TIMEOUT: Duration = STOP_TIMEOUT.saturating_add(Duration::from_millis(1_900));
/// How far that may go beyond the answer limit: ending is worth trying. A call that takes 2 s more than the limit fails.
const CANCEL_OVERTIME: Duration = Duration::from_millis(1_500);

impl App {
    /// Runs a command and waits for its end, at most for the answer limit; then it goes on in the
    /// background. When the caller gives up first, the command is cancelled.
    ///
    /// # Errors
    ///
    /// Bad arguments, a session that is not there, and why the command did not start. One that was
    /// lost while it ran is a view that says so: it holds what had arrived.
    pub async fn run(
        &self,
        owner: &Owner,
        session: &str,
        request: CommandRequest,
        waiter: &Waiter,
    ) -> Result<CommandView, Error> {
        let form = request.form;
        let answer_by = Instant::now() + self.settings.answers.limit;
        let session = self.session(owner, session)?;
        let spec = self.command_spec(&session, request)?;
        let admitted = self.admit(owner, Act::Run(&session, &spec))?;
        admitted.record(self.run_on(&session, spec, (form, answer_by), waiter).await)
    }

    async fn run_on(
        &self,
        session: &Arc<Session>,
        spec: CommandSpec,
        (form, answer_by): (Form, Instant),
        waiter: &Waiter,
    ) -> Result<CommandView, Error> {
        let held = self.quotas.commands.reserve(&session.owner, Thing::Foreground)?;
        let command = self.keep(Command::start(session, spec, held, None));
        waiter.command.note(&command);
        tokio::select! {
            _ = command.ended_by(answer_by) => {}
            () = waiter.cancel.cancelled() => {
                command.cancel();
                command.ended_by(Instant::now() + CANCEL_TIMEOUT).await;
            }
        }
        let view = self.whole_view(&command, form).await;
        match view.info.error.as_deref() {
            Some(error) if !matches!(error, Error::OutcomeUnknown { .. }) => Err(error.clone()),
            _ => Ok(view),
        }
    }

    /// Starts a command in the background.
    ///
    /// # Errors
    ///
    /// Bad arguments, a session that is not there, `TooManyCommands`.
    pub async fn start(&self, owner: &Owner, session: &str, request: CommandRequest) -> Result<CommandInfo, Error> {
        Ok(self.started(owner, session, request)?.info())
    }

    /// Starts a command in the background and waits until `pattern` appears in its output, it has
    /// ended, or the answer limit is reached. It goes on if the caller gives up.
    ///
    /// # Errors
    ///
    /// As [`App::start`]. A command that did not start is a view that says so.
    pub async fn start_until(
        &self,
        owner: &Owner,
        session: &str,
        request: CommandRequest,
        pattern: &Pattern,
        waiter: &Waiter,
    ) -> Result<CommandView, Error> {
        let answer_by = Instant::now() + self.settings.answers.limit;
        let command = self.started(owner, session, request)?;
        waiter.command.note(&command);
        let until = self.appears(&command, pattern, looked_at(None), answer_by).await;
        Ok(CommandView { until: Some(until), ..self.whole_view(&command, Form::Text).await })
    }

    fn started(&self, owner: &Owner, session: &str, request: CommandRequest) -> Result<Arc<Command>, Error> {
        let session = self.session(owner, session)?;
        let spec = self.command_spec(&session, request)?;
        let admitted = self.admit(owner, Act::Run(&session, &spec))?;
        admitted.record(self.start_on(&session, spec))
    }

    fn start_on(&self, session: &Arc<Session>, spec: CommandSpec) -> Result<Arc<Command>, Error> {
        let limit = Limit { count: self.settings.ssh.max_commands, setting: vars::MAX_COMMANDS.env };
        let Some(slot) = session.background.reserve(limit.count) else {
            let running = self.running_ids(session.id);
            let full = Full { thing: Thing::Background, scope: Scope::Session, limit, in_use: limit.count };
            return Err(Error::TooManyCommands { full, running });
        };
        let held = self.quotas.commands.reserve(&session.owner, Thing::Background)?;
        Ok(self.keep(Command::start(session, spec, held, Some(slot))))
    }

    /// Keeps a command that was started. When it ends its output counts among what is retained.
    fn keep(&self, command: Arc<Command>) -> Arc<Command> {
        self.commands.insert(command.id, command.clone());
        let (commands, ending) = (self.commands.clone(), command.clone());
        self.tasks.spawn(async move {
            ending.ended_by(Instant::now() + EVER).await;
            commands.ended(&ending);
        });
        command
    }

    fn command_spec(&self, session: &Session, request: CommandRequest) -> Result<CommandSpec, Error> {
        let timeout = request.timeout.unwrap_or(session.choices.command_timeout);
        let spec = CommandSpec::new(request.command, request.cwd, request.stdin, timeout)?;
        Ok(spec.spilling_to(self.spill.clone()))
    }

    fn running_ids(&self, session: SessionId) -> Vec<CommandId> {
        let in_the_way =
            |command: &Command| command.session_id == session && command.background && command.is_running();
        let running = self.commands.list(in_the_way);
        running.iter().map(|command| command.id).collect()
    }

    /// State and output of a command; waits for its end, or until something appears, when asked to.
    ///
    /// # Errors
    ///
    /// `CommandNotFound`.
    pub async fn output(
        &self,
        owner: &Owner,
        id: &str,
        request: OutputRequest,
        waiter: &Waiter,
    ) -> Result<CommandView, Error> {
        let command = self.command(owner, id)?;
        let admitted = self.read(owner, "output")?;
        waiter.command.note(&command);
        let limit = self.settings.answers.limit;
        let (mut wait_limited_to, mut until) = (None, None);
        let view = match (request.stdout_offset, request.stderr_offset) {
            (None, None) => None,
            (stdout, stderr) => Some(View::From { stdout, stderr }),
        };
        if let Some(asked) = request.wait {
            let deadline = Instant::now() + asked.unwrap_or(limit).min(limit);
            wait_limited_to = (asked > Some(limit)).then_some(limit);
            match &request.until {
                Some(pattern) => until = Some(self.appears(&command, pattern, looked_at(view), deadline).await),
                None => drop(command.ended_by(deadline).await),
            }
        }
        let budget = request.max_bytes.unwrap_or(self.settings.answers.output_bytes);
        let view = view_of(&command, view, request.form, budget).await;
        admitted.record(Ok(CommandView { wait_limited_to, until, ..view }))
    }

    /// A command with its output as `view` shows it, at once.
    ///
    /// # Errors
    ///
    /// `CommandNotFound`.
    pub async fn look(&self, owner: &Owner, id: &str, view: View, budget: usize) -> Result<CommandView, Error> {
        let command = self.command(owner, id)?;
        let admitted = self.read(owner, "resource")?;
        admitted.record(Ok(view_of(&command, Some(view), Form::Text, budget).await))
    }

    /// The command itself, to follow its output.
    ///
    /// # Errors
    ///
    /// `CommandNotFound`.
    pub fn follow(&self, owner: &Owner, id: &str) -> Result<Arc<Command>, Error> {
        let command = self.command(owner, id)?;
        self.read(owner, "subscription")?.record(Ok(command))
    }

    /// Lists commands, newest first.
    ///
    /// # Errors
    ///
    /// `SessionNotFound` where the filter names a session that the caller never had.
    pub fn commands(&self, owner: &Owner, filter: &CommandFilter) -> Result<CommandPage, Error> {
        let session = match &filter.session_id {
            None => None,
            Some(id) => {
                let session = self.session_or_record(owner, id)?;
                session.touch();
                Some(session.id)
            }
        };
        let admitted = self.read(owner, "commands")?;
        let found = self.commands.list(|command| {
            command.owner() == owner
                && session.is_none_or(|session| command.session_id == session)
                && filter.status.is_none_or(|status| command.status() == status)
        });
        let more = found.len() > COMMANDS_PER_PAGE;
        let commands = found.iter().take(COMMANDS_PER_PAGE).map(|c| c.info()).collect();
        admitted.record(Ok(CommandPage { commands, more }))
    }

    /// Stops a command. One that has ended is left as it is.
    ///
    /// # Errors
    ///
    /// `CommandNotFound`.
    pub async fn cancel(&self, owner: &Owner, id: &str) -> Result<Cancelled, Error> {
        let command = self.command(owner, id)?;
        let admitted = self.admit(owner, Act::Cancel(&command))?;
        admitted.record(Ok(self.stop(&command).await))
    }

    async fn stop(&self, command: &Command) -> Cancelled {
        if command.is_running() {
            command.cancel();
            let bound = CANCEL_TIMEOUT.min(self.settings.answers.limit + CANCEL_OVERTIME);
            command.ended_by(Instant::now() + bound).await;
        } else {
            return Cancelled { cancelled: false, view: self.whole_view(command, Form::Text).await };
        }
        let view = self.whole_view(command, Form::Text).await;
        // It may have ended by itself in the moment before.
        Cancelled { cancelled: view.info.status == Status::Cancelled, view }
    }

    fn command(&self, owner: &Owner, id: &str) -> Result<Arc<Command>, Error> {
        let found = CommandId::parse(id).and_then(|id| self.commands.get(owner, &id));
        let command = found.ok_or_else(|| Error::CommandNotFound { id: shorten(id.trim()) })?;
        if let Some(session) = self.sessions.get(owner, &command.session_id) {
            session.touch();
        }
        Ok(command)
    }

    /// Waits until `pattern` appears from the offsets `from` on, the command has ended, or `deadline`.
    async fn appears(&self, command: &Command, pattern: &Pattern, from: Offsets, deadline: Instant) -> Until {
        let mut watcher = Watcher::new(pattern, from.stdout, from.stderr).taking(self.turn(command.owner()));
        let found = tokio::select! {
            found = watcher.appears(&command.output) => Some(found),
            _ = command.ended_by(deadline) => None,
        };
        let found = match found {
            // What came last may not have been looked at yet.
            None => {
                let by = deadline.max(Instant::now() + LAST_LOOK);
                tokio::time::timeout_at(by, watcher.look(&command.output, true)).await.ok().flatten()
            }
            found => found,
        };
        let on = |source| watcher.goes_on_from(source);
        let goes_on_from = Offsets { stdout: on(Source::Stdout), stderr: on(Source::Stderr) };
        Until { found, missed_bytes: watcher.missed(), goes_on_from }
    }

    fn turn(&self, owner: &Owner) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(owner.clone()).or_default().clone()
    }

    async fn whole_view(&self, command: &Command, form: Form) -> CommandView {
        view_of(command, None, form, self.settings.answers.output_bytes).await
    }
}

/// Without a `view`: the end of each stream while the command runs, then head and tail.
async fn view_of(command: &Command, view: Option<View>, form: Form, budget: usize) -> CommandView {
    // Before the output: what is shown then belongs to a state that is no older.
    let info = command.info();
    let ended = info.status != Status::Running;
    let view = view.unwrap_or(if ended { View::HeadAndTail } else { View::Tail });
    CommandView {
        output: command.output.view(view, form, budget, ended).await,
        info,
        wait_limited_to: None,
        until: None,
    }
}

/// The streams that an answer shows are those that are looked at, from where it shows them.
fn looked_at(view: Option<View>) -> Offsets {
    match view {
        Some(View::From { stdout, stderr }) => Offsets { stdout, stderr },
        _ => Offsets { stdout: Some(0), stderr: Some(0) },
    }
}
