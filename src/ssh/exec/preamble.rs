//! What stands before a command in the login shell: it tells the shell's process id, so that the
//! whole tree can be ended, and enters the directory, or runs nothing.
//!
//! It is a builtin of the login shell, not a second shell: it costs nothing and leaves exit code,
//! quoting and stdin as they are. Its answer, the marker, and the preamble itself where a shell
//! repeats the line in an error, are cut from the output by [`super::cutter`].

use uuid::Uuid;

/// How the login shell spells its process id. Learnt once per session by [`Shell::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shell {
    /// `$$`: sh, bash, dash, ksh, zsh, ash.
    Posix,
    /// `$fish_pid`.
    Fish,
    /// Anything else, csh above all: `sh` tells its parent.
    Other,
}

impl Shell {
    /// The shell by its path, as `$SHELL` gives it; none where that is no path.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let (_, name) = path.trim().strip_prefix('/').map(|rest| rest.rsplit_once('/').unwrap_or(("", rest)))?;
        Some(match name {
            "sh" | "bash" | "rbash" | "dash" | "ash" | "busybox" | "ksh" | "mksh" | "ksh93" | "zsh" => Shell::Posix,
            "fish" => Shell::Fish,
            _ => Shell::Other,
        })
    }
}

/// The text before one command, and the marker that it prints.
#[derive(Debug)]
pub(crate) struct Preamble {
    text: String,
    /// None where it is the same.
    text_of_ps: Option<String>,
    nonce: String,
    tells_pid: bool,
    enters_directory: bool,
}

/// Begins every marker.
const MARKER: &str = "ssh-mcp-";
/// What the marker says in place of a process id where the directory cannot be entered.
const NO_DIRECTORY: &str = "no-directory";

impl Preamble {
    /// `shell` is none where commands are not wrapped. None where there is nothing to say.
    pub(crate) fn new(shell: Option<Shell>, cwd: Option<&str>) -> Option<Self> {
        let nonce = format!("{MARKER}{}", Uuid::new_v4().simple());
        // A line of its own where it can be: fish repeats the offending line and points at a column of it, and in
        // csh `a; b &` puts both into the background. Elsewhere it would count in the line numbers of errors.
        let end = if shell == Some(Shell::Posix) { "; " } else { "\n" };
        let mut text = String::new();
        if let Some(cwd) = cwd {
            let path = quote_path(cwd);
            // `test` too: in tcsh a failing `cd` ends the shell without running what follows `||`. The shell is
            // replaced, so that the command runs nowhere else.
            text.push_str(&format!(
                "test -d {path} && cd {path} || exec sh -c 'echo {nonce} {NO_DIRECTORY} 1>&2; exit 1'{end}"
            ));
        }
        // After the directory: once the process id is told, a command that has read the nonce out of its own
        // command line cannot claim that it was not run.
        match shell {
            None => {}
            Some(Shell::Posix) => text.push_str(&format!("echo {nonce} $$ 1>&2{end}")),
            Some(Shell::Fish) => text.push_str(&format!("echo {nonce} $fish_pid 1>&2{end}")),
            Some(Shell::Other) => text.push_str(&format!("sh -c 'echo {nonce} $PPID 1>&2' </dev/null{end}")),
        }
        let (tells_pid, enters_directory) = (shell.is_some(), cwd.is_some());
        let text_of_ps = text.contains('\n').then(|| text.replace('\n', " "));
        (!text.is_empty()).then_some(Self { text, text_of_ps, nonce, tells_pid, enters_directory })
    }

    /// How many bytes stand before the command.
    pub(crate) const fn len(&self) -> usize {
        self.text.len()
    }

    /// The line for the login shell.
    pub(crate) fn line(&self, command: &str) -> String {
        format!("{}{command}", self.text)
    }

    /// The text itself, as a shell may repeat it; `ps` shows its line breaks as spaces.
    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        [Some(&self.text), self.text_of_ps.as_ref()].into_iter().flatten().map(String::as_bytes)
    }

    /// Whether a marker with the process id is to be expected.
    pub(super) fn tells_pid(&self) -> bool {
        self.tells_pid
    }

    /// Whether a marker may say that there is no such directory.
    pub(super) fn enters_directory(&self) -> bool {
        self.enters_directory
    }

    /// What no output can guess.
    pub(super) fn nonce(&self) -> &[u8] {
        self.nonce.as_bytes()
    }
}

/// What a marker told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Pid(u32),
    NoDirectory,
}

/// Reads what follows the nonce on its line.
pub(super) fn read_marker(rest: &[u8]) -> Option<Told> {
    let text = std::str::from_utf8(rest).unwrap_or_default().trim();
    match text.parse() {
        // 0 and 1 are never a shell of ours; a signal to group 1 or to "every process" must not be possible.
        Ok(pid) if pid > 1 => Some(Told::Pid(pid)),
        _ if text == NO_DIRECTORY => Some(Told::NoDirectory),
        _ => None,
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
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn knows_shells_by_their_path() {
        assert_eq!(Shell::of("/usr/bin/zsh\n"), Some(Shell::Posix));
        assert_eq!(Shell::of("/bin/sh"), Some(Shell::Posix));
        assert_eq!(Shell::of("/sh"), Some(Shell::Posix));
        assert_eq!(Shell::of("/usr/bin/fish"), Some(Shell::Fish));
        assert_eq!(Shell::of("/bin/tcsh"), Some(Shell::Other));
        assert_eq!(Shell::of("$SHELL"), None);
        assert_eq!(Shell::of(""), None);
    }

    #[test]
    fn says_nothing_where_there_is_nothing_to_say() {
        assert!(Preamble::new(None, None).is_none());
        assert_eq!(Preamble::new(None, Some("/x")).unwrap().text.matches("echo").count(), 1);
    }

    #[test]
    fn reads_markers_and_no_dangerous_pid() {
        assert_eq!(read_marker(b" 4711\n"), Some(Told::Pid(4711)));
        assert_eq!(read_marker(b" no-directory\n"), Some(Told::NoDirectory));
        for bad in [" 0\n", " 1\n", " -1\n", "\n", " $$\n", " 99999999999\n"] {
            assert_eq!(read_marker(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn quotes_for_the_shell() {
        assert_eq!(quote_path("/a b"), "'/a b'");
        assert_eq!(quote_path("it's"), "'./it'\\''s'");
        assert_eq!(quote_path("~/x y"), "~/'x y'");
        assert_eq!(quote_path("-P"), "'./-P'");
    }
}
