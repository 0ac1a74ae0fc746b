//! `jump` as callers write it: what `ssh -J` takes.

use super::MAX_HOPS;
use crate::ssh::{
    Error,
    client::address::{check_username, is_host, shorten},
    ssh_config::Hop,
};

/// Reads `[user@]host[:port]` or `ssh://` URIs with commas between them, the nearest first. `none` is no hop.
///
/// # Errors
///
/// `InvalidJump`, which names the hop.
pub fn parse(text: &str) -> Result<Vec<Hop>, Error> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    let parts: Vec<_> = text.split(',').map(str::trim).collect();
    if parts.len() > MAX_HOPS {
        return Err(Error::InvalidJump { hop: MAX_HOPS + 1, text: shorten(parts[MAX_HOPS]) });
    }
    let hop =
        |(at, part): (usize, &&str)| read(part).ok_or_else(|| Error::InvalidJump { hop: at + 1, text: shorten(part) });
    parts.iter().enumerate().map(hop).collect()
}

fn read(part: &str) -> Option<Hop> {
    let hop = Hop::parse(part).filter(|hop| hop.port != Some(0))?;
    let user_is_valid = hop.user.as_deref().is_none_or(|user| check_username(user).is_ok());
    (is_host(&hop.host) && user_is_valid).then_some(hop)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ssh_takes_and_names_the_hop_that_it_does_not() {
        let hops = parse("a, Bob@B.example:2222,[::1]:22 ,ssh://u@h:23").unwrap();
        let hops: Vec<_> = hops.iter().map(|hop| (hop.user.as_deref(), hop.host.as_str(), hop.port)).collect();
        let expected = [
            (None, "a", None),
            (Some("Bob"), "B.example", Some(2222)),
            (None, "::1", Some(22)),
            (Some("u"), "h", Some(23)),
        ];
        assert_eq!(hops, expected);
        assert_eq!(parse(" NONE ").unwrap(), []);
        let cases =
            [("", 1), ("a,,b", 2), ("a,-oProxyCommand=x", 2), ("a b", 1), ("a,b:0", 2), ("a;b@c", 1), ("a,b`id`", 2)];
        for (text, wrong) in cases {
            assert!(matches!(parse(text), Err(Error::InvalidJump { hop, .. }) if hop == wrong), "{text}");
        }
        assert!(matches!(parse("a,a,a,a,a,a,a,a,a"), Err(Error::InvalidJump { hop: 9, .. })));
    }
}
