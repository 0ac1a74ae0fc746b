//! Whatever the bytes are: the checks that `fuzz/` runs under libFuzzer, here on inputs made of the words of each format.
//!
//! A target is a module with `pub fn check(data: &[u8])`, which panics where something does not hold, and a row below.
//! `SSH_MCP_FUZZ_SECS=600 cargo test --test it fuzz -- --nocapture` runs each for ten minutes and prints how often.

use std::time::{Duration, Instant};

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::Strategy,
    test_runner::{Config, TestError, TestRunner},
};

#[expect(unreachable_pub, reason = "fuzz/ has it at the top")]
mod address;
#[expect(unreachable_pub, reason = "fuzz/ has it at the top")]
mod control;
#[expect(unreachable_pub, reason = "fuzz/ has it at the top")]
mod envelope;
pub(crate) mod known_hosts;
#[expect(unreachable_pub, reason = "fuzz/ has it at the top")]
mod output_buffer;
#[expect(unreachable_pub, reason = "fuzz/ has it at the top")]
mod redactor;
#[expect(unreachable_pub, reason = "fuzz/ has it at the top")]
mod runtime;
pub(crate) mod ssh_config;

use runtime::block_on;

/// How long a target runs in the ordinary suite.
const TIME: Duration = Duration::from_secs(1);

/// A row for each target: its name, how often it runs at least, and words of its format.
macro_rules! targets {
    ($($target:ident, $runs:literal: $words:expr;)*) => {
        $(
            #[test]
            fn $target() {
                run(stringify!($target), $runs, &$words, $target::check);
            }
        )*
    };
}

mod targets {
    use super::*;

    targets! {
        address, 4000: ["h:0", "u@h:0", "h", "root", "@", ":", "22", "0", "65535", "65536", "[", "]", "::1", "fe80::1%eth0", "ssh://", "SSH://", "/",
            "-", "-oProxyCommand=id", "h.example", "\n", "\0", "\0root", " ", "ssh-ed25519 AAA", "\u{202e}", "\u{3164}",
            "bаnk", "127.0.0.1", "$(id)", ";", ",", "*", "#", "\\", "_", ".", "%", "127.1", "H"];
        control, 4000: ["\u{1b}", "[", "]", "\\", "P", "X", "_", "^", "31", ";", "m", "0;t", "\u{7}", "\r", "\n", "\t", "x", "é",
            "\u{9b}", "\u{202e}", "\u{200b}", "\u{fe0f}", "\u{e0041}", "(", "B", "?25l", " q", "8;;http://x", "\u{8}"];
        output_buffer, 80: ["\0", "\u{1}", "\u{2}", "\u{3}", "\u{0}\u{7f}\u{7f}\u{0}", "\u{0}\u{7f}\u{7f}\u{1}",
            "\u{0}\u{7f}\u{7f}\u{2}", "\u{8}\u{1}\u{2}\u{0}", "\u{9}ab\u{7f}", "\u{e}a\u{3}\u{4}", "\u{c}\u{0}\u{1}\u{0}",
            "\u{d}\u{0}\u{1}\u{0}", "\u{3}\0\u{7f}\0", "\u{4}\0\u{7f}\u{1}", "\u{8}\0\u{40}\u{7f}", "\u{9}\0\u{7f}\u{60}", "\u{7}\0\0\u{1}", "\u{7}\0\0\0"];
        envelope, 400: ["{", "}", "[", "]", ":", ",", "\"jsonrpc\":\"2.0\"", "\"id\":", "1", "\"a\"", "null", "1.5", "1e400",
            "-1", "\"method\":\"ping\"", "\"method\":\"tools/list\"", "\"method\":\"tools/call\"", "\"params\":{}", "\n",
            "\"params\":{\"name\":\"x\",\"arguments\":{\"a\":1}}", "\"method\":\"notifications/initialized\"", "\u{feff}",
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n", "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"no\"}\n",
            "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"tools/call\",\"params\":3}\n", "\"result\":{}", "\"error\":{}",
            "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":1}}\n", "\"",
            "{\"jsonrpc\":\"2.0\",\"id\":4,\"result\":{}}\n", "\\u0069d", "\\ud800", "\0", "\"id\":9007199254740993"];
        known_hosts, 1000: ["\0\u{16}h\0", "h", "\0", "\n", "\r\n", " ", "\t", "#", "@revoked ", "@cert-authority ", "*", "?", "!h", ",", "[h]:22",
            "[h]:2222", "|1|", "=", "ssh-ed25519 ", "ssh-rsa ", "AAAAC3NzaC1lZDI1NTE5AAAAI", "\"", "h,g ", "* ", "H"];
        redactor, 1000: ["\u{1}", "\u{4}", "\u{8}", "\0", "secret", "aaaa", "ab", "a", "\n", "\\", "\"", "%", "c2VjcmV0", "736563726574",
            "\\u0073", "[redacted]", "é", "\u{7f}"];
    }
}

/// Words of the format, and now and then anything.
fn inputs(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let word = select(words).prop_map(|word| word.as_bytes().to_vec());
    let part = prop_oneof![12 => word, 1 => vec(any::<u8>(), 0..6)];
    // Few words make something that is nearly right, many fill buffers.
    let parts = prop_oneof![2 => vec(part.clone(), 0..5), 1 => vec(part, 0..40)];
    parts.prop_map(|parts| parts.concat())
}

#[expect(clippy::print_stdout, reason = "who fuzzes for long wants to know how often")]
fn run(name: &str, least: u32, words: &'static [&'static str], check: fn(&[u8])) {
    let asked = std::env::var("SSH_MCP_FUZZ_SECS").ok();
    let time = asked.map_or(TIME, |secs| Duration::from_secs(secs.parse().expect("seconds")));
    let (started, mut runs) = (Instant::now(), 0);
    loop {
        // Another seed each time: what is found once is written down as a test of its own.
        let config = Config { cases: least, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
        let outcome = TestRunner::new(config).run(&inputs(words), |data| {
            check(&data);
            Ok(())
        });
        if let Err(TestError::Fail(why, data)) = outcome {
            panic!("{name}: {why}\nwith {:?}", String::from_utf8_lossy(&data));
        }
        runs += least;
        if started.elapsed() >= time {
            break;
        }
    }
    println!("{name}: {runs} executions in {:.1} s", started.elapsed().as_secs_f64());
}
