//! What the tests stand on: SSH servers, MCP clients, and waiting for conditions.

pub(crate) mod dropbear;
pub(crate) mod embedded_host;
pub(crate) mod fake_server;
pub(crate) mod home;
pub(crate) mod hosts;
pub(crate) mod mcp_client;
pub(crate) mod namespace;
pub(crate) mod openssh;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod resources;
pub(crate) mod session;
pub(crate) mod tinysshd;
pub(crate) mod wait;

/// A port of 127.0.0.1 that nobody uses now. Somebody else may take it first: be ready to try again.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}
