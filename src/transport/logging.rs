//! Where log lines go, and what never gets into them.
//!
//! stdio logs to stderr: stdout belongs to the protocol. HTTP logs warnings and errors to stderr and the rest to stdout,
//! so that a service keeps them in two files.

use std::{io, panic::PanicHookInfo};

use tracing::{Level, error};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, ParseError, Targets},
    fmt::{self, MakeWriter, writer::MakeWriterExt},
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

/// Characters of a panic's message that are logged.
const PANIC_MESSAGE: usize = 300;

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logs {
    /// All to stderr.
    Stderr,
    /// Up to info to stdout, warnings and errors to stderr.
    Split,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not in the syntax of `RUST_LOG`.
    #[error("log filter {0:?}: {1}")]
    Filter(String, ParseError),
    /// Something logs already.
    #[error(transparent)]
    Taken(#[from] TryInitError),
}

/// Sets up logging and the panic hook of this process. `filter` has the syntax of `RUST_LOG`.
///
/// # Errors
///
/// A filter that does not parse, or a process that logs already.
pub fn init(filter: &str, logs: Logs) -> Result<(), Error> {
    match logs {
        Logs::Stderr => install(filter, io::stderr)?,
        Logs::Split => install(filter, io::stderr.with_max_level(Level::WARN).or_else(io::stdout))?,
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn install<W>(filter: &str, writer: W) -> Result<(), Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let wanted = EnvFilter::try_new(filter).map_err(|error| Error::Filter(filter.to_owned(), error))?;
    let lines = fmt::layer().with_ansi(false).with_writer(writer).with_filter(wanted.and(payload_free()));
    tracing_subscriber::registry().with(lines).try_init()?;
    Ok(())
}

/// What may be logged at all, whatever the filter asks for.
///
/// Below these levels other crates print payloads, passwords included: rmcp 3.9.0 prints requests at debug, every event
/// at trace and notifications already at info; h2 prints header frames at debug. `rmcp::service` also prints an error for
/// each answer whose client is gone and each tool that returns after its cancellation: both are every-day events. russh
/// logs through the `log` crate, which nothing here collects.
fn payload_free() -> Targets {
    Targets::new()
        .with_default(Level::INFO)
        .with_target("ssh_mcp", Level::TRACE)
        .with_target("poem", Level::WARN)
        .with_target("rmcp", Level::WARN)
        .with_target("rmcp::service", tracing::level_filters::LevelFilter::OFF)
}

/// A panic ends one request, not the process: it is an event like any other, and must not go to stdout.
fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let message: String = message.chars().take(PANIC_MESSAGE).collect();
    let at = info.location().map(ToString::to_string).unwrap_or_default();
    error!(at, "panic: {message}");
}
