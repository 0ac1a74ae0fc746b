//! The rows of the way to SSH servers.

use super::{DefaultValue, Kind, Var};

pub const PROXY: Var = Var {
    section: "ssh",
    key: "proxy",
    env: "SSH_PROXY",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::Proxy,
    doc: "Proxy that SSH servers are reached through: `socks5://[user:password@]host:port` or `http://...`. It looks \
          names up. With jump hosts it leads to the first one.",
};

pub const NO_PROXY: Var = Var {
    section: "ssh",
    key: "no_proxy",
    env: "SSH_NO_PROXY",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::Targets,
    doc: "SSH servers that are reached without the proxy: `host:port` with commas between them, as in \
          `SSH_FORWARD_DENY`.",
};
