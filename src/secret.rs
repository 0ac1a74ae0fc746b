//! Secrets: what they are, where they come from, and how they are kept out of logs and dumps.
//!
//! - [`Secret`]: a password, a passphrase or a token. It has no `Debug`, `Display` or `Serialize`, and is wiped when the
//!   last holder lets go of it.
//! - [`named`]: secrets that the human configured and that callers know by name only.
//! - [`live`]: the secrets that are held just now, for the log to mask; [`redact`] is the pure part of that.
//! - [`process`]: keeps the memory of this process out of core dumps and debuggers.

pub(crate) mod file;
mod forms;
mod hosts;
pub mod live;
pub mod named;
pub mod process;
pub mod redact;
mod source;

use std::sync::{Arc, OnceLock};

use secrecy::{ExposeSecret, SecretString};

use self::live::Watch;

/// The longest secret that is taken, in bytes.
pub const MAX_SECRET_BYTES: usize = 64 << 10;

/// A text that must not be shown. Cloning shares it; the last one wipes it.
///
/// It cannot be printed, not even by mistake:
///
/// ```compile_fail
/// println!("{:?}", ssh_mcp::secret::Secret::from("hunter2"));
/// ```
///
/// ```compile_fail
/// println!("{}", ssh_mcp::secret::Secret::from("hunter2"));
/// ```
///
/// ```compile_fail
/// serde_json::to_string(&ssh_mcp::secret::Secret::from("hunter2"));
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Held>);

struct Held {
    text: SecretString,
    /// Told when the secret goes, so that its patterns are wiped too.
    watch: OnceLock<Watch>,
}

impl Secret {
    /// The text itself. Every use of this is a place to look at.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.text.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Arc::new(Held { text: text.into(), watch: OnceLock::new() }))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.get() {
            watch.end();
        }
    }
}
