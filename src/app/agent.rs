//! Whose commands may use the SSH agent of this machine (`ForwardAgent`).

use super::{App, plan::Step};
use crate::ssh::{
    client::login::AgentUse,
    ssh_config::{IdentityAgent, Resolved},
};

/// What becomes of `ForwardAgent`. Jump hosts never get the agent: no command runs there.
pub(super) enum Lending {
    /// Nobody asks for it.
    Unasked,
    /// The configuration asks for it, and no setting allows it for this host.
    NotAllowed,
    /// It is allowed, and there is no agent.
    NoAgent,
    /// Commands may use this one.
    Lent(AgentUse),
}

impl App {
    /// Needs both: a line of the configuration, and the setting.
    pub(super) fn lending(&self, step: &Step) -> Lending {
        let Step { alias, target, resolved } = step;
        if !resolved.forward_agent.value {
            return Lending::Unasked;
        }
        if !self.settings.ssh.forward_agent_hosts.mean(&[alias, &target.host], target.port) {
            return Lending::NotAllowed;
        }
        let agent = match resolved.forward_agent_socket.as_ref().map(|socket| socket.value.as_str()) {
            None => self.agent_of(resolved),
            Some(socket) => match socket.strip_prefix('$') {
                Some(variable) => self.agent_socket_of(variable).map_or(AgentUse::Off, AgentUse::At),
                None => AgentUse::At(socket.into()),
            },
        };
        if agent.is_named() { Lending::Lent(agent) } else { Lending::NoAgent }
    }

    /// The agent that a login asks.
    pub(super) fn agent_of(&self, resolved: &Resolved) -> AgentUse {
        match resolved.identity_agent.as_ref().map(|agent| &agent.value) {
            None => AgentUse::OfEnvironment(self.settings.ssh.agent_socket.clone()),
            Some(IdentityAgent::Off) => AgentUse::Off,
            Some(IdentityAgent::Variable(name)) => self.agent_socket_of(name).map_or(AgentUse::Off, AgentUse::At),
            Some(IdentityAgent::Socket(socket)) => AgentUse::At(socket.clone()),
        }
    }
}
