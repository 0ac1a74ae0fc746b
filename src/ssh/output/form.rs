//! How the bytes of a stream become the text of an answer.

use data_encoding::BASE64;

use super::{chars::incomplete_suffix, control};

/// How the bytes of a stream become the text of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Text with control sequences made harmless; invalid UTF-8 is replaced.
    #[default]
    Text,
    /// Text as it came; invalid UTF-8 is replaced.
    Raw,
    /// Base64 (RFC 4648, section 4) of exactly the bytes, without a word of ours.
    Base64,
}

impl Form {
    /// The text of `bytes`.
    pub(super) fn render(self, bytes: &[u8]) -> String {
        match self {
            Self::Text => control::neutralise(bytes),
            Self::Raw => String::from_utf8_lossy(bytes).into_owned(),
            Self::Base64 => BASE64.encode(bytes),
        }
    }

    /// Whether characters and lines mean nothing.
    pub(super) const fn is_exact(self) -> bool {
        matches!(self, Self::Base64)
    }

    /// How many bytes make a text of this size, if each byte stands for itself.
    pub(super) const fn source_bytes(self, text: u64) -> u64 {
        match self {
            Self::Text | Self::Raw => text,
            Self::Base64 => text / 4 * 3,
        }
    }

    /// How long the text of so many bytes is, if each byte stands for itself.
    pub(super) const fn text_bytes(self, source: u64) -> u64 {
        match self {
            Self::Text | Self::Raw => source,
            Self::Base64 => source.div_ceil(3).saturating_mul(4),
        }
    }

    /// How many bytes at the end are shown better together with what follows them.
    pub(super) fn incomplete(self, bytes: &[u8]) -> usize {
        match self {
            Self::Base64 => 0,
            Self::Raw => incomplete_suffix(bytes),
            Self::Text => {
                let partial = incomplete_suffix(bytes);
                partial + control::incomplete_sequence(&bytes[..bytes.len() - partial])
            }
        }
    }
}
