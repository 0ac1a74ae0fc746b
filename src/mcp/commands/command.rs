//! Commands: `ssh_execute`, `ssh_execute_async`, `ssh_get_command_output`, `ssh_list_commands`,
//! `ssh_cancel_command`.

pub mod list;
mod start;
mod until;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use self::start::start;
pub use self::{
    start::{StartParams, StartResult, start_reply, started_until_reply},
    until::{UntilParams, UntilResult},
};
use super::tool::{Call, Reply};
use crate::{
    app::{Cancelled, CommandRequest, CommandView, OutputRequest},
    mcp::{
        failure::Failure,
        hints, notices,
        types::{Encoding, Exit, Page, Place, Problem, Ran, StatusWord, Text, ceil_secs, echoed},
    },
    ssh::{async_command::Status, output::Form},
};

/// Parameters of `ssh_execute`, and of `ssh_execute_async` among others.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ExecuteParams {
    /// session_id from ssh_connect (a UUID, not the name)
    #[schemars(extend("x-trim" = true))]
    pub session_id: String,
    /// Command line for the login shell
    pub command: String,
    /// Directory to run it in
    pub cwd: Option<String>,
    /// It is ended after this time (default {command_timeout})
    #[schemars(range(min = 1, max = 86_400), extend("x-zero-unset" = true))]
    pub timeout_secs: Option<u64>,
    /// Text for stdin, then end-of-file
    pub stdin: Option<String>,
}

impl ExecuteParams {
    fn request(self, form: Form) -> (String, CommandRequest) {
        let timeout = self.timeout_secs.map(Duration::from_secs);
        (self.session_id, CommandRequest { command: self.command, cwd: self.cwd, timeout, stdin: self.stdin, form })
    }
}

/// Parameters of `ssh_execute`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RunParams {
    /// What is run.
    #[serde(flatten)]
    pub execute: ExecuteParams,
    /// How its output is written.
    #[serde(flatten)]
    pub written: Written,
}

/// How output is written in an answer.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Written {
    /// base64: exact bytes
    #[schemars(extend("x-trim" = true))]
    pub encoding: Option<Encoding>,
    /// Keep control sequences
    pub raw: Option<bool>,
}

impl Written {
    fn form(&self) -> Form {
        self.encoding.unwrap_or_default().form(self.raw == Some(true))
    }

    /// What was said and has no effect.
    fn notice(&self) -> Option<String> {
        let vain = self.raw == Some(true) && self.encoding == Some(Encoding::Base64);
        vain.then(|| "raw has no effect with encoding=base64.".to_owned())
    }
}

/// Result of `ssh_execute`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExecuteResult {
    /// The command as it stands.
    #[serde(flatten)]
    pub ran: Ran,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Its output.
    #[serde(flatten)]
    pub text: Text,
}

pub(super) async fn execute(call: Call, params: RunParams) -> Result<Reply<ExecuteResult>, Failure> {
    let notice = params.written.notice();
    let (session, request) = params.execute.request(params.written.form());
    let view = call.app.run(&call.owner, &session, request, &call.waiter).await?;
    Ok(execute_reply(view).notices(notice.into_iter().collect()))
}

/// The answer of `ssh_execute`.
#[must_use]
pub fn execute_reply(view: CommandView) -> Reply<ExecuteResult> {
    let hint = hint(&view);
    let notices = [notices::of(&view), notices::for_command_line(&view.info)].concat();
    let (ran, error) = (Ran::from(&view), Problem::of(&view.info));
    Reply::from(ExecuteResult { ran, error, text: view.output.into() }).hint(hint).notices(notices)
}

fn hint(view: &CommandView) -> Option<String> {
    let stderr = view.output.stderr.shown.as_ref().map_or("", |shown| &shown.text);
    until::hint(view).or_else(|| hints::for_command(&view.info, stderr))
}

/// Parameters of `ssh_get_command_output`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OutputParams {
    /// command_id from ssh_execute_async or ssh_execute
    #[schemars(extend("x-trim" = true))]
    pub command_id: String,
    /// Wait for its end (implied by wait_timeout_secs and until)
    pub wait: Option<bool>,
    /// Longest wait; at most {answer_limit} (the default)
    #[schemars(range(min = 1, max = 86_400), extend("x-zero-unset" = true, "x-cut" = true))]
    pub wait_timeout_secs: Option<u64>,
    /// Read stdout from here (the last next_stdout_offset)
    pub stdout_offset: Option<u64>,
    /// Read stderr from here (the last next_stderr_offset)
    pub stderr_offset: Option<u64>,
    /// Bytes of output in the answer (default {output_bytes})
    #[schemars(range(min = 1, max = 40_000), extend("x-zero-unset" = true))]
    pub max_bytes: Option<usize>,
    /// How its output is written.
    #[serde(flatten)]
    pub written: Written,
    /// What to wait for.
    #[serde(flatten)]
    pub until: UntilParams,
}

impl OutputParams {
    fn request(&self) -> Result<OutputRequest, Failure> {
        let waits = self.until.is_given() || self.wait.unwrap_or(self.wait_timeout_secs.is_some());
        Ok(OutputRequest {
            wait: waits.then(|| self.wait_timeout_secs.map(Duration::from_secs)),
            stdout_offset: self.stdout_offset,
            stderr_offset: self.stderr_offset,
            max_bytes: self.max_bytes,
            form: self.written.form(),
            until: self.until.pattern()?,
        })
    }

    /// What was said and has no effect.
    fn notices(&self) -> Vec<String> {
        let notice = match (self.wait, self.until.is_given(), self.wait_timeout_secs) {
            (Some(false), true, _) => Some("wait=false has no effect with until or until_regex."),
            (Some(false), false, Some(_)) => Some("wait_timeout_secs has no effect with wait=false."),
            _ => None,
        };
        notice.map(ToOwned::to_owned).into_iter().chain(self.written.notice()).collect()
    }
}

/// Result of `ssh_get_command_output`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OutputResult {
    /// The command as it stands.
    #[serde(flatten)]
    pub ran: Ran,
    /// What became of a wait for something in the output.
    #[serde(flatten)]
    pub until: Option<UntilResult>,
    /// Offset at which stdout of this answer begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_offset: Option<u64>,
    /// Offset at which stderr of this answer begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_offset: Option<u64>,
    /// The wait was cut to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_limited_to_secs: Option<u64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// The command line, cut to 200 characters.
    pub command: String,
    /// Its output.
    #[serde(flatten)]
    pub text: Text,
}

pub(super) async fn output(call: Call, params: OutputParams) -> Result<Reply<OutputResult>, Failure> {
    let view = call.app.output(&call.owner, &params.command_id, params.request()?, &call.waiter).await?;
    let said = [params.notices(), until::notices(view.until.as_ref())].concat();
    Ok(output_reply(view).notices(said))
}

/// The answer of `ssh_get_command_output`.
#[must_use]
pub fn output_reply(view: CommandView) -> Reply<OutputResult> {
    let hint = hint(&view);
    let notices = notices::of(&view);
    let (ran, error) = (Ran::from(&view), Problem::of(&view.info));
    let CommandView { info, output, wait_limited_to, until } = view;
    Reply::from(OutputResult {
        ran,
        until: UntilResult::of(until.as_ref()),
        stdout_offset: output.stdout.shown.as_ref().map(|shown| shown.offset),
        stderr_offset: output.stderr.shown.as_ref().map(|shown| shown.offset),
        wait_limited_to_secs: wait_limited_to.map(ceil_secs),
        error,
        command: echoed(&info.command),
        text: output.into(),
    })
    .hint(hint)
    .notices(notices)
}

/// Parameters of `ssh_cancel_command`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct CancelParams {
    /// command_id of the command to stop
    #[schemars(extend("x-trim" = true))]
    pub command_id: String,
}

/// Result of `ssh_cancel_command`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CancelResult {
    /// The command.
    pub command_id: String,
    /// It was stopped by this call; false when it had ended before.
    pub cancelled: bool,
    /// Where it stands.
    pub status: StatusWord,
    /// The end of the remote process was confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ended: Option<bool>,
    /// What was done.
    pub message: String,
    /// How it ended.
    #[serde(flatten)]
    pub exit: Exit,
    /// Where it ran.
    #[serde(flatten)]
    pub place: Place,
    /// How long it has run.
    pub duration_ms: u64,
    /// What is shown of its output.
    #[serde(flatten)]
    pub page: Page,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Its output.
    #[serde(flatten)]
    pub text: Text,
}

pub(super) async fn cancel(call: Call, params: CancelParams) -> Result<Reply<CancelResult>, Failure> {
    Ok(cancel_reply(call.app.cancel(&call.owner, &params.command_id).await?))
}

/// The answer of `ssh_cancel_command`.
#[must_use]
pub fn cancel_reply(done: Cancelled) -> Reply<CancelResult> {
    let hint = hint(&done.view);
    let ran = Ran::from(&done.view);
    let (message, notices) = (cancel_message(&done), notices::of(&done.view));
    let CommandView { info, output, .. } = done.view;
    Reply::from(CancelResult {
        command_id: ran.command_id,
        cancelled: done.cancelled,
        status: ran.status,
        remote_ended: info.remote_ended,
        message: message.into(),
        exit: ran.exit,
        place: ran.place,
        duration_ms: ran.duration_ms,
        page: ran.page,
        error: Problem::of(&info),
        text: output.into(),
    })
    .hint(hint)
    .notices(notices)
}

fn cancel_message(done: &Cancelled) -> &'static str {
    match (done.cancelled, done.view.info.status, done.view.info.remote_ended) {
        (false, Status::Running, _) => "the command still runs",
        (false, ..) => "the command had ended before; nothing was changed",
        (true, _, Some(false)) => "the command was told to stop; its end could not be confirmed",
        (true, ..) => "the command was stopped",
    }
}
