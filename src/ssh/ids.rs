//! Ids: random UUID v4 newtypes, and the owner that things belong to.

use std::{fmt, sync::Arc};

use uuid::Uuid;

macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = concat!("The id of a ", $what, ": 122 random bits.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id.
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// Reads an id as callers send it: any case, white space around it.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let text = text.trim();
                // Only the hyphenated form; `Uuid` would also take braces and URNs.
                (text.len() == 36).then(|| text.parse().ok().map(Self)).flatten()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(SessionId, "session");
id!(CommandId, "command");
id!(ForwardId, "forward");

/// The principal that sessions, commands and forwards belong to: verified by the
/// transport, never claimed by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    /// An owner by name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
