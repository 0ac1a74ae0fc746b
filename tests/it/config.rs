//! Settings: which source wins, what is refused, and how it is said.

mod file;
mod secrets;
mod start;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ssh_mcp::config::{
    Args, Compression, Environment, Settings,
    vars::{self, Kind},
};
use tempfile::TempDir;

fn resolve(args: &Args, environment: Environment) -> Settings {
    match Settings::resolve(args, &environment) {
        Ok(settings) => settings,
        Err(errors) => panic!("{errors}"),
    }
}

fn from_environment<const N: usize>(variables: [(&str, &str); N]) -> Settings {
    resolve(&Args::default(), Environment::from(variables))
}

fn refusal(args: &Args, environment: &Environment) -> String {
    match Settings::resolve(args, environment) {
        Ok(settings) => panic!("accepted: {settings:?}"),
        Err(errors) => errors.to_string(),
    }
}

fn refused_environment<const N: usize>(variables: [(&str, &str); N]) -> String {
    refusal(&Args::default(), &Environment::from(variables))
}

/// A directory with one file in it that its owner alone can read.
fn private_file(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let path = directory.path().join("file");
    fs::write(&path, text).unwrap_or_else(|error| panic!("{error}"));
    set_mode(&path, 0o600);
    (directory, path)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let set = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set.unwrap_or_else(|error| panic!("{error}"));
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) {}

fn with_config(path: &Path) -> Args {
    Args { config: Some(path.to_owned()), ..Args::default() }
}

fn refused_file(text: impl AsRef<[u8]>) -> String {
    let (_directory, path) = private_file(text);
    let message = refusal(&with_config(&path), &Environment::default());
    message.replace(&path.display().to_string(), "FILE")
}

#[test]
fn empty_environment_gives_the_defaults_of_the_contract() {
    let settings = resolve(&Args::default(), Environment::default());
    assert_eq!(settings.ssh.connect_timeout, Duration::from_secs(30));
    assert_eq!(settings.ssh.command_timeout, Duration::from_secs(180));
    assert_eq!(settings.ssh.max_retries, 3);
    assert_eq!(settings.ssh.retry_delay, Duration::from_secs(1));
    assert_eq!(settings.ssh.compression, Compression::Auto);
    assert_eq!(settings.ssh.inactivity_timeout, Duration::from_secs(300));
    assert_eq!(settings.ssh.max_commands, 30);
    assert_eq!(settings.answers.limit, Duration::from_secs(45));
    assert_eq!(settings.answers.output_bytes, 16_000);
    assert_eq!((settings.http.port, settings.http.bind.to_string().as_str()), (8000, "127.0.0.1"));
    assert!(settings.http.tokens.is_empty());
    assert_eq!(settings.log_filter, "info");
}

#[test]
fn argument_beats_environment_beats_file_beats_default() {
    let (_directory, path) =
        private_file("[mcp]\nport = 1\nbind = \"127.0.0.3\"\n[ssh]\nmax_retries = 1\ncommand_timeout = 7");
    let args = Args { port: Some("3".into()), ..with_config(&path) };
    let environment = Environment::from([("MCP_PORT", "2"), ("SSH_MAX_RETRIES", "2")]);
    let settings = resolve(&args, environment);
    assert_eq!(settings.http.port, 3);
    assert_eq!(settings.ssh.max_retries, 2);
    assert_eq!(settings.ssh.command_timeout, Duration::from_secs(7));
    assert_eq!(settings.http.bind.to_string(), "127.0.0.3");
    assert_eq!(settings.ssh.connect_timeout, Duration::from_secs(30));
}

#[test]
fn every_setting_of_the_table_is_checked_and_named() {
    for var in vars::ALL {
        let bad = match var.kind {
            Kind::AnyPath => continue,
            Kind::LogFilter => "ssh_mcp=loud",
            _ => "not/allowed",
        };
        let message = refused_environment([(var.env, bad)]);
        assert!(message.contains(&format!("\n  {} (environment): ", var.env)), "{message}");
        assert!(message.starts_with("1 setting cannot be used"), "{message}");
    }
}

#[test]
fn ranges_end_where_the_table_says() {
    for var in vars::ALL {
        let Kind::Whole { min, max } = var.kind else {
            continue;
        };
        for inside in [min, max] {
            from_environment([(var.env, inside.to_string().as_str())]);
        }
        let outside = [max + 1, u64::MAX].map(|number| number.to_string());
        let below = min.checked_sub(1).map(|number| number.to_string());
        for outside in outside.iter().chain(&below).map(String::as_str).chain(["-1", "1.0", "5s", "1e3"]) {
            assert!(refused_environment([(var.env, outside)]).contains(var.env), "{} {outside}", var.env);
        }
    }
}

#[test]
fn boolean_words_and_auto_are_read_in_any_case() {
    let compression = |word| from_environment([("SSH_COMPRESSION", word)]).ssh.compression;
    for word in ["true", "1", "YES", "On"] {
        assert_eq!(compression(word), Compression::On, "{word}");
    }
    for word in ["FALSE", "0", "no", "off"] {
        assert_eq!(compression(word), Compression::Off, "{word}");
    }
    assert_eq!(compression("Auto"), Compression::Auto);
}

#[test]
fn white_space_is_ignored_and_an_empty_variable_is_not_set() {
    let settings = from_environment([("MCP_PORT", " 9000\n"), ("MCP_BIND", ""), ("SSH_MAX_RETRIES", "  ")]);
    assert_eq!((settings.http.port, settings.ssh.max_retries), (9000, 3));
    assert_eq!(settings.http.bind.to_string(), "127.0.0.1");
}

#[test]
fn localhost_means_the_ipv4_loopback_address() {
    assert_eq!(from_environment([("MCP_BIND", "LocalHost")]).http.bind.to_string(), "127.0.0.1");
}

#[test]
fn all_wrong_values_stand_in_one_message_with_their_sources() {
    let (_directory, path) = private_file("[mcp]\nport = 70000\n\n[ssh]\ncolour = 3\nmax_retries = [1]\n");
    let args = Args { bind: Some("nowhere".into()), ..with_config(&path) };
    let environment = Environment::from([("SSH_ANSWER_LIMIT", "3601"), ("RUST_LOG", "a=b=c")]);
    let message = refusal(&args, &environment);
    let file = path.display();
    for expected in [
        "6 settings cannot be used".to_owned(),
        "--bind (argument): \"nowhere\" is not an IP address or `localhost`".to_owned(),
        "SSH_ANSWER_LIMIT (environment): \"3601\" is not a whole number from 1 to 3600".to_owned(),
        "RUST_LOG (environment): \"a=b=c\" is not a log filter".to_owned(),
        format!("{file}:2 (mcp.port): \"70000\" is not a whole number from 0 to 65535"),
        format!("{file}:5: unknown key `colour` in [ssh]; the keys are connect_timeout, "),
        format!("{file}:6: `ssh.max_retries` is not a whole number from 0 to 100"),
    ] {
        assert!(message.contains(&expected), "{expected}\nis not in\n{message}");
    }
}

#[test]
fn wrong_value_is_reported_even_where_another_source_wins() {
    let args = Args { port: Some("1".into()), ..Args::default() };
    assert!(refusal(&args, &Environment::from([("MCP_PORT", "abc")])).contains("MCP_PORT"));
}

#[test]
fn log_filter_is_kept_as_text() {
    let filter = "warn,ssh_mcp=debug";
    assert_eq!(from_environment([("RUST_LOG", filter)]).log_filter, filter);
}
