//! Bearer tokens: one from a variable, several from a file.

use std::path::Path;

use super::{
    LOCAL_PRINCIPAL, NamedToken,
    error::{ConfigError, Source},
    file::read_private,
    vars::{Kind, MAX_TOKEN_CHARS, MIN_TOKEN_CHARS},
};
use crate::secret::Secret;

/// A token file larger than this is refused.
const MAX_BYTES: usize = 64 * 1024;
const MAX_NAME_CHARS: usize = 64;

/// The token, if it is one that can be sent in a header and is not too easily guessed.
pub(super) fn parse_token(text: &str) -> Option<Secret> {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    (visible && (MIN_TOKEN_CHARS..=MAX_TOKEN_CHARS).contains(&text.len())).then(|| text.into())
}

/// Adds the lines of a file to `tokens`. No message holds a token or any part of one.
pub(super) fn read_file(path: &Path, tokens: &mut Vec<NamedToken>, errors: &mut Vec<ConfigError>) {
    let text = match read_private(path, MAX_BYTES) {
        Ok(text) => text,
        Err(fault) => return errors.push(ConfigError::new(Source::whole_file(path), fault)),
    };
    let lines = text.lines().map(str::trim).enumerate();
    let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    // Without this an emptied file would open the server to everyone.
    if lines.is_empty() {
        errors.push(ConfigError::new(Source::whole_file(path), "holds no `name:token` line"));
    }
    for (index, line) in lines {
        match parse_line(line, tokens) {
            Ok(token) => tokens.push(token),
            Err(fault) => errors.push(ConfigError::new(Source::line(path, index + 1), fault)),
        }
    }
}

fn parse_line(line: &str, before: &[NamedToken]) -> Result<NamedToken, String> {
    let (name, token) = line.split_once(':').ok_or("is not a `name:token` line")?;
    let (name, token) = (name.trim(), token.trim());
    if !is_name(name) {
        return Err(format!("the name is not 1 to {MAX_NAME_CHARS} letters, digits, `.`, `_` or `-`"));
    }
    if name == LOCAL_PRINCIPAL {
        return Err(format!("the name `{LOCAL_PRINCIPAL}` stands for callers without a token; choose another"));
    }
    let token = parse_token(token).ok_or_else(|| format!("the token of `{name}` is not {}", Kind::Token))?;
    if before.iter().any(|other| other.name == name) {
        return Err(format!("the name `{name}` is given twice"));
    }
    match before.iter().find(|other| other.token.expose() == token.expose()) {
        Some(other) => Err(format!("`{name}` has the same token as `{}`", other.name)),
        None => Ok(NamedToken { name: name.to_owned(), token }),
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(allowed)
}
