//! What this process keeps to itself, and the end of what it starts.

/// No core dumps, and on Linux no debugger and no `/proc/PID/{mem,environ}` for other processes of the same user.
///
/// To be called first in `main`: secrets stand in the environment from the start. Where the system refuses, the process
/// runs all the same; the result says what was refused.
///
/// # Errors
///
/// The first thing that could not be done.
#[cfg(unix)]
pub fn keep_private() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};

    #[cfg(any(target_os = "linux", target_os = "android"))]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    // The hard limit too: nothing that is started from here has a reason to raise it.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Elsewhere there is nothing to turn off.
///
/// # Errors
///
/// None.
#[cfg(not(unix))]
pub fn keep_private() -> std::io::Result<()> {
    Ok(())
}

/// Kills a process that leads a group of its own, with all that it has started and that has not left the group. Only while
/// the leader is not reaped: afterwards its number may be that of another group.
#[cfg(unix)]
pub(crate) fn kill_group(leader: u32) {
    if let Some(group) = rustix::process::Pid::from_raw(leader.cast_signed()) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

/// Elsewhere there are no groups.
#[cfg(not(unix))]
pub(crate) fn kill_group(_leader: u32) {}
