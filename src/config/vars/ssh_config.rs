//! The rows of what is taken from the configuration of `ssh`.

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
