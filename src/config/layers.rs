//! The sources of a setting, in order: argument, environment, file, default.

use std::{
    ffi::{OsStr, OsString},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Args, Compression, Environment,
    error::{ConfigError, Source},
    file::{FileValues, SecretEntry},
    host_patterns::HostPatterns,
    proxy::ProxyServer,
    targets::{self, TargetPattern},
    vars::{DefaultValue, Kind, Var},
};

/// A value that is longer than this is cut in a message, in characters.
const SHOWN_CHARS: usize = 40;

/// Every source, and what was found to be wrong so far.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    args: &'a Args,
    environment: &'a Environment,
    file: FileValues,
    pub(super) errors: Vec<ConfigError>,
}

impl<'a> Layers<'a> {
    /// Reads the file that the arguments name, or the one at the usual place.
    pub(super) fn new(args: &'a Args, environment: &'a Environment) -> Self {
        let mut errors = Vec::new();
        let file = match (&args.config, environment.config_file()) {
            (Some(path), _) => FileValues::read(path, true, &mut errors),
            (None, Some(path)) => FileValues::read(&path, false, &mut errors),
            (None, None) => FileValues::default(),
        };
        Self { args, environment, file, errors }
    }

    /// A whole number. Its range in the table keeps it within `T`.
    pub(super) fn whole<T: TryFrom<u64> + Default>(&mut self, var: &Var) -> T {
        let number = self.get(var, |text| {
            let number: u64 = text.to_str()?.parse().ok()?;
            matches!(var.kind, Kind::Whole { min, max } if (min..=max).contains(&number)).then_some(number)
        });
        number.and_then(|number| T::try_from(number).ok()).unwrap_or_default()
    }

    pub(super) fn seconds(&mut self, var: &Var) -> Duration {
        Duration::from_secs(self.whole(var))
    }

    pub(super) fn millis(&mut self, var: &Var) -> Duration {
        Duration::from_millis(self.whole(var))
    }

    pub(super) fn mebibytes(&mut self, var: &Var) -> u64 {
        self.whole::<u64>(var) << 20
    }

    pub(super) fn compression(&mut self, var: &Var) -> Compression {
        self.get(var, |text| parse_compression(text.to_str()?)).unwrap_or(Compression::Auto)
    }

    /// One of the words of the table, in any case; `T` knows them all.
    pub(super) fn word<T: Default>(&mut self, var: &Var, read: impl Fn(&str) -> Option<T>) -> T {
        self.get(var, |text| read(&text.to_str()?.to_ascii_lowercase())).unwrap_or_default()
    }

    pub(super) fn boolean(&mut self, var: &Var) -> bool {
        self.get(var, |text| parse_bool(text.to_str()?)).unwrap_or_default()
    }

    pub(super) fn targets(&mut self, var: &Var) -> Option<Vec<TargetPattern>> {
        self.get(var, |text| targets::parse(text.to_str()?))
    }

    pub(super) fn hosts(&mut self, var: &Var) -> Option<Vec<TargetPattern>> {
        self.get(var, |text| targets::parse_hosts(text.to_str()?))
    }

    pub(super) fn host_patterns(&mut self, var: &Var) -> HostPatterns {
        self.get(var, |text| HostPatterns::parse(text.to_str()?)).unwrap_or_default()
    }

    pub(super) fn proxy(&mut self, var: &Var) -> Option<ProxyServer> {
        self.get(var, |text| ProxyServer::parse(text.to_str()?))
    }

    pub(super) fn address(&mut self, var: &Var) -> IpAddr {
        self.get(var, |text| parse_address(text.to_str()?)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    pub(super) fn path(&mut self, var: &Var) -> Option<PathBuf> {
        let home = self.environment.home();
        self.get(var, |text| match var.kind {
            Kind::AbsolutePath => absolute(text, home.as_deref()),
            _ => Some(PathBuf::from(text)),
        })
    }

    /// A list of absolute paths, at least one.
    pub(super) fn paths(&mut self, var: &Var) -> Option<Vec<PathBuf>> {
        let home = self.environment.home();
        self.get(var, |text| {
            let paths: Option<Vec<_>> =
                std::env::split_paths(text).map(|path| absolute(path.as_os_str(), home.as_deref())).collect();
            paths.filter(|paths| !paths.is_empty())
        })
    }

    /// The `[secrets]` of the file.
    pub(super) fn take_secrets(&mut self) -> Vec<SecretEntry> {
        self.file.take_secrets()
    }

    /// Variables and places that the settings file may name.
    pub(super) const fn environment(&self) -> &Environment {
        self.environment
    }

    /// Where the value in force stands; none where it is absent.
    pub(super) fn source(&self, var: &Var) -> Option<Source> {
        self.sources(var).into_iter().next().map(|(_, source)| source)
    }

    /// Asks every source, so that each wrong value is reported; the first source that has one decides.
    pub(super) fn get<T>(&mut self, var: &Var, parse: impl Fn(&OsStr) -> Option<T>) -> Option<T> {
        let mut found = None;
        for (text, source) in self.sources(var) {
            match parse(&text) {
                Some(value) => found = found.or(Some(value)),
                None => self.errors.push(ConfigError::new(source, fault(var, &text))),
            }
        }
        found
    }

    fn sources(&self, var: &Var) -> Vec<(OsString, Source)> {
        let argument = var
            .option
            .and_then(|option| Some((trimmed(self.args.get(option)?), Source::Argument(format!("--{option}")))));
        let variable = self.environment.get(var.env).map(|value| (trimmed(value), Source::Environment(var.env)));
        let file = self.file.get(var).map(|(text, source)| (trimmed(OsStr::new(text)), source.clone()));
        let default = match var.default {
            DefaultValue::Value(text) => Some((OsString::from(text), Source::Default(var.env))),
            DefaultValue::Computed(_) | DefaultValue::Absent => None,
        };
        [argument, variable, file, default].into_iter().flatten().collect()
    }
}

fn trimmed(value: &OsStr) -> OsString {
    value.to_str().map_or_else(|| value.to_owned(), |text| text.trim().into())
}

fn fault(var: &Var, value: &OsStr) -> String {
    if var.is_secret() {
        return format!("the value is not {}", var.kind);
    }
    let text = value.to_string_lossy();
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let cut = if shown.len() < text.len() { "..." } else { "" };
    format!("{shown:?}{cut} is not {}", var.kind)
}

fn parse_compression(text: &str) -> Option<Compression> {
    if text.eq_ignore_ascii_case("auto") {
        return Some(Compression::Auto);
    }
    parse_bool(text).map(|on| if on { Compression::On } else { Compression::Off })
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn parse_address(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    text.parse().ok()
}

pub(super) fn absolute(text: &OsStr, home: Option<&Path>) -> Option<PathBuf> {
    let path = Path::new(text);
    match path.strip_prefix("~") {
        Ok(below) => Some(home?.join(below)),
        Err(_) => path.is_absolute().then(|| path.to_owned()),
    }
}
