//! A local program whose standard input and output are the stream.

use std::{ffi::OsString, fmt};

/// A program as `ProxyCommand` names it. Only a person's configuration may: no parameter of a call becomes one.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyCommand {
    /// The line, its tokens expanded. It runs without a shell where nothing in it means something to one; else as
    /// `exec LINE` in `/bin/sh`.
    pub line: String,
    /// The whole environment that it sees.
    pub environment: Vec<(OsString, OsString)>,
}

impl fmt::Debug for ProxyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // People write passwords into such lines.
        f.write_str("ProxyCommand")
    }
}
