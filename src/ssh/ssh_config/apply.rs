//! One line at work: its values are checked whether they count or not, as `ssh` does.

use secrecy::SecretString;

use super::{
    algorithms::AlgorithmEdit,
    error::Problem,
    forward::LocalForward,
    jump::Jump,
    keywords::{Check, Kind},
    options::{KeyFile, MAX_GATHERED, MAX_KEY_FILES, MAX_LIST, Options, Setting, Slot, Statement},
    pattern,
    tokens::expand_variables,
    value::{self, Choice},
};

/// Applies a line of any keyword but `Host`, `Match` and `Include`.
pub(super) fn apply(kind: Kind, options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    match kind {
        Kind::Host | Kind::Match | Kind::Include => {}
        Kind::Flag(place) => s.choice(place(options))?,
        Kind::Text(place) => {
            let word = s.word()?.to_owned();
            s.fill(place(options), word);
        }
        Kind::Command(place) => {
            let command = s.raw().to_owned();
            s.fill(place(options), command);
        }
        Kind::Count(place) => {
            let number = value::count(s.word()?)?;
            s.fill(place(options), number);
        }
        Kind::Time(place) => time(s, place(options))?,
        Kind::Algorithms(place) => {
            let edit = AlgorithmEdit::parse(s.word()?)?;
            s.fill(place(options), edit);
        }
        Kind::List(place) => list(s, place(options))?,
        Kind::Own(apply) => apply(options, s)?,
        Kind::Unused(check, _) => unused(check, options, s)?,
    }
    if s.words.is_empty() { Ok(()) } else { Err(Problem::Extra) }
}

fn time(s: &mut Statement<'_>, slot: &mut Slot<u64>) -> Result<(), Problem> {
    // `none` leaves the place free for a later line, as in ssh.
    if let Some(secs) = value::time(s.word()?)? {
        s.fill(slot, secs);
    }
    Ok(())
}

fn list(s: &mut Statement<'_>, slot: &mut Slot<Vec<String>>) -> Result<(), Problem> {
    let words = s.list()?;
    if s.active && slot.is_none() && words.len() > MAX_LIST {
        return Err(Problem::TooMany { limit: MAX_LIST });
    }
    if !words.is_empty() {
        s.fill(slot, words);
    }
    Ok(())
}

fn unused(check: Check, options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let text = match check {
        Check::Command => s.raw().to_owned(),
        Check::Anything => std::mem::take(&mut s.words).join(" "),
        Check::Flag => bool::parse(s.word()?)?.text().to_owned(),
        Check::Count => value::count(s.word()?)?.to_string(),
        Check::Time => value::time(s.word()?)?.map_or("none".into(), |secs| secs.to_string()),
        Check::Word => s.word()?.to_owned(),
    };
    record(options, s, text);
    Ok(())
}

fn record(options: &mut Options, s: &Statement<'_>, text: String) {
    if s.active {
        options.unused.entry(s.keyword).or_insert_with(|| s.setting(text));
    }
}

pub(super) fn port(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let port = value::port(s.word()?)?;
    s.fill(&mut options.port, port);
    Ok(())
}

pub(super) fn connection_attempts(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let word = s.word()?;
    let attempts = value::count(word)?;
    // ssh notices zero only when it counts.
    if attempts == 0 && s.active && options.connection_attempts.is_none() {
        return Err(Problem::bad(word, "a number from 1 to 2147483647"));
    }
    s.fill(&mut options.connection_attempts, attempts);
    Ok(())
}

fn key_file(s: &mut Statement<'_>, files: &mut Vec<Setting<KeyFile>>) -> Result<(), Problem> {
    let file = KeyFile { text: s.word()?.to_owned(), user_file: s.user_file };
    if !s.active {
        return Ok(());
    }
    if files.len() >= MAX_KEY_FILES {
        return Err(Problem::TooMany { limit: MAX_KEY_FILES });
    }
    if files.iter().any(|known| known.value == file) {
        return Ok(());
    }
    s.push(files, file, MAX_KEY_FILES)
}

pub(super) fn identity_file(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    key_file(s, &mut options.identity_files)
}

pub(super) fn certificate_file(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    key_file(s, &mut options.certificate_files)
}

/// A socket's path, or `$NAME`; a variable in it must exist even where the line does not count.
fn agent_path(word: &str, s: &Statement<'_>) -> Result<(), Problem> {
    expand_variables(word, s.variables)?;
    let name = word.strip_prefix('$').filter(|name| !name.starts_with('{'));
    let legal = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.is_some_and(|name| !legal(name)) {
        return Err(Problem::bad(word, "none, SSH_AUTH_SOCK, $NAME or a path"));
    }
    Ok(())
}

pub(super) fn identity_agent(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let word = s.word()?;
    agent_path(word, s)?;
    s.fill(&mut options.identity_agent, word.to_owned());
    Ok(())
}

pub(super) fn forward_agent(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let word = s.word()?;
    if let Ok(flag) = bool::parse(word) {
        s.fill(&mut options.forward_agent, flag);
        return Ok(());
    }
    agent_path(word, s)?;
    s.fill(&mut options.forward_agent, true);
    s.fill(&mut options.forward_agent_socket, word.to_owned());
    Ok(())
}

pub(super) fn add_keys_to_agent(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let word = s.word()?;
    let bad = || Problem::bad(word, "yes no ask confirm, or a time");
    let lower = word.to_ascii_lowercase();
    let known = matches!(lower.as_str(), "yes" | "no" | "true" | "false" | "ask" | "confirm");
    match s.next() {
        Some(lifetime) if lower == "confirm" => drop(value::time(lifetime)?.ok_or_else(bad)?),
        Some(_) => return Err(bad()),
        None if known => {}
        None => drop(value::time(word).ok().flatten().ok_or_else(bad)?),
    }
    record(options, s, lower);
    Ok(())
}

/// The first of `ProxyJump` and `ProxyCommand` wins.
pub(super) fn proxy_jump(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let jump = Jump::parse(s.raw(), false)?;
    let through = matches!(jump, Jump::Through(_));
    if through && options.proxy_command.is_some() {
        return Ok(());
    }
    let free = options.proxy_jump.is_none();
    s.fill(&mut options.proxy_jump, jump);
    if through && free {
        s.fill(&mut options.proxy_command, "none".into());
    }
    Ok(())
}

pub(super) fn rekey_limit(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let bytes = value::size(s.word()?)?;
    s.fill(&mut options.rekey_bytes, bytes);
    if s.words.is_empty() {
        return Ok(());
    }
    time(s, &mut options.rekey_secs)
}

pub(super) fn send_env(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    while let Some(name) = s.next() {
        if name.is_empty() || name.contains('=') {
            return Err(Problem::bad("", "names of variables, or patterns, without ="));
        }
        if !s.active {
            continue;
        }
        if let Some(pattern) = name.strip_prefix('-') {
            options.send_env.retain(|known| !pattern::matches(&known.value, pattern));
        } else if !options.send_env.iter().any(|known| known.value == name) {
            s.push(&mut options.send_env, name.to_owned(), MAX_GATHERED)?;
        }
    }
    Ok(())
}

/// The first line that counts wins, with all its variables.
pub(super) fn set_env(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let taken = !options.set_env.is_empty();
    while let Some(word) = s.next() {
        // The value may be a secret: it is not repeated.
        let (name, value) = word.split_once('=').ok_or_else(|| Problem::bad("", "NAME=value"))?;
        let known = options.set_env.iter().any(|known| known.value.0 == name);
        if s.active && !taken && !known {
            s.push(&mut options.set_env, (name.to_owned(), SecretString::from(value)), MAX_GATHERED)?;
        }
    }
    Ok(())
}

pub(super) fn local_forward(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let text = format!("{}:{}", s.word()?, s.word()?);
    let forward = LocalForward::parse(&expand_variables(&text, s.variables)?)?;
    if s.active && !options.local_forwards.iter().any(|known| known.value == forward) {
        s.push(&mut options.local_forwards, forward, MAX_GATHERED)?;
    }
    Ok(())
}

pub(super) fn canonical_domains(options: &mut Options, s: &mut Statement<'_>) -> Result<(), Problem> {
    let domains = s.list()?.iter().map(|word| value::domain(word)).collect::<Result<Vec<_>, _>>()?;
    if s.active && options.canonical_domains.is_none() && domains.len() > MAX_LIST {
        return Err(Problem::TooMany { limit: MAX_LIST });
    }
    if !domains.is_empty() {
        s.fill(&mut options.canonical_domains, domains);
    }
    Ok(())
}
