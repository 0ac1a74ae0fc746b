//! known_hosts against OpenSSH's own reading: which lines match, and what follows from them.
//!
//! A sample by default; `SSH_MCP_EXHAUSTIVE=1` takes them all.

mod verdicts;

use std::{collections::BTreeSet, fmt::Write, fs, path::Path, process::Command};

use data_encoding::BASE64;
use ring::hmac;
use ssh_mcp::ssh::client::host_key::lines_of;

use crate::support::openssh::{KeyFormat, KeyType, public_key, ssh_keygen};

pub(crate) fn exhaustive() -> bool {
    std::env::var("SSH_MCP_EXHAUSTIVE").is_ok_and(|value| value == "1")
}

/// xorshift64 (Marsaglia, 2003).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % limit as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const HOSTS: [&str; 6] = ["h", "host.example", "www.host.example", "10.0.0.1", "fe80::1", "a-b_c.d"];
const PORTS: [u16; 3] = [22, 2222, 65_535];

fn name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// A file, and the lines that are whole: nothing in them may be found malformed.
struct Generated {
    text: Vec<u8>,
    whole: BTreeSet<usize>,
}

fn generate(random: &mut Random, keys: &[String]) -> Generated {
    let (mut text, mut whole) = (Vec::new(), BTreeSet::new());
    for number in 1..=1 + random.below(8) {
        let (mut line, is_whole) = line(random, keys);
        if random.one_in(20) && !line.is_empty() {
            let at = random.below(line.len());
            let byte = *b" \t,!*?|@#[]\r=\xff".get(random.below(14)).unwrap();
            if random.one_in(2) { line[at] = byte } else { line.insert(at, byte) }
        } else if is_whole {
            whole.insert(number);
        }
        text.extend(line);
        text.push(b'\n');
    }
    Generated { text, whole }
}

fn line(random: &mut Random, keys: &[String]) -> (Vec<u8>, bool) {
    if random.one_in(15) {
        return (random.pick(&["", "# h ssh-ed25519 AAAA", "   ", "h", "@revoked", "\t#", "@revoked h"]).into(), false);
    }
    let mut line = String::from(random.pick(&["", "", "", " ", "\t"]));
    let marker = random.pick(&["", "", "", "", "", "@revoked", "@cert-authority", "@unknown", "@revoked @revoked"]);
    if !marker.is_empty() {
        line += marker;
        line += random.pick(&[" ", " ", " ", "  ", "\t", " \t"]);
    }
    let (hosts, readable) = hosts(random);
    line += &hosts;
    line += random.pick(&[" ", " ", "\t", "  ", " \t "]);
    let key = &keys[random.below(keys.len())];
    let bad = random.one_in(10);
    match random.below(4) {
        _ if !bad => line += key,
        0 => line += key.split(' ').next().unwrap(),
        1 => line += &key[..key.len() - 5],
        2 => line += &key.replacen("ssh-", "ssx-", 1).replacen("ecdsa-", "ecdsx-", 1),
        _ => line += "2048 65537 1234567890",
    }
    line += random.pick(&["", "", " comment", " # x", "\tx y z", "\r", " "]);
    let whole = !bad && readable && !marker.contains("@unknown") && !marker.contains(' ') && !line.contains("y\t");
    (line.into_bytes(), whole)
}

fn hosts(random: &mut Random) -> (String, bool) {
    let any = |random: &mut Random| {
        let host = HOSTS[random.below(HOSTS.len())];
        name(host, PORTS[random.below(PORTS.len())])
    };
    if random.one_in(5) {
        let broken = random.one_in(6);
        let salt = vec![u8::try_from(random.below(256)).unwrap(); if broken { 19 } else { 20 }];
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        let hash = hmac::sign(&key, any(random).as_bytes());
        return (format!("|1|{}|{}", BASE64.encode(&salt), BASE64.encode(hash.as_ref())), !broken);
    }
    let mut list = String::new();
    for index in 0..1 + random.below(3) {
        if index > 0 {
            list.push(',');
        }
        let mut pattern = any(random);
        for _ in 0..random.below(3) {
            let (from, length) = (random.below(pattern.len()), 1 + random.below(3));
            let to = (from + length).min(pattern.len());
            pattern.replace_range(from..to, random.pick(&["*", "?", "**", "*?", "??", "", "x"]));
            if pattern.is_empty() {
                pattern.push('*');
            }
        }
        match random.below(12) {
            0 => pattern.make_ascii_uppercase(),
            1 | 2 => pattern.insert(0, '!'),
            3 => pattern = "*".into(),
            4 => pattern.clear(),
            5 if random.one_in(8) => pattern = "*".repeat(1_020 + random.below(6)),
            _ => {}
        }
        list += &pattern;
    }
    // What begins so is no list of patterns.
    let odd = list.is_empty() || list.starts_with(['#', '@', '|']);
    if odd { ("*".into(), true) } else { (list, true) }
}

fn lines_for_openssh(file: &Path, name: &str) -> BTreeSet<usize> {
    let output = Command::new("ssh-keygen").args(["-F", name, "-f"]).arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |line: &str| line.split_once(" found: line ")?.1.split_whitespace().next()?.parse().ok();
    text.lines().filter(|line| line.starts_with("# Host ")).filter_map(number).collect()
}

/// What was compared, and how it differed.
#[derive(Debug, Default)]
struct Tally {
    queries: usize,
    matching: usize,
    /// `ssh-keygen -F` does not read the key, ssh does and skips the line, as here.
    unreadable_key: usize,
    /// A tab after `@revoked` with a space later on: OpenSSH finds no marker. Here it counts.
    revoked_with_tab: usize,
    wrong: Vec<String>,
}

fn compare(seed: u64, keys: &[String], file: &Path, tally: &mut Tally) {
    let random = &mut Random::new(seed);
    let generated = generate(random, keys);
    fs::write(file, &generated.text).unwrap();
    let lines: Vec<_> = generated.text.split(|byte| *byte == b'\n').map(String::from_utf8_lossy).collect();
    for _ in 0..2 {
        let (host, port) = (HOSTS[random.below(HOSTS.len())], PORTS[random.below(PORTS.len())]);
        let theirs = lines_for_openssh(file, &name(host, port));
        let found = lines_of(&generated.text, host, port);
        let ours: BTreeSet<_> = found.lines.iter().map(|line| line.number).collect();
        tally.queries += 1;
        tally.matching += theirs.len();
        let mut wrong = |what: &str, number: usize| {
            let report = format!("seed {seed}, {host}:{port}, line {number}, {what}: {:?}", lines[number - 1]);
            tally.wrong.push(report);
        };
        for number in theirs.difference(&ours) {
            let malformed = found.malformed.contains(number);
            if malformed && !generated.whole.contains(number) {
                tally.unreadable_key += 1;
            } else {
                wrong("OpenSSH only", *number);
            }
        }
        for number in ours.difference(&theirs) {
            let line = lines[number - 1].trim_start();
            if line.starts_with("@revoked\t") && line.contains(' ') {
                tally.revoked_with_tab += 1;
            } else {
                wrong("ours only", *number);
            }
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "seed and counts are the evidence")]
fn lines_match_as_ssh_keygen_says() {
    const THREADS: u64 = 4;
    let files = if exhaustive() { 10_000 } else { 300 };
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let given = std::env::var("SSH_MCP_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(since.as_secs()) << 20;
    let directory = &tempfile::tempdir().unwrap();
    let kinds = [KeyType::Ed25519, KeyType::Ecdsa, KeyType::Rsa];
    let key = |kind| {
        let line = public_key(&ssh_keygen(directory.path(), &format!("{kind:?}"), kind, KeyFormat::OpenSsh));
        line.rsplit_once(' ').unwrap().0.to_owned()
    };
    let keys = &kinds.map(key);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let work = |thread: u64| {
            let mut tally = Tally::default();
            let file = directory.path().join(format!("known_hosts_{thread}"));
            (0..files).filter(|n| n % THREADS == thread).for_each(|n| compare(seed + n, keys, &file, &mut tally));
            tally
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = |count: fn(&Tally) -> usize| tallies.iter().map(count).sum::<usize>();
    let mut report = format!("seed {}, {files} files, {} queries, ", seed >> 20, sum(|t| t.queries));
    let (matching, unreadable) = (sum(|t| t.matching), sum(|t| t.unreadable_key));
    let tab = sum(|t| t.revoked_with_tab);
    write!(report, "{matching} matching lines, {unreadable} of them unreadable keys; {tab} @revoked<tab>").unwrap();
    println!("{report}");
    let wrong: Vec<_> = tallies.into_iter().flat_map(|tally| tally.wrong).collect();
    assert!(wrong.is_empty(), "{report}\n{}", wrong.join("\n"));
    assert!(matching > usize::try_from(files).unwrap() / 2, "hardly anything matches: {report}");
}

#[test]
fn invariants_hold_for_a_handful_of_inputs() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let texts = [
        String::new(),
        format!("h {key}\n@revoked * {key}\n@cert-authority\th\t{key}\ngarbage\n|1|a|b {key}\n"),
        format!("h {key}"),
        format!("*,!h {key}\r\n{key}\n\0\n"),
        format!("{}h {key}\n", "*?".repeat(5_000)),
    ];
    for text in &texts {
        for host in ["h", "H", "", "*", "!h", "h\nbank", "a,b", "fe80::1%eth0", "\u{212a}", &"h".repeat(1_021)] {
            for port in [[0, 22], [0, 0], [255, 255]] {
                crate::fuzz::known_hosts::check(&[&port[..], host.as_bytes(), b"\0", text.as_bytes()].concat());
            }
        }
    }
    let mut random = Random::new(7);
    for length in (0..400).chain([0, 1, 2]) {
        let bytes: Vec<u8> = (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        crate::fuzz::known_hosts::check(&bytes);
    }
}
