//! The rows of the HTTP server.

#![expect(missing_docs, reason = "the doc field of each row says it")]

use super::{DefaultValue, Kind, Var};

pub const PORT: Var = Var {
    section: "mcp",
    key: "port",
    env: "MCP_PORT",
    option: Some("port"),
    default: DefaultValue::Value("8000"),
    unit: None,
    kind: Kind::Whole { min: 0, max: 65_535 },
    doc: "TCP port of `ssh-mcp`. 0 takes any free one.",
};
pub const BIND: Var = Var {
    section: "mcp",
    key: "bind",
    env: "MCP_BIND",
    option: Some("bind"),
    default: DefaultValue::Value("127.0.0.1"),
    unit: None,
    kind: Kind::Address,
    doc: "Address that `ssh-mcp` listens on. Any other than loopback needs a token, and TLS or `--insecure-http`.",
};
pub const TOKEN: Var = Var {
    section: "mcp",
    key: "token",
    env: "MCP_TOKEN",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::Token,
    doc: "Bearer token that HTTP clients must send. It stands for the principal `token`.",
};
pub const TOKEN_FILE: Var = Var {
    section: "mcp",
    key: "token_file",
    env: "MCP_TOKEN_FILE",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::AbsolutePath,
    doc: "File with one `name:token` line for each principal. Only its owner may have access to it (mode 0600).",
};
pub const TLS_CERT: Var = Var {
    section: "mcp",
    key: "tls_cert",
    env: "MCP_TLS_CERT",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::AbsolutePath,
    doc: "PEM file with the certificate chain, the own certificate first. With MCP_TLS_KEY: HTTPS, TLS 1.2 and 1.3, in place of HTTP.",
};
pub const TLS_KEY: Var = Var {
    section: "mcp",
    key: "tls_key",
    env: "MCP_TLS_KEY",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::AbsolutePath,
    doc: "PEM file with the private key of the certificate. Only its owner may have access to it (mode 0600).",
};
pub const INSECURE_HTTP: Var = Var {
    section: "mcp",
    key: "insecure_http",
    env: "MCP_INSECURE_HTTP",
    option: Some("insecure-http"),
    default: DefaultValue::Value("false"),
    unit: None,
    kind: Kind::Bool,
    doc: "Listens on other than loopback addresses without TLS: tokens and commands can be read on the way. For a proxy that speaks TLS in front.",
};
pub const SOCKET: Var = Var {
    section: "mcp",
    key: "socket",
    env: "MCP_SOCKET",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::AbsolutePath,
    doc: "Unix socket (mode 0600) for the same service, besides the port. Its callers are the user of the server or root, and need no token.",
};
pub const ALLOWED_HOSTS: Var = Var {
    section: "mcp",
    key: "allowed_hosts",
    env: "MCP_ALLOWED_HOSTS",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::Hosts,
    doc: "More names that clients may use for the server, as they stand in Host. One without a port stands for the port of the server and for none.",
};
pub const ALLOWED_ORIGINS: Var = Var {
    section: "mcp",
    key: "allowed_origins",
    env: "MCP_ALLOWED_ORIGINS",
    option: None,
    default: DefaultValue::Absent,
    unit: None,
    kind: Kind::Origins,
    doc: "More origins of web pages that may call the server. No page gets CORS headers.",
};
pub const MAX_HTTP_CONNECTIONS: Var = Var {
    section: "mcp",
    key: "max_connections",
    env: "MCP_MAX_CONNECTIONS",
    option: None,
    default: DefaultValue::Value("1024"),
    unit: None,
    kind: Kind::Whole { min: 1, max: 65_536 },
    doc: "HTTP connections at the same time. One more is answered with 503 and closed.",
};
pub const HEADER_TIMEOUT: Var = Var {
    section: "mcp",
    key: "header_timeout",
    env: "MCP_HEADER_TIMEOUT",
    option: None,
    default: DefaultValue::Value("10"),
    unit: Some("seconds"),
    kind: Kind::Whole { min: 1, max: 3_600 },
    doc: "How long the TLS handshake and the head of a request may take. An open connection without a request is closed after it too.",
};
pub const BODY_TIMEOUT: Var = Var {
    section: "mcp",
    key: "body_timeout",
    env: "MCP_BODY_TIMEOUT",
    option: None,
    default: DefaultValue::Value("30"),
    unit: Some("seconds"),
    kind: Kind::Whole { min: 1, max: 3_600 },
    doc: "How long the body of a request may take to arrive. A client that takes nothing of an answer for as long is cut off.",
};
