//! One pass over the files: which blocks match, and what their lines say.

use super::{
    Local, Probe,
    apply::apply,
    criteria,
    error::{Fault, MAX_FAULTS, Problem, SshConfigError},
    files::{ConfigFile, Entry},
    keywords::{self, Kind},
    options::{Options, Origin, Statement},
    pattern::{self, Verdict},
    resolved::Notice,
};

/// What is asked for, and what the files have said about it so far.
pub(super) struct Pass<'a> {
    pub(super) local: &'a Local,
    pub(super) probe: &'a dyn Probe,
    pub(super) options: Options,
    /// The name as it was given.
    pub(super) alias: &'a str,
    /// The name that `Host` looks at: the given one, in the final pass the one that it stands for.
    pub(super) host: String,
    pub(super) is_final: bool,
    /// A line asked for a final pass.
    pub(super) wants_final: bool,
    pub(super) notices: Vec<Notice>,
    faults: Vec<Fault>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(alias: &'a str, options: Options, local: &'a Local, probe: &'a dyn Probe) -> Self {
        Self {
            local,
            probe,
            options,
            alias,
            host: alias.to_owned(),
            is_final: false,
            wants_final: false,
            notices: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Applies the files in order.
    pub(super) fn run(&mut self, files: &[ConfigFile]) -> Result<(), SshConfigError> {
        for file in files {
            self.file(file, &mut true, false);
        }
        if self.faults.is_empty() { Ok(()) } else { Err(SshConfigError::Faults(std::mem::take(&mut self.faults))) }
    }

    /// `active`: whether lines count. `never`: the file is included where lines do not count, so that no block of
    /// it matches.
    fn file(&mut self, file: &ConfigFile, active: &mut bool, never: bool) {
        for entry in &file.entries {
            let origin = Origin::File { path: file.path.clone(), line: entry.line.number };
            let done = self.line(file, entry, &origin, active, never);
            if let Err(problem) = done
                && self.faults.len() < MAX_FAULTS
            {
                let keyword = super::error::shorten(&entry.line.keyword).to_owned();
                self.faults.push(Fault { origin, keyword, problem });
            }
        }
    }

    fn line(
        &mut self,
        file: &ConfigFile,
        entry: &Entry,
        origin: &Origin,
        active: &mut bool,
        never: bool,
    ) -> Result<(), Problem> {
        let words = entry.line.words.as_ref().map_err(Clone::clone)?;
        let Some((keyword, kind)) = keywords::find(&entry.line.keyword) else {
            return self.unknown(&entry.line.keyword);
        };
        match kind {
            Kind::Host => *active = self.host_matches(words, never)?,
            Kind::Match => *active = criteria::evaluate(self, &entry.line.rest, origin, never)? && !never,
            Kind::Include => self.include(file, entry, words, active)?,
            kind => {
                let mut statement = Statement {
                    keyword,
                    active: *active,
                    user_file: file.user_file,
                    origin: origin.clone(),
                    rest: &entry.line.rest,
                    words,
                    variables: &self.local.variables,
                };
                apply(kind, &mut self.options, &mut statement)?;
            }
        }
        Ok(())
    }

    fn unknown(&self, keyword: &str) -> Result<(), Problem> {
        let ignored = self.options.ignore_unknown.as_ref();
        let ignored = ignored.is_some_and(|list| pattern::matches_list(keyword, &list.value, true) == Verdict::Yes);
        if ignored { Ok(()) } else { Err(Problem::UnknownKeyword) }
    }

    /// A negated pattern that matches ends the line.
    fn host_matches(&self, words: &[String], never: bool) -> Result<bool, Problem> {
        let mut found = false;
        for word in words {
            if word.is_empty() {
                return Err(Problem::Missing);
            }
            if never {
                return Ok(false);
            }
            let (negated, pattern) = word.strip_prefix('!').map_or((false, word.as_str()), |pattern| (true, pattern));
            if pattern::matches(&self.host, pattern) {
                if negated {
                    return Ok(false);
                }
                found = true;
            }
        }
        Ok(found)
    }

    /// A block of an included file ends with it.
    fn include(
        &mut self,
        file: &ConfigFile,
        entry: &Entry,
        words: &[String],
        active: &mut bool,
    ) -> Result<(), Problem> {
        if words.iter().any(String::is_empty) {
            return Err(Problem::Missing);
        }
        if !file.user_file && words.iter().any(|word| word.starts_with('~')) {
            return Err(Problem::SystemTilde);
        }
        let was = *active;
        for included in &entry.included {
            self.file(included, active, !was);
            *active = was;
        }
        Ok(())
    }
}
