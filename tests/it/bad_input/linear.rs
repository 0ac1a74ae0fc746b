//! Work grows with the input and not with its square: a megabyte must not stop the server.
//! A square shows itself in a quarter of that.

use std::{hint::black_box, time::Duration};

use serde_json::{Map, json};
use ssh_mcp::{
    mcp::{commands, hints, mask::masked},
    ssh::{
        client::address::parse_target,
        output::{Form, OutputBuffer, Pattern, Source, SpillStore, View, Watcher, neutralise},
    },
    transport::message,
};

use crate::samples::completed;

const LARGE: usize = 1 << 18;
const SMALL: usize = LARGE / 8;
/// Eight times the work is expected, 64 times is a square. A busy machine adds what the kernel does for a thread.
const RATIO: u32 = 23;
/// Below this a measurement says nothing.
const FLOOR: Duration = Duration::from_micros(100);

/// Compares what [`SMALL`] and [`LARGE`] texts of `piece` take, the quickest of several times each.
#[track_caller]
fn linear(what: &str, piece: &str, mut work: impl FnMut(&str)) {
    let [small, large] = [SMALL, LARGE].map(|size| piece.repeat(size.div_ceil(piece.len())));
    let mut time = |text: &str| {
        let started = worked();
        work(text);
        (worked() - started).max(FLOOR)
    };
    let (mut quick, mut slow) = (Duration::MAX, Duration::MAX);
    for _ in 0..16 {
        quick = quick.min(time(&small));
        slow = slow.min(time(&large));
        // One good look is enough; a busy machine gets more.
        if slow < quick * RATIO {
            return;
        }
    }
    let piece: String = piece.chars().take(40).collect();
    panic!("{what} of {piece:?}: {quick:?} for an eighth of what took {slow:?}");
}

/// How long this thread has been at work: what others do on the machine does not count.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time since the thread began")
}

#[test]
fn addresses_are_read_in_linear_time() {
    for piece in ["h", ":", "@", "[", "]", "[::1]:", "::", "ssh://", "\u{202e}", " ", "a.b-", "%"] {
        linear("address", piece, |text| drop(black_box(parse_target(text, Some("u")))));
        linear("username", piece, |text| drop(black_box(parse_target("h", Some(text)))));
    }
}

#[test]
fn passwords_in_command_lines_are_looked_for_in_linear_time() {
    for piece in [
        "x",
        " ",
        "'",
        "\"",
        "\\",
        "$(",
        "(",
        ")",
        "{ ",
        "} ",
        "`",
        "|",
        "&",
        ";",
        "\n",
        "<<",
        "<<E\n",
        "<<E ",
        "<<<",
        "echo x|",
        "echo x | sudo -S id;",
        "P=p;echo $P|sudo -S id;",
        "bash -c 'echo x | sudo -S id' ",
        "\"\\\"",
        "bash -c \"",
        "(echo x;",
        "A=1 ",
        "env ",
        "sudo -u ",
        "sudo -S <<E\nx\nE\n",
        "mysql -px ",
        "--password=x ",
        "1>",
        "'a b' ",
        "\"'a b' c\" ",
        "é",
    ] {
        linear("masked", piece, |text| drop(black_box(masked(text))));
    }
}

#[test]
fn hints_are_found_in_linear_time() {
    for piece in ["cd /x;", "cd: ", "&&", "||", ";", "\n", " ", "export A=1\n", "permission denied", "sudo: a "] {
        linear("command", piece, |text| drop(black_box(hints::for_command(&completed(text, 0), ""))));
        linear("stderr", piece, |text| drop(black_box(hints::for_command(&completed("make", 2), text))));
    }
}

#[test]
fn control_sequences_are_taken_out_in_linear_time() {
    for piece in [
        "\u{1b}",
        "\u{1b}]",
        "\u{1b}[1;",
        "\u{1b}[31m",
        "\u{1b}]0;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
        "\u{202e}",
        "\r",
        "\u{1b}P\u{1b}",
        "\u{1b}    ",
        "x",
    ] {
        linear("neutralise", piece, |text| drop(black_box(neutralise(text.as_bytes()))));
    }
}

#[test]
fn output_is_shown_and_searched_in_linear_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let patterns = [
        Pattern::text(&format!("{}b", "a".repeat(999))).unwrap(),
        Pattern::regex("(a|aa)+b$").unwrap(),
        Pattern::regex("[a-z]*b").unwrap(),
    ];
    for piece in ["a", "a\n", "ab ", "\u{1b}]0;", "\r", "\u{202e}"] {
        linear("view", piece, |text| {
            let output = OutputBuffer::new(SpillStore::off());
            runtime.block_on(async {
                for packet in text.as_bytes().chunks(32 << 10) {
                    output.append(Source::Stdout, packet);
                    black_box(output.view(View::Tail, Form::Text, 16_000, false).await);
                }
            });
        });
        for pattern in &patterns {
            linear("search", piece, |text| {
                let output = OutputBuffer::new(SpillStore::off());
                let mut watcher = Watcher::new(pattern, Some(0), None);
                runtime.block_on(async {
                    for packet in text.as_bytes().chunks(4 << 10) {
                        output.append(Source::Stdout, packet);
                        black_box(watcher.look(&output, true).await);
                    }
                });
            });
        }
    }
}

#[test]
fn messages_and_arguments_are_read_in_linear_time() {
    for piece in ["[", "]", "{\"a\":", "\"", "\\", "\\u0000", "1", "1,", "{},", " "] {
        linear("message", piece, |text| drop(black_box(message::parse(text.as_bytes()))));
        let inside = |text: &str| {
            let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{{\"a\":[{text}1]}}}}");
            drop(black_box(message::parse(line.as_bytes())));
        };
        linear("params", piece, inside);
    }
    // One object with as many names as fit.
    linear("names", "x", |text| {
        let names: Vec<String> = (0..text.len() / 16).map(|i| format!("\"n{i}\":1")).collect();
        let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{{{}}}}}", names.join(","));
        drop(black_box(message::parse(line.as_bytes())));
    });
    for tool in commands::tools() {
        linear(tool.name, "session_id", |text| {
            let arguments = [(text.to_owned(), json!(1)), ("session_id".to_owned(), json!(text))];
            let arguments: Map<_, _> = arguments.into_iter().collect();
            drop(black_box(tool.read(arguments)));
        });
    }
}
