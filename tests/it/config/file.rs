//! The TOML file and the paths below the home directory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ssh_mcp::config::{Args, Compression, Environment};

use super::{from_environment, private_file, refusal, refused_environment, refused_file, resolve, with_config};

#[test]
fn file_that_is_not_toml_is_refused_with_the_line() {
    assert!(refused_file("[mcp]\nport = 1\nport = 2\n").contains("FILE:3: duplicate key"));
    assert!(refused_file("[mcp]\nport = \n").contains("FILE:2: "));
    assert!(refused_file(b"[mcp]\nport = \xff\n").contains("FILE: cannot be read: not UTF-8 text"));
    assert!(refused_file("#".repeat(300_000)).contains("larger than 262144 bytes"));
}

#[test]
fn unknown_section_names_the_right_place_where_it_can() {
    let message = refused_file("mcp_port = 1\n\n[tools]\nread_only = true\n");
    assert!(message.contains("FILE:1: unknown key `mcp_port`; write `port` in [mcp]"), "{message}");
    assert!(message.contains("FILE:3: unknown section or key `tools`"), "{message}");
    assert!(refused_file("ssh = 1").contains("`ssh` is a section: write [ssh]"));
}

#[test]
fn file_values_may_be_numbers_texts_or_booleans() {
    let (_directory, path) = private_file("[ssh]\ncompression = true\nmax_retries = \"5\"\nretry_delay_ms = 0x10\n");
    let ssh = resolve(&with_config(&path), Environment::default()).ssh;
    assert_eq!((ssh.compression, ssh.max_retries), (Compression::On, 5));
    assert_eq!(ssh.retry_delay, Duration::from_millis(16));
}

#[test]
fn default_file_may_be_missing_and_a_named_one_may_not() {
    let home = Environment::from([("HOME", "/nonexistent")]);
    resolve(&Args::default(), home.clone());
    resolve(&Args::default(), Environment::from([("HOME", "/dev/null")]));
    let message = refusal(&with_config(Path::new("/nonexistent/config.toml")), &home);
    assert!(message.contains("/nonexistent/config.toml: cannot be read: "), "{message}");
    assert!(refusal(&with_config(Path::new("/")), &home).contains("not a regular file"));
}

#[test]
fn default_file_stands_below_xdg_config_home_or_home() {
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let write = |folder: &str, port: u16| {
        let folder = directory.path().join(folder).join("ssh-mcp");
        let written = fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join("config.toml"), format!("[mcp]\nport = {port}")));
        written.unwrap_or_else(|error| panic!("{error}"));
    };
    write(".config", 1);
    write("xdg", 2);
    let home = Environment::default().with("HOME", directory.path());
    let xdg = directory.path().join("xdg");
    assert_eq!(resolve(&Args::default(), home.clone()).http.port, 1);
    assert_eq!(resolve(&Args::default(), home.clone().with("XDG_CONFIG_HOME", "relative")).http.port, 1);
    assert_eq!(resolve(&Args::default(), home.with("XDG_CONFIG_HOME", xdg)).http.port, 2);
}

#[test]
fn paths_are_absolute_or_below_home() {
    let known_hosts = |environment| resolve(&Args::default(), environment).ssh.known_hosts;
    let home = Environment::from([("HOME", "/home/a")]);
    let at = |path: &str| Some(PathBuf::from(path));
    assert_eq!(known_hosts(home.clone()), at("/home/a/.local/state/ssh-mcp/known_hosts"));
    assert_eq!(known_hosts(home.clone().with("XDG_STATE_HOME", "/s")), at("/s/ssh-mcp/known_hosts"));
    assert_eq!(known_hosts(home.with("SSH_KNOWN_HOSTS_FILE", "~/kh")), at("/home/a/kh"));
    assert_eq!(known_hosts(Environment::default()), None);
    assert!(refused_environment([("SSH_KNOWN_HOSTS_FILE", "kh")]).contains("\"kh\" is not an absolute path"));
}

#[test]
fn agent_socket_is_taken_as_it_stands() {
    let settings = from_environment([("SSH_AUTH_SOCK", "/run/agent.sock")]);
    assert_eq!(settings.ssh.agent_socket, Some(PathBuf::from("/run/agent.sock")));
}
