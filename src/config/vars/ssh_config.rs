//! The rows of what is shared with `ssh`: its configuration, its agent, the trust in host keys.

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

pub const HOST_KEY_POLICY: Var = Var {
    section: "ssh",
    key: "host_key_policy",
    env: "SSH_HOST_KEY_POLICY",
    option: None,
    default: DefaultValue::Value("accept-new"),
    unit: None,
    kind: Kind::OneOf(&["strict", "accept-new", "ask"]),
    doc: "Host keys of unknown hosts: `strict` refuses them, `accept-new` records the first one, `ask` asks the \
          user through the client, and refuses where that cannot be. A changed key is refused always; nothing \
          accepts every key.",
};

pub const AUTH_SOCK: Var = Var {
    section: "ssh",
    key: "auth_sock",
    env: "SSH_AUTH_SOCK",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::AnyPath,
    doc: "Socket of the SSH agent. Graphical clients often do not pass it on: set it in their configuration.",
};

pub const FORWARD_AGENT_HOSTS: Var = Var {
    section: "ssh",
    key: "forward_agent_hosts",
    env: "SSH_FORWARD_AGENT_HOSTS",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::HostPatterns,
    doc: "Hosts whose commands may use the SSH agent, by alias or host name as in `Host` lines, and only where the \
          configuration of `ssh` says `ForwardAgent` too. Whoever is root there can log in elsewhere with its keys while \
          the session lasts. By default none.",
};
