//! Progress of long calls, for clients that asked for it. Nothing depends on it.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use rmcp::{
    Peer, RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
    service::RequestContext,
};

use crate::{app::Awaited, ssh::output::Latest};

/// Time between two notifications at least. Progress is told in whole seconds, and has to increase.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two notifications at most.
const AT_LEAST_EVERY: u32 = 5;

/// Does `work`, and tells the seconds it has taken so far where the client gave a token: with the
/// latest line of the command that it waits for, when there is a new one and every five seconds.
pub(super) async fn reported<T>(
    context: &RequestContext<RoleServer>,
    command: &Awaited,
    work: impl Future<Output = T>,
) -> T {
    let Some(token) = context.meta.get_progress_token() else {
        return work.await;
    };
    tokio::select! {
        done = work => done,
        never = tell(&context.peer, &token, command) => match never {},
    }
}

async fn tell(peer: &Peer<RoleServer>, token: &ProgressToken, command: &Awaited) -> Infallible {
    let (started, mut latest, mut silent) = (Instant::now(), Latest::default(), 0);
    let mut shown = None;
    loop {
        tokio::time::sleep(EVERY).await;
        silent += 1;
        let line = match command.get() {
            Some(command) => latest.line(&command.output).await,
            None => None,
        };
        if line.is_none() && silent < AT_LEAST_EVERY {
            continue;
        }
        silent = 0;
        shown = line.or(shown);
        let mut param = ProgressNotificationParam::new(token.clone(), started.elapsed().as_secs_f64().round());
        param.message.clone_from(&shown);
        // A client that does not listen gets its answer all the same.
        drop(peer.notify_progress(param).await);
    }
}
