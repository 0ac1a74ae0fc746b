//! The known_hosts format (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

use data_encoding::BASE64;
use ring::hmac;
use russh::keys::PublicKey;

use crate::ssh::client::address::DEFAULT_PORT;

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) marker: Marker,
    hosts: Hosts,
    pub(super) key: PublicKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    None,
    Revoked,
    CertAuthority,
}

#[derive(Debug)]
enum Hosts {
    /// Patterns in lower case.
    Patterns(Vec<String>),
    /// `|1|salt|HMAC-SHA1(salt, name)`.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

/// The name under which a host is looked up.
pub(super) fn name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == DEFAULT_PORT { host } else { format!("[{host}]:{port}") }
}

/// The line that records a key.
pub(super) fn format(host: &str, port: u16, key: &PublicKey) -> String {
    let mut key = key.clone();
    key.set_comment("");
    format!("{} {}", name(host, port), key.to_openssh().unwrap_or_default().trim())
}

impl Line {
    /// Reads a line; none for an empty line or a comment.
    pub(super) fn parse(line: &str) -> Result<Option<Self>, &'static str> {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let mut fields = line.split([' ', '\t']).filter(|field| !field.is_empty());
        let mut first = fields.next().unwrap_or_default();
        let marker = match first {
            "@revoked" => Marker::Revoked,
            "@cert-authority" => Marker::CertAuthority,
            other if other.starts_with('@') => return Err("unknown marker"),
            _ => Marker::None,
        };
        if marker != Marker::None {
            first = fields.next().ok_or("no host")?;
        }
        let hosts = Hosts::parse(first)?;
        let (Some(algorithm), Some(blob)) = (fields.next(), fields.next()) else { return Err("no key") };
        let key = PublicKey::from_openssh(&format!("{algorithm} {blob}")).map_err(|_| "unreadable key")?;
        Ok(Some(Self { marker, hosts, key }))
    }

    /// Whether the line speaks of `name`, as [`name`] writes it.
    pub(super) fn matches(&self, name: &str) -> bool {
        match &self.hosts {
            Hosts::Hashed { salt, hash } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::verify(&key, name.as_bytes(), hash).is_ok()
            }
            Hosts::Patterns(patterns) => matches_list(patterns, name),
        }
    }
}

impl Hosts {
    fn parse(field: &str) -> Result<Self, &'static str> {
        let Some(hashed) = field.strip_prefix('|') else {
            return Ok(Hosts::Patterns(field.to_ascii_lowercase().split(',').map(str::to_owned).collect()));
        };
        let mut parts = hashed.split('|');
        let (Some("1"), Some(salt), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err("unknown hash");
        };
        let decode = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| "unreadable hash");
        Ok(Hosts::Hashed { salt: decode(salt)?, hash: decode(hash)? })
    }
}

/// One negated match refuses the line, whatever else matches.
fn matches_list(patterns: &[String], name: &str) -> bool {
    let mut matched = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if glob(negated.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => matched |= glob(pattern.as_bytes(), name.as_bytes()),
        }
    }
    matched
}

/// `*` and `?`, in time linear in the product of both lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star_p, star_t)) = star else { return false };
                star = Some((star_p, star_t + 1));
                p = star_p + 1;
                t = star_t + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn matches(hosts: &str, name: &str) -> bool {
        Line::parse(&format!("{hosts} {KEY} comment")).unwrap().unwrap().matches(name)
    }

    #[test]
    fn matches_names_as_openssh_does() {
        assert!(matches("h", "h") && matches("a,H", "h") && matches("[h]:2222", "[h]:2222"));
        assert!(matches("*.example", "a.example") && matches("h?", "h1") && matches("*", "anything"));
        assert!(!matches("h", "hh") && !matches("h", "[h]:2222") && !matches("h?", "h"));
        assert!(!matches("*.example,!bad.example", "bad.example"), "a negated match refuses the line");
        assert!(!matches("!h", "g"), "negation alone matches nothing");
    }

    #[test]
    fn matches_hashed_names() {
        // echo -n | ssh-keygen -H on "h.example"
        let salt = BASE64.encode(b"01234567890123456789");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"01234567890123456789");
        let hash = BASE64.encode(hmac::sign(&key, b"h.example").as_ref());
        assert!(matches(&format!("|1|{salt}|{hash}"), "h.example"));
        assert!(!matches(&format!("|1|{salt}|{hash}"), "g.example"));
    }

    #[test]
    fn skips_comments_and_reports_malformed_lines() {
        assert!(Line::parse("").unwrap().is_none() && Line::parse("  # x").unwrap().is_none());
        for bad in ["h", "h ssh-ed25519", "h ssh-ed25519 AAAA", "@what h ssh-ed25519 AAAA", "|2|a|b k k", "@revoked"] {
            assert!(Line::parse(bad).is_err(), "{bad}");
        }
        let line = Line::parse(&format!("\t@revoked\th\t{KEY}\r")).unwrap().unwrap();
        assert_eq!(line.marker, Marker::Revoked);
    }
}
