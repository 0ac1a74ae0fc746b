//! The one pump: channel -> [`OutputBuffer`] -> [`Exit`]. Foreground and background commands alike.
//!
//! The pump never waits for a reader: one unread channel would freeze its whole connection.

mod capture;
mod cutter;
mod feed;
mod preamble;
mod pump;

use std::{sync::Arc, time::Duration};

use russh::{ChannelWriteHalf, client::Msg};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use self::pump::Pump;
pub(crate) use self::{
    capture::capture,
    preamble::{Preamble, Shell},
};
use super::{
    client::{AgentForward, Channel, Environment},
    output::OutputBuffer,
};

/// How long the end of a process is waited for after the last thing that was done to it.
const LAST_GRACE: Duration = Duration::from_millis(400);

/// What is run.
pub(crate) struct Exec {
    /// The command line.
    pub(crate) command: String,
    /// Standard input; end-of-file at once where it is empty.
    pub(crate) stdin: Vec<u8>,
    /// What stands before it, if anything.
    pub(crate) preamble: Option<Preamble>,
    /// Variables that it is given. Most servers take few (`AcceptEnv`) and say nothing about the others.
    pub(crate) environment: Environment,
    /// The agent that it may use.
    pub(crate) agent: Option<Arc<AgentForward>>,
}

/// What ends a command from our side.
pub(crate) struct Stop {
    /// When its time is up.
    pub(crate) deadline: Instant,
    /// Fires on cancel and on disconnect.
    pub(crate) token: CancellationToken,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: Option<u32>,
    pub(crate) signal: Option<String>,
    pub(crate) cause: Cause,
    /// After a stop: what became of the process tree.
    pub(crate) ended: Ended,
    /// It ended, but something that it started still holds its output.
    pub(crate) output_held: bool,
    /// It ended, and the connection was lost before all of its output had come.
    pub(crate) output_cut: bool,
    /// The server did not take the agent; told once for each connection.
    pub(crate) agent_refused: bool,
}

/// Why the pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The command ended by itself.
    Ended,
    /// It ran longer than allowed.
    TimedOut,
    /// Cancel or disconnect.
    Stopped,
    /// The connection was lost.
    Lost,
    /// The connection was lost before the command was asked for.
    NotStarted,
    /// The server refused the request.
    Refused,
    /// The directory does not exist; nothing was run.
    NoSuchDirectory,
}

/// What became of a process tree that was to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Nothing of it runs any more, as far as the host could tell.
    pub(crate) confirmed: bool,
    /// Processes that left its session (`setsid`) and go on.
    pub(crate) detached: Vec<u32>,
}

/// Runs `exec` on a fresh channel until it ends or `stop` ends it. `beside` is what its connection does for it beside
/// the channel: the first ends the process tree of a login shell, the second asks the server for an answer, and so for
/// all that it sent before, and tells whether one came; the third says that nothing is read until its result is dropped.
pub(crate) async fn run<F: Future<Output = Ended>, G: Future<Output = bool>, H>(
    channel: Channel,
    exec: Exec,
    output: &OutputBuffer,
    stop: Stop,
    beside: (impl Fn(u32) -> F, impl Fn() -> G, impl Fn() -> H),
) -> Exit {
    let (mut read, write) = channel.split();
    let preamble = exec.preamble.map(Arc::new);
    let line = preamble.as_ref().map_or_else(|| exec.command.clone(), |preamble| preamble.line(&exec.command));
    let mut pump = Pump::new(&write, output, preamble);
    if let Some(agent) = &exec.agent {
        // Has a limit of its own.
        tokio::select! {
            refused = agent.offer(&mut read, &write) => pump.agent_refused = refused,
            () = stop.token.cancelled() => return never_asked(pump, &write, Cause::Stopped).await,
            () = sleep_until(stop.deadline) => return never_asked(pump, &write, Cause::TimedOut).await,
        }
    }
    let asked = timeout_at(stop.deadline, ask(&write, &exec.environment, line)).await;
    if !matches!(asked, Ok(Ok(()))) {
        return pump.exit(Cause::NotStarted);
    }
    let cause = pump.run(&mut read, exec.stdin, &stop, beside).await;
    pump.flush();
    if !pump.closed && !pump.lost {
        // The server's own Close is not waited for: russh would not report it.
        let _ = timeout(LAST_GRACE, write.close()).await;
    }
    pump.exit(cause)
}

/// Nothing was asked for, so nothing runs.
async fn never_asked(pump: Pump<'_>, write: &ChannelWriteHalf<Msg>, cause: Cause) -> Exit {
    let _ = timeout(LAST_GRACE, write.close()).await;
    Exit { ended: Ended { confirmed: true, detached: Vec::new() }, ..pump.exit(cause) }
}

async fn ask(write: &ChannelWriteHalf<Msg>, environment: &Environment, line: String) -> Result<(), russh::Error> {
    for (name, value) in environment.0.iter() {
        write.set_env(false, name.as_str(), value.expose()).await?;
    }
    write.exec(true, line).await
}
