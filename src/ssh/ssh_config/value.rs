//! Values: words with a meaning, numbers, times, sizes, ports, domains.

use super::error::Problem;

/// A value that is one of a few words.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every spelling; the first of a meaning is the one that `ssh -G` prints.
    const WORDS: &'static [(&'static str, Self)];

    fn parse(word: &str) -> Result<Self, Problem> {
        let found = Self::WORDS.iter().find(|(spelling, _)| spelling.eq_ignore_ascii_case(word));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let allowed: Vec<_> = Self::WORDS.iter().map(|(spelling, _)| *spelling).collect();
            Problem::bad(word, allowed.join(" "))
        })
    }

    fn text(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(spelling, _)| *spelling)
    }
}

impl Choice for bool {
    const WORDS: &'static [(&'static str, Self)] = &[("yes", true), ("no", false), ("true", true), ("false", false)];
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $($word:literal)|+,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$($(($word, $name::$variant),)+)*];
        }
    )*};
}

choices! {
    /// `StrictHostKeyChecking`.
    StrictHostKeyChecking {
        /// An unknown key is refused.
        Yes = "true" | "yes",
        /// Any key is taken.
        No = "false" | "no" | "off",
        /// A person is asked about an unknown key.
        Ask = "ask",
        /// An unknown key is recorded; a changed one is refused.
        AcceptNew = "accept-new",
    }
    /// `RequestTTY`.
    RequestTty {
        /// A terminal, if there is one here.
        Yes = "true" | "yes",
        /// None.
        No = "false" | "no",
        /// A terminal in any case.
        Force = "force",
        /// A terminal for a login shell.
        Auto = "auto",
    }
    /// `AddressFamily`.
    AddressFamily {
        /// IPv4 alone.
        Inet = "inet",
        /// IPv6 alone.
        Inet6 = "inet6",
        /// Both.
        Any = "any",
    }
    /// `PubkeyAuthentication`.
    PubkeyAuthentication {
        /// Allowed.
        Yes = "true" | "yes",
        /// Not tried.
        No = "false" | "no",
        /// Allowed, without the host-bound extension.
        Unbound = "unbound",
        /// Allowed, with the host-bound extension.
        HostBound = "host-bound",
    }
    /// `CanonicalizeHostname`.
    CanonicalizeHostname {
        /// Where the connection is direct.
        Yes = "true" | "yes",
        /// Never.
        No = "false" | "no",
        /// Behind a proxy too.
        Always = "always",
    }
}

/// `Compression` knows two words only.
pub(super) fn yes_or_no(word: &str) -> Result<bool, Problem> {
    match () {
        () if word.eq_ignore_ascii_case("yes") => Ok(true),
        () if word.eq_ignore_ascii_case("no") => Ok(false),
        () => Err(Problem::bad(word, "yes no")),
    }
}

/// A number of C's `int`, not negative.
pub(super) fn count(word: &str) -> Result<u32, Problem> {
    let number = word.parse().ok().filter(|number| *number <= i32::MAX as u32);
    number.ok_or_else(|| Problem::bad(word, "a number from 0 to 2147483647"))
}

/// A port; zero means nothing here.
pub(super) fn port(word: &str) -> Result<u16, Problem> {
    // The one name of /etc/services that people write.
    if word == "ssh" {
        return Ok(22);
    }
    word.parse().ok().filter(|port| *port != 0).ok_or_else(|| Problem::bad(word, "a port from 1 to 65535"))
}

/// `none`, or a time such as `90`, `1m30s`, `2h`, in seconds.
pub(super) fn time(word: &str) -> Result<Option<u64>, Problem> {
    if word == "none" {
        return Ok(None);
    }
    seconds(word).map(Some).ok_or_else(|| Problem::bad(word, "none, or a time such as 90, 1m30s or 2h"))
}

fn seconds(word: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = word;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        let mut after = rest[digits..].chars();
        let factor = match after.next().map(|unit| unit.to_ascii_lowercase()) {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            Some(_) => return None,
        };
        total = number.checked_mul(factor)?.checked_add(total).filter(|total| *total <= i32::MAX as u64)?;
        rest = after.as_str();
    }
    (!word.is_empty()).then_some(total)
}

/// `default` (zero), or a size such as `16`, `512M`, `1.5G`, in bytes.
pub(super) fn size(word: &str) -> Result<u64, Problem> {
    if word == "default" {
        return Ok(0);
    }
    let bytes = scaled(word).filter(|bytes| *bytes == 0 || *bytes >= 16);
    bytes.ok_or_else(|| Problem::bad(word, "default, or at least 16 bytes with K, M or G"))
}

fn scaled(word: &str) -> Option<u64> {
    const UNITS: &str = "bkmgtpe";
    /// As many digits as `scan_scaled` of OpenBSD takes.
    const MAX_DIGITS: usize = 20;
    let word = word.strip_prefix('+').unwrap_or(word);
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (number, unit) = word.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() > MAX_DIGITS || fraction.contains('.') || unit.chars().count() > 1 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let Some(unit) = unit.chars().next() else { return i64::try_from(whole).ok().map(|_| whole) };
    let factor = 1u64 << (10 * UNITS.find(unit.to_ascii_lowercase())?);
    let digits = &fraction[..fraction.len().min(9)];
    let part = u128::from(digits.parse::<u64>().unwrap_or(0)) * u128::from(factor) / 10u128.pow(digits.len() as u32);
    let bytes = whole.checked_mul(factor)?.checked_add(u64::try_from(part).ok()?)?;
    i64::try_from(bytes).ok().map(|_| bytes)
}

/// A domain for `CanonicalDomains`, in lower case and without a dot at the end.
pub(super) fn domain(word: &str) -> Result<String, Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let begins = word.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || !word.chars().all(allowed) || word.contains("..") {
        return Err(Problem::bad(word, "a domain name"));
    }
    Ok(word.strip_suffix('.').unwrap_or(word).to_ascii_lowercase())
}

/// Whether a name may stand for a host: nothing that a shell would act on (CVE-2023-51385).
pub(super) fn is_host_name(name: &str) -> bool {
    let bad = |c: char| "'`\"$\\;&<>|(){},".contains(c) || c.is_ascii_whitespace() || c.is_ascii_control();
    !name.is_empty() && !name.starts_with('-') && !name.contains(bad) && !name.contains('\u{b}')
}

/// Whether a name may stand for a user.
pub(super) fn is_user_name(name: &str) -> bool {
    let bad = |c: char| "'`\";&<>|(){}".contains(c) || c.is_ascii_control();
    let option = name.as_bytes().windows(2).any(|pair| pair[0].is_ascii_whitespace() && pair[1] == b'-');
    !name.starts_with('-') && !name.contains(bad) && !option && !name.ends_with('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_openssh_reads_them() {
        for (word, secs) in [("90", 90), ("1m30s", 90), ("2H", 7200), ("1w1", 604_801), ("0", 0)] {
            assert_eq!(time(word), Ok(Some(secs)), "{word}");
        }
        assert_eq!(time("none"), Ok(None));
        for word in ["", "x", "5x", "-5", "s", "3000000000", "99999999999999999999", "None"] {
            assert!(time(word).is_err(), "{word}");
        }
        for (word, bytes) in [("default", 0), ("0", 0), ("16", 16), ("1.5G", 1_610_612_736), ("4k", 4096), ("32B", 32)]
        {
            assert_eq!(size(word), Ok(bytes), "{word}");
        }
        for word in ["15", "x", "1.2.3K", "1KB", "-16", "9999999999G", "1x"] {
            assert!(size(word).is_err(), "{word}");
        }
    }
}
