//! Addresses of resources.

use std::fmt;

use crate::ssh::{ids::CommandId, output::Source};

/// Where all of them begin.
const PREFIX: &str = "ssh-mcp://command/";

/// The address of one stream of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// The command.
    pub command_id: String,
    /// Which of its streams.
    pub source: Source,
    /// Where to read on from.
    pub offset: Option<u64>,
}

impl Uri {
    /// Reads an address; none where it is not one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, rest) = text.strip_prefix(PREFIX)?.split_once('/')?;
        let (stream, query) = rest.split_once('?').map_or((rest, None), |(stream, query)| (stream, Some(query)));
        let source = match stream {
            "stdout" => Source::Stdout,
            "stderr" => Source::Stderr,
            _ => return None,
        };
        let offset = match query {
            None | Some("") => None,
            Some(query) => Some(query.strip_prefix("offset=")?.parse().ok()?),
        };
        Some(Self { command_id: CommandId::parse(id)?.to_string(), source, offset })
    }

    /// The name of the stream.
    #[must_use]
    pub const fn stream(&self) -> &'static str {
        match self.source {
            Source::Stdout => "stdout",
            Source::Stderr => "stderr",
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.command_id, self.stream())?;
        self.offset.map_or(Ok(()), |offset| write!(f, "?offset={offset}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6b1f0a52-5d5c-4b8e-9d3a-0c9f5a7e4d21";

    #[test]
    fn an_address_is_read_back_as_it_is_written() {
        for address in [
            format!("{PREFIX}{ID}/stdout"),
            format!("{PREFIX}{ID}/stderr"),
            format!("{PREFIX}{ID}/stdout?offset=18446744073709551615"),
        ] {
            assert_eq!(Uri::parse(&address).map(|uri| uri.to_string()), Some(address));
        }
    }

    #[test]
    fn anything_else_is_no_address() {
        for address in [
            String::new(),
            format!("{PREFIX}{ID}"),
            format!("{PREFIX}{ID}/stdin"),
            format!("{PREFIX}{ID}/stdout/x"),
            format!("{PREFIX}{ID}/stdout?offset=-1"),
            format!("{PREFIX}{ID}/stdout?from=1"),
            format!("{PREFIX}x/stdout"),
            format!("file:///{ID}/stdout"),
        ] {
            assert_eq!(Uri::parse(&address), None, "{address}");
        }
    }
}
