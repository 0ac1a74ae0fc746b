//! `cwd`: run in a directory, or run nothing.
//!
//! The line before the command works in bash, dash, zsh, fish and tcsh. Where the directory cannot
//! be entered it puts a marker on stderr that no output can guess and replaces the shell, so that
//! the command does not run elsewhere. The marker is cut from the output.

use uuid::Uuid;

/// Begins the marker: no text begins with it, so ordinary output is never held back.
const MARK: u8 = 0x1e;

/// A directory to run in, and the watch for its marker.
pub(crate) struct Directory {
    path: String,
    marker: Vec<u8>,
    held: Vec<u8>,
    missing: bool,
}

impl Directory {
    pub(crate) fn new(path: &str) -> Self {
        let mut marker = vec![MARK];
        marker.extend_from_slice(Uuid::new_v4().simple().to_string().as_bytes());
        marker.push(b'\n');
        Self { path: path.to_owned(), marker, held: Vec::new(), missing: false }
    }

    /// The line for the login shell that runs `command` here.
    pub(crate) fn line(&self, command: &str) -> String {
        let path = quote_path(&self.path);
        let nonce = String::from_utf8_lossy(&self.marker[1..self.marker.len() - 1]);
        // `test` too: a failing `cd` ends tcsh without running what follows `||`.
        format!("test -d {path} && cd {path} || exec sh -c 'printf \"\\{MARK:03o}{nonce}\\n\" 1>&2; exit 1'; {command}")
    }

    /// Whether the marker was seen.
    pub(crate) const fn is_missing(&self) -> bool {
        self.missing
    }

    /// Passes stderr on without the marker. Holds back only what may be its beginning.
    pub(crate) fn filter(&mut self, data: &[u8], mut pass: impl FnMut(&[u8])) {
        if self.held.is_empty() && !data.contains(&MARK) {
            return pass(data);
        }
        self.held.extend_from_slice(data);
        while let Some(at) = self.held.iter().position(|b| *b == MARK) {
            let rest = &self.held[at..];
            if rest.starts_with(&self.marker) {
                self.missing = true;
                pass(&self.held[..at]);
                self.held.drain(..at + self.marker.len());
            } else if self.marker.starts_with(rest) {
                pass(&self.held[..at]);
                self.held.drain(..at);
                return;
            } else {
                pass(&self.held[..=at]);
                self.held.drain(..=at);
            }
        }
        self.flush(pass);
    }

    /// Passes on what was held back.
    pub(crate) fn flush(&mut self, mut pass: impl FnMut(&[u8])) {
        if !self.held.is_empty() {
            pass(&self.held);
            self.held.clear();
        }
    }
}

/// Quotes a path for a shell. `~/` is left to the shell; a relative path gets `./`, so that neither
/// a leading `-` nor CDPATH changes its meaning.
fn quote_path(path: &str) -> String {
    match path.strip_prefix('~') {
        Some("") => "~".into(),
        Some(rest) if rest.starts_with('/') => format!("~/{}", quote(&rest[1..])),
        _ if path.starts_with('/') => quote(path),
        _ => quote(&format!("./{path}")),
    }
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(directory: &mut Directory, pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces {
            directory.filter(piece, |bytes| out.extend_from_slice(bytes));
        }
        directory.flush(|bytes| out.extend_from_slice(bytes));
        out
    }

    #[test]
    fn cuts_the_marker_wherever_the_packets_split() {
        let marker = Directory::new("/x").marker;
        let text = [b"a\x1eb", marker.as_slice(), b"c"].concat();
        for split in 0..text.len() {
            let mut directory = Directory::new("/x");
            directory.marker.clone_from(&marker);
            assert_eq!(filtered(&mut directory, &[&text[..split], &text[split..]]), b"a\x1ebc", "{split}");
            assert!(directory.is_missing());
        }
    }

    #[test]
    fn passes_a_prompt_on_at_once_and_another_marker_through() {
        let mut directory = Directory::new("/x");
        let mut out = Vec::new();
        directory.filter(b"pw:", |bytes| out.extend_from_slice(bytes));
        assert_eq!(out, b"pw:");
        let other = Directory::new("/x").marker;
        assert_eq!(filtered(&mut directory, &[&other]), other);
        assert!(!directory.is_missing());
    }

    #[test]
    fn quotes_for_the_shell() {
        assert_eq!(quote_path("/a b"), "'/a b'");
        assert_eq!(quote_path("it's"), "'./it'\\''s'");
        assert_eq!(quote_path("~/x y"), "~/'x y'");
        assert_eq!(quote_path("-P"), "'./-P'");
    }
}
