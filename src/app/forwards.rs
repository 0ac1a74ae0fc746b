//! Verbs on forwards.

use std::sync::Arc;

use tokio::time::Instant;

use super::{App, gate::Act};
use crate::{
    config::vars,
    ssh::{
        Error,
        client::ClientError,
        forward::{Forward, ForwardInfo, ForwardSpec},
        ids::Owner,
        quota::{Full, Limit, Scope, Thing},
        session::{Session, SessionInfo},
    },
};

impl App {
    /// Opens a local forward, or gives the one that is there already.
    ///
    /// # Errors
    ///
    /// Bad arguments, limits, `PortInUse`, `PortPermission`, and why connecting failed.
    pub async fn forward(
        &self,
        owner: &Owner,
        session: &str,
        spec: ForwardSpec,
    ) -> Result<(ForwardInfo, SessionInfo), Error> {
        let session = self.session(owner, session)?;
        let admitted = self.admit(owner, Act::Forward(&session, &spec))?;
        let forwarded = async {
            tokio::select! {
                forwarded = self.forward_on(&session, spec) => forwarded,
                // Nobody is to wait for the connection of a session that another call has closed.
                () = session.token.cancelled() => Err(session.closed_error().unwrap_or(Error::Stopping)),
            }
        };
        admitted.record(self.unless_stopping(forwarded).await)
    }

    async fn forward_on(&self, session: &Arc<Session>, spec: ForwardSpec) -> Result<(ForwardInfo, SessionInfo), Error> {
        let timeout = self.settings.ssh.connect_timeout.min(self.settings.answers.limit);
        let deadline = Instant::now() + timeout;
        // One at a time, so that two equal requests give one forward.
        let _forwarding = session.forwarding.lock().await;
        if !session.connections.is_connected() {
            // A use of the session like any other: one that was lost connects again, for all its forwards.
            let connected = tokio::time::timeout_at(deadline, session.connections.ensure()).await;
            let target = session.target().clone();
            let timed_out = |_| ClientError::Timeout { target, after: timeout, last: None };
            connected.map_err(|elapsed| Error::Client(Arc::new(timed_out(elapsed)), 0))??;
        }
        let open = self.forwards_of(session.id);
        if let Some(same) = open.iter().find(|forward| forward.serves(&spec)) {
            return Ok((same.info(), self.session_info(session)));
        }
        let limit = Limit { count: self.settings.ssh.limits.session_forwards, setting: vars::MAX_FORWARDS.env };
        if open.len() >= limit.count {
            return Err(Full { thing: Thing::Forward, scope: Scope::Session, limit, in_use: open.len() }.into());
        }
        let held = self.quotas.forwards.reserve(&session.owner, Thing::Forward)?;
        let forward = Forward::open(session, spec, held, deadline).await?;
        self.forwards.insert(forward.id, forward.clone());
        Ok((forward.info(), self.session_info(session)))
    }
}
