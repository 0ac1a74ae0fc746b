//! Background commands: `ssh_execute_async`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Call, ExecuteParams, Reply, UntilParams, UntilResult, hint, until};
use crate::{
    app::CommandView,
    mcp::{
        failure::Failure,
        notices,
        types::{Exit, Page, Place, Problem, StatusWord, Text, ceil_secs, echoed, time},
    },
    ssh::{async_command::CommandInfo, output::Form},
};

/// Parameters of `ssh_execute_async`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct StartParams {
    /// What to run.
    #[serde(flatten)]
    pub run: ExecuteParams,
    /// What to wait for.
    #[serde(flatten)]
    pub until: UntilParams,
}

/// Result of `ssh_execute_async`.
///
/// What stands there only after a wait is not in the schema: it is that of `ssh_get_command_output`,
/// and the list of tools is paid for in every conversation.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StartResult {
    /// The command.
    pub command_id: String,
    /// Where it stands after a wait.
    #[serde(flatten)]
    #[schemars(skip)]
    pub waited: Option<Waited>,
    /// Where it runs.
    #[serde(flatten)]
    pub place: Place,
    /// The command line, cut to 200 characters.
    pub command: String,
    /// When it was started.
    pub started_at: String,
    /// How long it may run.
    pub timeout_secs: u64,
    /// When it will be ended. With until or until_regex there are also the fields of ssh_get_command_output.
    pub message: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub error: Option<Problem>,
    /// Its output.
    #[serde(flatten)]
    #[schemars(skip)]
    pub text: Option<Text>,
}

/// Where a command stands after a wait.
#[derive(Debug, Serialize)]
pub struct Waited {
    /// Where it stands.
    pub status: StatusWord,
    /// What became of the wait.
    #[serde(flatten)]
    pub until: Option<UntilResult>,
    /// How it ended.
    #[serde(flatten)]
    pub exit: Exit,
    /// What is shown of its output.
    #[serde(flatten)]
    pub page: Page,
}

pub(in crate::mcp::commands) async fn start(call: Call, params: StartParams) -> Result<Reply<StartResult>, Failure> {
    let pattern = params.until.pattern()?;
    let (session, request) = params.run.request(Form::Text);
    let reply = match pattern {
        None => start_reply(&call.app.start(&call.owner, &session, request).await?),
        Some(pattern) => {
            let view = call.app.start_until(&call.owner, &session, request, &pattern, &call.waiter).await?;
            started_until_reply(view)
        }
    };
    Ok(reply)
}

/// The answer of `ssh_execute_async`.
#[must_use]
pub fn start_reply(info: &CommandInfo) -> Reply<StartResult> {
    Reply::from(started(info))
        .hint(Some("Next: ssh_get_command_output with this command_id and wait=true.".into()))
        .notices(notices::for_command_line(info))
}

/// The answer of `ssh_execute_async` that has waited for something in the output.
#[must_use]
pub fn started_until_reply(view: CommandView) -> Reply<StartResult> {
    let (hint, notices) = (hint(&view), notices::of(&view));
    let CommandView { info, output, until, .. } = view;
    let waited = Waited {
        status: info.status.into(),
        until: UntilResult::of(until.as_ref()),
        exit: (&info).into(),
        page: (&output).into(),
    };
    let (error, text) = (Problem::of(&info), Some(output.into()));
    let notices = [notices, notices::for_command_line(&info), until::notices(until.as_ref())].concat();
    Reply::from(StartResult { waited: Some(waited), error, text, ..started(&info) }).hint(hint).notices(notices)
}

fn started(info: &CommandInfo) -> StartResult {
    let timeout_secs = ceil_secs(info.timeout);
    let end = time(info.started_at + info.timeout);
    let message = match info.ended_at {
        None => format!("started; it will be ended after {timeout_secs} s, at {end}, if it still runs then"),
        Some(at) => format!("started; it ended at {}", time(at)),
    };
    StartResult {
        command_id: info.id.to_string(),
        waited: None,
        place: Place::new(info.session_id, &info.target),
        command: echoed(&info.command),
        started_at: time(info.started_at),
        timeout_secs,
        message,
        error: None,
        text: None,
    }
}
