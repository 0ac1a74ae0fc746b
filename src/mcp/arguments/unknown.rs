//! Arguments that no parameter is named like: what the caller may have meant.

use super::{Fault, Param};

/// Words that other tools use for our parameters. The first target that the tool has is meant.
const ALIASES: &[(&str, &[&str])] = &[
    ("host", &["address", "remote_address"]),
    ("hostname", &["address", "remote_address"]),
    ("server", &["address", "remote_address"]),
    ("target", &["address", "remote_address"]),
    ("ip", &["address", "remote_address"]),
    ("url", &["address"]),
    ("uri", &["address"]),
    ("destination", &["address", "remote_address"]),
    ("remotehost", &["remote_address", "address"]),
    ("port", &["address", "remote_port"]),
    ("sshport", &["address"]),
    ("targetport", &["remote_port"]),
    ("bindport", &["local_port"]),
    ("listenport", &["local_port"]),
    ("user", &["username"]),
    ("login", &["username"]),
    ("loginname", &["username"]),
    ("pass", &["password"]),
    ("passwd", &["password"]),
    ("pwd", &["password", "cwd"]),
    ("passwordname", &["password_ref"]),
    ("secret", &["password_ref"]),
    ("passphrase", &["passphrase_ref"]),
    ("keypassphrase", &["passphrase_ref"]),
    ("keypassword", &["passphrase_ref"]),
    ("key", &["key_path"]),
    ("keyfile", &["key_path"]),
    ("privatekey", &["key_path"]),
    ("privatekeypath", &["key_path"]),
    ("identity", &["key_path"]),
    ("identityfile", &["key_path"]),
    ("sshkey", &["key_path"]),
    ("timeout", &["timeout_secs", "wait_timeout_secs"]),
    ("timeoutseconds", &["timeout_secs", "wait_timeout_secs"]),
    ("timeoutms", &["timeout_secs", "wait_timeout_secs"]),
    ("waittimeout", &["wait_timeout_secs"]),
    ("retries", &["max_retries"]),
    ("retry", &["max_retries"]),
    ("retrydelay", &["retry_delay_ms"]),
    ("compression", &["compress"]),
    ("cmd", &["command"]),
    ("script", &["command"]),
    ("shell", &["command"]),
    ("input", &["stdin"]),
    ("dir", &["cwd"]),
    ("directory", &["cwd"]),
    ("workdir", &["cwd"]),
    ("workingdir", &["cwd"]),
    ("workingdirectory", &["cwd"]),
    ("path", &["cwd", "key_path"]),
    ("id", &["command_id", "session_id", "agent_id"]),
    ("session", &["session_id"]),
    ("jobid", &["command_id"]),
    ("taskid", &["command_id"]),
    ("agent", &["agent_id"]),
    ("label", &["name"]),
    ("state", &["status"]),
    ("block", &["wait"]),
    ("waitfor", &["until", "wait"]),
    ("expect", &["until"]),
    ("untiltext", &["until"]),
    ("pattern", &["until_regex"]),
    ("regex", &["until_regex"]),
    ("jumphost", &["jump"]),
    ("jumphosts", &["jump"]),
    ("proxyjump", &["jump"]),
    ("bastion", &["jump"]),
    ("offset", &["stdout_offset"]),
    ("limit", &["max_bytes"]),
    ("maxoutput", &["max_bytes"]),
];

/// Things that no parameter does, and the way to get them.
const WAYS: &[(&str, &str)] = &[
    ("proxycommand", "No call may name a program to run. Use \"jump\" for jump hosts."),
    ("env", "There is no such parameter. Set variables in the command: \"NAME=value command\"."),
    ("environment", "There is no such parameter. Set variables in the command: \"NAME=value command\"."),
    ("background", "There is no such parameter. Use ssh_execute_async for background work."),
    ("async", "There is no such parameter. Use ssh_execute_async for background work."),
    ("pty", "There is no terminal. Use options that need none, such as -y and --no-pager."),
    ("tty", "There is no terminal. Use options that need none, such as -y and --no-pager."),
];

/// The fault of an argument that no parameter is named like.
pub(super) fn argument(params: &[Param], name: &str) -> Fault {
    let plain = plain(name);
    if let Some((_, way)) = WAYS.iter().find(|(word, _)| *word == plain) {
        return Fault::unknown(name, None, *way);
    }
    let Some(meant) = alias(params, &plain).or_else(|| nearest(params, &plain)) else {
        return Fault::unknown(name, None, taken(params));
    };
    let hint = match (plain.as_str(), meant) {
        ("port" | "sshport", "address") => "Write the port into address: \"host:port\".".into(),
        (_, "passphrase_ref") => {
            "Give the name of a configured secret in \"passphrase_ref\", never the passphrase itself.".into()
        }
        ("timeoutms", _) => format!("Use \"{meant}\", in whole seconds."),
        _ => format!("Use \"{meant}\" instead."),
    };
    Fault::unknown(name, Some(meant), hint)
}

fn alias<'a>(params: &'a [Param], plain: &str) -> Option<&'a str> {
    let (_, targets) = ALIASES.iter().find(|(word, _)| *word == plain)?;
    targets.iter().find_map(|target| params.iter().find(|param| param.name == *target)).map(|param| param.name.as_str())
}

/// The parameter whose name is a few letters away, if any is.
fn nearest<'a>(params: &'a [Param], plain_name: &str) -> Option<&'a str> {
    let length = plain_name.chars().count();
    // Longer than any name of ours: not worth comparing, and the work stays bounded.
    if length > 40 {
        return None;
    }
    let distances = params.iter().map(|param| (distance(plain_name, &plain(&param.name)), param));
    let (least, param) = distances.min_by_key(|(distance, _)| *distance)?;
    (least <= 2 && least * 3 <= length).then_some(param.name.as_str())
}

fn taken(params: &[Param]) -> String {
    if params.is_empty() {
        return "This tool takes no arguments.".into();
    }
    let names: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
    format!("Leave it out. This tool takes: {}.", names.join(", "))
}

/// A name without case and separators: `sessionId`, `session-id` and `SESSION_ID` are one.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).take(64).collect()
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
