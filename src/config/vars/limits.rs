//! The rows of what a principal may have, and of where forwards may lead.

use super::{DefaultValue, Kind, Var};

pub const MAX_COMMANDS_PER_PRINCIPAL: Var = Var {
    section: "ssh",
    key: "max_commands_per_principal",
    env: "SSH_MAX_COMMANDS_PER_PRINCIPAL",
    option: None,
    default: DefaultValue::Value("300"),
    unit: None,
    kind: Kind::Whole { min: 1, max: 100_000 },
    doc: "Commands that one principal may have running at the same time, foreground ones included.",
};

pub const MAX_COMMANDS_TOTAL: Var = Var {
    section: "ssh",
    key: "max_commands_total",
    env: "SSH_MAX_COMMANDS_TOTAL",
    option: None,
    default: DefaultValue::Value("1500"),
    unit: None,
    kind: Kind::Whole { min: 1, max: 100_000 },
    doc: "Commands that may run at the same time in all.",
};

pub const MAX_SESSIONS: Var = Var {
    section: "ssh",
    key: "max_sessions",
    env: "SSH_MAX_SESSIONS",
    option: None,
    default: DefaultValue::Value("200"),
    unit: None,
    kind: Kind::Whole { min: 1, max: 10_000 },
    doc: "Sessions that one principal may have open, those included that are being connected.",
};

pub const MAX_SESSIONS_TOTAL: Var = Var {
    section: "ssh",
    key: "max_sessions_total",
    env: "SSH_MAX_SESSIONS_TOTAL",
    option: None,
    default: DefaultValue::Value("1000"),
    unit: None,
    kind: Kind::Whole { min: 1, max: 10_000 },
    doc: "Sessions that may be open in all.",
};

pub const MAX_FORWARDS: Var = Var {
    section: "ssh",
    key: "max_forwards",
    env: "SSH_MAX_FORWARDS",
    option: None,
    default: DefaultValue::Value("50"),
    unit: None,
    kind: Kind::Whole { min: 1, max: 1_000 },
    doc: "Forwards that may be open per session.",
};

pub const MAX_FORWARDS_PER_PRINCIPAL: Var = Var {
    section: "ssh",
    key: "max_forwards_per_principal",
    env: "SSH_MAX_FORWARDS_PER_PRINCIPAL",
    option: None,
    default: DefaultValue::Value("100"),
    unit: None,
    kind: Kind::Whole { min: 1, max: 10_000 },
    doc: "Forwards that one principal may have open.",
};

pub const MAX_FORWARDS_TOTAL: Var = Var {
    section: "ssh",
    key: "max_forwards_total",
    env: "SSH_MAX_FORWARDS_TOTAL",
    option: None,
    default: DefaultValue::Value("500"),
    unit: None,
    kind: Kind::Whole { min: 1, max: 10_000 },
    doc: "Forwards that may be open in all.",
};

pub const FORWARD_ALLOW: Var = Var {
    section: "ssh",
    key: "forward_allow",
    env: "SSH_FORWARD_ALLOW",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::Targets,
    doc: "Where forwards may lead: when it is set, nowhere else. As SSH_FORWARD_DENY.",
};

pub const FORWARD_DENY: Var = Var {
    section: "ssh",
    key: "forward_deny",
    env: "SSH_FORWARD_DENY",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::Targets,
    doc: "Where forwards may not lead: `host:port`, separated by commas. A host may be a name with `*`, an address or a network (`10.0.0.0/8`, `[fd00::]/8`), a port may be `*`. It goes before SSH_FORWARD_ALLOW. Metadata services of clouds are always refused.",
};

pub const LEGACY_HOSTS: Var = Var {
    section: "ssh",
    key: "legacy_hosts",
    env: "SSH_LEGACY_HOSTS",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::SomeHosts,
    doc: "Hosts that may negotiate weak algorithms too (SHA-1, CBC, `ssh-rsa`), where they know nothing better; \
          the answer then warns. Names may hold `*`.",
};

pub const OUTPUT_MEMORY: Var = Var {
    section: "ssh",
    key: "output_memory",
    env: "SSH_OUTPUT_MEMORY",
    option: None,
    default: DefaultValue::Value("64"),
    unit: Some("MiB"),
    kind: Kind::Whole { min: 4, max: 65_536 },
    doc: "Output of ended commands that is kept in memory for one principal. Beyond it the oldest records go.",
};

pub const OUTPUT_MEMORY_TOTAL: Var = Var {
    section: "ssh",
    key: "output_memory_total",
    env: "SSH_OUTPUT_MEMORY_TOTAL",
    option: None,
    default: DefaultValue::Value("256"),
    unit: Some("MiB"),
    kind: Kind::Whole { min: 4, max: 65_536 },
    doc: "The same for all principals. Beyond it the oldest records go of whoever has most.",
};

pub const MAX_CALLS: Var = Var {
    section: "mcp",
    key: "max_calls",
    env: "MCP_MAX_CALLS",
    option: None,
    default: DefaultValue::Value("256"),
    unit: None,
    kind: Kind::Whole { min: 1, max: 10_000 },
    doc: "Tool calls and requests for resources of one principal that may be served at the same time. One more is answered `busy` at once.",
};

pub const MAX_CALLS_TOTAL: Var = Var {
    section: "mcp",
    key: "max_calls_total",
    env: "MCP_MAX_CALLS_TOTAL",
    option: None,
    default: DefaultValue::Value("1024"),
    unit: None,
    kind: Kind::Whole { min: 1, max: 10_000 },
    doc: "Tool calls and requests for resources that may be served at the same time in all.",
};
