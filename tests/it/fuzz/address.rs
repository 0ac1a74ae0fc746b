//! Addresses and user names: whatever is taken can be written into a line, a log and a request.

use ssh_mcp::{
    error::{Code, Explain},
    ssh::{
        client::address::{self, MAX_HOST_BYTES, MAX_USERNAME_BYTES},
        output::acts_or_hides,
    },
};

/// The bytes up to the first NUL are an address, the rest is a user name.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (address, username) = match text.split_once('\0') {
        Some((address, username)) => (address, Some(username)),
        None => (&*text, None),
    };
    match address::parse_target(address, username) {
        Ok(target) => {
            check_host(&target.host);
            check_username(&target.username);
            assert_ne!(target.port, 0);
            let v6 = target.host.contains(':');
            let host = if v6 { format!("[{}]", target.host) } else { target.host.clone() };
            let written = format!("{}@{host}:{}", target.username, target.port);
            assert_eq!(address::parse_target(&written, None).expect("what was taken is taken again"), target);
            assert_eq!(target.to_string().lines().count(), 1, "{target}");
        }
        Err(error) => {
            let known =
                [Code::InvalidAddress, Code::InvalidUsername, Code::MissingArgument, Code::ConflictingArguments];
            assert!(known.contains(&error.code()), "{error:?}");
            for text in [Some(error.to_string()), error.hint()].into_iter().flatten() {
                assert!(text.chars().count() <= 300, "{text}");
                assert!(!text.contains(acts_or_hides) && !text.contains(['\n', '\t']), "{text:?}");
            }
        }
    }
}

fn check_host(host: &str) {
    assert!((1..=MAX_HOST_BYTES).contains(&host.len()), "{host}");
    assert!(!host.starts_with('-') && host.is_ascii(), "{host}");
    // What ends a field or begins a pattern, a hash, a marker or a comment of known_hosts (sshd(8)).
    let special = |c: char| c.is_ascii_control() || c.is_whitespace() || ",*?!|@#\"'`$\\;&/[]".contains(c);
    assert!(!host.contains(special), "{host:?}");
    assert_eq!(host, host.to_ascii_lowercase());
}

fn check_username(username: &str) {
    assert!((1..=MAX_USERNAME_BYTES).contains(&username.len()), "{username}");
    assert!(!username.starts_with('-'), "{username}");
    let special = |c: char| c.is_control() || c.is_whitespace() || acts_or_hides(c) || "\"'`;&|<>(){}".contains(c);
    assert!(!username.contains(special), "{username:?}");
}
