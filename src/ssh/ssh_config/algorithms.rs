//! Lists of algorithms: a list of its own, or a change to the list that is tried by default.

use super::{
    error::Problem,
    pattern::{Verdict, matches_list},
};

/// What a list of algorithms does to the default one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlgorithmMode {
    /// Stands in its place.
    Replace,
    /// `+`: comes after it.
    Append,
    /// `-`: is taken away from it.
    Remove,
    /// `^`: comes before it.
    Prepend,
}

/// `Ciphers`, `MACs`, `KexAlgorithms`, `HostKeyAlgorithms`, `PubkeyAcceptedAlgorithms`.
///
/// The names are not checked: a later OpenSSH knows others. What a name means is said where it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlgorithmEdit {
    /// What the names do.
    pub mode: AlgorithmMode,
    /// Names, or patterns with `*` and `?`.
    pub names: Vec<String>,
}

impl AlgorithmEdit {
    pub(super) fn parse(word: &str) -> Result<Self, Problem> {
        let (mode, names) = match word.as_bytes().first() {
            Some(b'+') => (AlgorithmMode::Append, &word[1..]),
            Some(b'-') => (AlgorithmMode::Remove, &word[1..]),
            Some(b'^') => (AlgorithmMode::Prepend, &word[1..]),
            _ => (AlgorithmMode::Replace, word),
        };
        if names.is_empty() && mode != AlgorithmMode::Remove {
            return Err(Problem::bad(word, "names with commas between them, after +, - or ^ or nothing"));
        }
        Ok(Self { mode, names: names.split(',').map(str::to_owned).collect() })
    }

    /// The list that comes out, in order and without repetition. `default` is tried without this edit, `all` is all
    /// that there is: names that it lacks are left out.
    #[must_use]
    pub fn apply(&self, default: &[&str], all: &[&str]) -> Vec<String> {
        let own = self.names.iter().map(String::as_str);
        let wanted: Vec<&str> = match self.mode {
            AlgorithmMode::Replace => own.collect(),
            AlgorithmMode::Append => default.iter().copied().chain(own).collect(),
            AlgorithmMode::Prepend => own.chain(default.iter().copied()).collect(),
            AlgorithmMode::Remove => {
                let list = self.names.join(",");
                let keep = |name: &&&str| matches_list(name, &list, false) != Verdict::Yes;
                return default.iter().filter(keep).map(ToString::to_string).collect();
            }
        };
        let mut names: Vec<String> = Vec::new();
        for pattern in wanted {
            let hits = all.iter().filter(|name| matches_list(name, pattern, false) == Verdict::Yes);
            for name in hits {
                if !names.iter().any(|known| known == name) {
                    names.push((*name).to_owned());
                }
            }
        }
        names
    }

    /// As written.
    #[must_use]
    pub fn text(&self) -> String {
        let sign = match self.mode {
            AlgorithmMode::Replace => "",
            AlgorithmMode::Append => "+",
            AlgorithmMode::Remove => "-",
            AlgorithmMode::Prepend => "^",
        };
        format!("{sign}{}", self.names.join(","))
    }
}
