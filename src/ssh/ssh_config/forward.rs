//! `LocalForward`: where it listens and where it leads.

use std::fmt;

use super::{error::Problem, value};

const ALLOWED: &str = "[address:]port or a socket's path, then host:port or a socket's path";

/// The longest host name (`NI_MAXHOST`) and socket path (`sun_path`), less the byte that ends it.
const MAX_HOST: usize = 1024;
const MAX_SOCKET: usize = 107;

/// One end of a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A port, at an address or (to listen) at the default one.
    Port {
        /// Name or address.
        host: Option<String>,
        /// TCP port.
        port: u16,
    },
    /// A Unix socket.
    Socket(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Port { host: Some(host), port } => write!(f, "[{host}]:{port}"),
            Endpoint::Port { host: None, port } => write!(f, "{port}"),
            Endpoint::Socket(path) => f.write_str(path),
        }
    }
}

/// A forward that the configuration lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalForward {
    /// Here.
    pub listen: Endpoint,
    /// There.
    pub connect: Endpoint,
}

impl fmt::Display for LocalForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.listen, self.connect)
    }
}

struct Field {
    text: String,
    is_path: bool,
}

impl LocalForward {
    /// Parses `listen:connect` as `ssh -L` takes it.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        Self::from_fields(text.trim_start()).ok_or_else(|| Problem::bad(text, ALLOWED))
    }

    fn from_fields(text: &str) -> Option<Self> {
        let mut rest = Some(text);
        let mut fields = Vec::new();
        while fields.len() < 4 {
            let Some(left) = rest.filter(|left| !left.is_empty()) else { break };
            let (field, after) = field(left)?;
            fields.push(field);
            rest = after;
        }
        if rest.is_some_and(|rest| !rest.is_empty()) {
            return None;
        }
        let (listen, connect) = match fields.as_slice() {
            [a, b] if a.is_path && b.is_path => (socket(a)?, socket(b)?),
            [a, b] if b.is_path => (port(None, a)?, socket(b)?),
            [a, b, c] if a.is_path => (socket(a)?, port(Some(b), c)?),
            [a, b, c] if c.is_path => (port(Some(a), b)?, socket(c)?),
            [a, b, c] => (port(None, a)?, port(Some(b), c)?),
            [a, b, c, d] => (port(Some(a), b)?, port(Some(c), d)?),
            _ => return None,
        };
        Some(Self { listen, connect })
    }
}

fn socket(field: &Field) -> Option<Endpoint> {
    (field.text.len() <= MAX_SOCKET).then(|| Endpoint::Socket(field.text.clone()))
}

fn port(host: Option<&Field>, field: &Field) -> Option<Endpoint> {
    let host = host.map(|host| host.text.clone());
    if host.as_ref().is_some_and(|host| host.len() > MAX_HOST) {
        return None;
    }
    Some(Endpoint::Port { host, port: value::port(&field.text).ok()? })
}

/// One field up to a `:`; brackets protect, a backslash escapes.
fn field(text: &str) -> Option<(Field, Option<&str>)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (inner, after) = inner.split_once(']')?;
        let field = Field { text: inner.to_owned(), is_path: inner.contains('/') };
        return match after.strip_prefix(':') {
            Some(rest) => Some((field, Some(rest))),
            None if after.is_empty() => Some((field, None)),
            None => None,
        };
    }
    let mut field = Field { text: String::new(), is_path: false };
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ':' => return Some((field, Some(&text[at + 1..]))),
            '\\' => field.text.push(chars.next()?.1),
            _ => {
                field.is_path |= c == '/';
                field.text.push(c);
            }
        }
    }
    Some((field, None))
}
