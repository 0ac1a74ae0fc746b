//! TCP: name look-up and dialling.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use dns_lookup::{AddrFamily, AddrInfoHints, LookupErrorKind, SockType};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::Instant,
};

use super::{
    super::{ClientError, Target},
    RouteError,
};
pub use crate::ssh::ssh_config::AddressFamily;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// How TCP connections are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Which addresses of the name are used.
    pub family: AddressFamily,
    /// Address of this machine, or a name of it, that the connection comes from.
    pub bind: Option<String>,
    /// The kernel probes an idle connection (`SO_KEEPALIVE`). SSH's own probes do not depend on it.
    pub tcp_keepalive: bool,
}

impl Default for Dial {
    fn default() -> Self {
        Self { family: AddressFamily::Any, bind: None, tcp_keepalive: false }
    }
}

impl Dial {
    /// Connects to a host; to `peer` and nowhere else, where that is given.
    pub(super) async fn connect(
        &self,
        target: &Target,
        peer: Option<SocketAddr>,
        deadline: Instant,
    ) -> Result<TcpStream, ClientError> {
        let addresses = match peer {
            Some(peer) => vec![peer],
            None => self.resolve(target).await?,
        };
        self.dial(target, &addresses, deadline).await
    }

    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, ClientError> {
        if let Ok(ip) = target.host.parse::<IpAddr>()
            && !takes(self.family, ip)
        {
            return Err(RouteError::Family.at(target));
        }
        let failed = |temporary| ClientError::Resolve { target: target.clone(), temporary };
        look_up(&target.host, target.port, self.family).await.map_err(failed)
    }

    /// Tries the addresses in turn; each gets an equal share of the time that is left, so one black
    /// hole does not use it all.
    async fn dial(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<TcpStream, ClientError> {
        let own = self.own_addresses(target).await?;
        let mut last = None;
        for (tried, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
            // As with ssh: an address that cannot be had from here leaves those after it.
            let socket = match self.socket(target, *address, &own) {
                Ok(socket) => socket,
                Err(error) => {
                    last.get_or_insert(error);
                    continue;
                }
            };
            match tokio::time::timeout(share, socket.connect(*address)).await {
                Ok(Ok(tcp)) => {
                    // Nagle's algorithm costs 40 ms per command.
                    tcp.set_nodelay(true).map_err(|error| ClientError::io(target, error))?;
                    return Ok(tcp);
                }
                Ok(Err(error)) => last = Some(ClientError::io(target, error)),
                Err(_) => last = Some(ClientError::Timeout { target: target.clone(), after: share, last: None }),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Resolve { target: target.clone(), temporary: false }))
    }

    /// The addresses of this machine that the connection may come from; none: any.
    async fn own_addresses(&self, target: &Target) -> Result<Option<Vec<IpAddr>>, ClientError> {
        let Some(name) = &self.bind else { return Ok(None) };
        let found = look_up(name, 0, AddressFamily::Any).await;
        let unknown = |_| RouteError::Bind { address: name.clone(), source: None }.at(target);
        Ok(Some(found.map_err(unknown)?.iter().map(SocketAddr::ip).collect()))
    }

    fn socket(&self, target: &Target, to: SocketAddr, own: &Option<Vec<IpAddr>>) -> Result<TcpSocket, ClientError> {
        let made = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = made.map_err(|error| ClientError::io(target, error))?;
        if self.tcp_keepalive {
            socket.set_keepalive(true).map_err(|error| ClientError::io(target, error))?;
        }
        let (Some(own), Some(name)) = (own, &self.bind) else { return Ok(socket) };
        let bound = match own.iter().find(|ip| ip.is_ipv4() == to.is_ipv4()) {
            Some(ip) => socket.bind(SocketAddr::new(*ip, 0)).map_err(|error| Some(Arc::new(error))),
            None => Err(None),
        };
        bound.map_err(|source| RouteError::Bind { address: name.clone(), source }.at(target))?;
        Ok(socket)
    }
}

/// Addresses of a name; the failure says whether it is temporary. Blocking look-up on a thread of its own: its error
/// kinds, which the async look-up of tokio hides, tell a temporary failure from an unknown name.
async fn look_up(host: &str, port: u16, family: AddressFamily) -> Result<Vec<SocketAddr>, bool> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let host = host.to_owned();
    let looked_up = tokio::task::spawn_blocking(move || {
        let hints = AddrInfoHints { socktype: SockType::Stream.into(), address: hint(family), ..Default::default() };
        let service = port.to_string();
        let found = dns_lookup::getaddrinfo(Some(&host), Some(&service), Some(hints))?;
        Ok(found.filter_map(Result::ok).map(|info| info.sockaddr).take(MAX_ADDRESSES).collect::<Vec<_>>())
    });
    match looked_up.await {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(false),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(is_temporary(&error)),
        Err(_) => Err(true),
    }
}

fn is_temporary(error: &dns_lookup::LookupError) -> bool {
    matches!(error.kind(), LookupErrorKind::Again)
}

/// Whether both ends of a connection are this machine: whoever talks to an address of its own does so from that address.
pub(super) fn is_on_this_machine(tcp: &TcpStream) -> bool {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let (peer, own) = (tcp.peer_addr().unwrap_or(any).ip(), tcp.local_addr().unwrap_or(any).ip());
    peer.to_canonical().is_loopback() || peer == own || peer == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

const fn takes(family: AddressFamily, ip: IpAddr) -> bool {
    match family {
        AddressFamily::Any => true,
        AddressFamily::Inet => ip.is_ipv4(),
        AddressFamily::Inet6 => ip.is_ipv6(),
    }
}

/// As getaddrinfo takes it; 0 is any.
fn hint(family: AddressFamily) -> i32 {
    match family {
        AddressFamily::Any => 0,
        AddressFamily::Inet => AddrFamily::Inet.into(),
        AddressFamily::Inet6 => AddrFamily::Inet6.into(),
    }
}
