//! Configurations that a seed makes, each asked for several hosts.

mod words;

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use ssh_mcp::ssh::ssh_config::Given;

use self::words::{COMMANDS, CRITERIA, EXECS, FAULTS, FORWARDS, HOPS, HOSTS, LISTS, PATHS, PATTERNS};
use super::oracle;
use crate::support::random::Random;

struct Generator {
    random: Random,
    /// Whether values that `ssh` refuses are made too.
    faulty: bool,
}

impl Generator {
    fn file(&mut self, blocks: usize, includes: &[&str]) -> String {
        let mut text = String::new();
        for block in 0..=blocks {
            if block > 0 || self.random.one_in(4) {
                let head = self.head();
                text += &head;
                self.end(&mut text);
            }
            for _ in 0..self.random.below(7) {
                if self.random.one_in(14) && !includes.is_empty() {
                    let _ = writeln!(text, "  Include {}", self.random.pick(includes));
                    continue;
                }
                let (keyword, value) = self.setting();
                self.line(&mut text, keyword, &value);
            }
        }
        text
    }

    fn head(&mut self) -> String {
        let mut words = Vec::new();
        if self.random.below(5) < 3 {
            for _ in 0..=self.random.below(3) {
                words.push(self.random.pick(&PATTERNS).to_owned());
            }
            return format!("Host {}", words.join(" "));
        }
        for _ in 0..=self.random.below(2) {
            let name = self.random.pick(&CRITERIA);
            let not = if self.random.one_in(5) { "!" } else { "" };
            match name {
                "all" | "final" | "canonical" => words.push(format!("{not}{name}")),
                "exec" => words.push(format!("{not}exec {}", self.random.pick(&EXECS))),
                _ => words.push(format!("{not}{name} {}", self.random.pick(&LISTS))),
            }
        }
        // `all` stands last, or alone.
        if let Some(at) = words.iter().position(|word| word.ends_with("all")) {
            words.truncate(at + 1);
        }
        format!("Match {}", words.join(" "))
    }

    fn line(&mut self, text: &mut String, keyword: &str, value: &str) {
        let keyword = match self.random.below(6) {
            0 => keyword.to_lowercase(),
            1 => keyword.to_uppercase(),
            _ => keyword.to_owned(),
        };
        let between = self.random.pick(&[" ", " ", " ", "=", " = ", "\t", "  ", " =", "= "]);
        let indent = self.random.pick(&["  ", "", "\t", "    "]);
        let _ = write!(text, "{indent}{keyword}{between}{value}");
        // ProxyCommand takes a comment as part of itself.
        if self.random.one_in(12) && !keyword.eq_ignore_ascii_case("ProxyCommand") {
            text.push_str(" # a comment");
        }
        self.end(text);
    }

    fn end(&mut self, text: &mut String) {
        text.push_str(self.random.pick(&["\n", "\n", "\n", "\n", "\n\n", " \n", "\r\n", "\n# a line\n"]));
    }

    fn setting(&mut self) -> (&'static str, String) {
        if self.faulty && self.random.one_in(25) {
            return self.fault();
        }
        match self.random.below(7) {
            0 => self.target(),
            1 => self.keys(),
            2 => self.proxy(),
            3 => self.flag(),
            4 => self.number(),
            5 => self.trust(),
            _ => self.other(),
        }
    }

    fn words(&mut self, keyword: &'static str, words: &[&str]) -> (&'static str, String) {
        (keyword, self.random.pick(words).to_owned())
    }

    fn target(&mut self) -> (&'static str, String) {
        match self.random.below(4) {
            0 => self
                .words("HostName", &["real.%h", "%h.internal", "10.0.0.7", "Real.Example.NET", "%%x", "::1", "10.2"]),
            1 => self.words("Port", &["22", "2222", "\"2200\"", "65535"]),
            2 => self.words("User", &["me", "deploy", "\"some one\"", "root", "DOM\\\\user"]),
            _ => self.words("HostKeyAlias", &["alias", "Other-Alias", "x.example.com"]),
        }
    }

    fn keys(&mut self) -> (&'static str, String) {
        match self.random.below(5) {
            0 | 1 => self.words("IdentityFile", &PATHS),
            2 => self.words("CertificateFile", &PATHS),
            3 => self.words("IdentityFile", &PATHS[..3]),
            _ => self.words(
                "IdentityAgent",
                &[
                    "none",
                    "SSH_AUTH_SOCK",
                    "$AGENT_SOCK",
                    "${AGENT_SOCK}",
                    "~/agent.sock",
                    "/run/%u/%h.sock",
                    "\"~/a b\"",
                ],
            ),
        }
    }

    fn proxy(&mut self) -> (&'static str, String) {
        if self.random.one_in(2) { self.words("ProxyJump", &HOPS) } else { self.words("ProxyCommand", &COMMANDS) }
    }

    fn flag(&mut self) -> (&'static str, String) {
        // ExitOnForwardFailure is not among them: ssh then stops for an agent socket that is not there.
        const FLAGS: [&str; 13] = [
            "IdentitiesOnly",
            "HashKnownHosts",
            "CheckHostIP",
            "PasswordAuthentication",
            "KbdInteractiveAuthentication",
            "ChallengeResponseAuthentication",
            "TCPKeepAlive",
            "KeepAlive",
            "BatchMode",
            "ClearAllForwardings",
            "CanonicalizeFallbackLocal",
            "ForwardX11",
            "GSSAPIAuthentication",
        ];
        let keyword = self.random.pick(&FLAGS);
        self.words(keyword, &["yes", "no", "true", "False", "YES"])
    }

    fn number(&mut self) -> (&'static str, String) {
        const TIMES: [&str; 8] = ["5", "1m30s", "2h", "none", "0", "1w", "10S", "1D2"];
        match self.random.below(7) {
            0 => self.words("ConnectTimeout", &TIMES),
            1 => self.words("ServerAliveInterval", &TIMES),
            2 => self.words("ServerAliveCountMax", &["0", "3", "100"]),
            3 => self.words("ConnectionAttempts", &["1", "2", "10"]),
            4 => self.words("NumberOfPasswordPrompts", &["1", "0", "5"]),
            5 => self.words("CanonicalizeMaxDots", &["0", "1", "2"]),
            _ => self.words(
                "RekeyLimit",
                &["1G", "512M 1h", "default none", "default 30m", "1.5k", "16", "0", "100K none", "4096 2d"],
            ),
        }
    }

    fn trust(&mut self) -> (&'static str, String) {
        const SOME: [&str; 5] = ["+", "-", "^", "", ""];
        let sign = self.random.pick(&SOME);
        let list = |words: &str| format!("{sign}{words}");
        match self.random.below(10) {
            0 => self.words("StrictHostKeyChecking", &["yes", "no", "ask", "accept-new", "off", "Accept-New", "true"]),
            1 => self.words(
                "UserKnownHostsFile",
                &[
                    "~/.ssh/known_hosts",
                    "/dev/null",
                    "~/kh \"/other file\"",
                    "none",
                    "~/.ssh/kh/%h-%k",
                    "${LC_TEST_DIR}/kh",
                ],
            ),
            2 => self.words("GlobalKnownHostsFile", &["none", "/etc/kh", "/a /b /c", "~/not/expanded/%h"]),
            3 => self.words("PreferredAuthentications", &["publickey", "publickey,password", "keyboard-interactive"]),
            4 => self.words("PubkeyAuthentication", &["yes", "no", "unbound", "host-bound", "true"]),
            5 => ("Ciphers", list(self.random.pick(&["aes128-ctr", "aes256-ctr,aes128-cbc", "3des-cbc"]))),
            6 => ("MACs", list(self.random.pick(&["hmac-sha2-256", "hmac-md5,hmac-sha1", "umac-64@openssh.com"]))),
            7 => (
                "KexAlgorithms",
                list(self.random.pick(&["diffie-hellman-group1-sha1", "curve25519-sha256,ecdh-sha2-nistp256"])),
            ),
            8 => (
                "HostKeyAlgorithms",
                list(self.random.pick(&["ssh-rsa", "ssh-ed25519,ssh-rsa", "ecdsa-*", "*-cert-*"])),
            ),
            _ => ("PubkeyAcceptedKeyTypes", list(self.random.pick(&["ssh-rsa", "ssh-*", "rsa-sha2-512", "ssh-dss"]))),
        }
    }

    fn other(&mut self) -> (&'static str, String) {
        match self.random.below(14) {
            0 => self.words("Compression", &["yes", "no", "YES"]),
            1 => self.words("BindAddress", &["127.0.0.1", "::1", "eth0.local"]),
            2 => self.words("AddressFamily", &["any", "inet", "inet6", "INET"]),
            3 => self.words("SendEnv", &["LANG LC_*", "A B C", "-LC_*", "LANG", "-*", "FOO_?"]),
            4 => self.words("SetEnv", &["A=1 B=2", "\"A=with space\"", "C=x=y", "A=1 A=2", "EMPTY="]),
            5 => self.words("RequestTTY", &["yes", "no", "force", "auto", "Force"]),
            6 => self.words("ForwardAgent", &["yes", "no", "$AGENT_SOCK", "~/agent/%h.sock", "${AGENT_SOCK}", "true"]),
            7 | 8 => self.words("LocalForward", &FORWARDS),
            9 => self.words("CanonicalizeHostname", &["no", "no", "yes", "false", "always"]),
            // No name is ever looked up: see `CanonicalDomains none`.
            10 => ("CanonicalDomains", "none".into()),
            11 => self.words("AddKeysToAgent", &["yes", "no", "confirm", "confirm 5m", "1h", "ask"]),
            12 => self.words("ControlPath", &["none", "~/.ssh/cm-%C", "/tmp/%r@%h:%p"]),
            _ => self.words("IgnoreUnknown", &["Foo,Bar*", "UseKeychainX", "*"]),
        }
    }

    fn fault(&mut self) -> (&'static str, String) {
        let (keyword, value) = self.random.pick(&FAULTS);
        (keyword, value.to_owned())
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Makes the configuration of a seed and compares it for four hosts; says what differs, and counts the hosts for which
/// the configuration holds.
fn compare(seed: u64, accepted: &AtomicUsize) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut generator = Generator { random: Random::new(seed), faulty: seed.is_multiple_of(3) };
    fs::create_dir(at("conf.d")).unwrap();
    for name in ["conf.d/10-a.conf", "conf.d/20-b.conf", "conf.d/.hidden.conf", "conf.d/other"] {
        let blocks = generator.random.below(3);
        write(&at(name), &generator.file(blocks, &[]));
    }
    let base = folder.path().display();
    let includes = [
        format!("{base}/conf.d/*.conf"),
        format!("{base}/conf.d/other"),
        format!("\"{base}/conf.d/[12]*\" {base}/nothing"),
        format!("{base}/middle"),
    ];
    let includes: Vec<_> = includes.iter().map(String::as_str).collect();
    write(&at("middle"), &generator.file(2, &includes[..3]));
    let blocks = 2 + generator.random.below(6);
    let text = generator.file(blocks, &includes);
    write(&at("config"), &text);
    let mut found = Vec::new();
    for _ in 0..4 {
        let random = &mut generator.random;
        let host = random.pick(&HOSTS);
        let given = Given {
            user: random.one_in(5).then(|| "given".into()),
            port: random.one_in(5).then_some(2022),
            jump: random.one_in(9).then(|| "one,two@three:44".into()),
        };
        let ours = oracle::resolve_file(&at("config"), host, &given);
        let theirs = oracle::ask_file(&at("config"), host, &given);
        accepted.fetch_add(usize::from(theirs.is_ok()), Ordering::Relaxed);
        let differences = oracle::differences(&ours, theirs);
        found.extend(differences.iter().map(|line| format!("seed {seed}, host {host}, {given:?}: {line}")));
    }
    if !found.is_empty() {
        found.push(format!("--- the file of seed {seed}\n{text}"));
    }
    found
}

/// Compares the seeds on two threads; fails with everything that differs.
#[expect(clippy::print_stderr, reason = "how many were accepted")]
fn compare_all(seeds: std::ops::Range<u64>) {
    let accepted = AtomicUsize::new(0);
    let compare_some = |offset: u64| {
        let own = seeds.clone().filter(move |seed| seed % 2 == offset);
        own.flat_map(|seed| compare(seed, &accepted)).collect()
    };
    let compare_some = &compare_some;
    let found: Vec<String> = thread::scope(|scope| {
        let halves = [0, 1].map(|offset| scope.spawn(move || -> Vec<String> { compare_some(offset) }));
        halves.into_iter().flat_map(|half| half.join().expect("a comparison")).collect()
    });
    // A comparison of refusals proves little.
    let (accepted, asked) = (accepted.into_inner(), 4 * (seeds.end - seeds.start) as usize);
    eprintln!("{accepted} of {asked} are accepted");
    assert!(accepted * 2 > asked, "{accepted} of {asked} are accepted");
    assert!(found.is_empty(), "{} lines\n{}", found.len(), found.join("\n"));
}

#[test]
fn sixty_generated_configurations_mean_what_they_mean_to_ssh() {
    compare_all(1..61);
}

/// `SSH_MCP_GENERATED=500 cargo test --test it ssh_config::generated`; `SSH_MCP_SEED` moves the first one.
#[test]
#[expect(clippy::print_stderr, reason = "the seeds bring a failure back")]
fn as_many_generated_configurations_as_wanted_mean_what_they_mean_to_ssh() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let Some(count) = number("SSH_MCP_GENERATED") else { return };
    let first = number("SSH_MCP_SEED").unwrap_or(1000);
    eprintln!("seeds {first} to {}", first + count - 1);
    compare_all(first..first + count);
}
