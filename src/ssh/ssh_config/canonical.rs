//! The host that is meant: addresses in their usual form, names in lower case, short names with their domain.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Probe,
    error::SshConfigError,
    options::Options,
    value::{AddressFamily, CanonicalizeHostname},
};

/// A host and whether it was to be looked up and was not.
pub(super) struct Canonical {
    pub(super) host: String,
    pub(super) skipped: bool,
}

/// What `ssh` makes of a host name before it reads the files again.
pub(super) fn canonicalize(host: &str, options: &Options, probe: &dyn Probe) -> Result<Canonical, SshConfigError> {
    let family = options.address_family.as_ref().map_or(AddressFamily::Any, |family| family.value);
    let found = |host: String| Ok(Canonical { host, skipped: false });
    if let Some(address) = address(host, family) {
        return found(address);
    }
    let looks_like_address = host.contains(['%', ':']) || host.chars().all(|c| c.is_ascii_digit() || c == '.');
    if looks_like_address {
        return found(host.to_owned());
    }
    let host = host.to_ascii_lowercase();
    let wanted = options.canonicalize_hostname.as_ref().map_or(CanonicalizeHostname::No, |choice| choice.value);
    let proxied = options.proxy_command.as_ref().is_some_and(|command| !command.value.eq_ignore_ascii_case("none"));
    let direct = !proxied && options.proxy_jump.is_none();
    if wanted == CanonicalizeHostname::No || (!direct && wanted != CanonicalizeHostname::Always) {
        return found(host);
    }
    search(host, options, probe)
}

fn search(host: String, options: &Options, probe: &dyn Probe) -> Result<Canonical, SshConfigError> {
    let max_dots = options.canonicalize_max_dots.as_ref().map_or(1, |dots| dots.value);
    let anchored = host.ends_with('.');
    if !anchored && host.matches('.').count() > max_dots as usize {
        return Ok(Canonical { host, skipped: false });
    }
    let domains = options.canonical_domains.as_ref().map_or(&[][..], |domains| &domains.value);
    let domains = domains.iter().take_while(|domain| *domain != "none");
    let names: Vec<String> =
        if anchored { vec![host.clone()] } else { domains.map(|domain| format!("{host}.{domain}.")).collect() };
    let mut skipped = false;
    for name in names {
        match probe.exists(&name) {
            Some(true) => return Ok(Canonical { host: name[..name.len() - 1].to_owned(), skipped: false }),
            Some(false) => {}
            None => skipped = true,
        }
    }
    let falls_back = options.canonicalize_fallback_local.as_ref().is_none_or(|flag| flag.value);
    if falls_back || skipped { Ok(Canonical { host, skipped }) } else { Err(SshConfigError::NotCanonical { host }) }
}

/// The usual form of an address; `None` for a name, and for an address of a family that is not used.
fn address(host: &str, family: AddressFamily) -> Option<String> {
    let address = host.parse::<IpAddr>().ok().or_else(|| short_ipv4(host).map(IpAddr::V4))?;
    let used = match family {
        AddressFamily::Any => true,
        AddressFamily::Inet => address.is_ipv4(),
        AddressFamily::Inet6 => address.is_ipv6(),
    };
    used.then(|| address.to_string())
}

/// The forms of `inet_aton(3)`: `10.1`, `0x7f.1`, `017700000001`.
fn short_ipv4(host: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u64> = host.split('.').map(c_number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) || *last >= 1 << (8 * (4 - first.len())) {
        return None;
    }
    let high = first.iter().enumerate().map(|(at, part)| part << (24 - 8 * at)).sum::<u64>();
    u32::try_from(high | last).ok().map(Ipv4Addr::from)
}

fn c_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_alphanumeric());
    plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}
