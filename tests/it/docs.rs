//! Documents that are made from tables of the code are current.

use std::{fs, path::Path};

use ssh_mcp::config::{Args, Environment, Settings, document, vars};

/// Compares a document with what the code says; `UPDATE_DOCS=1` rewrites it instead.
fn assert_current(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(&path, expected).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    assert!(current == expected, "docs/{name} is out of date: UPDATE_DOCS=1 cargo test --test it docs::");
}

/// The text of the first block of a language.
fn first_block<'a>(document: &'a str, language: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("```{language}\n"))?;
    rest.split_once("```").map(|(block, _)| block)
}

#[test]
fn configuration_document_is_current() {
    assert_current("CONFIGURATION.md", &document::markdown());
}

#[test]
fn configuration_example_is_a_file_that_says_the_defaults() {
    let document = document::markdown();
    let Some(example) = first_block(&document, "toml") else { panic!("no example") };
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let path = directory.path().join("config.toml");
    fs::write(&path, example).unwrap_or_else(|error| panic!("{error}"));
    let resolve = |args| match Settings::resolve(&args, &Environment::default()) {
        Ok(settings) => format!("{settings:?}"),
        Err(errors) => panic!("{errors}"),
    };
    assert_eq!(resolve(Args { config: Some(path), ..Args::default() }), resolve(Args::default()));
    for var in vars::ALL {
        assert!(example.contains(&format!("{} = ", var.key)), "{} is not in the example", var.key);
    }
}

/// Every file below a directory, as its path and text.
fn sources(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.unwrap_or_else(|error| panic!("{error}")).path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![(path.display().to_string(), fs::read_to_string(&path).unwrap_or_default())],
        })
        .collect()
}

/// Names such as `module::behaviour` and `module::*` in code spans of a document.
fn named_tests(document: &str) -> impl Iterator<Item = &str> {
    let is_path = |span: &&str| {
        span.contains("::") && span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:*".contains(c))
    };
    document.split('`').skip(1).step_by(2).filter(is_path)
}

#[test]
fn tests_that_the_security_page_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/SECURITY.md")).unwrap_or_default();
    let sources = [sources(&root.join("tests/it")), sources(&root.join("src"))].concat();
    let mut named = 0;
    for test in named_tests(&page) {
        let (module, name) = test.rsplit_once("::").unwrap_or_default();
        let file = module.replace("::tests", "").replace("fuzz::targets", "fuzz").replace("::", "/");
        let is_there = |(path, text): &(String, String)| {
            let of_module = path.ends_with(&format!("/{file}.rs")) || path.contains(&format!("/{file}/"));
            of_module
                && (name == "*" || text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name))
        };
        assert!(sources.iter().any(is_there), "{test} is named in docs/SECURITY.md and does not exist");
        named += 1;
    }
    assert!(named > 50, "{named}");
}
