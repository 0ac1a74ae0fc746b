//! Signals that end a server.

/// What SIGHUP does: the terminal that a server was started from has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// Nothing. The client closes stdin when it goes, and only that says that it is gone: one that was started with
    /// `nohup` stays.
    Passes,
    /// It stops the server, unless whoever started it has it ignored, as `nohup` does.
    Stops,
}

#[cfg(unix)]
pub(super) use self::unix::Signals;

#[cfg(unix)]
mod unix {
    use std::{fs, io};

    use tokio::signal::unix::{Signal, SignalKind, signal};

    use super::Hangup;

    /// Signals that this process handles for as long as it runs.
    pub(in crate::transport) struct Signals {
        interrupt: Signal,
        terminate: Signal,
        /// Where it stops the server.
        hangup: Option<Signal>,
    }

    impl Signals {
        pub(in crate::transport) fn install(on_hangup: Hangup) -> io::Result<Self> {
            let hangup = match on_hangup {
                Hangup::Passes => {
                    // Once it is handled, it is so to the end of the process: nobody has to listen.
                    drop(signal(SignalKind::hangup())?);
                    None
                }
                // A handler takes the place of what `nohup` has set. Where that cannot be known the system decides.
                Hangup::Stops if ignores_hangup() == Some(false) => Some(signal(SignalKind::hangup())?),
                Hangup::Stops => None,
            };
            let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            Ok(Self { interrupt, terminate, hangup })
        }

        /// Waits for one that stops the server, and names it.
        pub(in crate::transport) async fn next(&mut self) -> &'static str {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
                _ = hangup => "SIGHUP",
            }
        }
    }

    /// Whether this process was started with SIGHUP ignored; Linux alone tells. See `SigIgn` in proc_pid_status(5).
    fn ignores_hangup() -> Option<bool> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        ignored(&status, SignalKind::hangup())
    }

    fn ignored(status: &str, kind: SignalKind) -> Option<bool> {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        Some(mask >> (kind.as_raw_value() - 1) & 1 == 1)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_mask_of_ignored_signals_is_read() {
            let status = |mask: &str| format!("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\nSigCgt:\t0\n");
            let ignored = |mask: &str| ignored(&status(mask), SignalKind::hangup());
            assert_eq!(ignored("0000000000000001"), Some(true));
            assert_eq!(ignored("ffffffffffffffff"), Some(true));
            // SIGPIPE alone, as every program in Rust has it.
            assert_eq!(ignored("0000000000001000"), Some(false));
            assert_eq!(ignored("none"), None);
            assert_eq!(super::ignored("Name:\tx\n", SignalKind::hangup()), None);
        }
    }
}

/// Ctrl-C alone.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn install(_on_hangup: Hangup) -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}
