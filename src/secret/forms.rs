//! The ways in which a secret may come to be written.

use std::fmt::Write;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};
use secrecy::zeroize::Zeroizing;

/// Shorter secrets are not masked: their bytes stand everywhere, and the mask itself would tell them.
pub(super) const MIN_MASKED_BYTES: usize = 4;
/// Longer ones, such as a whole file, are masked as they are and as a string literal only.
const MAX_ENCODED_BYTES: usize = 512;

/// A secret as it stands, escaped, and encoded; in order, each form once.
pub(super) fn of(secret: &str) -> Vec<Zeroizing<Vec<u8>>> {
    if secret.len() < MIN_MASKED_BYTES {
        return Vec::new();
    }
    let json = Zeroizing::new(json(secret));
    let mut forms = vec![secret.to_owned(), shown(secret), debug(secret), shown(&json), debug(&json)];
    forms.push(json.as_str().to_owned());
    if secret.len() <= MAX_ENCODED_BYTES {
        forms.extend([BASE64, BASE64URL].iter().map(|encoding| encoding.encode(secret.as_bytes())));
        forms.extend([BASE64_NOPAD, BASE64URL_NOPAD].iter().flat_map(|encoding| inside_base64(encoding, secret)));
        forms.extend([HEXLOWER, HEXUPPER].iter().map(|encoding| encoding.encode(secret.as_bytes())));
        forms.extend(percent(secret));
    }
    forms.retain(|form| form.len() >= MIN_MASKED_BYTES);
    let mut forms = forms.into_iter().map(|form| Zeroizing::new(form.into_bytes())).collect();
    each_once(&mut forms);
    forms
}

/// Puts forms in order and lets go of those that are there twice.
pub(super) fn each_once(forms: &mut Vec<Zeroizing<Vec<u8>>>) {
    forms.sort_unstable_by(|one, other| one.as_slice().cmp(other.as_slice()));
    forms.dedup();
}

/// As tracing-subscriber 0.3 writes a message: what a terminal would obey is escaped.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 6);
    for c in text.chars() {
        let _ = match c {
            '\u{7}' | '\u{8}' | '\u{c}' | '\u{1b}' | '\u{7f}' => write!(out, "\\x{:02x}", u32::from(c)),
            '\u{80}'..='\u{9f}' => write!(out, "\\u{{{:x}}}", u32::from(c)),
            c => out.write_char(c),
        };
    }
    out
}

/// As `{:?}` writes it, without the quotes.
fn debug(text: &str) -> String {
    let quoted = Zeroizing::new(format!("{text:?}"));
    quoted[1..quoted.len() - 1].to_owned()
}

/// As JSON writes it (RFC 8259, section 7), without the quotes.
fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// The characters that the secret alone decides when it stands inside something encoded (`user:password`), for each of
/// the three places where it can begin.
fn inside_base64(encoding: &Encoding, secret: &str) -> impl Iterator<Item = String> {
    (0..3).map(move |before| {
        let bytes = Zeroizing::new([&vec![0; before], secret.as_bytes()].concat());
        let whole = encoding.encode(&bytes);
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        whole[from..to].to_owned()
    })
}

/// As in a URL, with upper-case and with lower-case digits.
fn percent(text: &str) -> [String; 2] {
    let mut forms = [String::new(), String::new()];
    for byte in text.bytes() {
        let [upper, lower] = &mut forms;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            upper.push(byte.into());
            lower.push(byte.into());
        } else {
            let _ = write!(upper, "%{byte:02X}");
            let _ = write!(lower, "%{byte:02x}");
        }
    }
    forms
}
