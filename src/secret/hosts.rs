//! Hosts that may be sent a secret.

use std::{fmt, net::IpAddr};

/// `host`, `*.suffix`, an address, each with or without a port; v6 addresses with a port in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// In lower case, without a final dot; after `*.` if `below`.
    name: String,
    /// Any host below the name, but not the name itself.
    below: bool,
    port: Option<u16>,
}

impl HostPattern {
    /// Reads a pattern; none if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = split(text.trim())?;
        let (below, name) = match host.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, host),
        };
        let name = plain(name);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
        (!name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(allowed)).then_some(Self {
            name,
            below,
            port,
        })
    }

    /// Whether this host, as the caller named it, is one of them.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let host = plain(host);
        let named = match self.below {
            true => host.strip_suffix(&self.name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            false => host == self.name,
        };
        named && self.port.is_none_or(|wanted| wanted == port)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.below { "*." } else { "" })?;
        match self.port {
            Some(port) if self.name.contains(':') => write!(f, "[{}]:{port}", self.name),
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |digits: &str| digits.parse().ok().filter(|port| *port > 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(digits) => Some((host, Some(port(digits)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        Some((host, digits)) if !digits.contains(':') => Some((host, Some(port(digits)?))),
        _ => Some((text, None)),
    }
}

/// Names without case; addresses in their one form.
fn plain(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host.parse::<IpAddr>().map_or(host, |address| address.to_string())
}
