//! The names that a person could connect to.

use std::collections::HashSet;

use super::{files::ConfigFile, pattern::matches, value::is_host_name};

/// How many changed letters make a name near to another one.
const NEAR: usize = 2;

/// How many near names are given.
const MAX_NEAR: usize = 10;

/// Every name of a `Host` line that is no pattern, once, in the order of the files.
pub(super) fn aliases(files: &[ConfigFile]) -> Vec<String> {
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    gather(files, &mut names, &mut seen);
    names
}

fn gather<'a>(files: &'a [ConfigFile], names: &mut Vec<String>, seen: &mut HashSet<&'a str>) {
    for entry in files.iter().flat_map(|file| &file.entries) {
        gather(&entry.included, names, seen);
        if entry.line.keyword != "host" {
            continue;
        }
        let words = entry.line.words.iter().flatten().map(String::as_str);
        for name in words.filter(|name| !name.contains(['*', '?']) && !name.starts_with('!') && is_host_name(name)) {
            if seen.insert(name) {
                names.push(name.to_owned());
            }
        }
    }
}

/// Whether a `Host` line matches `name` by more than wildcards.
pub(super) fn speaks_of(files: &[ConfigFile], name: &str) -> bool {
    files.iter().flat_map(|file| &file.entries).any(|entry| {
        let of_host = entry.line.keyword == "host";
        let words = entry.line.words.iter().flatten().map(String::as_str).filter(|_| of_host);
        let (negated, plain): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with('!'));
        let says_something = |word: &&&str| word.contains(|c| !matches!(c, '*' | '?' | '.'));
        let hit = plain.iter().filter(says_something).any(|word| matches(name, word));
        (hit && !negated.iter().any(|word| matches(name, &word[1..]))) || speaks_of(&entry.included, name)
    })
}

/// The aliases that `name` may have been meant to be, the nearest first; none if it is one.
pub(super) fn near(aliases: &[String], name: &str) -> Vec<String> {
    if name.is_empty() || aliases.iter().any(|alias| alias == name) {
        return Vec::new();
    }
    let mut near: Vec<_> = aliases.iter().filter_map(|alias| Some((closeness(alias, name)?, alias.clone()))).collect();
    near.sort_by_key(|(closeness, _)| *closeness);
    near.truncate(MAX_NEAR);
    near.into_iter().map(|(_, alias)| alias).collect()
}

/// 0 for another case, then the number of changed letters, then a shared beginning. A name of up to two letters is
/// near to nothing by its letters: all such names would be.
fn closeness(alias: &str, name: &str) -> Option<usize> {
    let (alias, name) = (alias.to_ascii_lowercase(), name.to_ascii_lowercase());
    let shorter = alias.len().min(name.len());
    let allowed = NEAR.min(shorter / 2);
    if let Some(changes) = distance(&alias, &name, allowed) {
        return Some(changes);
    }
    let begins = shorter >= 3 && (alias.starts_with(&name) || name.starts_with(&alias));
    begins.then_some(NEAR + 1)
}

/// Changed, added, missing or swapped letters, if there are at most `limit`.
fn distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit * 4 {
        return None;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut rows: [Vec<usize>; 3] = [Vec::new(), Vec::new(), (0..=b.len()).collect()];
    for i in 1..=a.len() {
        rows.rotate_left(1);
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(rows[1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[0][j - 2] + 1);
            }
            row.push(best);
        }
        rows[2] = row;
    }
    rows[2].last().copied().filter(|distance| *distance <= limit)
}
