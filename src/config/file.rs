//! The TOML file: a section for the first word of a variable, a key for the rest.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    ops::Range,
    path::Path,
};

use secrecy::zeroize::Zeroizing;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, Source},
    vars::{self, Kind, Var},
};
use crate::secret::file::{self, Access, Fault};

/// A configuration file larger than this is refused.
const MAX_BYTES: usize = 256 * 1024;

/// The section that holds no settings but secrets.
const SECRETS: &str = "secrets";

/// The values of a file, by the path of their key.
#[derive(Debug, Default)]
pub(super) struct FileValues {
    values: HashMap<String, (String, Source)>,
    secrets: Vec<SecretEntry>,
}

/// A `[secrets.NAME]` as it is written.
#[derive(Debug)]
pub(super) struct SecretEntry {
    pub(super) name: String,
    pub(super) source: Source,
    /// Each key with its text or texts; none where it is neither.
    pub(super) keys: Vec<(String, Option<Vec<String>>)>,
}

impl FileValues {
    /// The value of a setting and its place.
    pub(super) fn get(&self, var: &Var) -> Option<&(String, Source)> {
        self.values.get(&var.path())
    }

    pub(super) fn take_secrets(&mut self) -> Vec<SecretEntry> {
        std::mem::take(&mut self.secrets)
    }

    /// Reads a file. Where `required` is false, a missing one is an empty one.
    ///
    /// Nobody else may have written it: it names programs that are run, and opens what is closed without it.
    pub(super) fn read(path: &Path, required: bool, errors: &mut Vec<ConfigError>) -> Self {
        if path == Path::new("/dev/null") {
            return Self::default();
        }
        let opened = Opened::open(path, Access::Trusted);
        match opened.and_then(|opened| Ok((opened.text(MAX_BYTES)?, opened.metadata))) {
            Ok((text, metadata)) => {
                let values = Self::parse(path, &text, errors);
                values.check_access(&metadata, errors);
                values
            }
            // A service account often has a home such as `/dev/null`.
            Err(Fault::Missing) if !required => Self::default(),
            Err(fault) => {
                errors.push(ConfigError::new(Source::whole_file(path), said(fault)));
                Self::default()
            }
        }
    }

    fn parse(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Self {
        let (document, faults) = DeTable::parse_recoverable(text);
        // What follows a syntax error is guesswork: say what is certain only.
        if !faults.is_empty() {
            errors.extend(faults.iter().map(|fault| {
                let source = fault
                    .span()
                    .map_or_else(|| Source::whole_file(path), |span| Source::line(path, line_of(text, &span)));
                ConfigError::new(source, fault.message())
            }));
            return Self::default();
        }
        let mut reader = Reader { path, text, errors, values: Self::default() };
        for (section, value) in document.get_ref() {
            reader.section(section.get_ref(), &section.span(), value);
        }
        reader.values
    }

    /// A file with a token in it is held to the same rule as a token file.
    fn check_access(&self, metadata: &Metadata, errors: &mut Vec<ConfigError>) {
        // The URL of a proxy is a secret only where it has a login.
        let secret_in =
            |var: &Var| self.get(var).filter(|(text, _)| !matches!(var.kind, Kind::Proxy) || text.contains('@'));
        let secret = vars::ALL.iter().filter(|var| var.is_secret()).find_map(secret_in);
        if let Some((_, source)) = secret
            && let Err(fault) = file::check(metadata, Access::Secret)
        {
            errors.push(ConfigError::new(source.clone(), said(fault)));
        }
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    errors: &'a mut Vec<ConfigError>,
    values: FileValues,
}

impl Reader<'_> {
    fn section(&mut self, section: &str, span: &Range<usize>, value: &Spanned<DeValue<'_>>) {
        if section == SECRETS {
            return self.secrets(span, value);
        }
        if !vars::sections().contains(&section) {
            return self.refuse(span, unknown_section(section));
        }
        let Some(table) = value.get_ref().as_table() else {
            return self.refuse(span, format!("`{section}` is a section: write [{section}]"));
        };
        for (key, value) in table {
            match vars::ALL.iter().find(|var| var.section == section && var.key == key.get_ref()) {
                Some(var) => self.value(var, &key.span(), value.get_ref()),
                None => self.refuse(&key.span(), unknown_key(section, key.get_ref())),
            }
        }
    }

    fn value(&mut self, var: &Var, span: &Range<usize>, value: &DeValue<'_>) {
        let Some(text) = scalar(value) else {
            let fault = format!("`{}` is not {}", var.path(), var.kind);
            return self.refuse(span, fault);
        };
        let line = Some(line_of(self.text, span));
        let source = Source::File { path: self.path.to_owned(), line, key: Some(var.path()) };
        self.values.values.insert(var.path(), (text, source));
    }

    fn secrets(&mut self, span: &Range<usize>, value: &Spanned<DeValue<'_>>) {
        let Some(table) = value.get_ref().as_table() else {
            return self.refuse(span, "`secrets` is a section: write [secrets.NAME]".into());
        };
        for (name, value) in table {
            let Some(entry) = value.get_ref().as_table() else {
                self.refuse(&name.span(), format!("write [secrets.{}]", name.get_ref().escape_debug()));
                continue;
            };
            let keys = entry.iter().map(|(key, value)| (key.get_ref().to_string(), texts(value.get_ref())));
            let source = Source::line(self.path, line_of(self.text, &name.span()));
            let entry = SecretEntry { name: name.get_ref().to_string(), source, keys: keys.collect() };
            self.values.secrets.push(entry);
        }
    }

    fn refuse(&mut self, span: &Range<usize>, fault: String) {
        let source = Source::line(self.path, line_of(self.text, span));
        self.errors.push(ConfigError::new(source, fault));
    }
}

/// One text, or a list of texts.
fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    let text = |value: &DeValue<'_>| value.as_str().map(ToOwned::to_owned);
    match value {
        DeValue::Array(values) => values.iter().map(|value| text(value.get_ref())).collect(),
        value => text(value).map(|text| vec![text]),
    }
}

/// The text that an environment variable would have for the same value.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Integer(number) => {
            let decimal = i64::from_str_radix(number.as_str(), number.radix()).map(|value| value.to_string());
            Some(decimal.unwrap_or_else(|_| number.as_str().to_owned()))
        }
        _ => None,
    }
}

fn unknown_section(section: &str) -> String {
    let name = section.escape_debug();
    match vars::ALL.iter().find(|var| var.env.eq_ignore_ascii_case(section)) {
        Some(var) => format!("unknown key `{name}`; write `{}` in [{}]", var.key, var.section),
        None => format!("unknown section or key `{name}`; the sections are [{}]", vars::sections().join("], [")),
    }
}

fn unknown_key(section: &str, key: &str) -> String {
    let known: Vec<_> = vars::ALL.iter().filter(|var| var.section == section).map(|var| var.key).collect();
    format!("unknown key `{}` in [{section}]; the keys are {}", key.escape_debug(), known.join(", "))
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().iter().take(span.start);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// What is said of a file with secrets that others can get at.
const OPEN_TO_OTHERS: &str = "holds a secret and is open to the group or to others; run chmod 600 on it";

/// Reads a file with secrets, which only its owner may have access to. The error says what is wrong with it.
pub(super) fn read_private(path: &Path, max_bytes: usize) -> Result<Zeroizing<String>, String> {
    Opened::open(path, Access::Secret).and_then(|opened| opened.text(max_bytes)).map_err(said)
}

/// Reads a file that needs no protection, such as a certificate.
pub(super) fn read_public(path: &Path, max_bytes: usize) -> Result<Zeroizing<String>, String> {
    Opened::open(path, Access::Any).and_then(|opened| opened.text(max_bytes)).map_err(said)
}

/// A file that was opened once: what is judged is what is read.
struct Opened {
    file: File,
    metadata: Metadata,
}

impl Opened {
    fn open(path: &Path, access: Access) -> Result<Self, Fault> {
        let file = file::open_through_links(path)?;
        let metadata = file.metadata()?;
        file::check(&metadata, access)?;
        Ok(Self { file, metadata })
    }

    fn text(&self, max_bytes: usize) -> Result<Zeroizing<String>, Fault> {
        file::read_text(&self.file, max_bytes)
    }
}

fn said(fault: Fault) -> String {
    match fault {
        Fault::OpenToOthers => OPEN_TO_OTHERS.into(),
        Fault::Changeable => "can be changed by the group or by others; run chmod 600 on it".into(),
        Fault::Foreign => "belongs to another user; it must be root's or that of whoever runs the server".into(),
        Fault::Unreadable(why) => format!("cannot be read: {why}"),
        Fault::NotText => "cannot be read: not UTF-8 text".into(),
        fault => format!("cannot be read: it {fault}"),
    }
}
