//! The file names that an `Include` pattern stands for, as `glob(3)` finds them.
//!
//! Its own code: the crates of this name have no backslash escapes and read `**` as a tree, which `ssh` does not.

use std::{fs, path::PathBuf};

/// How many directory entries one configuration may look at.
const MAX_ENTRIES: usize = 65_536;

/// What is left of [`MAX_ENTRIES`].
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(MAX_ENTRIES)
    }

    pub(super) const LIMIT: usize = MAX_ENTRIES;
}

enum Part {
    Any,
    One,
    Char(char),
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Any | Part::One => true,
            Part::Char(own) => *own == c,
            Part::Set { negated, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated,
        }
    }
}

/// The existing paths that an absolute pattern stands for, sorted by bytes. `None` when the budget is spent.
pub(super) fn expand(pattern: &str, budget: &mut Budget) -> Option<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from("/")];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        let parts = parse(component);
        let literal = parts.iter().map(|part| if let Part::Char(c) = part { Some(*c) } else { None }).collect();
        let literal: Option<String> = literal;
        let mut next = Vec::new();
        for base in found {
            match &literal {
                Some(name) => next.push(base.join(name)),
                None => list(&base, &parts, budget, &mut next)?,
            }
        }
        found = next;
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    found.sort();
    Some(found)
}

fn list(base: &PathBuf, parts: &[Part], budget: &mut Budget, found: &mut Vec<PathBuf>) -> Option<()> {
    let Ok(entries) = fs::read_dir(base) else { return Some(()) };
    for entry in entries.flatten() {
        budget.0 = budget.0.checked_sub(1)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| matches(name, parts)) {
            found.push(base.join(name));
        }
    }
    Some(())
}

fn parse(component: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut chars = component.chars();
    while let Some(c) = chars.next() {
        let set = if c == '[' { set(chars.as_str()) } else { None };
        match (c, set) {
            (_, Some((part, after))) => {
                parts.push(part);
                chars = after.chars();
            }
            ('*', _) => parts.push(Part::Any),
            ('?', _) => parts.push(Part::One),
            ('\\', _) => parts.push(Part::Char(chars.next().unwrap_or('\\'))),
            (c, _) => parts.push(Part::Char(c)),
        }
    }
    parts
}

/// A set such as `a-z]` or `!x]`, and what follows it. `None` when it is not closed: the bracket is itself then.
fn set(text: &str) -> Option<(Part, &str)> {
    let inner = text.strip_prefix(['!', '^']);
    let (negated, text) = inner.map_or((false, text), |text| (true, text));
    let mut ranges = Vec::new();
    let mut chars = text.chars().peekable();
    let mut first = true;
    let mut used = 0;
    loop {
        let c = chars.next()?;
        used += c.len_utf8();
        if c == ']' && !first {
            return Some((Part::Set { negated, ranges }, &text[used..]));
        }
        first = false;
        let mut ahead = chars.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) if to != ']' => {
                used += 1 + to.len_utf8();
                chars = ahead;
                ranges.push((c, to));
            }
            _ => ranges.push((c, c)),
        }
    }
}

/// A hidden name needs its dot written out.
fn matches(name: &str, parts: &[Part]) -> bool {
    if name.starts_with('.') && !matches!(parts.first(), Some(Part::Char('.'))) {
        return false;
    }
    let name: Vec<char> = name.chars().collect();
    let (mut n, mut p) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match parts.get(p) {
            Some(Part::Any) => {
                p += 1;
                star = Some((p, n));
            }
            Some(part) if part.takes(name[n]) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                (p, n) = (after, from + 1);
                star = Some((after, n));
            }
        }
    }
    parts[p..].iter().all(|part| matches!(part, Part::Any))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_glob() {
        for (name, pattern) in
            [("a.conf", "*.conf"), ("b1", "[a-c][!a-z]"), ("a*", "a\\*"), (".x", ".*"), ("[x", "[x"), ("]", "[]]")]
        {
            assert!(matches(name, &parse(pattern)), "{name} {pattern}");
        }
        for (name, pattern) in [(".conf", "*conf"), ("d1", "[a-c]?"), ("ab", "a\\*"), ("a", "[!a]"), ("", "?")] {
            assert!(!matches(name, &parse(pattern)), "{name} {pattern}");
        }
    }
}
