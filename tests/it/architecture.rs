//! The arrows of the house, held against the source text. There is no list of exceptions.
//!
//! ```text
//! bin -> transport -> mcp -> app -> ssh -> russh          everyone -> config, secret, error
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A source file without its comments.
struct Source {
    /// From the crate's root, such as `src/ssh/client.rs`.
    path: String,
    code: String,
}

impl Source {
    fn is_in(&self, folder: &str) -> bool {
        self.path == format!("{folder}.rs") || self.path.starts_with(&format!("{folder}/"))
    }

    /// Whether the code names `word`, as a whole.
    fn names(&self, word: &str) -> bool {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(word).any(|(at, _)| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            let goes_on = word.ends_with(part) && after.is_some_and(part);
            !goes_on && !before.is_some_and(part)
        })
    }

    /// The full path of everything that `use` brings in.
    fn imports(&self) -> Vec<String> {
        let statements = self.code.split("use ").skip(1).filter_map(|rest| rest.split_once(';'));
        statements.flat_map(|(tree, _)| expand(&tree.split_whitespace().collect::<String>())).collect()
    }

    /// Whether the code reaches `module` of this crate, by a `use` or by a path.
    fn reaches(&self, module: &str) -> bool {
        let path = format!("crate::{module}");
        let inside = |import: &String| *import == path || import.starts_with(&format!("{path}::"));
        self.names(&path) || self.imports().iter().any(inside)
    }
}

/// `a::{b,c::d}` as `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<String> {
    let Some((prefix, group)) = tree.split_once('{') else {
        return vec![tree.to_owned()];
    };
    let group = group.strip_suffix('}').unwrap_or(group);
    let mut depth = 0;
    let branches = group.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let branches = branches.filter(|branch| !branch.is_empty());
    branches.flat_map(|branch| expand(branch).into_iter().map(|end| format!("{prefix}{end}"))).collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    files.iter().map(|file| read(root, file)).collect()
}

fn read(root: &Path, file: &Path) -> Source {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.map(|line| line.split(" // ").next().unwrap_or(line)).collect::<Vec<_>>().join("\n");
    Source { path: file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/"), code }
}

/// Fails with every file in which `breaks` finds something.
#[track_caller]
fn forbid(what: &str, breaks: impl Fn(&Source) -> Option<String>) {
    let found: Vec<String> =
        sources().iter().filter_map(|source| Some(format!("{}: {}", source.path, breaks(source)?))).collect();
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// Files in one of `folders` must not name any of `words`.
#[track_caller]
fn forbid_words(what: &str, inside: impl Fn(&Source) -> bool, words: &[&str]) {
    forbid(what, |source| {
        let named: Vec<_> = words.iter().copied().filter(|word| inside(source) && source.names(word)).collect();
        (!named.is_empty()).then(|| named.join(", "))
    });
}

/// Files in `folder` must not reach any of `modules` of this crate.
#[track_caller]
fn forbid_arrows(folder: &str, modules: &[&str]) {
    forbid(&format!("{folder} looks up"), |source| {
        let reached: Vec<_> =
            modules.iter().copied().filter(|module| source.is_in(folder) && source.reaches(module)).collect();
        (!reached.is_empty()).then(|| reached.join(", "))
    });
}

#[test]
fn only_the_core_names_russh() {
    forbid_words("russh outside src/ssh", |source| !source.is_in("src/ssh"), &["russh"]);
}

#[test]
fn the_core_names_no_protocol_and_no_json() {
    let words = ["rmcp", "poem", "schemars", "serde_json"];
    forbid_words("the core names the outside", |source| source.is_in("src/ssh"), &words);
}

#[test]
fn the_state_names_no_protocol() {
    forbid_words("the app names the outside", |source| source.is_in("src/app"), &["rmcp", "poem", "schemars"]);
}

#[test]
fn arrows_go_down() {
    forbid_arrows("src/ssh", &["app", "mcp", "transport"]);
    forbid_arrows("src/app", &["mcp", "transport"]);
    forbid_arrows("src/mcp", &["transport"]);
    forbid_arrows("src/config", &["ssh", "app", "mcp", "transport"]);
    forbid_arrows("src/secret", &["config", "ssh", "app", "mcp", "transport"]);
    forbid_arrows("src/error", &["config", "secret", "ssh", "app", "mcp", "transport"]);
}

#[test]
fn the_edge_names_no_transport() {
    forbid_words("mcp names a transport", |source| source.is_in("src/mcp"), &["poem", "rmcp::transport"]);
}

#[test]
fn only_config_reads_the_environment() {
    let words = ["env::var", "env::var_os", "env::vars", "env::vars_os", "home_dir", "env::current_dir"];
    forbid_words("the environment is read", |source| !source.is_in("src/config"), &words);
    forbid("the environment is imported", |source| {
        let imports = source.imports();
        let found = imports.iter().find(|import| import.starts_with("std::env::") && !source.is_in("src/config"));
        found.cloned()
    });
}

#[test]
fn only_transports_and_binaries_touch_stdin_and_stdout() {
    let outside = |source: &Source| !source.is_in("src/transport") && !source.is_in("src/bin");
    forbid_words("stdin or stdout", outside, &["io::stdin", "io::stdout", "println!", "print!"]);
    forbid("stdin or stdout is imported", |source| {
        let ends = |import: &&String| import.ends_with("io::stdin") || import.ends_with("io::stdout");
        source.imports().iter().find(ends).filter(|_| outside(source)).cloned()
    });
}

#[test]
fn tool_families_do_not_import_each_other() {
    const SHARED: [&str; 3] = ["tool", "descriptions", "document"];
    let family = |source: &Source| {
        let name = source.path.strip_prefix("src/mcp/commands/")?.split(['/', '.']).next()?.to_owned();
        (!SHARED.contains(&name.as_str())).then_some(name)
    };
    let families: Vec<String> = sources().iter().filter_map(family).collect();
    assert!(families.len() >= 3, "{families:?}");
    forbid("a family imports another", |source| {
        let own = family(source)?;
        let others = families.iter().filter(|other| **other != own);
        let paths = others.flat_map(|other| [format!("super::{other}"), format!("commands::{other}")]);
        let imports = source.imports();
        let mut broken =
            paths.filter(|path| source.names(path) || imports.iter().any(|import| import.contains(path.as_str())));
        broken.next()
    });
}

#[test]
fn files_stay_within_400_lines() {
    forbid("too long", |source| {
        let lines =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&source.path)).unwrap().lines().count();
        (lines > 400).then(|| format!("{lines} lines"))
    });
}

#[test]
fn the_reader_of_imports_sees_through_groups() {
    assert_eq!(expand("crate::{a::{b,c},d}"), ["crate::a::b", "crate::a::c", "crate::d"]);
}
