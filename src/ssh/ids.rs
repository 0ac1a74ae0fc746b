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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_random_and_never_the_same() {
        let ids: HashSet<SessionId> = (0..100_000).map(|_| SessionId::random()).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.0.get_version_num() == 4));
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        let id = SessionId::random();
        let text = id.to_string();
        for same in [text.clone(), text.to_uppercase(), format!(" {text}\n")] {
            assert_eq!(SessionId::parse(&same), Some(id), "{same:?}");
        }
        for other in ["", "0", "../x", &text[..35], &format!("{{{text}}}"), &text.replace('-', ""), &"é".repeat(18)] {
            assert_eq!(SessionId::parse(other), None, "{other:?}");
        }
    }
}
