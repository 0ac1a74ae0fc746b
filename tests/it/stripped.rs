//! Environments with almost nothing in them, as graphical clients and services give them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use crate::{
    alias::{block, write_config},
    support::{
        home::Home,
        openssh::{Sshd, is_root},
        wait::bounded,
    },
};

/// Starts the real program in this environment alone, makes one call and gives its structured answer.
async fn call(command: &mut Command, tool: &str, arguments: Value) -> Value {
    let mut server =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let (mut stdin, stdout) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
    let client = json!({"name": "t", "version": "0"});
    let initialize = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    for message in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}),
    ] {
        stdin.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }
    let mut lines = BufReader::new(stdout).lines();
    loop {
        let line = bounded("the answer", lines.next_line()).await.unwrap().expect("the server goes on");
        let message: Value = serde_json::from_str(&line).unwrap();
        if message["id"] == 2 {
            return message["result"]["structuredContent"].clone();
        }
    }
}

/// `env -i PATH=...` and these.
fn stripped(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new("env");
    command.arg("-i").arg(format!("PATH={}", std::env::var("PATH").unwrap()));
    command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(env!("CARGO_BIN_EXE_ssh-mcp-stdio"));
    command
}

#[tokio::test]
async fn with_path_and_home_alone_an_alias_connects() {
    let Some(sshd) = Sshd::start().await else { return };
    let home = Home::new();
    fs::create_dir_all(home.path().join(".ssh")).unwrap();
    fs::copy(sshd.client_key(), home.path().join(".ssh/mine")).unwrap();
    let config = block("web", &sshd, "").replace(&sshd.client_key().display().to_string(), "~/.ssh/mine");
    write_config(&home, &config);
    let mut command = stripped(&[("HOME", home.path().to_str().unwrap())]);
    let answer = call(&mut command, "ssh_connect", json!({"address": "web"})).await;
    assert_eq!(answer["auth_method"], "publickey", "{answer}");
}

#[tokio::test]
async fn without_home_it_comes_from_the_password_database() {
    let Some(sshd) = Sshd::start().await else { return };
    if !is_root() {
        return;
    }
    // The ordinary user, whose home is known to the password database alone: a throw-away one would not be.
    let user = &sshd.user().name;
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let record = text.lines().find(|line| line.starts_with(&format!("{user}:"))).unwrap();
    let fields: Vec<_> = record.split(':').collect();
    let (uid, gid, home): (u32, u32, _) = (fields[2].parse().unwrap(), fields[3].parse().unwrap(), fields[5]);
    let scratch = tempfile::tempdir().unwrap();
    let [program, file, key] = ["ssh-mcp-stdio", "config", "key"].map(|name| scratch.path().join(name));
    fs::copy(env!("CARGO_BIN_EXE_ssh-mcp-stdio"), &program).unwrap();
    fs::copy(sshd.client_key(), &key).unwrap();
    let block =
        block("web", &sshd, "  UserKnownHostsFile ~/none %d/none2").replace(&format!("  Port {}\n", sshd.port()), "");
    let block = block.replace(&sshd.client_key().display().to_string(), &key.display().to_string());
    let port = format!("Match exec \"test %d:%u:%i = {home}:{user}:{uid}\"\n  Port {}\n", sshd.port());
    fs::write(&file, port + &block).unwrap();
    for (path, mode) in [(scratch.path(), 0o777), (&program, 0o755), (&file, 0o644), (&key, 0o600)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    chown(&key, Some(uid), Some(gid)).unwrap();
    let mut command = Command::new("env");
    command.arg("-i").arg(format!("PATH={}", std::env::var("PATH").unwrap())).arg("SSH_CONFIG_EXEC=true");
    command.arg(format!("SSH_CONFIG_FILE={}", file.display()));
    command.arg(format!("SSH_KNOWN_HOSTS_FILE={}", scratch.path().join("known").display()));
    command.arg(&program).uid(uid).gid(gid).current_dir("/");
    let answer = call(&mut command, "ssh_connect", json!({"address": "web"})).await;
    let rows = answer["resolved"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let files = rows.iter().find(|row| row["keyword"] == "userknownhostsfile").unwrap();
    assert_eq!(files["value"], format!("{home}/none {home}/none2"), "{answer}");
}
