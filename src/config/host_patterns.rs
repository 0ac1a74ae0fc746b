//! Hosts as the `Host` lines of `ssh` name them: patterns, with `!` before those that are not meant.

use super::targets::{MAX_PATTERNS, TargetPattern};

/// Which hosts are meant. None by default; never all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPatterns {
    meant: Vec<TargetPattern>,
    excepted: Vec<TargetPattern>,
}

impl HostPatterns {
    /// Reads a list with commas or spaces between the patterns; none where one cannot be read, one means every host, or
    /// there are only exceptions.
    pub(super) fn parse(list: &str) -> Option<Self> {
        let mut all = Self::default();
        for text in list.split(',').flat_map(|part| part.trim().split(' ')) {
            match text.strip_prefix('!') {
                Some(text) => all.excepted.push(TargetPattern::parse_host(text)?),
                None => all.meant.push(TargetPattern::parse_host(text)?),
            }
        }
        (!all.meant.is_empty() && all.meant.len() + all.excepted.len() <= MAX_PATTERNS).then_some(all)
    }

    /// Whether a host is meant by one of its names, and by none of them excepted.
    #[must_use]
    pub fn mean(&self, names: &[&str], port: u16) -> bool {
        let any = |patterns: &[TargetPattern]| {
            names.iter().any(|name| patterns.iter().any(|pattern| pattern.matches(name, name.parse().ok(), port)))
        };
        any(&self.meant) && !any(&self.excepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_hosts_as_the_host_lines_of_ssh_do() {
        let Some(list) = HostPatterns::parse("build?, *.lab.internal, !old.lab.internal, 10.9.0.0/16 10.8.0.1:2222")
        else {
            panic!("a list")
        };
        for (names, port) in [
            (&["build1"][..], 22),
            (&["BUILD1", "192.0.2.1"], 22),
            (&["x", "a.lab.internal"], 22),
            (&["10.9.1.1"], 7),
            (&["10.8.0.1"], 2222),
        ] {
            assert!(list.mean(names, port), "{names:?} {port}");
        }
        for (names, port) in [
            (&["build"][..], 22),
            (&["build12"], 22),
            (&["build1", "old.lab.internal"], 22),
            (&["10.8.0.1"], 22),
            (&["example.org"], 22),
        ] {
            assert!(!list.mean(names, port), "{names:?} {port}");
        }
        assert!(!HostPatterns::default().mean(&["build1"], 22), "none by default");
    }

    #[test]
    fn a_list_that_means_every_host_or_none_is_refused() {
        for text in
            ["", "*", "?*", "*.*", "0.0.0.0/0", "build,*", "!build", "build,,other", "build !", "10.0.0.?", "a:0"]
        {
            assert_eq!(HostPatterns::parse(text), None, "{text}");
        }
    }
}
