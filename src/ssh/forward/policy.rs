//! Where a forward may lead. Checked apart from commands: a forward gives a local program the network of the host.
//!
//! The host is resolved on the remote side, so a *name* that leads to a refused address cannot be seen here; every
//! spelling of an address can.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ForwardSpec;
use crate::{
    config::{ForwardSettings, TargetPattern, vars},
    ssh::{Error, client::address::inet_aton},
};

/// Metadata services of clouds by name (Google, Amazon, Tencent), as their hosts resolve them.
const METADATA_NAMES: [&str; 6] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
];
/// Alibaba's, which is not link-local.
const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// Azure's WireServer, which hands out certificates of the machine.
const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
/// The network of Amazon's services for a machine over IPv6: metadata, Pod Identity, time, names.
const AMAZON_V6: [u16; 2] = [0xfd00, 0xec2];
/// Google's over IPv6.
const GOOGLE_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// Why a target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Link-local, or a metadata service: it hands out credentials to whoever asks from the host.
    Metadata,
    /// It names no host; systems take it for themselves.
    Unspecified,
    /// This server's own port, where the SSH host is this machine.
    OwnPort,
    /// The deny list.
    Listed,
    /// It is not on the allow list.
    NotListed,
}

impl Denied {
    /// Completes "forwarding to ... is refused: ".
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Denied::Metadata => "it is a link-local address or a metadata service",
            Denied::Unspecified => "it is no address of one host",
            Denied::OwnPort => "it is the port of this MCP server",
            Denied::Listed => "it is on the deny list",
            Denied::NotListed => "it is not on the allow list",
        }
    }

    /// The setting that decides, where one does.
    #[must_use]
    pub const fn setting(self) -> Option<&'static str> {
        match self {
            Denied::Listed => Some(vars::FORWARD_DENY.env),
            Denied::NotListed => Some(vars::FORWARD_ALLOW.env),
            Denied::Metadata | Denied::Unspecified | Denied::OwnPort => None,
        }
    }
}

/// Checks a target. `own_port` is this server's where the SSH host is this machine.
///
/// # Errors
///
/// `ForwardTargetDenied`.
pub fn check(settings: &ForwardSettings, spec: &ForwardSpec, own_port: Option<u16>) -> Result<(), Error> {
    match verdict(settings, &spec.remote_host, spec.remote_port, own_port) {
        None => Ok(()),
        Some(why) => Err(Error::ForwardTargetDenied { host: spec.remote_host.clone(), port: spec.remote_port, why }),
    }
}

fn verdict(settings: &ForwardSettings, host: &str, port: u16, own_port: Option<u16>) -> Option<Denied> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let address = numeric(&name);
    if address.is_some_and(is_metadata) || METADATA_NAMES.contains(&name.as_str()) {
        return Some(Denied::Metadata);
    }
    if name.is_empty() || address.is_some_and(is_nobody) {
        return Some(Denied::Unspecified);
    }
    let loopback = address.map_or_else(|| is_loopback_name(&name), |address| address.is_loopback());
    if loopback && own_port == Some(port) {
        return Some(Denied::OwnPort);
    }
    let is_in = |list: &[TargetPattern]| list.iter().any(|pattern| pattern.matches(&name, address, port));
    // A network that is denied may be written as the target is, too: NAT64, say.
    let as_written = name.parse().ok();
    if is_in(&settings.deny) || settings.deny.iter().any(|pattern| pattern.matches(&name, as_written, port)) {
        return Some(Denied::Listed);
    }
    settings.allow.as_deref().is_some_and(|allow| !is_in(allow)).then_some(Denied::NotListed)
}

/// The address that a resolver reads `host` as; none for a name. IPv4 inside IPv6 comes out.
fn numeric(host: &str) -> Option<IpAddr> {
    match host.parse() {
        Ok(IpAddr::V6(address)) => Some(embedded(address).map_or(IpAddr::V6(address), IpAddr::V4)),
        Ok(address) => Some(address),
        Err(_) => inet_aton(host).map(IpAddr::V4),
    }
}

/// The IPv4 address in an IPv6 one that leads to it: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        // `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0] if g != 0 => v4(g, h),
        [0x2002, ..] => v4(b, c),
        _ => None,
    }
}

fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local() || [ALIBABA, AZURE].contains(&address),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address == GOOGLE_V6 || address.segments().starts_with(&AMAZON_V6)
        }
    }
}

/// 0.0.0.0/8 is "this host" (RFC 1122): Linux connects to itself. The rest is more than one host.
fn is_nobody(address: IpAddr) -> bool {
    let unspecified = match address {
        IpAddr::V4(address) => address.octets()[0] == 0 || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unspecified(),
    };
    unspecified || address.is_multicast()
}

/// As the hosts files of Debian, Fedora and their kin have them.
const LOOPBACK_NAMES: [&str; 9] = [
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
    "loopback",
    "ip6-localhost",
    "ip6-loopback",
];

fn is_loopback_name(name: &str) -> bool {
    name.ends_with(".localhost") || LOOPBACK_NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(allow: Option<&str>, deny: &str) -> ForwardSettings {
        let list = |text: &str| text.split(',').filter_map(TargetPattern::parse).collect::<Vec<_>>();
        ForwardSettings { allow: allow.map(list), deny: list(deny) }
    }

    #[test]
    fn every_spelling_of_a_metadata_address_is_one() {
        for host in [
            "169.254.169.254",
            "169.254.0.1",
            "0xa9fea9fe",
            "0xA9FEA9FE",
            "2852039166",
            "0251.0376.0251.0376",
            "0xa9.0xfe.0xa9.0xfe",
            "169.16689662",
            "169.254.43518",
            "025177524776",
            "169.254.169.254.",
            "0000000251.254.169.254",
            "::ffff:169.254.169.254",
            "::ffff:a9fe:a9fe",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "FE80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd00:0ec2:0:0:0:0:0:0254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "168.63.129.16",
            "100.100.100.200",
            "::ffff:100.100.100.200",
            "metadata.google.internal",
            "METADATA.google.internal.",
            "metadata",
            "instance-data",
        ] {
            assert_eq!(verdict(&settings(Some("*:*"), ""), host, 80, None), Some(Denied::Metadata), "{host}");
        }
    }

    #[test]
    fn what_names_no_host_is_refused_in_every_spelling() {
        for host in [
            "0.0.0.0",
            "0",
            "0x0",
            "0x",
            "00000",
            "0.0",
            "::",
            "::ffff:0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "4294967295",
            "224.0.0.1",
            "ff02::1",
            ".",
        ] {
            assert_eq!(verdict(&settings(None, ""), host, 80, None), Some(Denied::Unspecified), "{host}");
        }
    }

    #[test]
    fn ordinary_targets_are_not_refused() {
        for host in [
            "localhost",
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "192.168.254.169",
            "db.internal",
            "169-254-169-254.example",
            "169.254.169.254.example.com",
            "metadata.example.com",
            "100.100.100.201",
            "fd00:ec3::254",
            "2130706433",
            "169.253.255.255",
            "169.255.0.0",
            "fec0::1",
            "0xa9fea9feg",
            "08",
            "1.2.3.4.5",
        ] {
            assert_eq!(verdict(&settings(None, ""), host, 80, Some(8000)), None, "{host}");
        }
    }

    #[test]
    fn our_own_port_is_refused_on_this_machine_only() {
        for host in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "localhost4",
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(verdict(&settings(None, ""), host, 8000, Some(8000)), Some(Denied::OwnPort), "{host}");
            assert_eq!(verdict(&settings(None, ""), host, 8001, Some(8000)), None, "{host}");
            assert_eq!(verdict(&settings(None, ""), host, 8000, None), None, "{host}");
        }
        assert_eq!(verdict(&settings(None, ""), "10.0.0.1", 8000, Some(8000)), None);
    }

    #[test]
    fn deny_goes_before_allow_and_allow_shuts_out_the_rest() {
        let both = settings(Some("*.internal:*,10.0.0.0/8:*"), "secret.internal:*,10.9.0.0/16:5432");
        let cases = [
            ("db.internal", 5432, None),
            ("secret.internal", 1, Some(Denied::Listed)),
            ("SECRET.internal.", 1, Some(Denied::Listed)),
            ("10.9.0.1", 5432, Some(Denied::Listed)),
            ("0xa090001", 5432, Some(Denied::Listed)),
            ("::ffff:10.9.0.1", 5432, Some(Denied::Listed)),
            ("10.9.0.1", 5433, None),
            ("db.example", 5432, Some(Denied::NotListed)),
            ("169.254.169.254", 80, Some(Denied::Metadata)),
        ];
        for (host, port, expected) in cases {
            assert_eq!(verdict(&both, host, port, None), expected, "{host}:{port}");
        }
        let translated = settings(None, "[64:ff9b::]/96:*");
        assert_eq!(verdict(&translated, "64:ff9b::a00:1", 80, None), Some(Denied::Listed));
    }
}
