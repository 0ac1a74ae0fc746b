//! Integration tests: one binary, one module per behaviour.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod config;
mod docs;
mod embedded_host;
mod openssh;
mod support;
