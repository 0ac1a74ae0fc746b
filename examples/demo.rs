//! The first minute: `cargo run --release --example demo`.
//!
//! Builds `ssh-mcp-stdio`, starts a throw-away SSH host on loopback that one random key opens, and
//! drives the real binary over MCP as an agent's client would. It fails if any answer is not as the
//! documentation says.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "showing is what a demo is for")]

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/it/support/embedded_host.rs"]
mod embedded_host;

// Beside this file it would be taken for another example.
#[path = "demo/client.rs"]
mod client;

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Instant,
};

use client::{BOUND, Client, Result, ensure, expect, text};
use embedded_host::EmbeddedHost;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
};

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    let binary = build().await?;
    let home = tempfile::tempdir()?;
    let host = EmbeddedHost::start().await?;
    println!("A throw-away SSH host listens on 127.0.0.1:{}; one random key opens it.", host.port());
    let mut client = Client::start(&binary, home.path())?;
    let shown = tour(&mut client, &host, home.path()).await;
    if shown.is_err() {
        eprintln!("\nThe server's log:\n{}", std::fs::read_to_string(home.path().join("log"))?);
    }
    shown?;
    client.finish().await?;
    summarize(&client.titles, &binary);
    Ok(())
}

/// Builds the server in the profile of this example, so that it is never a stale one.
///
/// The example is named too: alone, the server would not share its dependencies' features, and
/// everything would be compiled a second time.
async fn build() -> Result<PathBuf> {
    let example = std::env::current_exe()?;
    let profile_dir = example.parent().and_then(Path::parent).ok_or("an unknown build directory")?;
    let target_dir = profile_dir.parent().ok_or("an unknown build directory")?;
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => return Err("an unknown profile".into()),
    };
    println!("Building ssh-mcp-stdio ...");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--profile", profile, "--bin", "ssh-mcp-stdio", "--example", "demo"]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--target-dir"]);
    // What `cargo run` told this process about its package is no news for another cargo: build scripts
    // that watch it would run again, and what depends on them would be compiled again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&*name);
        }
    }
    let built = cargo.arg(target_dir).stdin(Stdio::null()).status().await?;
    ensure(built.success(), "cargo could not build ssh-mcp-stdio")?;
    Ok(profile_dir.join("ssh-mcp-stdio").with_extension(std::env::consts::EXE_EXTENSION))
}

async fn tour(client: &mut Client, host: &EmbeddedHost, home: &Path) -> Result<()> {
    handshake(client).await?;
    let session = connect(client, host, home).await?;
    foreground(client, &session).await?;
    background(client, &session).await?;
    cancel(client, &session).await?;
    let forwarded = forward(client, &session).await?;

    client.title("What is open");
    let list = client.call("ssh_list_sessions", json!({})).await?;
    expect(&list, "/count", 1)?;
    expect(&list, "/sessions/0/session_id", session.as_str())?;
    expect(&list, "/sessions/0/forwards/0/local_address", forwarded.as_str())?;

    client.title("Disconnect: what belongs to the session ends with it");
    let ended = client.call("ssh_disconnect", json!({"session_id": session})).await?;
    expect(&ended, "/forwards_closed", 1)?;
    ensure(TcpStream::connect(&forwarded).await.is_err(), "the forward outlived its session")?;
    let list = client.call("ssh_list_sessions", json!({})).await?;
    expect(&list, "/count", 0)
}

async fn handshake(client: &mut Client) -> Result<()> {
    client.title("The handshake, and the tools that an agent sees");
    let client_info = json!({"name": "demo", "version": env!("CARGO_PKG_VERSION")});
    let parameters = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client_info});
    let server = client.request("initialize", parameters).await?;
    expect(&server, "/serverInfo/name", "ssh-mcp")?;
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
    let list = client.request("tools/list", json!({})).await?;
    let tools = list["tools"].as_array().ok_or("no list of tools")?;
    let names: Vec<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    println!("  <- {}", names.join(", "));
    ensure(names.len() == 10, format!("{} tools and not 10", names.len()))
}

async fn connect(client: &mut Client, host: &EmbeddedHost, home: &Path) -> Result<String> {
    client.title("Connect with a key; the host key is recorded, a changed one would be refused");
    let key = home.join(".ssh/key");
    std::fs::create_dir_all(home.join(".ssh"))?;
    host.write_client_key(&key)?;
    let address = format!("demo@127.0.0.1:{}", host.port());
    let session = client.call("ssh_connect", json!({"address": address, "key_path": key, "name": "demo"})).await?;
    expect(&session, "/authenticated", true)?;
    expect(&session, "/host_key/fingerprint", host.fingerprint())?;
    text(&session, "session_id")
}

async fn foreground(client: &mut Client, session: &str) -> Result<()> {
    client.title("Run a command and wait for it: both streams apart, the exact exit code");
    let command = "echo hello from $(uname -s); echo and a warning >&2; exit 3";
    let ran = client.call("ssh_execute", json!({"session_id": session, "command": command})).await?;
    expect(&ran, "/status", "completed")?;
    expect(&ran, "/exit_code", 3)?;
    expect(&ran, "/stderr", "and a warning\n")?;
    ensure(text(&ran, "stdout")?.starts_with("hello from"), "the output is another one")
}

async fn background(client: &mut Client, session: &str) -> Result<()> {
    client.title("Two commands at the same time in the background, and their output while they run");
    let steps = |name: &str| format!("for n in 1 2 3; do echo {name} step $n; sleep 1; done");
    let mut commands = Vec::new();
    for name in ["build", "test"] {
        let arguments = json!({"session_id": session, "command": steps(name)});
        let started = client.call("ssh_execute_async", arguments).await?;
        commands.push((name, text(&started, "command_id")?));
    }
    let running = client.call("ssh_list_commands", json!({"session_id": session, "status": "running"})).await?;
    expect(&running, "/count", 2)?;
    for (name, id) in &commands {
        let seen = client.poll(id, &format!("{name} step 1\n")).await?;
        expect(&seen, "/status", "running")?;
    }
    for (name, id) in &commands {
        let ended = client.call("ssh_get_command_output", json!({"command_id": id, "wait": true})).await?;
        expect(&ended, "/status", "completed")?;
        expect(&ended, "/exit_code", 0)?;
        expect(&ended, "/stdout", format!("{name} step 1\n{name} step 2\n{name} step 3\n"))?;
    }
    Ok(())
}

async fn cancel(client: &mut Client, session: &str) -> Result<()> {
    client.title("Cancel a command; what it wrote is kept");
    let arguments = json!({"session_id": session, "command": "echo half done; sleep 600"});
    let started = client.call("ssh_execute_async", arguments).await?;
    let id = text(&started, "command_id")?;
    client.poll(&id, "half done\n").await?;
    let cancelled = client.call("ssh_cancel_command", json!({"command_id": id})).await?;
    expect(&cancelled, "/cancelled", true)?;
    expect(&cancelled, "/status", "cancelled")?;
    expect(&cancelled, "/stdout", "half done\n")
}

async fn forward(client: &mut Client, session: &str) -> Result<String> {
    client.title("Forward a port, and fetch a page of the remote side through it");
    let page = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let remote_port = page.local_addr()?.port();
    tokio::spawn(serve_one_page(page));
    let arguments = json!({
        "session_id": session, "local_port": 0, "remote_address": "localhost", "remote_port": remote_port,
    });
    let forward = client.call("ssh_forward", arguments).await?;
    expect(&forward, "/active", true)?;
    let local = text(&forward, "local_address")?;

    println!("  -> GET http://{local}/");
    let mut reply = String::new();
    let mut socket = TcpStream::connect(&local).await?;
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    tokio::time::timeout(BOUND, socket.read_to_string(&mut reply)).await??;
    let body = reply.split("\r\n\r\n").nth(1).unwrap_or_default();
    println!("  <- {}", body.trim());
    ensure(body == "hello through the tunnel\n", "the page is another one")?;
    Ok(local)
}

async fn serve_one_page(listener: TcpListener) -> std::io::Result<()> {
    let (mut socket, _) = listener.accept().await?;
    let mut request = [0; 1024];
    let _ = socket.read(&mut request).await?;
    socket.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello through the tunnel\n").await
}

fn summarize(titles: &[(&str, Instant)], binary: &Path) {
    println!("\n== Everything answered as documented");
    let ends = titles.iter().skip(1).map(|(_, began)| *began).chain([Instant::now()]);
    for ((title, began), end) in titles.iter().zip(ends) {
        println!("  {:>7.1?} s  {title}", (end - *began).as_secs_f64());
    }
    let binary = binary.display().to_string();
    let configuration = json!({"mcpServers": {"ssh": {"command": binary, "args": []}}});
    println!("\nTo use it with Claude Code:\n\n  claude mcp add ssh -- {binary}\n");
    println!("or in .mcp.json, with any client that reads one:\n\n{configuration:#}");
}
