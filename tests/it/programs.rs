//! The two programs as processes: streams, signals, exit status.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::wire::{Ask, SOON, TestResult, call, initialize, line_with};

const CANARY: &str = "canary-5b1f9d20a7c3e864";

fn start(program: &str, args: &[&str]) -> Result<Child, std::io::Error> {
    Command::new(program)
        .args(args)
        .env("RUST_LOG", "trace")
        .env_remove("MCP_PORT")
        .env("MCP_TOKEN", CANARY)
        .env("XDG_CONFIG_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

fn stdio() -> Result<Child, std::io::Error> {
    start(env!("CARGO_BIN_EXE_ssh-mcp-stdio"), &[])
}

async fn terminate(program: &Child) -> TestResult {
    let id = program.id().ok_or("it has ended")?.to_string();
    let kill = Command::new("kill").args(["-TERM", &id]).status().await?;
    assert!(kill.success());
    Ok(())
}

#[tokio::test]
async fn the_program_writes_json_only_and_ends_with_its_input() -> TestResult {
    let mut program = stdio()?;
    let mut stdin = program.stdin.take().ok_or("no stdin")?;
    stdin.write_all(format!("{}\n", initialize(1)).as_bytes()).await?;
    let mut stdout = BufReader::new(program.stdout.take().ok_or("no stdout")?);
    // It runs: what is measured below is its end, not its start.
    line_with(&mut stdout, "{").await?;
    stdin.write_all(format!("not json\n{}\n", call(2, "no_such_tool", json!({"password": CANARY}))).as_bytes()).await?;
    stdin
        .write_all(format!("{}\n", json!({"jsonrpc": "2.0", "method": "x/y", "params": {"a": CANARY}})).as_bytes())
        .await?;
    drop(stdin);
    let begin = Instant::now();
    let output = timeout(SOON, program.wait_with_output()).await??;
    assert!(output.status.success() && begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await?;
    let messages: Result<Vec<Value>, _> = rest.lines().map(serde_json::from_str).collect();
    assert_eq!(messages?.len(), 2, "{rest}");
    let stderr = String::from_utf8(output.stderr)?;
    assert!(stderr.contains("stdin ended") && !stderr.contains(CANARY), "{stderr}");
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn the_program_ends_on_sigterm_though_its_input_is_open() -> TestResult {
    let mut program = stdio()?;
    let mut stdin = program.stdin.take().ok_or("no stdin")?;
    stdin.write_all(format!("{}\n", initialize(1)).as_bytes()).await?;
    let mut stdout = BufReader::new(program.stdout.take().ok_or("no stdout")?);
    line_with(&mut stdout, "{").await?;
    let begin = Instant::now();
    terminate(&program).await?;
    let status = timeout(SOON, program.wait()).await??;
    assert!(status.success() && begin.elapsed() < Duration::from_secs(1), "{status} {:?}", begin.elapsed());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await?;
    assert!(rest.is_empty());
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn the_http_program_splits_its_log_and_tells_no_secret() -> TestResult {
    let mut program = start(env!("CARGO_BIN_EXE_ssh-mcp"), &["--port", "0"])?;
    let mut stdout = BufReader::new(program.stdout.take().ok_or("no stdout")?);
    let mut line = String::new();
    while !line.contains("address=") {
        line = line_with(&mut stdout, "").await?;
    }
    let address =
        line.split_once("address=").and_then(|(_, rest)| rest.split(' ').next()).ok_or("no address")?.parse()?;
    let with_token = |ask: Ask| ask.header("Authorization", &format!("Bearer {CANARY}"));
    let secret = call(1, "no_such_tool", json!({"password": CANARY}));
    assert_eq!(with_token(Ask::post("/mcp", &secret)).send(address).await?.status, 200);
    assert_eq!(with_token(Ask::post("/mcp", &initialize(2))).send(address).await?.status, 200);
    assert_eq!(Ask::post("/mcp", &secret).send(address).await?.status, 401);
    let begin = Instant::now();
    terminate(&program).await?;
    let status = timeout(SOON, program.wait()).await??;
    assert!(status.success() && begin.elapsed() < Duration::from_secs(1), "{status} {:?}", begin.elapsed());
    let (mut out, mut err) = (line, String::new());
    stdout.read_to_string(&mut out).await?;
    program.stderr.take().ok_or("no stderr")?.read_to_string(&mut err).await?;
    assert!(out.contains("stopping") && !out.contains("WARN"), "{out}");
    assert!(err.contains("refused a request") && !err.contains("INFO"), "{err}");
    assert!(!out.contains(CANARY) && !err.contains(CANARY), "{out}{err}");
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_told_and_fails_the_start() -> TestResult {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let program = start(env!("CARGO_BIN_EXE_ssh-mcp"), &["--port", &port])?;
    let output = timeout(SOON, program.wait_with_output()).await??;
    let err = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && err.contains(&format!("port {port} is in use")), "{err}");
    Ok(())
}
