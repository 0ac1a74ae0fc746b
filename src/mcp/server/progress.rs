//! Progress of long calls, for clients that asked for it. Nothing depends on it.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use rmcp::{RoleServer, model::ProgressNotificationParam, service::RequestContext};

/// Time between two notifications.
const EVERY: Duration = Duration::from_secs(5);

/// Does `work`, and tells the seconds it has taken so far where the client gave a token.
pub(super) async fn reported<T>(context: &RequestContext<RoleServer>, work: impl Future<Output = T>) -> T {
    let Some(token) = context.meta.get_progress_token() else {
        return work.await;
    };
    let started = Instant::now();
    let mut work = pin!(work);
    loop {
        let tell = async {
            tokio::time::sleep(EVERY).await;
            let param = ProgressNotificationParam::new(token.clone(), started.elapsed().as_secs_f64().round());
            // A client that does not listen gets its answer all the same.
            drop(context.peer.notify_progress(param).await);
        };
        tokio::select! {
            done = &mut work => return done,
            () = tell => {}
        }
    }
}
