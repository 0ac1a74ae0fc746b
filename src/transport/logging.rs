//! Where log lines go, and what never gets into them.
//!
//! stdio logs to stderr: stdout belongs to the protocol. HTTP logs warnings and errors to stderr and the rest to stdout,
//! so that a service keeps them in two files.

use std::{
    io::{self, Write},
    panic::PanicHookInfo,
    sync::Arc,
};

use tracing::{Level, error};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, ParseError, Targets},
    fmt::{self, MakeWriter, writer::MakeWriterExt},
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

use crate::secret::{live::LiveSecrets, redact::Redactor};

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

/// Sets up logging and the panic hook of this process. `filter` has the syntax of `RUST_LOG`; what
/// `secrets` knows is masked in every line.
///
/// # Errors
///
/// A filter that does not parse, or a process that logs already.
pub fn init(filter: &str, logs: Logs, secrets: &Arc<LiveSecrets>) -> Result<(), Error> {
    match logs {
        Logs::Stderr => install(filter, Masked::new(io::stderr, secrets))?,
        Logs::Split => {
            let writer = io::stderr.with_max_level(Level::WARN).or_else(io::stdout);
            install(filter, Masked::new(writer, secrets))?;
        }
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

/// Masks secrets on the way to a writer.
pub struct Masked<W> {
    to: W,
    secrets: Arc<LiveSecrets>,
}

impl<W> Masked<W> {
    /// Masks what `secrets` knows.
    #[must_use]
    pub fn new(to: W, secrets: &Arc<LiveSecrets>) -> Self {
        Self { to, secrets: secrets.clone() }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Masked<W> {
    type Writer = MaskedLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        MaskedLine::new(self.to.make_writer(), &self.secrets)
    }

    fn make_writer_for(&'a self, metadata: &tracing::Metadata<'_>) -> Self::Writer {
        MaskedLine::new(self.to.make_writer_for(metadata), &self.secrets)
    }
}

/// One event, in however many pieces it is written. It goes out whole, at the end.
pub struct MaskedLine<W: Write> {
    to: W,
    redactor: Option<Redactor>,
    line: Vec<u8>,
}

impl<W: Write> MaskedLine<W> {
    fn new(to: W, secrets: &LiveSecrets) -> Self {
        Self { to, redactor: Some(secrets.redactor()), line: Vec::new() }
    }
}

impl<W: Write> Write for MaskedLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(redactor) = &mut self.redactor {
            self.line.extend(redactor.push(bytes));
        }
        Ok(bytes.len())
    }

    /// Nothing: what is held back may be the beginning of a secret.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Drop for MaskedLine<W> {
    fn drop(&mut self) {
        if let Some(redactor) = self.redactor.take() {
            self.line.extend(redactor.finish());
        }
        // There is nobody left to tell that the log cannot be written.
        let _ = self.to.write_all(&self.line).and_then(|()| self.to.flush());
    }
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
