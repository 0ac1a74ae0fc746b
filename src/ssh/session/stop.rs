//! Ending remote process trees: one short command on the host for all that are to end at once.
//!
//! SSH has a signal request, but it reaches one process group at most, does nothing where the login
//! is root's, and nothing acknowledges it. The script in `stop.sh` does the rest and says what is left.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::connections::{Connections, Place};
use crate::ssh::exec::{Ended, capture};

/// From TERM to KILL.
pub(crate) const GRACE: Duration = Duration::from_millis(800);
/// From TERM to KILL when this process ends, which has little time itself.
pub(crate) const SHORT_GRACE: Duration = Duration::from_millis(250);
/// How long everything may take: the grace, the end after KILL, the command on the host.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_millis(2_600);
/// Stops that are asked for within this time go out as one command.
const GATHERING: Duration = Duration::from_millis(3);
/// How often the script is run at most. Dropbear may close a new channel at once, without running anything,
/// when another command of the connection ends at that moment.
const ATTEMPTS: usize = 3;
/// A step of the script's waiting.
const STEP: Duration = Duration::from_millis(50);

const SCRIPT: &str = include_str!("stop.sh");

/// Gathers the stops of a session.
#[derive(Debug, Default)]
pub(crate) struct Stopper {
    /// By connection: behind one address may stand several machines, and a process id means nothing on another.
    gathering: Mutex<HashMap<usize, Batch>>,
}

#[derive(Debug)]
struct Batch {
    pids: Vec<u32>,
    done: watch::Sender<Option<HashMap<u32, Ended>>>,
}

impl Stopper {
    /// Ends the tree of the login shell `pid`, whose channel holds `place`.
    pub(crate) async fn stop(&self, connections: &Connections, place: &Place, pid: u32, grace: Duration) -> Ended {
        let connection = place.connection_id();
        let (mut done, first) = self.join(connection, pid);
        if first {
            tokio::time::sleep(GATHERING).await;
            let gathered = self.gathering.lock().unwrap_or_else(PoisonError::into_inner).remove(&connection);
            if let Some(batch) = gathered {
                let ended = end(connections, place, &batch.pids, grace).await;
                batch.done.send_replace(Some(ended));
            }
        }
        let ended = done.wait_for(Option::is_some).await;
        ended.ok().and_then(|ended| ended.as_ref()?.get(&pid).cloned()).unwrap_or_default()
    }

    /// Joins the batch that is being gathered; whether it is new, which makes the caller run it.
    fn join(&self, connection: usize, pid: u32) -> (watch::Receiver<Option<HashMap<u32, Ended>>>, bool) {
        let mut gathering = self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !gathering.contains_key(&connection);
        let new = || Batch { pids: Vec::new(), done: watch::Sender::new(None) };
        let batch = gathering.entry(connection).or_insert_with(new);
        batch.pids.push(pid);
        (batch.done.subscribe(), first)
    }
}

async fn end(connections: &Connections, place: &Place, pids: &[u32], grace: Duration) -> HashMap<u32, Ended> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut ended = HashMap::new();
    for _ in 0..ATTEMPTS {
        let missing: Vec<_> = pids.iter().copied().filter(|pid| !ended.contains_key(pid)).collect();
        if missing.is_empty() || Instant::now() >= deadline {
            break;
        }
        let Some(report) = ask(connections, place, &missing, grace, deadline).await else { break };
        ended.extend(report);
    }
    ended
}

/// Runs the script once; none where no channel could be had.
async fn ask(
    connections: &Connections,
    place: &Place,
    pids: &[u32],
    grace: Duration,
    deadline: Instant,
) -> Option<HashMap<u32, Ended>> {
    let nonce = Uuid::new_v4().simple().to_string();
    let steps = grace.as_millis() / STEP.as_millis();
    let targets: String = pids.iter().map(|pid| format!(" {pid}")).collect();
    let line = format!("exec sh -s -- {nonce} {steps}{targets}");
    let opened = tokio::time::timeout_at(deadline, connections.open_for_stop(place)).await;
    let Ok(Some((channel, _stop_place))) = opened else {
        tracing::warn!(commands = pids.len(), "no channel to end remote processes over");
        return None;
    };
    let report = capture(channel, &line, SCRIPT, deadline).await.unwrap_or_default();
    Some(report.lines().filter_map(|line| read(line.strip_prefix(&nonce)?)).collect())
}

/// Reads `pid left detached...`.
fn read(line: &str) -> Option<(u32, Ended)> {
    let mut numbers = line.split_whitespace().map(str::parse::<u32>);
    let (pid, left) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((pid, Ended { confirmed: left == 0, detached: numbers.filter_map(Result::ok).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_script_reports() {
        assert_eq!(read(" 4711 0"), Some((4711, Ended { confirmed: true, detached: vec![] })));
        assert_eq!(read(" 4711 2 12 13"), Some((4711, Ended { confirmed: false, detached: vec![12, 13] })));
        assert_eq!(read(" 4711"), None);
        assert_eq!(read(" x 0"), None);
    }
}
