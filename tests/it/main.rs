//! Integration tests: one binary, one module per behaviour.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod architecture;
mod arguments;
mod auth;
mod background;
mod cancel;
mod concurrency;
mod config;
mod connect;
mod docs;
mod docs_api;
mod embedded_host;
mod ending;
mod execute;
mod forward;
mod guard;
mod hints;
mod host_key;
mod http;
mod lost;
mod mask;
mod mcp_server;
mod openssh;
mod outcomes;
mod output;
mod product;
mod programs;
mod progress;
mod readme;
mod resources;
mod results;
mod retry;
mod samples;
mod sessions;
mod shells;
mod spill;
mod sse;
mod stdio;
mod support;
mod text;
mod tools;
mod until;
mod wire;
