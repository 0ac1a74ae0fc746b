//! What a process holds, as Linux tells it.

use std::fs;

/// A look at one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Resident memory, in bytes.
    pub(crate) memory: u64,
    /// Open file descriptors.
    pub(crate) descriptors: usize,
    /// Threads.
    pub(crate) threads: usize,
}

impl Resources {
    /// Looks at a process.
    pub(crate) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of Linux");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let count = |of: &str| fs::read_dir(format!("/proc/{pid}/{of}")).expect("a process of Linux").count();
        Self { memory: kib.unwrap_or(0) * 1024, descriptors: count("fd"), threads: count("task") }
    }
}
