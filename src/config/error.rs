//! What is wrong with the settings, all of it at once, each with its source.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An option on the command line, with its dashes.
    Argument(String),
    /// An environment variable.
    Environment(&'static str),
    /// A place in a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1; none where the whole file is meant.
        line: Option<usize>,
        /// The key, such as `mcp.port`, where one is meant.
        key: Option<String>,
    },
    /// The table of defaults.
    Default(&'static str),
}

impl Source {
    /// A file as a whole.
    pub(super) fn whole_file(path: &Path) -> Self {
        Self::File { path: path.to_owned(), line: None, key: None }
    }

    /// A line of a file.
    pub(super) fn line(path: &Path, line: usize) -> Self {
        Self::File { path: path.to_owned(), line: Some(line), key: None }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(option) => write!(f, "{option} (argument)"),
            Self::Environment(name) => write!(f, "{name} (environment)"),
            Self::Default(name) => write!(f, "{name} (default)"),
            Self::File { path, line, key } => {
                write!(f, "{}", path.display())?;
                if let Some(line) = line {
                    write!(f, ":{line}")?;
                }
                key.as_ref().map_or(Ok(()), |key| write!(f, " ({key})"))
            }
        }
    }
}

/// One wrong value. The text never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_of_value}: {fault}")]
pub struct ConfigError {
    /// Where the value stands.
    pub source_of_value: Source,
    /// What is wrong with it.
    pub fault: String,
}

impl ConfigError {
    pub(super) fn new(source_of_value: Source, fault: impl Into<String>) -> Self {
        Self { source_of_value, fault: fault.into() }
    }
}

/// Everything that is wrong with the settings. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 setting cannot be used; nothing was started")?,
            count => write!(f, "{count} settings cannot be used; nothing was started")?,
        }
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}
