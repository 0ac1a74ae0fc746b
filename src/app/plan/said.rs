//! What the answer says of the configuration: what was taken from where, and what was not done.

use super::{super::agent::Lending, Plan, Step, said};
use crate::{
    config::HostKeyPolicy,
    ssh::{
        client::address::shorten,
        ssh_config::{Notice, NoticeKind, Origin, RequestTty, Setting, StrictHostKeyChecking},
    },
};

/// Rows of one answer.
const MAX_ROWS: usize = 40;
/// Notices of one host.
const MAX_NOTICES: usize = 20;
/// Characters of a value.
const MAX_VALUE_CHARS: usize = 200;

/// Said of a session whose commands may use the agent.
pub(in crate::app) const AGENT_IS_LENT: &str = "The SSH agent is lent to commands on this host (ForwardAgent, \
    SSH_FORWARD_AGENT_HOSTS): whoever is root there can log in elsewhere with its keys meanwhile.";

/// Keywords that say nothing about this host, or are told elsewhere.
const LEFT_OUT: [&str; 6] =
    ["hashknownhosts", "sendenv", "canonicaldomains", "canonicalizemaxdots", "canonicalizefallbacklocal", "proxyjump"];

/// A value, and the line that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRow {
    /// The keyword, or `jump` for a host on the way.
    pub keyword: &'static str,
    /// Its value, cut.
    pub value: String,
    /// File and line; none for what nobody said.
    pub place: Option<(String, usize)>,
}

/// What lines of the configuration decided, bounded.
pub(in crate::app) fn rows(plan: &Plan) -> Vec<ResolvedRow> {
    let resolved = &plan.end.resolved;
    let of_file = |origin: &Origin| matches!(origin, Origin::File { .. });
    let mut rows = Vec::new();
    if resolved.user.origin == Origin::Default {
        rows.push(ResolvedRow { keyword: "user", value: resolved.user.value.clone(), place: None });
    }
    for hop in &plan.hops {
        let value = hop.target.to_string();
        rows.push(ResolvedRow { keyword: "jump", value, place: place(&resolved.proxy.origin) });
    }
    let entries = resolved.entries().into_iter();
    let entries = entries.filter(|entry| of_file(&entry.origin) && !LEFT_OUT.contains(&entry.keyword));
    rows.extend(entries.map(|entry| {
        let value = match entry.keyword {
            // People write passwords into such lines.
            "proxycommand" => entry.value.split_whitespace().next().unwrap_or_default().to_owned() + " ...",
            _ => entry.value,
        };
        ResolvedRow { keyword: entry.keyword, value: cut(&value), place: place(&entry.origin) }
    }));
    rows.truncate(MAX_ROWS);
    rows
}

fn place(origin: &Origin) -> Option<(String, usize)> {
    match origin {
        Origin::File { path, line } => Some((path.display().to_string(), *line)),
        Origin::Default | Origin::Given => None,
    }
}

fn cut(value: &str) -> String {
    value.chars().take(MAX_VALUE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What `ssh` would do and is not done here: nothing that matters is dropped in silence.
pub(in crate::app) fn notices(plan: &Plan, policy: HostKeyPolicy, lending: &Lending) -> Vec<String> {
    let mut all = of_host(&plan.end, policy, lending);
    for hop in &plan.hops {
        let of_hop = of_way(hop, policy);
        all.extend(of_hop.into_iter().map(|notice| format!("jump host {}: {notice}", shorten(&hop.alias))));
    }
    all
}

fn of_host(step: &Step, policy: HostKeyPolicy, lending: &Lending) -> Vec<String> {
    let mut all = of_way(step, policy);
    let resolved = &step.resolved;
    if matches!(resolved.request_tty.value, RequestTty::Yes | RequestTty::Force) {
        all.push(not_done("requesttty", &resolved.request_tty, "commands get no terminal"));
    }
    let without_agent = match lending {
        Lending::Unasked | Lending::Lent(_) => None,
        Lending::NotAllowed => {
            Some("only SSH_FORWARD_AGENT_HOSTS, a setting of this server, lets a host use the SSH agent")
        }
        Lending::NoAgent => Some("there is no SSH agent (SSH_AUTH_SOCK)"),
    };
    all.extend(without_agent.map(|why| not_done("forwardagent", &resolved.forward_agent, why)));
    if resolved.batch_mode.value {
        all.push(not_done("batchmode", &resolved.batch_mode, "the user may be asked through the client"));
    }
    if let Some(first) = resolved.local_forwards.first() {
        all.push(not_done("localforward", first, "nothing is forwarded before ssh_forward asks for it"));
    }
    all
}

/// What concerns a jump host too.
fn of_way(step: &Step, policy: HostKeyPolicy) -> Vec<String> {
    let resolved = &step.resolved;
    let mut all: Vec<_> =
        resolved.notices.iter().filter(|notice| matters(notice)).map(ToString::to_string).take(MAX_NOTICES).collect();
    let checking = &resolved.strict_host_key_checking;
    let weaker = match checking.value {
        StrictHostKeyChecking::No => true,
        StrictHostKeyChecking::AcceptNew => policy > HostKeyPolicy::AcceptNew,
        StrictHostKeyChecking::Ask => said(checking) && policy > HostKeyPolicy::Ask,
        StrictHostKeyChecking::Yes => false,
    };
    if weaker {
        let why = "host keys are checked as SSH_HOST_KEY_POLICY says, and a changed one is refused";
        all.push(not_done("stricthostkeychecking", checking, why));
    }
    if resolved.check_host_ip.value && said(&resolved.check_host_ip) {
        all.push(not_done("checkhostip", &resolved.check_host_ip, "the key is known by the name alone"));
    }
    if said(&resolved.server_alive_interval) && resolved.server_alive_interval.value.is_zero() {
        all.push(not_done(
            "serveraliveinterval",
            &resolved.server_alive_interval,
            "a dead connection is noticed anyway",
        ));
    }
    all
}

/// Debian's system-wide file asks for GSSAPI everywhere; it is one way to log in among several.
fn matters(notice: &Notice) -> bool {
    let system = matches!(&notice.origin, Origin::File { path, .. } if path.starts_with("/etc/ssh"));
    !(system && notice.kind == NoticeKind::Ignored && notice.keyword.starts_with("gssapi"))
}

fn not_done<T>(keyword: &str, setting: &Setting<T>, instead: &str) -> String {
    format!("{keyword} is not followed: {instead} ({})", setting.origin)
}
