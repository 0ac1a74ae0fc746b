//! Properties that hold for any bytes: each module's `check` is what a fuzzer calls.

pub(crate) mod ssh_config;
