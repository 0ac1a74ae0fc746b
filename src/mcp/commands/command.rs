//! Commands: `ssh_execute`, `ssh_execute_async`, `ssh_get_command_output`, `ssh_list_commands`,
//! `ssh_cancel_command`.

pub mod list;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tool::{Call, Reply};
use crate::{
    app::{Cancelled, CommandRequest, CommandView, OutputRequest},
    mcp::{
        failure::Failure,
        hints, notices,
        types::{Encoding, Exit, Page, Place, Problem, Ran, StatusWord, Text, ceil_secs, echoed, time},
    },
    ssh::{
        async_command::{CommandInfo, Status},
        output::Form,
    },
};

/// Parameters of `ssh_execute` and `ssh_execute_async`.
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
    let view = call.app.run(&call.owner, &session, request, &call.cancel).await?;
    Ok(execute_reply(view).notices(notice.into_iter().collect()))
}

/// The answer of `ssh_execute`.
#[must_use]
pub fn execute_reply(view: CommandView) -> Reply<ExecuteResult> {
    let hint = hint(&view);
    let (ran, error, notices) = (Ran::from(&view), Problem::of(&view.info), notices::of(&view));
    Reply::from(ExecuteResult { ran, error, text: view.output.into() }).hint(hint).notices(notices)
}

fn hint(view: &CommandView) -> Option<String> {
    let stderr = view.output.stderr.shown.as_ref().map_or("", |shown| &shown.text);
    hints::for_command(&view.info, stderr)
}

/// Result of `ssh_execute_async`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StartResult {
    /// The command.
    pub command_id: String,
    /// Where it runs.
    #[serde(flatten)]
    pub place: Place,
    /// The command line, cut to 200 characters.
    pub command: String,
    /// When it was started.
    pub started_at: String,
    /// How long it may run.
    pub timeout_secs: u64,
    /// When it will be ended.
    pub message: String,
}

pub(super) async fn start(call: Call, params: ExecuteParams) -> Result<Reply<StartResult>, Failure> {
    let (session, request) = params.request(Form::Text);
    Ok(start_reply(&call.app.start(&call.owner, &session, request).await?))
}

/// The answer of `ssh_execute_async`.
#[must_use]
pub fn start_reply(info: &CommandInfo) -> Reply<StartResult> {
    let timeout_secs = ceil_secs(info.timeout);
    let end = info.started_at + info.timeout;
    Reply::from(StartResult {
        command_id: info.id.to_string(),
        place: Place::new(info.session_id, &info.target),
        command: echoed(&info.command),
        started_at: time(info.started_at),
        timeout_secs,
        message: format!("started; it will be ended after {timeout_secs} s, at {}, if it still runs then", time(end)),
    })
    .hint(Some("Next: ssh_get_command_output with this command_id and wait=true.".into()))
}

/// Parameters of `ssh_get_command_output`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct OutputParams {
    /// command_id from ssh_execute_async or ssh_execute
    #[schemars(extend("x-trim" = true))]
    pub command_id: String,
    /// Wait for its end (default false; true if wait_timeout_secs is given)
    pub wait: Option<bool>,
    /// Longest wait; at most {answer_limit} (the default)
    #[schemars(range(min = 1, max = 86_400), extend("x-zero-unset" = true, "x-cut" = true))]
    pub wait_timeout_secs: Option<u64>,
    /// Read stdout from here: next_stdout_offset of the last answer
    pub stdout_offset: Option<u64>,
    /// Read stderr from here: next_stderr_offset of the last answer
    pub stderr_offset: Option<u64>,
    /// Bytes of output in the answer (default {output_bytes}; less while running)
    #[schemars(range(min = 1, max = 40_000), extend("x-zero-unset" = true))]
    pub max_bytes: Option<usize>,
    /// How its output is written.
    #[serde(flatten)]
    pub written: Written,
}

impl OutputParams {
    fn request(&self) -> OutputRequest {
        let waits = self.wait.unwrap_or(self.wait_timeout_secs.is_some());
        OutputRequest {
            wait: waits.then(|| self.wait_timeout_secs.map(Duration::from_secs)),
            stdout_offset: self.stdout_offset,
            stderr_offset: self.stderr_offset,
            max_bytes: self.max_bytes,
            form: self.written.form(),
        }
    }

    /// What was said and has no effect.
    fn notices(&self) -> Vec<String> {
        let vain = self.wait == Some(false) && self.wait_timeout_secs.is_some();
        let vain = vain.then(|| "wait_timeout_secs has no effect with wait=false.".to_owned());
        vain.into_iter().chain(self.written.notice()).collect()
    }
}

/// Result of `ssh_get_command_output`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OutputResult {
    /// The command as it stands.
    #[serde(flatten)]
    pub ran: Ran,
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
    let view = call.app.output(&call.owner, &params.command_id, params.request()).await?;
    let notices = [params.notices(), notices::of(&view)].concat();
    Ok(output_reply(view).notices(notices))
}

/// The answer of `ssh_get_command_output`.
#[must_use]
pub fn output_reply(view: CommandView) -> Reply<OutputResult> {
    let hint = hint(&view);
    let notices = notices::of(&view);
    let (ran, error) = (Ran::from(&view), Problem::of(&view.info));
    let CommandView { info, output, wait_limited_to } = view;
    Reply::from(OutputResult {
        ran,
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
