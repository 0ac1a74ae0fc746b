//! `ProxyJump`: hops as `[user@]host[:port]` or `ssh://` URIs.

use super::{
    error::Problem,
    value::{self, is_host_name, is_user_name},
};

const ALLOWED: &str = "none, or [user@]host[:port] with commas between the hops";

/// One host on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its user, if one is named; else its own configuration decides.
    pub user: Option<String>,
    /// Its name, which may be an alias of the configuration.
    pub host: String,
    /// Its port, if one is named.
    pub port: Option<u16>,
}

/// What `ProxyJump` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Jump {
    /// `none`: directly, whatever later lines say.
    None,
    /// Through these, the nearest first.
    Through(Vec<Hop>),
}

impl Jump {
    /// Parses a value. `strict` refuses what a shell would act on, as `ssh -J` does.
    pub(super) fn parse(text: &str, strict: bool) -> Result<Self, Problem> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Jump::None);
        }
        let bad = || Problem::bad(text, ALLOWED);
        let hops = spec(text).split(',').map(|hop| Hop::parse(hop).ok_or_else(bad)).collect::<Result<Vec<_>, _>>()?;
        let named = |hop: &Hop| is_host_name(&hop.host) && hop.user.as_deref().is_none_or(is_user_name);
        if strict && !hops.iter().all(named) {
            return Err(bad());
        }
        Ok(Jump::Through(hops))
    }
}

/// The value without comment; `ssh` cuts it at the first blank too (`rtrim` of 9.2).
fn spec(text: &str) -> &str {
    let text = text.split('#').next().unwrap_or_default();
    let mut blanks = text.char_indices().filter(|(at, c)| *at > 0 && (c.is_ascii_whitespace() || *c == '\u{b}'));
    blanks.next().map_or(text, |(at, _)| &text[..at])
}

impl Hop {
    pub(in crate::ssh) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("ssh://") {
            Some(uri) => Self::parse_uri(uri),
            None => Self::parse_plain(text),
        }
    }

    fn parse_plain(text: &str) -> Option<Self> {
        let (user, host) = text.rsplit_once('@').map_or((None, text), |(user, host)| (Some(user), host));
        if user == Some("") {
            return None;
        }
        let (host, delimiter, port) = host_and_rest(host)?;
        if delimiter == Some('/') {
            return None;
        }
        let port = if port.is_empty() { None } else { Some(value::port(port).ok()?) };
        Some(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }

    fn parse_uri(uri: &str) -> Option<Self> {
        let (user, host) = uri.split_once('@').map_or((None, uri), |(user, host)| (Some(user), host));
        // What follows a `;` are parameters of the connection, which ssh leaves out.
        let user = user.map(|user| user.split(';').next().unwrap_or_default());
        if user == Some("") {
            return None;
        }
        let user = match user {
            Some(user) => Some(url_decode(user)?),
            None => None,
        };
        let (host, delimiter, rest) = host_and_rest(host)?;
        let host = valid_domain(host)?;
        let (port, path) = match delimiter {
            Some(':') => rest.split_once('/').unwrap_or((rest, "")),
            _ => ("", rest),
        };
        if !path.is_empty() || (port.is_empty() && !rest.is_empty()) {
            return None;
        }
        let port = if port.is_empty() { None } else { Some(value::port(port).ok()?) };
        Some(Self { user, host: host.to_owned(), port })
    }

    /// As `ssh -G` prints it.
    #[must_use]
    pub fn text(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let numeric = self.host.contains(':') || self.host.chars().all(|c| c.is_ascii_digit() || c == '.');
        let host = if numeric { format!("[{}]", self.host) } else { self.host.clone() };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{user}{host}{port}")
    }
}

/// The host up to `:` or `/`, without its brackets; then what follows.
fn host_and_rest(text: &str) -> Option<(&str, Option<char>, &str)> {
    let end = match text.find(']') {
        Some(close) if text.starts_with('[') => close + 1,
        None if text.starts_with('[') => return None,
        _ => text.find([':', '/']).unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    let delimiter = rest.chars().next();
    if host.is_empty() || !matches!(delimiter, None | Some(':' | '/')) {
        return None;
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, delimiter, rest.get(1..).unwrap_or_default()))
}

fn valid_domain(host: &str) -> Option<&str> {
    value::domain(host).ok()?;
    Some(host.strip_suffix('.').unwrap_or(host))
}

fn url_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let [high, low, after @ ..] = rest else { return None };
                let digit = |c: u8| char::from(c).to_digit(16);
                bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}
