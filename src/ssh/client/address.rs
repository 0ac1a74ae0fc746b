//! Addresses and user names as callers write them.
//!
//! Both are refused rather than guessed at: what passes here is written into known_hosts, log lines
//! and remote requests, so nothing that could be an option, a second line or another host gets in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Target;
use crate::ssh::{Error, output::acts_or_hides};

/// Port where none is given (RFC 4253, section 4).
pub const DEFAULT_PORT: u16 = 22;
/// Longest host name (RFC 1035, section 2.3.4).
pub const MAX_HOST_BYTES: usize = 253;
/// Longest user name that is passed on.
pub const MAX_USERNAME_BYTES: usize = 256;

const V6_HINT: &str = "write an IPv6 address in brackets: [::1] or [::1]:22";
const ZONE_HINT: &str = "a zone is the interface of a link-local address: [fe80::1%eth0]";
const FORMS: &str = "use host, host:port, user@host:port or [v6]:port";

/// What a caller asked for, and nothing that was not said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// A host name, an address without brackets or an alias, as it was written. Not yet good for anything but to be
    /// looked up: [`target`] decides.
    pub host: String,
    /// The name ended in a dot: a host of that name is meant and no alias like it.
    pub literal: bool,
    /// TCP port.
    pub port: Option<u16>,
    /// Login name.
    pub username: Option<String>,
}

/// Reads `address` and `username`.
///
/// # Errors
///
/// `InvalidAddress`, `InvalidUsername`, or `ConflictingUsernames` where both name a user and differ.
pub fn parse(address: &str, username: Option<&str>) -> Result<Asked, Error> {
    let address = address.trim();
    let rest = strip_scheme(address);
    let (in_address, host_port) = match rest.rsplit_once('@') {
        Some((user, host_port)) => (Some(user), host_port),
        None => (None, rest),
    };
    let (host, port) = parse_host_port(address, host_port)?;
    let username = choose_username(in_address, username)?;
    let dotless = host.strip_suffix('.').filter(|name| !name.is_empty() && !name.contains('.'));
    let (host, literal) = dotless.map_or((host, false), |name| (name, true));
    Ok(Asked { host: host.to_owned(), literal, port, username })
}

/// A target, from whatever source its parts are.
///
/// # Errors
///
/// `InvalidAddress`, `InvalidUsername`.
pub fn target(host: &str, port: u16, username: &str) -> Result<Target, Error> {
    let invalid = |reason| Error::InvalidAddress { address: shorten(host), reason };
    if !check_host(host) && !check_v6(host) {
        return Err(invalid(FORMS));
    }
    let reason = if host.contains('%') { ZONE_HINT } else { FORMS };
    let host = one_spelling(host).ok_or_else(|| invalid(reason))?;
    Ok(Target { host, port, username: check_username(username)? })
}

/// The one spelling of a host: another one would be another host to known_hosts, and so a way around a changed key.
fn one_spelling(host: &str) -> Option<String> {
    if let Some((address, zone)) = host.split_once('%') {
        // Everywhere else the system passes over a zone: any address would have as many spellings as one likes.
        let address = address.parse::<Ipv6Addr>().ok().filter(is_link_local)?;
        return Some(format!("{address}%{}", one_zone(zone)?));
    }
    // With the dot it is the same host, and no domain is searched for it.
    let host = host.strip_suffix('.').unwrap_or(host);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(address.to_canonical().to_string());
    }
    if let Some(address) = inet_aton(host) {
        return Some(address.to_string());
    }
    (!host.is_empty() && !host.ends_with('.')).then(|| host.to_ascii_lowercase())
}

/// RFC 4291, section 2.5.6. Some systems read the bits that are zero there as a zone of their own.
fn is_link_local(address: &Ipv6Addr) -> bool {
    address.segments()[..4] == [0xfe80, 0, 0, 0]
}

/// The first name of an interface, which may have others and always has a number. As getaddrinfo reads it: a name
/// before a number.
#[cfg(unix)]
fn one_zone(zone: &str) -> Option<String> {
    use nix::net::if_::{if_indextoname, if_nametoindex};
    match if_nametoindex(zone).ok().or_else(|| zone.parse().ok()) {
        // No such interface is an empty name: nix 0.31 takes the null pointer for success.
        Some(index) => if_indextoname(index).ok()?.into_string().ok().filter(|name| !name.is_empty()),
        None => zone.bytes().any(|b| !b.is_ascii_digit()).then(|| zone.to_owned()),
    }
}

/// Elsewhere it is a number.
#[cfg(not(unix))]
fn one_zone(zone: &str) -> Option<String> {
    zone.parse::<u32>().ok().map(|index| index.to_string())
}

/// IPv4 as inet_aton(3) takes it, and getaddrinfo with it: one to four parts, each decimal, octal or hexadecimal; the
/// last one fills what is left.
pub(crate) fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Option<Vec<u64>> = text.split('.').map(part).collect();
    let (last, first) = parts.as_deref()?.split_last()?;
    let left = 4_u32.checked_sub(u32::try_from(first.len()).ok()?).filter(|left| *left > 0)?;
    if first.iter().any(|byte| *byte > 0xff) || *last >= 1 << (8 * left) {
        return None;
    }
    let high = first.iter().fold(0, |all, byte| all << 8 | byte);
    u32::try_from(high << (8 * left) | last).ok().map(Ipv4Addr::from_bits)
}

fn part(text: &str) -> Option<u64> {
    let digits = |text: &str, radix| {
        text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, radix).ok()).flatten()
    };
    match text.strip_prefix("0x") {
        // glibc takes a bare `0x` for zero.
        Some("") => Some(0),
        Some(rest) => digits(rest, 16),
        None if text.len() > 1 && text.starts_with('0') => digits(text, 8),
        None => digits(text, 10),
    }
}

/// Reads `address` and `username` into one target, without any configuration.
///
/// # Errors
///
/// Those of [`parse`] and [`target`], and `MissingUsername`.
pub fn parse_target(address: &str, username: Option<&str>) -> Result<Target, Error> {
    let Asked { host, port, username, .. } = parse(address, username)?;
    target(&host, port.unwrap_or(DEFAULT_PORT), &username.ok_or(Error::MissingUsername)?)
}

fn strip_scheme(address: &str) -> &str {
    match address.get(..6) {
        Some(scheme) if scheme.eq_ignore_ascii_case("ssh://") => {
            let rest = &address[6..];
            rest.strip_suffix('/').unwrap_or(rest)
        }
        _ => address,
    }
}

fn choose_username(in_address: Option<&str>, given: Option<&str>) -> Result<Option<String>, Error> {
    let given = given.filter(|name| !name.is_empty());
    match (in_address, given) {
        (Some(a), Some(b)) if a != b => {
            Err(Error::ConflictingUsernames { in_address: shorten(a), username: shorten(b) })
        }
        (Some(name), _) | (None, Some(name)) => check_username(name).map(Some),
        (None, None) => Ok(None),
    }
}

pub(super) fn check_username(name: &str) -> Result<String, Error> {
    // Unicode counts some characters that nobody sees as letters, such as U+3164.
    let allowed = |c: char| c.is_alphanumeric() && !acts_or_hides(c) || "._-+@\\$".contains(c);
    if name.is_empty() || name.len() > MAX_USERNAME_BYTES || name.starts_with('-') || !name.chars().all(allowed) {
        return Err(Error::InvalidUsername { username: shorten(name) });
    }
    Ok(name.to_owned())
}

fn parse_host_port<'a>(address: &str, text: &'a str) -> Result<(&'a str, Option<u16>), Error> {
    let invalid = |reason| Error::InvalidAddress { address: shorten(address), reason };
    let port_of = |port| parse_port(port).ok_or_else(|| invalid("the port is a number from 1 to 65535"));
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or_else(|| invalid(V6_HINT))?;
        check_v6(host).then_some(()).ok_or_else(|| invalid(V6_HINT))?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port_of(port)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(invalid(V6_HINT)),
        };
    }
    if text.matches(':').count() > 1 {
        return Err(invalid(V6_HINT));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port_of(port)?)),
        None => (text, None),
    };
    if !check_host(host) && !check_alias(host) {
        return Err(invalid(FORMS));
    }
    Ok((host, port))
}

fn parse_port(text: &str) -> Option<u16> {
    // `parse` alone would take "+22".
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

/// Whether it is a name or an address, IPv6 without brackets.
pub(super) fn is_host(host: &str) -> bool {
    check_host(host) || check_v6(host)
}

fn check_host(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= MAX_HOST_BYTES
        && !host.starts_with('-')
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// An alias may have more characters than a host name, but none that means something in a pattern, a list or a shell.
fn check_alias(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= MAX_HOST_BYTES
        && !host.starts_with('-')
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_+/~=^".contains(&b))
}

fn check_v6(host: &str) -> bool {
    let (address, zone) = match host.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (host, None),
    };
    address.parse::<Ipv6Addr>().is_ok()
        && zone.is_none_or(|z| {
            (1..=32).contains(&z.len()) && z.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        })
}

/// The input as an error may show it: escaped, its first 60 characters, and at most 80 of text, so that two of them,
/// quoted once more, leave room for what is said about them.
pub(crate) fn shorten(input: &str) -> String {
    const SHOWN: usize = 60;
    const TEXT: usize = 80;
    let (mut shown, mut length) = (String::new(), 0);
    for (count, c) in input.chars().enumerate() {
        let escaped: String = escape(c).collect();
        length += escaped.len();
        if count == SHOWN || length > TEXT {
            shown.push('…');
            break;
        }
        shown.push_str(&escaped);
    }
    shown
}

/// Escapes what could change a terminal or the reading direction of a line.
fn escape(c: char) -> impl Iterator<Item = char> {
    let plain = c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() && !acts_or_hides(c);
    let escaped = (!plain).then(|| c.escape_unicode());
    plain.then_some(c).into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling_so_that_a_known_one_stays_known() {
        let cases = [
            ("Bank.Example", Some("bank.example")),
            ("bank.example.", Some("bank.example")),
            ("bank.", Some("bank")),
            ("bank..", None),
            ("127.1", Some("127.0.0.1")),
            ("127.1.", Some("127.0.0.1")),
            ("127.0.0.1.", Some("127.0.0.1")),
            ("0x7f.1", Some("127.0.0.1")),
            ("2130706433", Some("127.0.0.1")),
            ("FD00:0:0::5", Some("fd00::5")),
            #[cfg(unix)]
            ("fe80:0::1%none.such", Some("fe80::1%none.such")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            // The system dials these as if there were no zone.
            ("::ffff:10.0.0.1%1", None),
            ("fd00::5%1", None),
            ("::1%lo", None),
            ("fe80:5::1%1", None),
            ("fe80::1%4294967296", None),
        ];
        for (host, expected) in cases {
            assert_eq!(target(host, 22, "u").ok().map(|target| target.host).as_deref(), expected, "{host}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_interface_has_one_spelling_too() {
        for zone in ["lo", "1", "01", "0000000001"] {
            let host = format!("fe80::1%{zone}");
            assert_eq!(target(&host, 22, "u").unwrap().host, "fe80::1%lo", "{zone}");
        }
        assert!(target("fe80::1%4000000000", 22, "u").is_err());
    }

    #[test]
    fn reads_every_documented_form() {
        let cases = [
            ("h", "h", 22, "root"),
            ("Host.Example:2222", "host.example", 2222, "root"),
            ("root@h:1", "h", 1, "root"),
            ("[::1]", "::1", 22, "root"),
            ("[FE80::1%eth0]:65535", "fe80::1%eth0", 65535, "root"),
            ("  h  ", "h", 22, "root"),
            ("ssh://root@h:22/", "h", 22, "root"),
        ];
        for (address, host, port, username) in cases {
            let target = parse_target(address, Some("root")).unwrap();
            assert_eq!(
                (target.host.as_str(), target.port, target.username.as_str()),
                (host, port, username),
                "{address}"
            );
        }
        assert_eq!(parse_target("a@b@h", None).unwrap().username, "a@b");
    }

    #[test]
    fn refuses_what_is_not_an_address() {
        let long = "h".repeat(300);
        for address in [
            "",
            "-oProxyCommand=id",
            "h\nbank ssh-ed25519 AAA",
            "h:0",
            ":65536",
            "h:22x",
            "h:65536",
            "[::1",
            "::1:22",
            "::1",
            "h\0",
            "bаnk",
            "h:+22",
            "h h",
            "[::1]22",
            "[h]:22",
            "ssh://",
            long.as_str(),
        ] {
            let error = parse_target(address, Some("root")).unwrap_err();
            assert!(matches!(error, Error::InvalidAddress { .. }), "{address:?}: {error}");
            assert!(error.to_string().len() <= 300, "{error}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_username() {
        let long = "u".repeat(1 << 20);
        for name in ["-l root", "a;id", "$(id)", "a\u{202e}b", "a\0", "a b", long.as_str()] {
            let error = parse_target("h", Some(name)).unwrap_err();
            assert!(matches!(error, Error::InvalidUsername { .. }), "{error}");
        }
        assert!(matches!(parse_target("@h", None), Err(Error::InvalidUsername { .. })));
        assert!(matches!(parse_target("h", None), Err(Error::MissingUsername)));
        assert!(matches!(parse_target("a@h", Some("b")), Err(Error::ConflictingUsernames { .. })));
        for piece in ["\u{fffd}", "\u{10ffff}", "\"", "\\", "x"] {
            let error = parse_target(&format!("{}@h", piece.repeat(500)), Some(&piece.repeat(501))).unwrap_err();
            assert!(error.to_string().chars().count() <= 300, "{error}");
        }
    }
}
