//! `docs/API.md`, generated from the table of tools and the table of codes.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    tool::{Access, Tool},
    tools,
};
use crate::{
    error::Code,
    mcp::{
        schema::{self, Object},
        texts::Numbers,
    },
};

const HEAD: &str = "\
# The tools

Generated from the code (`UPDATE_DOCS=1 cargo test docs_api`); do not edit. Numbers are those of the default settings.

Every result is a JSON object, in `structuredContent` and, the same, in one text block. A failed call has `isError: true`
and `code`, `message`, `hint`, `retryable` with further fields about the failure; `retryable: true` means that this same
call may be repeated unchanged without doing anything twice. `hint` (one next step) and `notices` may stand on any result.
Fields that are not known are left out. Ids are UUIDs, times are RFC 3339 in UTC.

Arguments are read leniently: `\"60\"`, `60.0` and `\"true\"` count as number and boolean, `null` and, for optional
parameters, `\"\"` as absent, 0 as the default of time-outs and `max_bytes`. Everything else that does not fit is refused,
all faults in one answer.
";

/// The document.
#[must_use]
pub fn markdown() -> String {
    let numbers = Numbers::default();
    let mut out = HEAD.to_owned();
    for tool in tools() {
        out.push_str(&section(&tool, &numbers));
    }
    out.push_str("\n## Server instructions\n\n```text\n");
    out.push_str(&numbers.instructions());
    out.push_str("\n```\n\n## Codes\n\n| Code | Meaning | Next step |\n|---|---|---|\n");
    for code in Code::ALL {
        let (meaning, step) = meaning(*code);
        let _ = writeln!(out, "| `{code}` | {meaning} | {step} |");
    }
    out
}

fn section(tool: &Tool, numbers: &Numbers) -> String {
    let mut out = format!("\n## {}\n\n{}. {}\n\n", tool.name, tool.title, numbers.fill(tool.description));
    let word = |holds: bool| if holds { "yes" } else { "no" };
    let _ = writeln!(
        out,
        "Read-only: {}. Destructive: {}. Idempotent: {}. Open world: {}.\n",
        word(tool.access == Access::ReadOnly),
        word(tool.access == Access::Destructive),
        word(tool.idempotent),
        word(tool.open_world)
    );
    out.push_str("| Parameter | Type | Required | |\n|---|---|---|---|\n");
    for (name, node) in schema::properties(&tool.input) {
        let required = if schema::requires(&tool.input, name) { "yes" } else { "" };
        let _ = writeln!(out, "| `{name}` | {} | {required} | {} |", ranged(node), numbers.fill(text(node)));
    }
    out.push_str("\n| Result | Type | |\n|---|---|---|\n");
    out.push_str(&fields(&tool.output, ""));
    out
}

/// Rows of an object's fields; those inside it follow it, with its name before theirs.
fn fields(node: &Object, prefix: &str) -> String {
    let mut out = String::new();
    for (name, field) in schema::properties(node) {
        let path = format!("{prefix}{name}");
        let _ = writeln!(out, "| `{path}` | {} | {} |", kind(field), text(field));
        let items = field.get("items").and_then(Value::as_object);
        match items {
            Some(items) => out.push_str(&fields(items, &format!("{path}[]."))),
            None => out.push_str(&fields(field, &format!("{path}."))),
        }
    }
    out
}

fn text(node: &Object) -> &str {
    node.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// The type of a parameter, with its limits.
fn ranged(node: &Object) -> String {
    match (node.get("minimum"), node.get("maximum")) {
        (Some(least), Some(greatest)) => format!("{}, {least} to {greatest}", kind(node)),
        (Some(least), None) => format!("{}, {least} or more", kind(node)),
        _ => kind(node),
    }
}

fn kind(node: &Object) -> String {
    if let Some(words) = node.get("enum").and_then(Value::as_array) {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return words.join(", ");
    }
    let name = node.get("type").and_then(Value::as_str).unwrap_or_default();
    match node.get("items").and_then(Value::as_object) {
        Some(items) => format!("{name} of {}", kind(items)),
        None => name.to_owned(),
    }
}

/// What a code means, and what to do about it.
fn meaning(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::InvalidArgument => ("A value has the wrong type or form.", "Send what `hint` says."),
        Code::MissingArgument => ("A required argument is missing.", "Add it."),
        Code::UnknownArgument => ("The tool has no such parameter.", "Use `did_you_mean`, or leave it out."),
        Code::ConflictingArguments => ("Two arguments contradict each other.", "Send one of them."),
        Code::OutOfRange => ("A number or a text is beyond its limits.", "Stay between `minimum` and `maximum`."),
        Code::InvalidAddress => ("The address cannot be read.", "Use host, host:port, user@host:port or [v6]:port."),
        Code::InvalidUsername => ("The username cannot be one.", "Use the plain login name."),
        Code::InvalidName => ("The label cannot be one.", "Use a short printable text that is no id."),
        Code::NameInUse => ("Another live session has this name.", "Use another name, or that session."),
        Code::CommandTooLong => ("The command line is too long for one argument.", "Send the text in `stdin`."),
        Code::NoSuchDirectory => ("`cwd` does not exist; nothing was run.", "Check the path."),
        Code::SshConfigInvalid => {
            ("`ssh` would refuse its configuration.", "Ask the user to mend the file and line named.")
        }
        Code::SessionNotFound => ("No session has this id.", "Copy one of `candidates`, or call ssh_list_sessions."),
        Code::SessionClosed => ("The session was closed.", "Connect again, as `hint` says."),
        Code::CommandNotFound => ("No command has this id.", "Call ssh_list_commands."),
        Code::ForwardNotFound => ("No forward has this id.", "Call ssh_list_sessions."),
        Code::TooManyCommands => {
            ("The limit of running background commands is reached.", "Wait for, or cancel, one of `running`.")
        }
        Code::TooManySessions => ("The limit of open sessions is reached.", "Reuse or close sessions."),
        Code::TooManyForwards => ("The limit of open forwards is reached.", "Reuse a forward, or close its session."),
        Code::Busy => ("The server has too much to do.", "Repeat the call in a moment."),
        Code::ResolveFailed => ("The host name has no address.", "Check the name."),
        Code::ConnectRefused => ("Nothing listens on that port.", "Check host and port; is sshd running?"),
        Code::ConnectTimeout => {
            ("Connecting took longer than its limit.", "Check host and network, or raise `timeout_secs`.")
        }
        Code::Unreachable => ("There is no route to the host.", "Check network and VPN."),
        Code::ConnectionLost => ("The connection ended before the work began.", "Connect again, then repeat."),
        Code::ProxyFailed => ("The proxy, or ProxyCommand, failed or refused.", "Ask the user to check it."),
        Code::ProxyAuthFailed => ("The proxy refused the login.", "Ask the user to check the setting."),
        Code::NotSsh => ("What answers there is no SSH server.", "Check the port."),
        Code::NoCommonAlgorithm => ("Client and server share no algorithm.", "Ask the user to update the server."),
        Code::HostKeyChanged => ("The host key is not the one on record.", "Stop, and tell the user."),
        Code::HostKeyUnknown => ("The host key is not on record.", "Ask the user to confirm it."),
        Code::HostKeyRevoked => ("The host key is marked as revoked.", "Stop, and tell the user."),
        Code::AuthFailed => ("The server took none of the credentials.", "Do not guess; ask the user."),
        Code::AgentUnavailable => {
            ("No SSH agent can be reached.", "Set SSH_AUTH_SOCK in the client's settings, or use `key_path`.")
        }
        Code::AgentEmpty => ("The SSH agent holds no key.", "Ask the user to run ssh-add, or use `key_path`."),
        Code::SecretNotFound => ("No secret is configured under that name.", "Use one of `available`."),
        Code::SecretNotAllowed => {
            ("The secret may not be used for this host.", "Ask the user; do not look for a way round.")
        }
        Code::SecretUnavailable => ("The source of the secret fails.", "Ask the user to check the settings file."),
        Code::KeyNotFound => ("The key file does not exist.", "Check `key_path`, on the machine of this server."),
        Code::KeyPermissions => ("Others can read the key file.", "Ask the user to run chmod 600 on it."),
        Code::KeyPathNotAllowed => ("The key file may not be read.", "Use a regular file in an allowed place."),
        Code::KeyEncrypted => ("The key needs a passphrase.", "Load it into the SSH agent."),
        Code::NotAPrivateKey => ("The file holds no private key.", "Use the file without .pub."),
        Code::ChannelRefused => ("The server refused to start the command.", "See `hint`."),
        Code::OutcomeUnknown => {
            ("The connection was lost while the command ran.", "Look at its effect before running it again.")
        }
        Code::PortInUse => ("The local port is taken.", "Use `local_port` 0 or another number."),
        Code::InvalidPort => ("That is no port number.", "Use 1 to 65535; for `local_port` also 0."),
        Code::PermissionDenied => ("The operating system forbids it.", "Use a local port of 1024 or above."),
        Code::ForwardDenied => ("The server forbids forwarding.", "Ask the user."),
        Code::ForwardTargetDenied => ("This target is not allowed.", "Use another target."),
        Code::Internal => ("A fault of this server.", "Look at what was done before repeating; report it."),
    }
}
