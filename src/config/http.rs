//! The settings of the HTTP server, and what they must say together before it may start.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::uri::Authority;
use secrecy::SecretSlice;

use super::{
    error::{ConfigError, Source},
    file::{read_private, read_public},
    layers::Layers,
    tokens, vars,
};
use crate::secret::Secret;

/// The principal that `MCP_TOKEN` stands for.
pub const TOKEN_PRINCIPAL: &str = "token";

/// The principal of callers on the Unix socket, and of those without a token. No token is named so.
pub const LOCAL_PRINCIPAL: &str = "local";

/// A PEM file larger than this is refused.
const MAX_PEM_BYTES: usize = 256 * 1024;

/// The HTTP server.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// TCP port.
    pub port: u16,
    /// Address to listen on.
    pub bind: IpAddr,
    /// Accepted bearer tokens. Empty: no token is asked for (loopback only).
    pub tokens: Vec<NamedToken>,
    /// HTTPS in place of HTTP.
    pub tls: Option<TlsSettings>,
    /// HTTP may leave this machine.
    pub insecure_http: bool,
    /// A Unix socket for the same service.
    pub socket: Option<PathBuf>,
    /// More names of the server.
    pub allowed_hosts: Vec<AllowedHost>,
    /// More origins, in lower case, as browsers send them.
    pub allowed_origins: Vec<String>,
    /// Connections at the same time.
    pub max_connections: usize,
    /// For the TLS handshake, and for the head of a request.
    pub header_timeout: Duration,
    /// For the body of a request.
    pub body_timeout: Duration,
}

/// A bearer token and the name of the principal that it stands for.
#[derive(Clone)]
pub struct NamedToken {
    /// The principal.
    pub name: String,
    /// The token.
    pub token: Secret,
}

impl fmt::Debug for NamedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A certificate and its key, as their files have them.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The chain, in PEM.
    pub certificate: Vec<u8>,
    /// The private key, in PEM.
    pub key: SecretSlice<u8>,
}

/// A name that clients may use for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    /// A name or an address, in lower case.
    pub host: String,
    /// The port that must stand with it; none for the server's own.
    pub port: Option<u16>,
}

impl HttpSettings {
    pub(super) fn read(layers: &mut Layers<'_>) -> Self {
        let port = layers.whole(&vars::PORT);
        let bind = layers.address(&vars::BIND);
        let token = layers.get(&vars::TOKEN, |text| tokens::parse_token(text.to_str()?));
        let mut tokens: Vec<_> =
            token.into_iter().map(|token| NamedToken { name: TOKEN_PRINCIPAL.to_owned(), token }).collect();
        if let Some(path) = layers.path(&vars::TOKEN_FILE) {
            tokens::read_file(&path, &mut tokens, &mut layers.errors);
        }
        let settings = Self {
            port,
            bind,
            tokens,
            tls: read_tls(layers),
            insecure_http: layers.boolean(&vars::INSECURE_HTTP),
            socket: layers.path(&vars::SOCKET),
            allowed_hosts: layers.get(&vars::ALLOWED_HOSTS, |text| list(text.to_str()?, host)).unwrap_or_default(),
            allowed_origins: layers
                .get(&vars::ALLOWED_ORIGINS, |text| list(text.to_str()?, origin))
                .unwrap_or_default(),
            max_connections: layers.whole(&vars::MAX_HTTP_CONNECTIONS),
            header_timeout: layers.seconds(&vars::HEADER_TIMEOUT),
            body_timeout: layers.seconds(&vars::BODY_TIMEOUT),
        };
        settings.check_exposure(layers);
        settings
    }

    /// Whoever reaches the port can run commands on every host: beyond this machine that takes a token, and a token
    /// takes a wire that nobody reads.
    fn check_exposure(&self, layers: &mut Layers<'_>) {
        let Some(source) = layers.source(&vars::BIND).filter(|_| !self.bind.to_canonical().is_loopback()) else {
            return;
        };
        // A setting that is there but wrong has its own line.
        let has = |vars: [vars::Var; 2]| vars.iter().any(|var| layers.source(var).is_some());
        let token = has([vars::TOKEN, vars::TOKEN_FILE]);
        let safe = has([vars::TLS_CERT, vars::TLS_KEY]) || self.insecure_http;
        let needs = match (token, safe) {
            (true, true) => return,
            (false, true) => "MCP_TOKEN or MCP_TOKEN_FILE",
            (true, false) => "TLS (MCP_TLS_CERT and MCP_TLS_KEY) or an explicit --insecure-http",
            (false, false) => {
                "MCP_TOKEN or MCP_TOKEN_FILE, and TLS (MCP_TLS_CERT and MCP_TLS_KEY) or an explicit --insecure-http"
            }
        };
        let fault = format!("{} is not a loopback address and needs {needs}", self.bind);
        layers.errors.push(ConfigError::new(source, fault));
    }
}

/// Both files, or neither.
fn read_tls(layers: &mut Layers<'_>) -> Option<TlsSettings> {
    let files = (layers.path(&vars::TLS_CERT), layers.path(&vars::TLS_KEY));
    let alone = match files {
        (Some(certificate), Some(key)) => return read_pair(&certificate, &key, &mut layers.errors),
        // Where the other one is set but wrong, that is said already.
        (Some(_), None) if layers.source(&vars::TLS_KEY).is_none() => (&vars::TLS_CERT, "MCP_TLS_KEY"),
        (None, Some(_)) if layers.source(&vars::TLS_CERT).is_none() => (&vars::TLS_KEY, "MCP_TLS_CERT"),
        _ => return None,
    };
    if let Some(source) = layers.source(alone.0) {
        layers.errors.push(ConfigError::new(source, format!("needs {} too", alone.1)));
    }
    None
}

fn read_pair(certificate: &Path, key: &Path, errors: &mut Vec<ConfigError>) -> Option<TlsSettings> {
    let mut refuse = |path: &Path, fault: String| errors.push(ConfigError::new(Source::whole_file(path), fault));
    let chain = read_public(certificate, MAX_PEM_BYTES);
    let key_text = read_private(key, MAX_PEM_BYTES);
    match (chain, key_text) {
        (Ok(chain), Ok(text)) => {
            return Some(TlsSettings { certificate: chain.as_bytes().to_vec(), key: text.as_bytes().to_vec().into() });
        }
        (chain, text) => {
            if let Err(fault) = chain {
                refuse(certificate, fault);
            }
            if let Err(fault) = text {
                refuse(key, fault);
            }
        }
    }
    None
}

/// The parts between commas; nothing where one of them is wrong or all are empty.
fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').map(|part| parse(part.trim())).collect()
}

fn host(text: &str) -> Option<AllowedHost> {
    let authority: Authority = text.parse().ok()?;
    // A wildcard is a name here, and would match nothing: better said at the start.
    let named = !text.contains(['@', '*']) && !authority.host().is_empty();
    // `Authority` takes a port that is too large for none.
    let port = match text.strip_prefix(authority.host())? {
        "" => None,
        port => Some(port.strip_prefix(':')?.parse().ok()?),
    };
    named.then(|| AllowedHost { host: authority.host().to_ascii_lowercase(), port })
}

fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    host(rest)?;
    Some(text)
}
