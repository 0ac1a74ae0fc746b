//! The edge: MCP. Names no russh and no transport.
//!
//! A call goes down through [`server`] (find the tool), [`arguments`] (what was said),
//! [`commands`] (what it means) to the app, and comes up as a reply or a [`failure`],
//! rendered once for all tools.

pub mod arguments;
pub mod ask;
pub mod commands;
pub mod failure;
pub mod hints;
pub mod mask;
pub mod notices;
pub mod resources;
pub mod schema;
pub mod server;
pub mod texts;
pub mod types;
