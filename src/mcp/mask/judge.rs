//! Which words are passwords: a table of programs that read one, and of those that are given one.

use std::ops::Range;

use super::shell::{Found, Simple};

/// A place in the text that is hidden if a password is read from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    /// These bytes.
    Span(Range<usize>),
    /// The body of the here-document with this index.
    Document(usize),
}

/// Words before a program that are no program of interest themselves.
const PREFIXES: [&str; 17] = [
    "env", "command", "exec", "nohup", "time", "nice", "builtin", "setsid", "timeout", "stdbuf", "ionice", "then",
    "do", "else", "if", "while", "!",
];

/// Programs that write their arguments, or their input, as it is.
const WRITERS: [&str; 4] = ["echo", "printf", "cat", "yes"];

/// Programs that read a password from standard input whatever their options are.
const READERS: [&str; 3] = ["chpasswd", "su", "kinit"];

/// Options of sudo that have an argument (sudo 1.9).
const SUDO_ARGUMENTS: &[u8] = b"aCcDghpRrTtUu";

/// Programs of MySQL and MariaDB: `-pPASSWORD` in one word.
const MYSQL: [&str; 7] =
    ["mysql", "mysqldump", "mysqladmin", "mysqlimport", "mariadb", "mariadb-dump", "mariadb-admin"];

/// Variables that hold a password, besides those whose names end in PASSWORD or PASSWD.
const VARIABLES: [&str; 2] = ["SSHPASS", "MYSQL_PWD"];

/// The longest name or option that is looked at.
const LONGEST_NAME: usize = 64;

/// Judges a pipeline. Gives what its last command writes.
pub(super) fn pipeline<'a>(text: &'a str, commands: Vec<Simple>, found: &mut Found<'a>) -> Vec<Secret> {
    let commands: Vec<Judged<'a>> = commands.into_iter().map(|simple| Judged::new(text, simple, found)).collect();
    let reader = commands.iter().rposition(|command| command.reads_password);
    let mut last = Vec::new();
    for (i, command) in commands.into_iter().enumerate() {
        if command.reads_password {
            found.secrets.extend(command.here);
        }
        if reader.is_some_and(|reader| i < reader) {
            found.secrets.extend(command.writes);
            found.variables.extend(command.variables);
        } else {
            last = command.writes;
        }
    }
    last
}

/// Judges a word by itself: `NAME=value` and `--password=value`.
pub(super) fn word<'a>(text: &'a str, word: &Range<usize>, found: &mut Found<'a>) {
    let Some(length) = text[word.clone()].bytes().take(LONGEST_NAME).position(|byte| byte == b'=') else {
        return;
    };
    let (name, value) = (&text[word.start..word.start + length], word.start + length + 1..word.end);
    if variable(&text[value.clone()]).is_some() {
        return;
    }
    if matches!(name, "--password" | "--passwd" | "--pass") || is_password_variable(name) {
        found.secrets.push(Secret::Span(value.clone()));
    }
    if is_name(name) {
        found.assigned.push((name, value));
    }
}

struct Judged<'a> {
    reads_password: bool,
    here: Vec<Secret>,
    writes: Vec<Secret>,
    /// Variables that it writes.
    variables: Vec<&'a str>,
}

impl<'a> Judged<'a> {
    fn new(text: &'a str, simple: Simple, found: &mut Found<'a>) -> Self {
        let Simple { words, here, writes } = simple;
        let (name, arguments) = program(text, &words);
        let mut judged =
            Self { reads_password: reads_password(text, &name, arguments), here, writes, variables: Vec::new() };
        if WRITERS.contains(&name.as_str()) {
            // The arguments of `cat` are files.
            if name != "cat" {
                judged.take_written(text, arguments);
            }
            if !judged.reads_password {
                judged.writes.append(&mut judged.here);
            }
        }
        given_password(text, &name, arguments, found);
        judged
    }

    fn take_written(&mut self, text: &'a str, arguments: &[Range<usize>]) {
        for word in arguments {
            let said = &text[word.clone()];
            if let Some(name) = variable(said) {
                self.variables.push(name);
            } else if !is_option(said) && !is_format(said) {
                self.writes.push(Secret::Span(word.clone()));
            }
        }
    }
}

/// The program of a command, without its directory, and its arguments.
fn program<'w>(text: &str, words: &'w [Range<usize>]) -> (String, &'w [Range<usize>]) {
    let mut prefixed = false;
    for (i, word) in words.iter().enumerate() {
        let said = &text[word.clone()];
        let skipped = said.split_once('=').is_some_and(|(name, _)| is_name(name))
            || (prefixed && (said.starts_with('-') || said.starts_with(|c: char| c.is_ascii_digit())));
        if skipped {
            continue;
        }
        let path = unquoted(said);
        let name = path.rsplit('/').next().unwrap_or_default();
        if !PREFIXES.contains(&name) {
            return (name.to_owned(), &words[i + 1..]);
        }
        prefixed = true;
    }
    (String::new(), &[])
}

fn reads_password(text: &str, name: &str, arguments: &[Range<usize>]) -> bool {
    let has = |option: &str| arguments.iter().any(|word| &text[word.clone()] == option);
    match name {
        "sudo" | "sudo-rs" => sudo_reads_stdin(text, arguments),
        "passwd" => has("--stdin"),
        name => READERS.contains(&name) || has("--password-stdin"),
    }
}

fn sudo_reads_stdin(text: &str, arguments: &[Range<usize>]) -> bool {
    let mut words = arguments.iter().map(|word| &text[word.clone()]);
    while let Some(word) = words.next() {
        match word.strip_prefix('-') {
            Some("-stdin") => return true,
            Some("-") => return false,
            Some(long) if long.starts_with('-') => {}
            Some(letters) => {
                // What follows a letter that has an argument is that argument.
                let own = letters.bytes().position(|letter| SUDO_ARGUMENTS.contains(&letter));
                if letters[..own.unwrap_or(letters.len())].contains('S') {
                    return true;
                }
                if own.is_some_and(|own| own + 1 == letters.len()) {
                    words.next();
                }
            }
            None if word.contains('=') => {}
            None => return false,
        }
    }
    false
}

/// Passwords among the arguments of programs that take one there.
fn given_password<'a>(text: &'a str, name: &str, arguments: &[Range<usize>], found: &mut Found<'a>) {
    let mut given: Vec<Range<usize>> = Vec::new();
    match name {
        "sshpass" => given.extend(option_value(text, arguments, "-p")),
        "curl" => {
            let value = option_value(text, arguments, "-u").or_else(|| option_value(text, arguments, "--user"));
            given.extend(value.filter(|value| text[value.clone()].contains(':')));
        }
        name if MYSQL.contains(&name) => {
            let attached = arguments.iter().filter(|word| text[(*word).clone()].starts_with("-p"));
            given.extend(attached.map(|word| word.start + 2..word.end));
        }
        _ => {}
    }
    found.variables.extend(given.iter().filter_map(|value| variable(&text[value.clone()])));
    found.secrets.extend(given.into_iter().map(Secret::Span));
}

/// The value of an option: the rest of its word, or the next word.
fn option_value(text: &str, arguments: &[Range<usize>], option: &str) -> Option<Range<usize>> {
    let at = arguments.iter().position(|word| text[word.clone()].starts_with(option))?;
    let word = &arguments[at];
    if word.len() > option.len() {
        return Some(word.start + option.len()..word.end);
    }
    arguments.get(at + 1).cloned()
}

/// A word without its quotes and escapes; longer ones are no names, and cut.
pub(super) fn unquoted(word: &str) -> String {
    let short = word.chars().take(4 * LONGEST_NAME);
    short.filter(|c| !matches!(c, '\'' | '"' | '\\')).collect()
}

/// The name, where a word is nothing but a variable: `$NAME`, `"${NAME}"`.
fn variable(word: &str) -> Option<&str> {
    let word = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word);
    let name = word.strip_prefix('$')?;
    let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
    is_name(name).then_some(name)
}

pub(super) fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_password_variable(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    is_name(&name) && (VARIABLES.contains(&name.as_str()) || name.ends_with("PASSWORD") || name.ends_with("PASSWD"))
}

/// Options of `echo`, and the end of those of `printf`.
fn is_option(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|letters| letters == "-" || letters.bytes().all(|byte| b"neE".contains(&byte)))
}

/// Formats of printf that hold nothing themselves.
fn is_format(word: &str) -> bool {
    word.len() <= 8 && matches!(unquoted(word).as_str(), "%s" | "%sn" | "%b" | "%bn" | "%s%s")
}
