//! Control sequences: nothing that acts on a terminal or hides from a reader comes through.

use ssh_mcp::ssh::output::{Form, OutputBuffer, Source, SpillStore, View, acts_or_hides, neutralise};

/// Within so many bytes every sequence that has begun is held back whole.
const HELD_BYTES: usize = 256;

/// The first byte says where the rest is cut in two.
pub fn check(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let text = neutralise(bytes);
    assert_harmless(&text, bytes);
    assert_eq!(neutralise(text.as_bytes()), text, "what is harmless stays as it is");
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')) {
        assert_eq!(text.as_bytes(), bytes);
    }
    if bytes.len() <= HELD_BYTES {
        let (first, second) = bytes.split_at(usize::from(*cut) % (bytes.len() + 1));
        assert_eq!(read_twice(first, second), text, "{first:?} then {second:?}");
    }
}

fn assert_harmless(text: &str, bytes: &[u8]) {
    assert!(!text.contains(acts), "{bytes:?}: {text:?}");
    assert!(!text.contains(|c| acts_or_hides(c) && !acts_by_layout(c)), "{bytes:?}: {text:?}");
    // The longest escape of the shortest character: `\u{1b}`.
    assert!(text.len() <= 6 * bytes.len(), "{} of {}", text.len(), bytes.len());
}

/// What a terminal obeys, and what hides or turns round a text: named here once more, apart from the product's own list.
fn acts(c: char) -> bool {
    c.is_control() && !acts_by_layout(c)
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0001}'..='\u{e007f}')
}

const fn acts_by_layout(c: char) -> bool {
    matches!(c, '\n' | '\t')
}

/// What a poller puts together that reads while the command runs and again when it has ended.
fn read_twice(first: &[u8], second: &[u8]) -> String {
    super::block_on(async {
        let output = OutputBuffer::new(SpillStore::off());
        output.append(Source::Stdout, first);
        let from = |stdout| View::From { stdout: Some(stdout), stderr: None };
        let one = output.view(from(0), Form::Text, 1 << 16, false).await.stdout.shown.expect("asked for");
        output.append(Source::Stdout, second);
        let rest = output.view(from(one.next_offset), Form::Text, 1 << 16, true).await.stdout.shown.expect("asked for");
        assert_eq!(rest.next_offset, (first.len() + second.len()) as u64);
        one.text + &rest.text
    })
}
