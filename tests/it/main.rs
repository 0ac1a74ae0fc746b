//! Integration tests: one binary, one module per behaviour.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod architecture;
mod arguments;
mod config;
mod docs;
mod docs_api;
mod embedded_host;
mod guard;
mod hints;
mod http;
mod mask;
mod mcp_server;
mod openssh;
mod programs;
mod progress;
mod readme;
mod resources;
mod results;
mod samples;
mod sse;
mod stdio;
mod support;
mod tools;
mod until;
mod wire;
