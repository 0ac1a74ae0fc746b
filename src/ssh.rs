//! The core: SSH in the field's words. Names neither rmcp, poem, schemars nor JSON values.
//!
//! In reading order: [`client`] makes a [`client::Connection`]; a [`session::Session`] holds one or
//! more of them; [`async_command`] runs commands on a session through the one pump in `exec`, into
//! an [`output::OutputBuffer`]; [`forward`] carries local ports; [`registry`] keeps what was made.

pub mod async_command;
pub mod client;
mod counter;
pub mod error;
pub(crate) mod exec;
pub mod forward;
pub mod ids;
pub mod output;
pub mod quota;
pub mod registry;
pub mod session;
pub mod ssh_config;

pub use error::Error;
