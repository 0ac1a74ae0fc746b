//! As much of the shell's grammar as it takes to know which words belong to which command, and which
//! command writes into which. Text that is no shell at all gives nothing, and does no harm.

use std::{collections::HashSet, ops::Range};

use super::judge::{self, Secret};

/// How deep a quoted part is read as a command line of its own.
const MAX_QUOTED: usize = 3;

/// A command without the pipes around it.
#[derive(Debug, Default)]
pub(super) struct Simple {
    /// Its words, redirections apart.
    pub(super) words: Vec<Range<usize>>,
    /// What its standard input is, where that stands in the text.
    pub(super) here: Vec<Secret>,
    /// What a group of commands in its place writes.
    pub(super) writes: Vec<Secret>,
}

/// A list of commands: the whole text, or what stands in parentheses or braces.
#[derive(Debug, Default)]
struct List {
    current: Simple,
    pipeline: Vec<Simple>,
    /// What its finished pipelines write.
    writes: Vec<Secret>,
}

/// What the next word is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Argument,
    Target,
    HereString,
    HereDocument { tabs: bool },
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    end: usize,
    depth: usize,
    /// The innermost list is the last.
    lists: Vec<List>,
    next: Next,
    /// Here-documents whose bodies follow after this line: delimiter, leading tabs, index.
    pending: Vec<(String, bool, usize)>,
    found: Found<'a>,
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Found<'a> {
    pub(super) secrets: Vec<Secret>,
    /// Variables that hold a password.
    pub(super) variables: HashSet<&'a str>,
    /// Every assignment: name and value.
    pub(super) assigned: Vec<(&'a str, Range<usize>)>,
    /// The bodies of here-documents.
    documents: Vec<Range<usize>>,
}

/// Where the passwords of a command line stand.
pub(super) fn read(text: &str) -> Vec<Range<usize>> {
    let found = read_part(text, 0..text.len(), 0, Found::default());
    let documents = found.documents;
    let spans = found.secrets.into_iter().filter_map(|secret| match secret {
        Secret::Span(span) => Some(span),
        Secret::Document(index) => documents.get(index).cloned(),
    });
    let variables = found.variables;
    let values = found.assigned.into_iter().filter(|(name, _)| variables.contains(name)).map(|(_, value)| value);
    spans.chain(values).collect()
}

fn read_part<'a>(text: &'a str, part: Range<usize>, depth: usize, found: Found<'a>) -> Found<'a> {
    let lists = vec![List::default()];
    let (next, pending) = (Next::Argument, Vec::new());
    let mut reader = Reader { text, at: part.start, end: part.end, depth, lists, next, pending, found };
    while reader.at < reader.end {
        reader.step();
    }
    while reader.lists.len() > 1 {
        reader.close();
    }
    reader.finish();
    reader.found
}

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes()[..self.end].get(self.at + ahead).copied()
    }

    fn step(&mut self) {
        match (self.peek(0), self.peek(1)) {
            (Some(b' ' | b'\t' | b'\r'), _) => self.at += 1,
            (Some(b'\n'), _) => self.end_line(),
            (Some(b'\\'), Some(b'\n')) => self.at += 2,
            (Some(b'#'), _) => self.at = self.line_end(self.at),
            (Some(b'|'), Some(b'|')) | (Some(b'&'), Some(b'&')) => self.separate(2),
            (Some(b'|'), Some(b'&')) => self.pipe(2),
            (Some(b'|'), _) => self.pipe(1),
            (Some(b'&'), Some(b'>')) | (Some(b'<' | b'>'), _) => self.redirect(),
            (Some(b';' | b'&' | b'`'), _) => self.separate(1),
            (Some(b'('), _) => {
                self.at += 1;
                self.lists.push(List::default());
            }
            (Some(b')'), _) => {
                self.at += 1;
                self.close();
            }
            _ => self.word(),
        }
    }

    fn list(&mut self) -> &mut List {
        if self.lists.is_empty() {
            self.lists.push(List::default());
        }
        let last = self.lists.len() - 1;
        &mut self.lists[last]
    }

    fn pipe(&mut self, length: usize) {
        self.at += length;
        self.next = Next::Argument;
        let list = self.list();
        let current = std::mem::take(&mut list.current);
        list.pipeline.push(current);
    }

    fn separate(&mut self, length: usize) {
        self.at += length;
        self.next = Next::Argument;
        self.finish();
    }

    /// A pipeline is whole.
    fn finish(&mut self) {
        let list = self.list();
        let current = std::mem::take(&mut list.current);
        let mut pipeline = std::mem::take(&mut list.pipeline);
        pipeline.push(current);
        let writes = judge::pipeline(self.text, pipeline, &mut self.found);
        join(&mut self.list().writes, writes);
    }

    /// A group is whole: what it writes, the command in its place writes.
    fn close(&mut self) {
        self.next = Next::Argument;
        self.finish();
        if self.lists.len() > 1
            && let Some(group) = self.lists.pop()
        {
            join(&mut self.list().current.writes, group.writes);
        }
    }

    fn end_line(&mut self) {
        self.at += 1;
        for (delimiter, tabs, index) in std::mem::take(&mut self.pending) {
            self.found.documents[index] = self.document(&delimiter, tabs);
        }
        let list = self.list();
        // After a pipe the command goes on.
        if !list.current.words.is_empty() || list.pipeline.is_empty() {
            self.separate(0);
        }
    }

    /// Reads the body of a here-document.
    fn document(&mut self, delimiter: &str, tabs: bool) -> Range<usize> {
        let start = self.at;
        while self.at < self.end {
            let (from, to) = (self.at, self.line_end(self.at));
            self.at = (to + 1).min(self.end);
            let line = &self.text[from..to];
            let line = if tabs { line.trim_start_matches('\t') } else { line };
            if line == delimiter {
                return start..from.saturating_sub(1).max(start);
            }
        }
        start..self.end
    }

    fn line_end(&self, from: usize) -> usize {
        self.text[from..self.end].find('\n').map_or(self.end, |length| from + length)
    }

    fn redirect(&mut self) {
        let here = self.text[self.at..self.end].starts_with("<<");
        let (next, length) = match (here, self.peek(2)) {
            (true, Some(b'<')) => (Next::HereString, 3),
            (true, Some(b'-')) => (Next::HereDocument { tabs: true }, 3),
            (true, _) => (Next::HereDocument { tabs: false }, 2),
            // `<(` is a group.
            _ if self.peek(1) == Some(b'(') => (Next::Argument, 1),
            _ => {
                let rest = &self.text.as_bytes()[self.at..self.end];
                (Next::Target, rest.iter().take_while(|byte| b"<>&|".contains(byte)).count())
            }
        };
        (self.next, self.at) = (next, self.at + length);
    }

    fn word(&mut self) {
        let start = self.at;
        let mut quoted = Vec::new();
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\\' => self.at = (self.at + 2).min(self.end),
                b'\'' | b'"' => quoted.push(self.quoted(byte)),
                b' ' | b'\t' | b'\r' | b'\n' | b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' | b'`' => break,
                _ => self.at += 1,
            }
        }
        // An escape may have ended in the midst of a character.
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
        let word = start..self.at.min(self.end);
        let next = std::mem::replace(&mut self.next, Next::Argument);
        self.place(word, next);
        if self.depth < MAX_QUOTED {
            for part in quoted {
                self.inside(part);
            }
        }
    }

    /// Skips what is quoted, and gives its inside.
    fn quoted(&mut self, quote: u8) -> Range<usize> {
        // `$'..'` knows escapes, `'..'` does not.
        let escapes = quote == b'"' || (self.at > 0 && self.text.as_bytes()[self.at - 1] == b'$');
        self.at += 1;
        let start = self.at;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\\' if escapes => self.at = (self.at + 2).min(self.end),
                byte if byte == quote => break,
                _ => self.at += 1,
            }
        }
        let inside = start..self.at;
        self.at = (self.at + 1).min(self.end);
        inside
    }

    /// A quoted part with several words may be a command line.
    fn inside(&mut self, part: Range<usize>) {
        let whole = self.text.is_char_boundary(part.start) && self.text.is_char_boundary(part.end);
        if whole && self.text[part.clone()].contains(' ') {
            let found = std::mem::take(&mut self.found);
            self.found = read_part(self.text, part, self.depth + 1, found);
        }
    }

    fn place(&mut self, word: Range<usize>, next: Next) {
        let text = self.text;
        match next {
            Next::Target => {}
            Next::HereString => self.list().current.here.push(Secret::Span(word)),
            Next::HereDocument { tabs } => {
                let index = self.found.documents.len();
                self.found.documents.push(0..0);
                self.pending.push((judge::unquoted(&text[word]), tabs, index));
                self.list().current.here.push(Secret::Document(index));
            }
            Next::Argument => self.argument(word),
        }
    }

    fn argument(&mut self, word: Range<usize>) {
        let text = self.text;
        // `2>`: the digit belongs to the redirection.
        let digits = text.as_bytes()[word.clone()].iter().all(u8::is_ascii_digit);
        if digits && matches!(self.peek(0), Some(b'<' | b'>')) {
            return;
        }
        match &text[word.clone()] {
            "{" => self.lists.push(List::default()),
            "}" => self.close(),
            _ => {
                judge::word(text, &word, &mut self.found);
                self.list().current.words.push(word);
            }
        }
    }
}

/// Moves the shorter into the longer: a group in a group in a group stays cheap.
fn join(all: &mut Vec<Secret>, mut more: Vec<Secret>) {
    if all.len() < more.len() {
        std::mem::swap(all, &mut more);
    }
    all.append(&mut more);
}
