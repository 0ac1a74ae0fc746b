//! A SOCKS5 or HTTP proxy, as a URL names it.

use std::{fmt, net::Ipv6Addr, sync::Arc};

use secrecy::zeroize::Zeroizing;

use crate::secret::Secret;

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// SOCKS5 (RFC 1928); the proxy looks names up.
    Socks5,
    /// `CONNECT` of HTTP/1.1 (RFC 9110, section 9.3.6).
    Http,
}

/// A proxy.
#[derive(Clone)]
pub struct ProxyServer {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name and password.
    pub login: Option<Arc<(String, Secret)>>,
}

/// Longest user name and password (RFC 1929), in bytes.
const MAX_LOGIN_BYTES: usize = 255;

impl ProxyServer {
    /// Reads `socks5://[user:password@]host:port`, `socks5h://` or `http://`; user and password may be
    /// percent-encoded.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "socks5" | "socks5h" => ProxyKind::Socks5,
            "http" => ProxyKind::Http,
            _ => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, host_port) = match rest.rsplit_once('@') {
            Some((login, host_port)) => (Some(parse_login(login)?), host_port),
            None => (None, rest),
        };
        let (host, port) = host_port.rsplit_once(':')?;
        let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten()?;
        let of_names = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().ok()?.to_string(),
            None => Some(host).filter(|host| !host.is_empty() && host.bytes().all(of_names))?.to_owned(),
        };
        (port != 0).then_some(Self { kind, host, port, login: login.map(Arc::new) })
    }

    /// Whether both are the same with the same login.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let login = |proxy: &Self| proxy.login.clone().map(|login| (login.0.clone(), login.1.clone()));
        let same_login = match (login(self), login(other)) {
            (Some(a), Some(b)) => a.0 == b.0 && a.1.expose() == b.1.expose(),
            (a, b) => a.is_none() && b.is_none(),
        };
        (self.kind, &self.host, self.port) == (other.kind, &other.host, other.port) && same_login
    }
}

impl fmt::Display for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Http => "http",
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the login.
        write!(f, "{self}")
    }
}

fn parse_login(text: &str) -> Option<(String, Secret)> {
    let (user, password) = text.split_once(':')?;
    let (user, password) = (percent_decode(user)?, percent_decode(password)?);
    let fits = |text: &str| (1..=MAX_LOGIN_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    // A colon would end the name in HTTP (RFC 7617).
    let valid = fits(&user) && fits(&password) && !user.contains(':');
    valid.then(|| ((*user).clone(), Secret::from(password.as_str())))
}

/// Undoes percent-encoding (RFC 3986); none where it is none, or not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(*high)? * 16 + digit(*low)?);
        rest = after;
    }
    std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn reads_the_url_of_a_proxy_and_shows_it_without_its_login() {
        let proxy = ProxyServer::parse("socks5://us%65r:p%40ss:w@proxy.example:1080/").unwrap();
        let login = proxy.login.clone().unwrap();
        assert_eq!((login.0.as_str(), login.1.expose()), ("user", "p@ss:w"));
        assert_eq!(format!("{proxy} {proxy:?}"), "socks5://proxy.example:1080 socks5://proxy.example:1080");
        assert_eq!(ProxyServer::parse("HTTP://[::1]:8080").unwrap().to_string(), "http://[::1]:8080");
        for wrong in [
            "proxy:1080",
            "https://p:1",
            "socks4://p:1",
            "socks5://p",
            "socks5://p:0",
            "socks5://:1",
            "socks5://u@p:1",
            "socks5://u:@p:1",
            "socks5://u:%zz@p:1",
            "http://p:1/x",
            "http://p:+1",
            "http://u:%0d%0a@p:1",
            "http://p p:1",
        ] {
            assert!(ProxyServer::parse(wrong).is_none(), "{wrong}");
        }
    }
}
