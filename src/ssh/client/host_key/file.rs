//! The known_hosts format (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), read as OpenSSH 9.2 reads it.

use data_encoding::BASE64;
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use russh::keys::PublicKey;

use crate::ssh::client::address::DEFAULT_PORT;

/// Bytes of the salt of a hashed name, as OpenSSH insists.
const SALT_BYTES: usize = 20;
/// Bytes of one pattern; OpenSSH gives up on a list with a longer one.
const MAX_PATTERN_BYTES: usize = 1_022;

/// What the marker of a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Nothing: the key is one of the host's.
    None,
    /// `@revoked`: the key is never trusted.
    Revoked,
    /// `@cert-authority`: the key signs certificates of hosts.
    CertAuthority,
}

/// A line of a known_hosts file that names a host.
#[derive(Clone, Debug)]
pub struct HostLine {
    /// Its number, from 1.
    pub number: usize,
    /// Its marker.
    pub marker: Marker,
    /// Its key.
    pub key: PublicKey,
}

/// What a known_hosts file says of a host.
#[derive(Clone, Debug, Default)]
pub struct HostLines {
    /// The lines that name it, in their order.
    pub lines: Vec<HostLine>,
    /// Lines that cannot be read, whomever they name.
    pub malformed: Vec<usize>,
}

/// Finds the lines that name the host at this port.
#[must_use]
pub fn lines_of(text: &[u8], host: &str, port: u16) -> HostLines {
    find(text, &name(host, port))
}

/// As [`lines_of`], of a host as [`name`] writes it.
pub(super) fn find(text: &[u8], name: &str) -> HostLines {
    let mut found = HostLines::default();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        match Line::parse(&String::from_utf8_lossy(line)) {
            Ok(Some(Line { marker, hosts, key })) if hosts.contain(name) => {
                found.lines.push(HostLine { number: index + 1, marker, key });
            }
            Ok(_) => {}
            Err(why) => {
                tracing::debug!(line = index + 1, why, "known_hosts line skipped");
                found.malformed.push(index + 1);
            }
        }
    }
    found
}

/// One line.
#[derive(Debug)]
struct Line {
    marker: Marker,
    hosts: Hosts,
    key: PublicKey,
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

/// The line that records a key; none for a host whose name would mean something else there: a
/// pattern, a list, a marker, a comment, another line.
#[must_use]
pub fn record_line(host: &str, port: u16, key: &PublicKey) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return None;
    }
    let name = name(host, port);
    // What would not be read again is not written.
    if name.len() > MAX_PATTERN_BYTES {
        return None;
    }
    let mut key = key.clone();
    key.set_comment("");
    let key = key.to_openssh().ok()?;
    Some(format!("{name} {}", key.trim()))
}

/// The same line with a hash in place of the name; none without random numbers.
pub(super) fn hashed(line: &str) -> Option<String> {
    let (name, key) = line.split_once(' ')?;
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).ok()?;
    let hash = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt), name.as_bytes());
    Some(format!("|1|{}|{} {key}", BASE64.encode(&salt), BASE64.encode(hash.as_ref())))
}

impl Line {
    /// Reads a line; none for an empty line or a comment.
    fn parse(line: &str) -> Result<Option<Self>, &'static str> {
        let line = line.trim_start_matches([' ', '\t']).trim_end_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let (marker, rest) = marker(line)?;
        let mut fields = rest.split([' ', '\t']).filter(|field| !field.is_empty());
        let hosts = Hosts::parse(fields.next().ok_or("no host")?)?;
        let (Some(algorithm), Some(blob)) = (fields.next(), fields.next()) else { return Err("no key") };
        let key = PublicKey::from_openssh(&format!("{algorithm} {blob}")).map_err(|_| "unreadable key")?;
        Ok(Some(Self { marker, hosts, key }))
    }
}

/// Takes the marker off a line.
fn marker(line: &str) -> Result<(Marker, &str), &'static str> {
    if !line.starts_with('@') {
        return Ok((Marker::None, line));
    }
    let (word, rest) = line.split_once([' ', '\t']).ok_or("no host")?;
    let rest = rest.trim_start_matches([' ', '\t']);
    let marker = match word {
        "@revoked" => Marker::Revoked,
        // OpenSSH takes the marker to end at the first space of the line, if there is any. Where
        // that makes it read nothing, no authority is trusted here either; a revocation counts.
        "@cert-authority" if line.find(' ').is_some_and(|space| space > word.len()) => {
            return Err("no space after the marker");
        }
        "@cert-authority" => Marker::CertAuthority,
        _ => return Err("unknown marker"),
    };
    if rest.starts_with('@') { Err("two markers") } else { Ok((marker, rest)) }
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
        let (salt, hash) = (decode(salt)?, decode(hash)?);
        if salt.len() == SALT_BYTES { Ok(Hosts::Hashed { salt, hash }) } else { Err("unreadable hash") }
    }

    /// Whether they name `name`, as [`name`] writes it.
    fn contain(&self, name: &str) -> bool {
        match self {
            Hosts::Hashed { salt, hash } => {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
                hmac::verify(&key, name.as_bytes(), hash).is_ok()
            }
            Hosts::Patterns(patterns) => matches_list(patterns, name),
        }
    }
}

/// One negated match refuses the line, whatever else matches.
fn matches_list(patterns: &[String], name: &str) -> bool {
    let mut matched = false;
    for pattern in patterns {
        let (negated, pattern) = match pattern.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, pattern.as_str()),
        };
        if pattern.len() > MAX_PATTERN_BYTES {
            return false;
        }
        match (glob(pattern.as_bytes(), name.as_bytes()), negated) {
            (true, true) => return false,
            (found, _) => matched |= found,
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
        Line::parse(&format!("{hosts} {KEY} comment")).unwrap().unwrap().hosts.contain(name)
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
