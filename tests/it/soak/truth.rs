//! What really happened, as the host says: every command writes its own files there, and writes to them first.

use std::{collections::HashSet, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use tempfile::TempDir;

/// What a command does between its start and its end.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Lines on both streams, with a pause of so many milliseconds after each.
    Lines { count: usize, pause: usize },
    /// So many lines at once on stdout.
    Bulk { lines: usize },
    /// What it reads.
    Echo { text: String },
    /// A line each 0.2 s for twenty seconds: nobody stops one whose connection was lost.
    Long { stubborn: bool, below: bool },
}

/// A command to be.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// No other command has it.
    pub(crate) tag: String,
    pub(crate) body: Body,
    /// Its exit status.
    pub(crate) exit: u64,
}

/// How much a command has written to each of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    log: usize,
    pub(crate) stdout: usize,
    pub(crate) stderr: usize,
}

/// The directory of those files, which every user may write to.
pub(crate) struct Truth(TempDir);

impl Truth {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("permissions");
        Self(directory)
    }

    /// The command line. Its tag stands within the part that lists repeat.
    pub(crate) fn command(&self, script: &Script) -> String {
        let tag = &script.tag;
        let (set_up, body) = (format!("export SOAK={tag}; D={}", self.0.path().join(tag).display()), loop_of(script));
        format!("{set_up}; echo S >>$D.log; {body}; echo E >>$D.log; exit {}", script.exit)
    }

    /// How often it began, and how often it came to its end.
    pub(crate) fn runs(&self, tag: &str) -> (usize, usize) {
        let log = self.file(tag, "log");
        let count = |mark: &[u8]| log.split(|byte| *byte == b'\n').filter(|line| *line == mark).count();
        (count(b"S"), count(b"E"))
    }

    /// What it wrote to a stream.
    pub(crate) fn stream(&self, tag: &str, name: &str) -> Vec<u8> {
        self.file(tag, if name == "stdout" { "out" } else { "err" })
    }

    pub(crate) fn written(&self, tag: &str) -> Written {
        let length = |kind| fs::metadata(self.path(tag, kind)).map_or(0, |file| file.len() as usize);
        Written { log: length("log"), stdout: length("out"), stderr: length("err") }
    }

    /// The files of a command are not needed any more.
    pub(crate) fn forget(&self, tag: &str) {
        for kind in ["log", "out", "err"] {
            let _ = fs::remove_file(self.path(tag, kind));
        }
    }

    fn file(&self, tag: &str, kind: &str) -> Vec<u8> {
        fs::read(self.path(tag, kind)).unwrap_or_default()
    }

    fn path(&self, tag: &str, kind: &str) -> PathBuf {
        self.0.path().join(format!("{tag}.{kind}"))
    }
}

/// The processes of a command: those that carry its tag in their environment, or the shell that has it in its line.
pub(crate) fn processes(tag: &str) -> Vec<(u32, String)> {
    tagged().into_iter().filter(|(found, ..)| found == tag).map(|(_, pid, line)| (pid, line)).collect()
}

/// The tags of all commands that run.
pub(crate) fn running() -> HashSet<String> {
    tagged().into_iter().map(|(tag, ..)| tag).collect()
}

fn tagged() -> Vec<(String, u32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let read = |pid: u32, of: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{of}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', "\n")
    };
    pids.filter_map(|pid| {
        let line = read(pid, "cmdline");
        let in_line = || Some(line.split_once("export SOAK=")?.1.split_once(';')?.0.to_owned());
        let in_environment =
            || read(pid, "environ").lines().find_map(|one| one.strip_prefix("SOAK=").map(str::to_owned));
        let tag = in_line().or_else(in_environment)?;
        // A line of nothing: it has ended, and its parent has not looked yet.
        (!line.is_empty()).then(|| (tag, pid, line.chars().take(120).collect()))
    })
    .collect()
}

fn loop_of(script: &Script) -> String {
    let say = |stream: &str, kind: &str, to: &str| {
        format!("l=\"{} {kind} $i\"; echo \"$l\" >>$D.{stream}; echo \"$l\"{to}", script.tag)
    };
    let (out, err) = (say("out", "stdout", ""), say("err", "stderr", " >&2"));
    match &script.body {
        Body::Lines { count, pause } => {
            let pause = if *pause == 0 { String::new() } else { format!("; sleep 0.{pause:03}") };
            format!("i=0; while [ $i -lt {count} ]; do i=$((i+1)); {out}; {err}{pause}; done")
        }
        Body::Bulk { lines } => format!("seq -f '{} %012.0f' {lines} >$D.out; cat $D.out", script.tag),
        Body::Echo { .. } => "cat >$D.out; cat $D.out".to_owned(),
        Body::Long { stubborn, below } => {
            let trap = if *stubborn { "trap '' TERM; " } else { "" };
            let line = format!("i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo T >>$D.log; {out}; sleep 0.2; done");
            if *below { format!("{trap}({line}) & wait") } else { format!("{trap}{line}") }
        }
    }
}
