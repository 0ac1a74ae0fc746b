//! What a connection is made of: the target, the jump hosts before it, and the proxy before those.

use std::{net::IpAddr, time::Duration};

use super::{App, ConnectRequest};
use crate::ssh::{
    Error,
    client::{
        ConnectSpec, RetryPolicy, Target, address,
        route::{Dial, Route, hops},
    },
    ids::Owner,
};

/// The jump hosts that a call names, nearest first. One without a user name has that of the target.
pub(super) fn parse(jump: Option<&str>, target: &Target) -> Result<Vec<Target>, Error> {
    let Some(jump) = jump else { return Ok(Vec::new()) };
    let hops = hops::parse(jump)?.into_iter().map(|hop| Target {
        host: hop.host,
        port: hop.port.unwrap_or(address::DEFAULT_PORT),
        username: hop.user.unwrap_or_else(|| target.username.clone()),
    });
    Ok(hops.collect())
}

impl App {
    /// Everything that is needed to connect to the target through these jump hosts.
    pub(super) async fn connect_spec(
        &self,
        owner: &Owner,
        request: &ConnectRequest,
        (target, hops): (Target, Vec<Target>),
        timeout: Duration,
    ) -> Result<ConnectSpec, Error> {
        let to_hops = for_hops(request);
        let mut specs = Vec::new();
        for hop in hops {
            specs.push(self.spec_of(&to_hops, hop, timeout).await?);
        }
        let mut spec = self.spec_of(request, target, timeout).await?;
        if !specs.is_empty() {
            spec.route = Route::through(specs, &self.jumps.of(owner))?;
        }
        Ok(spec)
    }

    /// One server by itself.
    async fn spec_of(&self, request: &ConnectRequest, target: Target, timeout: Duration) -> Result<ConnectSpec, Error> {
        let ssh = &self.settings.ssh;
        let credentials = self.credentials(request, &target).await?;
        let retry = RetryPolicy {
            max_retries: request.max_retries.unwrap_or(ssh.max_retries),
            first_delay: request.retry_delay.unwrap_or(ssh.retry_delay),
        };
        let approved = request.approved_key.as_ref().filter(|key| key.of == target);
        Ok(ConnectSpec {
            route: self.own_route(&target),
            credentials,
            retry,
            compression: request.compression.unwrap_or(ssh.compression),
            known_hosts: self.known_hosts.clone(),
            approved_key: approved.map(|key| key.fingerprint.clone()),
            timeout,
            reconnect: ssh.reconnect,
            max_connections: ssh.max_connections,
            target,
        })
    }

    /// How a server is reached that has no jump host before it.
    fn own_route(&self, target: &Target) -> Route {
        let ssh = &self.settings.ssh;
        let address: Option<IpAddr> = target.host.parse().ok();
        let excepted = ssh.no_proxy.iter().any(|pattern| pattern.matches(&target.host, address, target.port));
        match &ssh.proxy {
            Some(proxy) if !excepted => Route::Proxy(proxy.clone(), Dial::default()),
            _ => Route::default(),
        }
    }
}

/// What of a call is for its jump hosts too: neither a password nor a key.
fn for_hops(request: &ConnectRequest) -> ConnectRequest {
    ConnectRequest { password: None, password_ref: None, key_path: None, passphrase_ref: None, ..request.clone() }
}
