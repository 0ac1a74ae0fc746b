//! Who may talk to the HTTP server: Host, Origin, bearer token, content type.
//!
//! A web page can make a browser send requests to a loopback port, and DNS rebinding lets it read the answers. Its
//! requests carry the page's name in Host or Origin, so both are checked before anything else happens.

mod refusals;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::{
    HeaderMap, HeaderValue, Method, Uri,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, ORIGIN, WWW_AUTHENTICATE},
    uri::Authority,
};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result, http::StatusCode};
use subtle::ConstantTimeEq;

use self::refusals::Refusals;
use super::http::Caller;
use crate::{
    config::{AllowedHost, HttpSettings, NamedToken},
    ssh::ids::Owner,
};

/// The one path that needs no token: a watchdog has none.
const OPEN_PATH: &str = "/health";

/// Decides on every request before it is read.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// Where the server listens.
    address: SocketAddr,
    /// Accepted tokens; none asks for none.
    tokens: Vec<NamedToken>,
    /// More names than those of this machine.
    hosts: Vec<AllowedHost>,
    /// More origins than those of this machine.
    origins: Vec<String>,
}

/// What the guard looks at.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    /// The address that the client connected to.
    pub(super) local: Option<SocketAddr>,
    /// Who has the other end of the connection.
    pub(super) caller: Caller,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("a request needs exactly one Host header")]
    NoHost,
    #[error(
        "this Host is not served here: use localhost, 127.0.0.1 or [::1] with the server's port, or a name of \
         MCP_ALLOWED_HOSTS"
    )]
    Host,
    #[error("this Origin is not served: only pages of this machine and of MCP_ALLOWED_ORIGINS may call the server")]
    Origin,
    #[error("a bearer token is needed: send Authorization: Bearer TOKEN")]
    Token,
    #[error(
        "the port serves its own user and root alone, and this connection is of uid {0}: the user of the server can set \
         MCP_TOKEN_FILE to let others in"
    )]
    OtherUser(u32),
    #[error(
        "the port serves its own user and root alone, and the system does not tell who this is: the user of the server \
         can set MCP_TOKEN_FILE to let others in"
    )]
    UnknownUser,
    #[error("the body must be JSON: send Content-Type: application/json")]
    ContentType,
}

impl Denied {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NoHost => StatusCode::BAD_REQUEST,
            Self::Host | Self::Origin | Self::OtherUser(_) | Self::UnknownUser => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let response = Response::builder().status(self.status()).content_type("text/plain; charset=utf-8");
        let response = if self == Self::Token { response.header(WWW_AUTHENTICATE, "Bearer") } else { response };
        response.body(format!("{self}\n"))
    }
}

impl Guard {
    pub(super) fn new(address: SocketAddr, settings: &HttpSettings) -> Self {
        Self {
            address,
            tokens: settings.tokens.clone(),
            hosts: settings.allowed_hosts.clone(),
            origins: settings.allowed_origins.clone(),
        }
    }

    /// Lets a request in, with the principal that its token stands for.
    pub(super) fn check(&self, asked: &Asked<'_>) -> Result<Option<Owner>, Denied> {
        self.check_host(asked)?;
        self.check_origin(asked.headers)?;
        let owner = if asked.uri.path() == OPEN_PATH { None } else { self.principal(asked)? };
        if asked.method == Method::POST {
            check_content_type(asked.headers)?;
        }
        Ok(owner)
    }

    /// Host, and the authority of an absolute URI or of HTTP/2: whatever is there must name this server.
    fn check_host(&self, asked: &Asked<'_>) -> Result<(), Denied> {
        let mut hosts = asked.headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => {
                let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
                Some(host.ok_or(Denied::Host)?)
            }
            (None, _) => None,
            (Some(_), Some(_)) => return Err(Denied::NoHost),
        };
        let named: Vec<&Authority> = host.iter().chain(asked.uri.authority()).collect();
        if named.is_empty() {
            return Err(Denied::NoHost);
        }
        let served = named.iter().all(|authority| self.is_ours(authority, asked.local));
        if served { Ok(()) } else { Err(Denied::Host) }
    }

    fn is_ours(&self, authority: &Authority, local: Option<SocketAddr>) -> bool {
        // `user@localhost` is a way to hide a name; a port that does not parse is none of ours.
        let Some(port) = authority.as_str().strip_prefix(authority.host()).and_then(port) else {
            return false;
        };
        let ours = port.is_none_or(|port| port == self.address.port());
        let host = match literal(authority.host()) {
            // 0.0.0.0 is what a server listens on, not what it is called.
            Some(ip) if ip.is_unspecified() => false,
            Some(ip) => is_this_machine(ip) || ip == self.address.ip() || local.is_some_and(|local| local.ip() == ip),
            None => authority.host().eq_ignore_ascii_case("localhost"),
        };
        let listed = |allowed: &AllowedHost| {
            let wanted = allowed.port.map_or(ours, |wanted| port == Some(wanted));
            wanted && authority.host().eq_ignore_ascii_case(&allowed.host)
        };
        (ours && host) || self.hosts.iter().any(listed)
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let listed = |origin: &HeaderValue| {
            let origin = origin.to_str().ok()?;
            self.origins.iter().any(|allowed| origin.eq_ignore_ascii_case(allowed)).then_some(())
        };
        // `null` is what a sandboxed frame of any page sends; it is no URI of ours either.
        let all = headers.get_all(ORIGIN).iter().all(|origin| is_local(origin).or_else(|| listed(origin)).is_some());
        if all { Ok(()) } else { Err(Denied::Origin) }
    }

    /// Whom the request is from; none for the user of this machine.
    fn principal(&self, asked: &Asked<'_>) -> Result<Option<Owner>, Denied> {
        match asked.caller {
            Caller::Own => return Ok(None),
            Caller::Other(uid) => return Err(Denied::OtherUser(uid)),
            Caller::Unknown => return Err(Denied::UnknownUser),
            Caller::Unchecked if self.tokens.is_empty() => return Ok(None),
            Caller::Unchecked => {}
        }
        let mut given = asked.headers.get_all(AUTHORIZATION).iter();
        let (Some(given), None) = (given.next(), given.next()) else {
            return Err(Denied::Token);
        };
        let given = bearer(given.as_bytes()).ok_or(Denied::Token)?;
        // No early end: the time must not tell which token was nearly right.
        let mut owner = None;
        for known in &self.tokens {
            if bool::from(known.token.expose().as_bytes().ct_eq(given)) {
                owner = Some(Owner::new(&known.name));
            }
        }
        owner.map(Some).ok_or(Denied::Token)
    }
}

/// The token of `Bearer TOKEN`. RFC 7235: the scheme's case does not matter, the token's does.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// The port behind a host: nothing, `:` and a number, or wrong.
fn port(rest: &str) -> Option<Option<u16>> {
    if rest.is_empty() {
        return Some(None);
    }
    rest.strip_prefix(':')?.parse().ok().map(Some)
}

/// An IP address as it stands in a Host: IPv6 in brackets.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// Only the two addresses that `localhost` stands for; the rest of 127.0.0.0/8 has no reason to be named.
fn is_this_machine(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

/// Whether an Origin is a page of this machine, whatever its port.
fn is_local(origin: &HeaderValue) -> Option<()> {
    let origin = origin.to_str().ok()?.parse::<Uri>().ok()?;
    let http = matches!(origin.scheme_str(), Some("http" | "https"));
    let host = origin.authority().filter(|authority| !authority.as_str().contains('@'))?.host();
    let here = literal(host).is_some_and(is_this_machine) || host.eq_ignore_ascii_case("localhost");
    (http && here).then_some(())
}

/// A page can send any other content type across origins without asking first.
fn check_content_type(headers: &HeaderMap) -> Result<(), Denied> {
    let json = the_only(headers, &CONTENT_TYPE).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    });
    // Nothing here decompresses: a compressed body is not JSON.
    let plain =
        headers.get_all(CONTENT_ENCODING).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if json && plain { Ok(()) } else { Err(Denied::ContentType) }
}

fn the_only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    value.to_str().ok()
}

impl<E: Endpoint> Middleware<E> for Guard {
    type Output = Guarded<E>;

    fn transform(&self, inner: E) -> Guarded<E> {
        Guarded { guard: self.clone(), refusals: Refusals::default(), inner }
    }
}

/// An endpoint behind the guard.
pub(super) struct Guarded<E> {
    guard: Guard,
    refusals: Refusals,
    inner: E,
}

impl<E: Endpoint> Endpoint for Guarded<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let asked = Asked {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            local: request.local_addr().as_socket_addr().copied(),
            // What nobody vouches for is not the user of this machine.
            caller: request.extensions().get().copied().unwrap_or(Caller::Unknown),
        };
        match self.guard.check(&asked) {
            Ok(None) => {}
            // rmcp carries the extensions into the call, where the MCP server finds its caller.
            Ok(Some(owner)) => drop(request.extensions_mut().insert(owner)),
            Err(denied) => {
                self.refusals.tell(request.uri().path(), denied);
                return Ok(denied.into_response());
            }
        }
        self.inner.call(request).await.map(IntoResponse::into_response)
    }
}
