//! Patterns: `*`, `?`, lists with commas and negation (`match.c` of OpenSSH).

/// The longest pattern of a list, as in OpenSSH: a longer one ends the list without a match.
const MAX_PATTERN: usize = 1022;

/// Whether `text` matches `pattern`, in which `*` and `?` stand for anything.
///
/// Linear in the pattern: the last `*` alone is tried anew, and only as far as the text reaches.
pub(super) fn matches(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut t, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                star = Some((p, t));
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                p = after;
                t = from + 1;
                star = Some((after, t));
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Whether a list says yes, says no by a negated pattern, or says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    Silent,
}

/// Matches against patterns with commas between them; `lower` compares them in lower case.
pub(super) fn matches_list(text: &str, list: &str, lower: bool) -> Verdict {
    let mut verdict = Verdict::Silent;
    // A comma at the very end opens no further pattern.
    let list = list.strip_suffix(',').unwrap_or(list);
    for pattern in list.split(',') {
        let (negated, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |pattern| (true, pattern));
        if pattern.len() > MAX_PATTERN {
            return Verdict::Silent;
        }
        let hit = if lower { matches(text, &pattern.to_ascii_lowercase()) } else { matches(text, pattern) };
        match (hit, negated) {
            (true, true) => return Verdict::No,
            (true, false) => verdict = Verdict::Yes,
            _ => {}
        }
    }
    verdict
}

/// A host name against a list, without regard to case.
pub(super) fn matches_host(host: &str, list: &str) -> bool {
    matches_list(&host.to_ascii_lowercase(), list, true) == Verdict::Yes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_openssh() {
        for (text, pattern) in [("", "*"), ("abc", "a*c"), ("abc", "???"), ("aXbXc", "a*X?"), ("a", "a**"), ("", "")] {
            assert!(matches(text, pattern), "{text} {pattern}");
        }
        for (text, pattern) in [("", "?"), ("abc", "a*d"), ("abc", "??"), ("abc", ""), ("abc", "ABC")] {
            assert!(!matches(text, pattern), "{text} {pattern}");
        }
        assert_eq!(matches_list("a.b", "!a.*,*", false), Verdict::No);
        assert_eq!(matches_list("a.b", "*,!a.*", false), Verdict::No);
        assert_eq!(matches_list("c", "!a.*", false), Verdict::Silent);
        assert!(matches_host("A.B", "a.*"));
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let (text, pattern) = ("a".repeat(1000), "a*".repeat(100_000) + "b");
        assert!(!matches(&text, &pattern));
    }
}
