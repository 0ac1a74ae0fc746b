//! The rows of what is taken from the configuration of `ssh`, and of the proxy on the way.

use super::{DefaultValue, Kind, Var};

pub const CONFIG_FILE: Var = Var {
    section: "ssh",
    key: "config_file",
    env: "SSH_CONFIG_FILE",
    option: None,
    default: DefaultValue::Computed("`~/.ssh/config`, then `/etc/ssh/ssh_config`"),
    unit: None,
    kind: Kind::PathOrNone,
    doc: "Configuration of `ssh`, read anew at each connect: what it says of a host holds here too. One file in place \
          of both, as `ssh -F` has it, or `none`.",
};

pub const CONFIG_EXEC: Var = Var {
    section: "ssh",
    key: "config_exec",
    env: "SSH_CONFIG_EXEC",
    option: None,
    default: DefaultValue::Value("false"),
    unit: None,
    kind: Kind::Bool,
    doc: "Whether the commands of `Match exec` in it are run. Otherwise their blocks are passed over, and the answer \
          says so.",
};

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
