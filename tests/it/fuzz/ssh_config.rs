//! A configuration of any bytes: no panic, and time and memory in proportion to its length.

use std::{collections::BTreeMap, path::PathBuf, time::Duration, time::Instant};

use ssh_mcp::ssh::ssh_config::{Given, Local, MAX_FILE_BYTES, NoProbe, SshConfig};

use crate::support::random::Random;

/// What one input may take on a busy machine: a large one takes a second, a quadratic one would take hours.
const BOUND: Duration = Duration::from_secs(300);

/// A large input, in bytes.
const LARGE: usize = MAX_FILE_BYTES / 4;

fn local() -> Local {
    Local {
        home: PathBuf::from("/home/me"),
        user: "me".into(),
        uid: 1000,
        host_name: "here.example.com".into(),
        variables: BTreeMap::from([("A".into(), "a".into()), ("HOME".into(), "/home/me".into())]),
    }
}

/// Takes the first line as the host, the rest as the file.
pub(crate) fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (host, text) = text.split_once('\n').unwrap_or(("web1", &text));
    let begin = Instant::now();
    let config = SshConfig::from_text(text, local());
    assert_eq!(config.is_err(), text.len() > MAX_FILE_BYTES);
    let Ok(config) = config else { return };
    let aliases = config.aliases();
    assert!(aliases.iter().all(|alias| !alias.contains(['*', '?', ' ', '$', ';'])), "{aliases:?}");
    assert!(config.near(host).iter().all(|near| near != host && aliases.contains(near)));
    let given = Given::default();
    match config.resolve(host, &given, &NoProbe) {
        Ok(resolved) => {
            assert!(!resolved.host.value.is_empty() || text.contains('"') || text.contains('\''));
            assert!(resolved.port.value != 0);
            let again = config.resolve(host, &given, &NoProbe).expect("the same again");
            assert_eq!(resolved.entries(), again.entries());
        }
        Err(error) => assert!(!error.to_string().is_empty() && error.to_string().len() < 64 * 1024),
    }
    assert!(begin.elapsed() < BOUND, "{:?} for {} bytes", begin.elapsed(), data.len());
}

const PIECES: [&str; 60] = [
    "Host ",
    "Match ",
    "Include ",
    "\n",
    "\n",
    "\n",
    " ",
    "\t",
    "=",
    "\"",
    "'",
    "\\",
    "#",
    "*",
    "?",
    "!",
    ",",
    "%h",
    "%",
    "%C",
    "${A}",
    "${",
    "~",
    "none",
    "yes",
    "no",
    "web1",
    "a",
    "/",
    ":",
    "[",
    "]",
    "@",
    "HostName ",
    "Port ",
    "User ",
    "IdentityFile ",
    "ProxyJump ",
    "ProxyCommand ",
    "LocalForward ",
    "SendEnv ",
    "SetEnv ",
    "RekeyLimit ",
    "ConnectTimeout ",
    "1m30s",
    "22",
    "host ",
    "final ",
    "all",
    "exec ",
    "canonical",
    "Ciphers ",
    "+",
    "-",
    "^",
    "CanonicalizeHostname ",
    "CanonicalDomains ",
    "IgnoreUnknown ",
    "\0",
    "é",
];

/// An input made of what configurations are made of.
pub(crate) fn input(random: &mut Random) -> Vec<u8> {
    let mut data = b"web1\n".to_vec();
    for _ in 0..random.below(60) {
        match random.below(20) {
            0 => data.push(random.below(256) as u8),
            _ => data.extend_from_slice(random.pick(&PIECES).as_bytes()),
        }
    }
    data
}

#[test]
fn any_bytes_are_taken_or_refused_without_a_panic() {
    let mut random = Random::new(0x5eed);
    for _ in 0..3000 {
        check(&input(&mut random));
    }
}

/// Run it for as long as wanted: `SSH_MCP_FUZZ_SECS=600 cargo test --test it fuzz::ssh_config`.
#[test]
#[expect(clippy::print_stderr, reason = "the seed brings a failure back")]
fn any_bytes_for_as_long_as_wanted() {
    let Some(secs) = std::env::var("SSH_MCP_FUZZ_SECS").ok().and_then(|secs| secs.parse().ok()) else { return };
    let seed = u64::from(std::process::id());
    let (mut random, end, mut runs) = (Random::new(seed), Instant::now() + Duration::from_secs(secs), 0u64);
    while Instant::now() < end {
        let data = input(&mut random);
        let run = std::panic::catch_unwind(|| check(&data));
        assert!(run.is_ok(), "seed {seed}, run {runs}: {:?}", String::from_utf8_lossy(&data));
        runs += 1;
    }
    eprintln!("seed {seed}: {runs} runs");
}

#[test]
fn a_large_input_takes_no_longer_than_its_length_allows() {
    let line = |text: &str| text.repeat(LARGE / text.len());
    let long = |head: &str, unit: &str| format!("{head}{}", unit.repeat((LARGE - head.len()) / unit.len()));
    for text in [
        line("Host a*b*c*d*\n"),
        long("Host ", "a*"),
        long("Match host ", "*a,"),
        line("Host web1\n"),
        long("HostName ", "%h"),
        long("Include ", "[a-"),
        line("SendEnv A*\n"),
        long("SetEnv ", "A=b "),
        long("Host ", "\\\""),
        line("x\n"),
    ] {
        check(format!("{}\n{text}", "a".repeat(200)).as_bytes());
    }
}
