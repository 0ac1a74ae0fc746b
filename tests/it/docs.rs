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
