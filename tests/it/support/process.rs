//! Processes of this machine, always by id.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Sends a signal to each process; one that is gone is no error.
///
/// The shell's own `kill`: there need not be a program of that name.
pub(crate) fn kill(pids: &[u32], signal: &str) {
    for pid in pids {
        let script = r#"kill -s "$1" "$2""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", signal, &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("sh starts");
    }
}

/// Whether a process runs; one that has ended and waits for its parent does not.
pub(crate) fn alive(pid: u32) -> bool {
    let state = if Path::new("/proc/self/stat").exists() {
        stat(pid).map(|stat| stat.state)
    } else {
        let shown = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output();
        String::from_utf8_lossy(&shown.expect("ps starts").stdout).trim().chars().next()
    };
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// The processes below one, nearest first. Linux only; empty elsewhere.
pub(crate) fn descendants(ancestor: u32) -> Vec<u32> {
    let all: Vec<_> = pids().into_iter().filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        next += 1;
    }
    found.split_off(1)
}

/// The processes whose environment has this entry (`NAME=value`). Linux only; empty elsewhere.
pub(crate) fn with_environment(entry: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == entry.as_bytes())
    };
    pids().into_iter().filter(has).collect()
}

/// The argument lists of the processes one of whose arguments holds this text. Linux only; empty elsewhere.
pub(crate) fn with_argument(text: &str) -> Vec<Vec<String>> {
    let arguments = |pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split_terminator('\0').map(str::to_owned).collect::<Vec<_>>()
    };
    let holds = |arguments: &Vec<String>| arguments.iter().any(|one| one.contains(text));
    pids().into_iter().map(arguments).filter(holds).collect()
}

/// What a process calls itself. Linux only.
pub(crate) fn name(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

struct Stat {
    state: char,
    parent: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it, in parentheses, may hold anything.
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    Some(Stat { state: fields.next()?.chars().next()?, parent: fields.next()?.parse().ok()? })
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}
