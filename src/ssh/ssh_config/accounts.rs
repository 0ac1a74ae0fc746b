//! The users and groups of this machine, as far as files name them.
//!
//! A directory service is not asked: its users have no `~user` here, and no group of their own.

use std::fs;

/// What is read of a file of accounts, in bytes.
const MAX_ACCOUNTS: usize = 4 * 1024 * 1024;

fn records(path: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).ok().filter(|text| text.len() <= MAX_ACCOUNTS).unwrap_or_default();
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}

/// The home of a user.
pub(super) fn home_of(user: &str) -> Option<String> {
    let record = records("/etc/passwd").into_iter().find(|record| record.first().is_some_and(|name| name == user))?;
    record.get(5).filter(|home| home.starts_with('/')).cloned()
}

/// Whether a group is one user's own: nobody else has it as the first group or is listed in it.
#[cfg(unix)]
pub(super) fn is_private_group(gid: u32, uid: u32) -> bool {
    let field = |record: &Vec<String>, at: usize| record.get(at).and_then(|text| text.parse::<u32>().ok());
    let users = records("/etc/passwd");
    let first: Vec<_> = users.iter().filter(|user| field(user, 3) == Some(gid)).map(|user| field(user, 2)).collect();
    let Some(group) = records("/etc/group").into_iter().find(|group| field(group, 2) == Some(gid)) else {
        return false;
    };
    let names: Vec<_> =
        users.iter().filter(|user| field(user, 2) == Some(uid)).filter_map(|user| user.first()).collect();
    let mut listed = group.get(3).map(String::as_str).unwrap_or_default().split(',').filter(|name| !name.is_empty());
    let members = group.get(3).is_some_and(|list| !list.is_empty()) || !first.is_empty();
    members && first.iter().all(|user| *user == Some(uid)) && listed.all(|name| names.iter().any(|own| *own == name))
}
