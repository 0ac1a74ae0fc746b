//! The table of every tool, and what is made of it: the list for clients, the document for people.

pub mod command;
pub mod forward;
pub mod hosts;
pub mod session;
pub mod tool;

mod descriptions;
mod document;

pub use self::document::markdown;
use self::{
    descriptions as text,
    tool::{Access, Tool},
};

/// Every tool, in the order in which clients list them. The one place to add one.
#[must_use]
pub fn tools() -> Vec<Tool> {
    vec![
        Tool::new("ssh_connect", Access::Additive, session::connect)
            .text("Open an SSH session", text::CONNECT)
            .open_world()
            .asks(),
        Tool::new("ssh_execute", Access::Destructive, command::execute)
            .text("Run a command", text::EXECUTE)
            .open_world()
            .cancels_itself(),
        Tool::new("ssh_execute_async", Access::Destructive, command::start)
            .text("Start a background command", text::EXECUTE_ASYNC)
            .open_world(),
        Tool::new("ssh_get_command_output", Access::ReadOnly, command::output)
            .text("Read or await a command", text::GET_COMMAND_OUTPUT),
        Tool::new("ssh_list_commands", Access::ReadOnly, command::list::list)
            .text("List commands", text::LIST_COMMANDS),
        Tool::new("ssh_cancel_command", Access::Destructive, command::cancel)
            .text("Stop a command", text::CANCEL_COMMAND)
            .idempotent()
            .open_world(),
        Tool::new("ssh_forward", Access::Additive, forward::open)
            .text("Forward a local port", text::FORWARD)
            .idempotent()
            .open_world(),
        Tool::new("ssh_disconnect", Access::Destructive, session::disconnect)
            .text("Close a session", text::DISCONNECT)
            .idempotent()
            .open_world(),
        Tool::new("ssh_list_sessions", Access::ReadOnly, session::list)
            .text("List sessions", text::LIST_SESSIONS)
            .open_world(),
        Tool::new("ssh_list_hosts", Access::ReadOnly, hosts::list).text("List known hosts", text::LIST_HOSTS),
    ]
}
