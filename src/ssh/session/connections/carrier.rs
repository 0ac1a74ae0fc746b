//! The connection that carries forwards.

use std::{ops::Deref, sync::Arc};

use tokio::time::Instant;

use super::{Connections, pool::Pooled};
use crate::ssh::{
    Error,
    client::{ClientError, Connection, Typed},
};

/// A connection that carries forwards, and who else uses it.
#[derive(Debug)]
pub(crate) struct Carrier {
    of: Of,
    is_shared: bool,
}

#[derive(Debug)]
enum Of {
    Forwards(Box<Connection>),
    Commands(Arc<Pooled>),
}

impl Connections {
    /// A connection for a forward: one that shares nothing with others, jump hosts included, since its reader may be
    /// slow. Where that cannot be had without a person, as much is shared as they typed a code for.
    pub(crate) async fn carrier(&self, deadline: Instant) -> Result<Carrier, Error> {
        if self.typed != Typed::AtTheEnd {
            let is_shared = self.typed == Typed::OnTheWay;
            match self.dial_reaching(is_shared, deadline).await {
                Ok(connection) => return Ok(Carrier { of: Of::Forwards(Box::new(connection)), is_shared }),
                Err(Error::Client(error, _)) if error.needed_answers().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        let pooled = self.pool.any().ok_or_else(|| self.lost())?;
        Ok(Carrier { of: Of::Commands(pooled), is_shared: true })
    }
}

impl Connections {
    /// Why the session is not connected anew. Only `ssh_connect` asks a person.
    pub(super) fn not_again(&self, error: Arc<ClientError>, retries: u32) -> Error {
        if error.needed_answers().is_some() {
            return Error::NeedsUser { target: self.target.clone(), needed: error };
        }
        Error::Client(error, retries)
    }
}

impl Carrier {
    /// Whether a reader that is slow holds up others too.
    pub(crate) const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The connection, where it is there for forwards alone and ends with them.
    pub(crate) fn own(&self) -> Option<&Connection> {
        match &self.of {
            Of::Forwards(connection) => Some(connection),
            Of::Commands(_) => None,
        }
    }
}

impl Deref for Carrier {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match &self.of {
            Of::Forwards(connection) => connection,
            Of::Commands(pooled) => &pooled.connection,
        }
    }
}
