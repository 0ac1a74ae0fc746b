//! `~/.ssh/config` means here what it means to `ssh`: `ssh -G` is asked the same and must say the same.

mod behaviour;
mod faults;
mod generated;
mod oracle;
mod real;
