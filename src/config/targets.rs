//! Patterns of forward targets: `host:port` with `*`, addresses and networks.

use std::net::IpAddr;

/// The most patterns that one list has.
pub(super) const MAX_PATTERNS: usize = 1_000;

/// Which targets are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPattern {
    host: HostPattern,
    /// None: any.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    /// In lower case; `*` stands for any characters, `?` for one.
    Name(String),
    Network(IpAddr, u32),
}

/// Reads a list; none where one of its patterns cannot be read, or there is none.
pub(super) fn parse(list: &str) -> Option<Vec<TargetPattern>> {
    let patterns: Option<Vec<_>> = list.split(',').map(|pattern| TargetPattern::parse(pattern.trim())).collect();
    patterns.filter(|patterns| patterns.len() <= MAX_PATTERNS)
}

/// Reads a list of hosts, each with or without a port; none where one cannot be read, or means every host.
pub(super) fn parse_hosts(list: &str) -> Option<Vec<TargetPattern>> {
    let patterns: Option<Vec<_>> = list.split(',').map(|pattern| TargetPattern::parse_host(pattern.trim())).collect();
    patterns.filter(|patterns| patterns.len() <= MAX_PATTERNS)
}

impl TargetPattern {
    pub(super) fn parse_host(text: &str) -> Option<Self> {
        let whole = HostPattern::parse(text).map(|host| Self { host, port: None });
        whole.or_else(|| Self::parse(text)).filter(|pattern| !pattern.host.means_every_host())
    }

    /// Reads `host:port`; `[v6]:port`, `[v6]/64:port` and `10.0.0.0/8:*` too.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().ok().filter(|port| *port != 0)?),
        };
        Some(Self { host: HostPattern::parse(host)?, port })
    }

    /// Whether a target is meant. `address` is what the host is read as where it is no name.
    #[must_use]
    pub fn matches(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let host_matches = match (&self.host, address) {
            (HostPattern::Name(name), _) if name == "*" => true,
            (HostPattern::Name(name), None) => glob(name.as_bytes(), host.to_ascii_lowercase().as_bytes()),
            (HostPattern::Network(network, bits), Some(address)) => contains(*network, *bits, address),
            _ => false,
        };
        host_matches && self.port.is_none_or(|own| own == port)
    }
}

impl HostPattern {
    fn means_every_host(&self) -> bool {
        match self {
            Self::Name(name) => name.bytes().all(|b| matches!(b, b'*' | b'.' | b'?')),
            Self::Network(_, bits) => *bits == 0,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let bare = base.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(base).parse::<IpAddr>() {
            // An IPv6 address needs its brackets, or its last group would be taken for the port.
            let written = address.is_ipv4() == bare.is_none();
            let width = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.unwrap_or(width);
            return (written && bits <= width).then_some(Self::Network(address, bits));
        }
        let of_names = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'*' | b'?');
        // `10.*` would look like a network and match names only: a rule that means nothing is a mistake.
        let half_address = text != "*" && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'*' | b'?'));
        let valid = bits.is_none() && !text.is_empty() && !half_address && text.bytes().all(of_names);
        valid.then(|| Self::Name(text.trim_end_matches('.').to_ascii_lowercase()))
    }
}

fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            bits == 0 || (network.to_bits() ^ address.to_bits()) >> (32 - bits) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            bits == 0 || (network.to_bits() ^ address.to_bits()) >> (128 - bits) == 0
        }
        _ => false,
    }
}

/// Whether `text` is `pattern`, where `*` stands for any bytes and `?` for one. Takes at most the product of both lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == b'?' || *c == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            (p, t) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, host: &str, port: u16) -> bool {
        let Some(parsed) = TargetPattern::parse(pattern) else { panic!("{pattern}") };
        parsed.matches(host, host.parse().ok(), port)
    }

    #[test]
    fn patterns_mean_names_addresses_networks_and_ports() {
        let cases = [
            ("db.internal:5432", "DB.internal", 5432, true),
            ("db.internal:5432", "db.internal", 5433, false),
            ("*.internal:*", "a.b.internal", 1, true),
            ("*.internal:*", "internal", 1, false),
            ("a*b*c:*", "axxbxxbxc", 1, true),
            ("a*b*c:*", "axxbxxbx", 1, false),
            ("*:22", "10.0.0.1", 22, true),
            ("*:22", "10.0.0.1", 23, false),
            ("10.0.0.0/8:*", "10.255.0.1", 7, true),
            ("10.0.0.0/8:*", "11.0.0.1", 7, false),
            ("10.0.0.0/8:*", "10.example", 7, false),
            ("0.0.0.0/0:*", "1.2.3.4", 7, true),
            ("192.168.1.7:80", "192.168.1.7", 80, true),
            ("192.168.1.7:80", "192.168.1.8", 80, false),
            ("[fd00::]/8:*", "fd12::1", 7, true),
            ("[fd00::]/8:*", "fe00::1", 7, false),
            ("[::1]:80", "::1", 80, true),
        ];
        for (pattern, host, port, expected) in cases {
            assert_eq!(matches(pattern, host, port), expected, "{pattern} {host} {port}");
        }
    }

    #[test]
    fn a_list_of_hosts_needs_no_ports_and_never_means_every_host() {
        let list = parse_hosts("old-switch, *.lab.internal:2222, 10.9.0.0/16, [fd00::]/8, [::1]:22");
        let Some(list) = list else { panic!("a list") };
        let meant = |host: &str, port| list.iter().any(|pattern| pattern.matches(host, host.parse().ok(), port));
        for (host, port) in [("OLD-switch", 22), ("a.lab.internal", 2222), ("10.9.1.1", 7), ("fd00::1", 7), ("::1", 22)]
        {
            assert!(meant(host, port), "{host} {port}");
        }
        for (host, port) in [("old-switch2", 22), ("a.lab.internal", 22), ("10.8.1.1", 7), ("::1", 23)] {
            assert!(!meant(host, port), "{host} {port}");
        }
        for text in ["", "*", "*:22", "**", "*.*", "0.0.0.0/0", "[::]/0", "old,", "old,*", "a b", "10.*"] {
            assert_eq!(parse_hosts(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "host",
            "host:",
            ":80",
            "host:0",
            "host:65536",
            "10.0.0.0/33:*",
            "::1:80",
            "a b:80",
            "h/8:1",
            "10.*:*",
            "1.2.3:1",
        ] {
            assert_eq!(TargetPattern::parse(text), None, "{text}");
        }
        assert_eq!(parse("a:1,,b:2"), None);
        assert_eq!(parse("a:1, b:*").map(|list| list.len()), Some(2));
    }
}
