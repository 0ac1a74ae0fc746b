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
mod mcp_server;
mod openssh;
mod programs;
mod readme;
mod results;
mod samples;
mod spill;
mod sse;
mod stdio;
mod support;
mod text;
mod tools;
mod wire;
