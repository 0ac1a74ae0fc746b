//! What the demo needs of an MCP client: one JSON object per line on the server's stdin and stdout,
//! each call and answer shown, each answer compared with what it has to be.

use std::{
    error::Error,
    fs::File,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Longer than any call of this demo takes on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// How much of a call or an answer is shown.
const SHOWN_CHARS: usize = 300;

/// A client, and the server that it started.
pub(crate) struct Client {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
    requests: u64,
    /// What was shown, and when it began.
    pub(crate) titles: Vec<(&'static str, Instant)>,
}

impl Client {
    /// Starts the server with nothing in its environment but PATH and an empty home.
    pub(crate) fn start(binary: &Path, home: &Path) -> Result<Self> {
        let mut command = Command::new(binary);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(home.join("log"))?);
        let mut process = command.kill_on_drop(true).spawn()?;
        let stdout = process.stdout.take().ok_or("no stdout")?;
        let stdin = process.stdin.take();
        Ok(Self { process, stdin, stdout: BufReader::new(stdout).lines(), requests: 0, titles: Vec::new() })
    }

    pub(crate) fn title(&mut self, title: &'static str) {
        self.titles.push((title, Instant::now()));
        println!("\n== {title}");
    }

    pub(crate) async fn send(&mut self, message: &Value) -> Result<()> {
        let stdin = self.stdin.as_mut().ok_or("stdin is closed")?;
        stdin.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(stdin.flush().await?)
    }

    /// Sends a request and gives its result.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Result<Value> {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await?;
        loop {
            let line = tokio::time::timeout(BOUND, self.stdout.next_line()).await??;
            let mut reply: Value = serde_json::from_str(&line.ok_or("the server has ended")?)?;
            if reply["id"] == id {
                let what = params["name"].as_str().unwrap_or(method);
                ensure(reply.get("error").is_none(), format!("{what}: {}", reply["error"]))?;
                return Ok(reply["result"].take());
            }
        }
    }

    /// Calls a tool, shows call and answer, and gives the structured content.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Result<Value> {
        println!("  -> {tool} {}", shorten(&arguments.to_string()));
        let began = Instant::now();
        let mut result = self.request("tools/call", json!({"name": tool, "arguments": arguments})).await?;
        let answer = result["structuredContent"].take();
        show(&answer, began.elapsed());
        ensure(result["isError"] != true, format!("{tool}: {answer}"))?;
        Ok(answer)
    }

    /// Asks for the output of a command until it is there, as an agent does with a long one.
    pub(crate) async fn poll(&mut self, command: &str, wanted: &str) -> Result<Value> {
        let deadline = Instant::now() + BOUND;
        loop {
            let seen = self.call("ssh_get_command_output", json!({"command_id": command})).await?;
            if text(&seen, "stdout")?.starts_with(wanted) {
                return Ok(seen);
            }
            ensure(Instant::now() < deadline, format!("no {wanted:?} in the output of a command"))?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Closes the server's stdin, as a client does at its end; the server then ends by itself.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        self.stdin = None;
        let status = tokio::time::timeout(BOUND, self.process.wait()).await??;
        ensure(status.success(), format!("the server ended with {status}"))
    }
}

/// Fails unless it holds.
pub(crate) fn ensure(holds: bool, otherwise: impl Into<Box<dyn Error>>) -> Result<()> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// Fails unless the answer has this value there.
pub(crate) fn expect(answer: &Value, pointer: &str, wanted: impl Into<Value>) -> Result<()> {
    let (found, wanted) = (answer.pointer(pointer).unwrap_or(&Value::Null), wanted.into());
    ensure(*found == wanted, format!("{pointer} is {found} and not {wanted}"))
}

/// A field that is a text.
pub(crate) fn text(answer: &Value, field: &str) -> Result<String> {
    Ok(answer[field].as_str().ok_or_else(|| format!("no {field} in the answer"))?.to_owned())
}

/// Prints an answer: its small fields on one line, what the command wrote line by line.
fn show(answer: &Value, took: Duration) {
    let Some(fields) = answer.as_object() else {
        return;
    };
    let output = |name: &str| name == "stdout" || name == "stderr";
    let small = fields.iter().filter(|(name, _)| !output(name)).map(|(name, value)| format!("{name}: {value}"));
    println!("  <- {} ({took:.1?})", shorten(&small.collect::<Vec<_>>().join(", ")));
    for (name, value) in fields.iter().filter(|(name, _)| output(name)) {
        for line in value.as_str().unwrap_or_default().lines() {
            println!("     {name} | {}", shorten(line));
        }
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}
