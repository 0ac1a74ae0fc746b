//! SSH for AI agents, served over the Model Context Protocol.
//!
//! The modules in reading order; each one uses only those below it:
//!
//! ```text
//! bin -> transport -> mcp -> app -> ssh -> russh          everyone -> config, secret, error
//! ```
//!
//! - [`transport`]: stdio and HTTP; the only code that touches stdin and stdout.
//! - [`mcp`]: the edge. The table of tools, argument parsing, rendering. Names no russh.
//! - [`app`]: owns all state; one verb per use case.
//! - [`ssh`]: the core. Connections, sessions, commands, forwards. Names no rmcp, poem or JSON values.
//! - [`config`]: every setting, resolved once.
//! - [`secret`]: passwords, passphrases, tokens: kept, found by name, masked in the log.
//! - [`error`]: every failure, with its code, hint and retryability.

pub mod app;
pub mod config;
pub mod error;
pub mod mcp;
pub mod secret;
pub mod ssh;
pub mod transport;
