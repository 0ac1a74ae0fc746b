//! What a process holds, as Linux tells it.

use std::fs;

/// A look at one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Resident memory, in bytes.
    pub(crate) memory: u64,
    /// What of it is the process's own, in bytes: without pages of its program and of libraries, which come in as code
    /// is run for the first time and which the system takes back when it needs them.
    pub(crate) private: u64,
    /// Open file descriptors.
    pub(crate) descriptors: usize,
    /// Threads.
    pub(crate) threads: usize,
}

impl Resources {
    /// Looks at a process.
    pub(crate) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of Linux");
        let bytes = |name: &str| {
            let kib = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
            kib.unwrap_or(0_u64) * 1024
        };
        let count = |of: &str| fs::read_dir(format!("/proc/{pid}/{of}")).expect("a process of Linux").count();
        Self { memory: bytes("VmRSS:"), private: bytes("RssAnon:"), descriptors: count("fd"), threads: count("task") }
    }
}
