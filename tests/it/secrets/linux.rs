//! What Linux lets others see of a process.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{mcp_client::ServerProcess, openssh::is_root, wait::eventually};

#[tokio::test]
async fn core_dumps_are_off_in_both_programs() {
    for mut process in [ServerProcess::stdio(&[]), ServerProcess::http(&[("MCP_PORT", "0")])] {
        let pid = process.pid();
        eventually("core dumps are off", async || {
            assert!(process.ended().is_none(), "{}", process.stderr());
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
            core.split_whitespace().skip(4).take(2).all(|limit| limit == "0")
        })
        .await;
    }
}

/// `/proc/PID` of a process that cannot be dumped belongs to root, and so does all that could be read there.
#[test]
fn process_of_an_ordinary_user_cannot_be_read_by_that_user() {
    if !is_root() {
        // Only root can start it as another user.
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssh-mcp-stdio"));
    command.env_clear().uid(65_534).gid(65_534).current_dir("/").stdin(Stdio::piped());
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let environment = format!("/proc/{}/environ", process.id());
    let begun = Instant::now();
    let mut closed = false;
    while !closed && begun.elapsed() < Duration::from_secs(20) && process.try_wait().unwrap().is_none() {
        closed = fs::metadata(&environment).is_ok_and(|metadata| metadata.uid() == 0);
        std::thread::sleep(Duration::from_millis(10));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(closed);
}
