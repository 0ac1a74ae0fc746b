//! Any bytes as a known_hosts file and a host.

use russh::keys::{PublicKey, PublicKeyBase64};
use ssh_mcp::ssh::client::host_key::{Marker, lines_of, record_line};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

/// The first two bytes are the port, what follows up to a NUL is the host, the rest is the file.
///
/// # Panics
///
/// Where the reader finds what does not stand there, or a recorded key does not come back alone.
pub(crate) fn check(data: &[u8]) {
    let (port, rest) = data.split_at(data.len().min(2));
    let port = port.iter().fold(0_u16, |port, byte| port << 8 | u16::from(*byte));
    let (host, text) = rest.split_at(rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len()));
    let host = String::from_utf8_lossy(host);
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();

    let found = lines_of(text, &host, port);
    assert!(found.lines.len() + found.malformed.len() <= lines.len(), "more lines than there are");
    for line in &found.lines {
        let bytes = lines[line.number - 1];
        let holds = |what: &str| bytes.windows(what.len()).any(|window| window == what.as_bytes());
        assert!(holds(&line.key.public_key_base64()), "a key that the line does not hold");
        match line.marker {
            Marker::None => {}
            Marker::Revoked => assert!(holds("@revoked"), "a marker that is not there"),
            Marker::CertAuthority => assert!(holds("@cert-authority"), "a marker that is not there"),
        }
        assert!(!found.malformed.contains(&line.number), "both malformed and trusted");
    }
    recorded(&host, port, text);
}

/// Whatever stands before it, a recorded line adds the key of this host and nothing else.
fn recorded(host: &str, port: u16, before: &[u8]) {
    let key = PublicKey::from_openssh(KEY).expect("a key");
    let Some(line) = record_line(host, port, &key) else { return };
    assert!(!line.contains(['\n', '\r', '\0']), "more than a line");
    let alone = lines_of(line.as_bytes(), host, port);
    assert_eq!((alone.lines.len(), alone.malformed.len()), (1, 0), "{line}");
    assert!(alone.lines[0].marker == Marker::None && alone.lines[0].key.key_data() == key.key_data(), "{line}");
    for (other, at) in [("bank.example", port), (host, port.wrapping_add(1))] {
        if !other.eq_ignore_ascii_case(host) || at != port {
            assert!(lines_of(line.as_bytes(), other, at).lines.is_empty(), "{line} is for {other}:{at} too");
        }
    }
    let after = [before, b"\n", line.as_bytes()].concat();
    let (was, is) = (lines_of(before, host, port).lines.len(), lines_of(&after, host, port).lines.len());
    assert_eq!(is, was + 1, "{line}");
}
