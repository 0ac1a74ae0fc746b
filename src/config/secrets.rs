//! `[secrets.NAME]` of the settings file: where a secret comes from, and which hosts may be sent it.

use super::{Environment, error::ConfigError, file::SecretEntry, layers::Layers};
use crate::secret::{
    Secret,
    named::{
        HostPattern, JumpUse, MAX_NAME_CHARS, MAX_SECRETS, NamedSecret, SecretCommand, SecretSource, Secrets, is_name,
    },
};

const KEYS: &str = "env, file, command, hosts, jump";

/// Every secret of the file. Nothing but the environment is read yet.
pub(super) fn read(layers: &mut Layers<'_>) -> Secrets {
    let mut secrets = Secrets::default();
    let entries = layers.take_secrets();
    if let Some(entry) = entries.get(MAX_SECRETS) {
        let fault = format!("more than {MAX_SECRETS} secrets are configured");
        layers.errors.push(ConfigError::new(entry.source.clone(), fault));
    }
    for entry in entries {
        match parse(&entry, layers.environment()) {
            Ok(secret) => {
                // From the start: these are held as long as the process runs.
                if let SecretSource::Environment { value: Some(value), .. } = &secret.source
                    && let Err(fault) = secrets.live.watch(value)
                {
                    layers.errors.push(ConfigError::new(entry.source, fault.to_string()));
                }
                secrets.named.insert(entry.name, secret);
            }
            Err(fault) => layers.errors.push(ConfigError::new(entry.source, fault)),
        }
    }
    secrets
}

fn parse(entry: &SecretEntry, environment: &Environment) -> Result<NamedSecret, String> {
    let name = entry.name.escape_debug();
    if !is_name(&entry.name) {
        return Err(format!("the name of a secret is 1 to {MAX_NAME_CHARS} letters, digits, `.`, `_` or `-`"));
    }
    let (mut sources, mut hosts, mut jump) = (Vec::new(), None, None);
    for (key, texts) in &entry.keys {
        let wrong = |what: &str| format!("`{key}` of the secret `{name}` is not {what}");
        let one = || texts.as_deref().and_then(|texts| if let [one] = texts { Some(one) } else { None });
        match key.as_str() {
            "env" => sources.push(variable(one().ok_or_else(|| wrong("the name of a variable"))?, environment)),
            "file" => sources.push(file(one(), environment).ok_or_else(|| wrong("an absolute path"))?),
            "command" => sources.push(command(texts.as_deref(), environment).ok_or_else(|| {
                wrong("a list of a program (an absolute path, or a name to be found in PATH) and its arguments")
            })?),
            "hosts" => {
                hosts = Some(
                    patterns(texts.as_deref())
                        .ok_or_else(|| wrong("a list of hosts: `host`, `host:port`, `*.suffix` or `[v6]:port`"))?,
                )
            }
            "jump" => {
                jump = Some(match one().map(String::as_str) {
                    Some("password") => JumpUse::Password,
                    Some("totp") => JumpUse::Totp,
                    _ => return Err(wrong("`password` or `totp`")),
                });
            }
            other => {
                let other = other.escape_debug();
                return Err(format!("unknown key `{other}` in the secret `{name}`; the keys are {KEYS}"));
            }
        }
    }
    if jump.is_some() && hosts.is_none() {
        return Err(format!("the secret `{name}` has `jump` and needs `hosts`: every jump host would be given it"));
    }
    match <[_; 1]>::try_from(sources) {
        Ok([source]) => Ok(NamedSecret { source, hosts, jump }),
        Err(_) => Err(format!("the secret `{name}` needs exactly one of env, file and command")),
    }
}

fn variable(name: &str, environment: &Environment) -> SecretSource {
    let value = environment.named(name).and_then(|value| value.into_string().ok());
    let value = value.filter(|value| !value.is_empty()).map(Secret::from);
    SecretSource::Environment { variable: name.to_owned(), value }
}

fn file(path: Option<&String>, environment: &Environment) -> Option<SecretSource> {
    super::layers::absolute(path?.as_ref(), environment.home().as_deref()).map(SecretSource::File)
}

/// A relative path would depend on the working directory of the server, which is an accident of its client.
fn command(argv: Option<&[String]>, environment: &Environment) -> Option<SecretSource> {
    let (program, arguments) = argv?.split_first()?;
    let is_found = !program.is_empty() && (program.starts_with('/') || !program.contains('/'));
    let nul = |text: &String| text.contains('\0');
    (is_found && !nul(program) && !arguments.iter().any(nul)).then(|| {
        SecretSource::Command(SecretCommand {
            program: program.clone(),
            arguments: arguments.to_vec(),
            path: environment.search_path(),
            home: environment.home(),
        })
    })
}

/// An empty list would read like "no limit" and mean "no host".
fn patterns(texts: Option<&[String]>) -> Option<Vec<HostPattern>> {
    let patterns: Option<Vec<_>> = texts?.iter().map(|text| HostPattern::parse(text)).collect();
    patterns.filter(|patterns| !patterns.is_empty())
}
