//! Integration tests: one binary, one module per behaviour.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod architecture;
mod arguments;
mod auth;
mod black_hole;
mod config;
mod connect;
mod docs;
mod docs_api;
mod embedded_host;
mod flood;
mod guard;
mod hints;
mod host_key;
mod http;
mod mcp_server;
mod openssh;
mod places;
mod programs;
mod readme;
mod reconnect;
mod results;
mod retry;
mod samples;
mod sse;
mod stdio;
mod support;
mod tools;
mod wire;
