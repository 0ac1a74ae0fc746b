//! What is put in place of `%h`, `${VAR}` and `~`.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use ring::digest;

use super::{
    Local, accounts,
    error::{Problem, shorten},
};

/// The longest text that an expansion may give.
const MAX_EXPANDED: usize = 64 * 1024;

/// The values of the tokens of one connection.
pub(super) struct Tokens {
    pairs: Vec<(char, String)>,
}

/// Who is connected to, as far as tokens name it.
pub(super) struct Peer<'a> {
    pub(super) alias: &'a str,
    pub(super) host: &'a str,
    pub(super) key_alias: &'a str,
    pub(super) port: u16,
    pub(super) user: &'a str,
    pub(super) jump: &'a str,
}

impl Tokens {
    /// `%h` alone: the tokens of `HostName`.
    pub(super) fn host(host: &str) -> Self {
        Self { pairs: vec![('h', host.to_owned())] }
    }

    /// The tokens of `ProxyCommand`.
    pub(super) fn proxy(peer: &Peer<'_>) -> Self {
        Self {
            pairs: vec![
                ('h', peer.host.to_owned()),
                ('k', peer.key_alias.to_owned()),
                ('n', peer.alias.to_owned()),
                ('p', peer.port.to_string()),
                ('r', peer.user.to_owned()),
            ],
        }
    }

    /// The tokens of `Match exec`, paths, sockets and forwards.
    pub(super) fn all(peer: &Peer<'_>, local: &Local) -> Self {
        let short = local.host_name.split('.').next().unwrap_or_default();
        let mut tokens = Self::proxy(peer);
        tokens.pairs.extend([
            ('C', connection_hash(peer, local)),
            ('L', short.to_owned()),
            ('d', local.home.to_string_lossy().into_owned()),
            ('i', local.uid.to_string()),
            ('j', peer.jump.to_owned()),
            ('l', local.host_name.clone()),
            ('u', local.user.clone()),
        ]);
        tokens
    }

    /// Puts the tokens in, and the variables where the keyword takes them.
    pub(super) fn expand(&self, text: &str, variables: Option<&BTreeMap<String, String>>) -> Result<String, Problem> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['%', '$']) {
            out.push_str(&rest[..at]);
            let tail = &rest[at..];
            rest = match (tail.strip_prefix("${"), variables) {
                (Some(inner), Some(variables)) => variable(inner, variables, &mut out)?,
                _ if tail.starts_with('$') || self.pairs.is_empty() => {
                    out.push_str(&tail[..1]);
                    &tail[1..]
                }
                _ => self.token(&tail[1..], &mut out)?,
            };
            if out.len() > MAX_EXPANDED {
                return Err(Problem::TooLong { limit: MAX_EXPANDED });
            }
        }
        out.push_str(rest);
        if out.len() > MAX_EXPANDED { Err(Problem::TooLong { limit: MAX_EXPANDED }) } else { Ok(out) }
    }

    /// The same for a line that a shell reads. `given` is a user name that came with the call: what a shell would act on
    /// in it, and a user name may have, must not get there.
    pub(super) fn expand_line(&self, text: &str, given: Option<&str>) -> Result<String, Problem> {
        match given.filter(|user| user.contains(['$', '\\']) && text.contains("%r")) {
            Some(user) => Err(Problem::UserInShell { name: shorten(user).into() }),
            None => self.expand(text, None),
        }
    }

    fn token<'a>(&self, rest: &'a str, out: &mut String) -> Result<&'a str, Problem> {
        let mut chars = rest.chars();
        let token = chars.next().ok_or(Problem::LonePercent)?;
        if token == '%' {
            out.push('%');
        } else {
            let pair = self.pairs.iter().find(|(name, _)| *name == token);
            out.push_str(&pair.ok_or(Problem::UnknownToken { token })?.1);
        }
        Ok(chars.as_str())
    }
}

/// Puts the variables in and leaves `%` alone.
pub(super) fn expand_variables(text: &str, variables: &BTreeMap<String, String>) -> Result<String, Problem> {
    Tokens { pairs: Vec::new() }.expand(text, Some(variables))
}

fn variable<'a>(inner: &'a str, variables: &BTreeMap<String, String>, out: &mut String) -> Result<&'a str, Problem> {
    let (name, rest) = inner.split_once('}').filter(|(name, _)| !name.is_empty()).ok_or(Problem::BrokenVariable)?;
    let unset = || Problem::NoVariable { name: super::error::shorten(name).into() };
    out.push_str(variables.get(name).ok_or_else(unset)?);
    Ok(rest)
}

/// Puts a home in place of `~` and `~user` at the beginning.
pub(super) fn expand_tilde(text: &str, local: &Local) -> Result<String, Problem> {
    let Some(rest) = text.strip_prefix('~') else { return Ok(text.to_owned()) };
    let (user, path) = rest.split_once('/').unwrap_or((rest, ""));
    let home = if user.is_empty() {
        local.home.to_string_lossy().into_owned()
    } else {
        accounts::home_of(user).ok_or_else(|| Problem::NoSuchUser { name: super::error::shorten(user).into() })?
    };
    Ok(format!("{}/{}", home.strip_suffix('/').unwrap_or(&home), path.trim_start_matches('/')))
}

/// `%C`: SHA-1 over `%l%h%p%r`, as OpenSSH 9.2 makes it.
fn connection_hash(peer: &Peer<'_>, local: &Local) -> String {
    let text = format!("{}{}{}{}", local.host_name, peer.host, peer.port, peer.user);
    HEXLOWER.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}
