//! Who is told when a stream has grown: at most once a second, and once more when its command has ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rmcp::{
    ErrorData, Peer, RoleServer,
    model::{ErrorCode, ResourceUpdatedNotificationParam},
    service::SubscriptionContext,
};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::{Uri, not_found};
use crate::{
    app::App,
    ssh::{async_command::Command, ids::Owner, output::Source},
};

/// Subscriptions of one connection.
pub const MAX_SUBSCRIPTIONS: usize = 64;

/// Time between two notifications about one stream at least.
const EVERY: Duration = Duration::from_secs(1);

/// Longer than any command may run.
const EVER: Duration = Duration::from_secs(2 * 86_400);

/// The subscriptions of one connection. They end with it: dropping this ends their tasks.
#[derive(Debug, Default)]
pub struct Subscriptions(Mutex<HashMap<String, AbortOnDropHandle<()>>>);

impl Subscriptions {
    /// Tells `peer` from now on when the stream behind `address` grows.
    ///
    /// # Errors
    ///
    /// `resource not found`, and where there are too many.
    pub fn add(&self, app: &App, owner: &Owner, address: String, peer: Peer<RoleServer>) -> Result<(), ErrorData> {
        let (command, source) = followed(app, owner, &address).ok_or_else(|| not_found(&address))?;
        let mut tasks = self.tasks();
        tasks.retain(|_, task| !task.is_finished());
        if tasks.len() >= MAX_SUBSCRIPTIONS && !tasks.contains_key(&address) {
            let message = format!("{MAX_SUBSCRIPTIONS} subscriptions are open, which is the limit: end one first");
            return Err(ErrorData::new(ErrorCode::INVALID_REQUEST, message, None));
        }
        let param = ResourceUpdatedNotificationParam::new(address.clone());
        let task = tokio::spawn(follow(command, source, async move || {
            peer.notify_resource_updated(param.clone()).await.is_ok()
        }));
        // An earlier one for the same address ends here.
        tasks.insert(address, AbortOnDropHandle::new(task));
        Ok(())
    }

    /// Ends the subscription to `address`, if there is one.
    pub fn remove(&self, address: &str) {
        self.tasks().remove(address);
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, AbortOnDropHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one `subscriptions/listen` (2026-07-28) until it is cancelled or all its commands have ended.
/// An address of somebody else's command is silent, as that of one that does not exist.
pub async fn follow_all(app: &App, owner: &Owner, context: &SubscriptionContext) {
    let addresses = context.accepted().resource_subscriptions.iter().flatten();
    let following = addresses.filter_map(|address| {
        let (command, source) = followed(app, owner, address)?;
        let (sink, address) = (context.sink().clone(), address.clone());
        Some(follow(command, source, async move || sink.notify_resource_updated(address.clone()).await.is_ok()))
    });
    tokio::select! {
        _ = futures_util::future::join_all(following) => {}
        () = context.cancelled() => {}
    }
}

fn followed(app: &App, owner: &Owner, address: &str) -> Option<(Arc<Command>, Source)> {
    let uri = Uri::parse(address)?;
    Some((app.follow(owner, &uri.command_id).ok()?, uri.source))
}

/// Calls `tell` when the stream has grown, until the command has ended or nobody listens.
async fn follow(command: Arc<Command>, source: Source, tell: impl AsyncFn() -> bool) {
    let ever = Instant::now() + EVER;
    let mut seen = command.output.total(source);
    loop {
        tokio::select! {
            total = command.output.grown(source, seen) => seen = total,
            _ = command.ended_by(ever) => break,
        }
        if !tell().await {
            return;
        }
        // A pause, unless the end comes first.
        if timeout_at(Instant::now() + EVERY, command.ended_by(ever)).await.is_ok() {
            break;
        }
    }
    tell().await;
}
