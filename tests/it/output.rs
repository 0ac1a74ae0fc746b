//! Output of commands: offsets, bounds, characters, totals.

use serde_json::{Value, json};

use crate::support::{
    embedded_host::EmbeddedHost,
    openssh::Sshd,
    session::{Session, text},
};

/// `1\n2\n...` as `seq` writes it.
fn lines(count: usize) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))).unwrap()
}

/// Reads a stream to its end by `next_*_offset` as an agent would, while the command runs and after it.
async fn read_on(session: &Session, id: &str, stream: &str, max_bytes: usize) -> String {
    let (mut all, mut offset) = (String::new(), 0);
    loop {
        let arguments = json!({format!("{stream}_offset"): offset, "max_bytes": max_bytes});
        let view = session.output(id, arguments).await;
        let shown = text(&view[stream]);
        assert_eq!(view[format!("{stream}_offset")], offset, "the text begins where it was asked for: {view}");
        assert!(shown.len() <= max_bytes.max(4), "{} bytes in {view}", shown.len());
        assert_eq!(view.get(format!("{stream}_omitted_from")), None, "{view}");
        offset = number(&view[format!("next_{stream}_offset")]);
        assert_eq!(offset, all.len() + shown.len(), "{view}");
        all.push_str(&shown);
        if view["status"] != "running" && offset == number(&view[format!("{stream}_bytes")]) {
            return all;
        }
    }
}

#[tokio::test]
async fn reading_on_by_offset_gives_every_byte_once_while_the_command_writes() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let slowly = "for part in 0 1 2 3 4; do seq $((part * 2000 + 1)) $((part * 2000 + 2000)); sleep 0.1; done";
    let to_stderr = format!("({slowly}) >&2");
    let (out, error) = tokio::join!(session.start(slowly), session.start(&to_stderr));
    let (out, error) =
        tokio::join!(read_on(&session, &out, "stdout", 40_000), read_on(&session, &error, "stderr", 3_001));
    assert!(out == lines(10_000), "{} bytes", out.len());
    assert!(error == lines(10_000), "{} bytes", error.len());
}

#[tokio::test]
async fn no_answer_cuts_a_character_that_arrives_in_pieces_or_does_not_fit() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    // é€😀, byte by byte.
    let bytes = r"\303 \251 \342 \202 \254 \360 \237 \230 \200";
    let id =
        session.start(&format!("for byte in {}; do printf $byte; sleep 0.1; done", bytes.replace('\\', "\\\\"))).await;
    let mut polls = 0;
    loop {
        let view = session.output(&id, json!({})).await;
        let shown = text(&view["stdout"]);
        assert!("é€😀".starts_with(&shown), "{view}");
        assert_eq!(view["next_stdout_offset"], shown.len(), "{view}");
        polls += 1;
        if view["status"] != "running" {
            break assert_eq!((shown.as_str(), &view["stdout_bytes"]), ("é€😀", &json!(9)));
        }
    }
    assert!(polls > 3, "the command was watched while it wrote");
    for max_bytes in [1, 2, 3, 5] {
        assert_eq!(read_on(&session, &id, "stdout", max_bytes).await, "é€😀", "{max_bytes}");
    }
    let inside = session.output(&id, json!({"stdout_offset": 3})).await;
    assert_eq!((&inside["stdout_offset"], &inside["stdout"]), (&json!(2), &json!("€😀")), "{inside}");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_replaced_and_counted() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let ran = session.run(r"printf 'a\377b\000c\303'").await;
    assert_eq!((&ran["stdout"], &ran["stdout_bytes"]), (&json!("a\u{fffd}b\0c\u{fffd}"), &json!(6)));
    assert_eq!(ran["next_stdout_offset"], 6);
}

#[tokio::test]
async fn with_one_offset_only_the_other_stream_is_left_out_but_for_its_total() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let id = session.start("printf 12345; printf 123 >&2").await;
    session.ended(&id).await;
    let view = session.output(&id, json!({"stdout_offset": 2})).await;
    assert_eq!((&view["stdout"], &view["stdout_offset"]), (&json!("345"), &json!(2)));
    assert_eq!((&view["next_stdout_offset"], &view["stderr_bytes"]), (&json!(5), &json!(3)));
    for left_out in ["stderr", "stderr_offset", "next_stderr_offset"] {
        assert_eq!(view.get(left_out), None, "{left_out}");
    }
    let view = session.output(&id, json!({"stderr_offset": 0})).await;
    assert_eq!((&view["stderr"], view.get("stdout"), &view["stdout_bytes"]), (&json!("123"), None, &json!(5)));
    let view = session.output(&id, json!({"stdout_offset": 0, "stderr_offset": 1})).await;
    assert_eq!((&view["stdout"], &view["stderr"]), (&json!("12345"), &json!("23")));
    let view = session.output(&id, json!({"stdout_offset": 1_000})).await;
    assert_eq!((&view["stdout"], &view["next_stdout_offset"]), (&json!(""), &json!(5)), "beyond the end");
    for wrong in [json!({"stdout_offset": -1}), json!({"max_bytes": 40_001}), json!({"max_bytes": -1})] {
        let mut arguments = wrong.clone();
        arguments["command_id"] = json!(id);
        let answer = session.client.call("ssh_get_command_output", arguments).await;
        assert_eq!(answer.code(), "out_of_range", "{wrong}");
    }
}

#[tokio::test]
async fn of_a_running_command_the_last_4000_bytes_of_each_stream_are_shown() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let id = session.start("seq 1 5000; seq 1 3000 >&2; echo end; echo end >&2; sleep 300").await;
    session.shows(&id, "end").await;
    let expected = [("stdout", lines(5_000) + "end\n"), ("stderr", lines(3_000) + "end\n")];
    let view = loop {
        let view = session.output(&id, json!({})).await;
        if view["stderr_bytes"] == expected[1].1.len() {
            break view;
        }
    };
    assert_eq!((&view["status"], &view["truncated"]), (&json!("running"), &json!(true)));
    for (stream, whole) in expected {
        let (shown, offset) = (text(&view[stream]), number(&view[format!("{stream}_offset")]));
        assert!(whole.ends_with(&shown) && (3_900..=4_000).contains(&shown.len()), "{} bytes", shown.len());
        assert_eq!(offset + shown.len(), whole.len());
        assert_eq!(&whole[offset - 1..offset], "\n", "whole lines");
        assert_eq!(number(&view[format!("next_{stream}_offset")]), whole.len());
    }
}

#[tokio::test]
async fn of_an_ended_command_head_and_tail_are_shown_with_the_gap_named() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let whole = lines(20_000);
    let ran = session.run("seq 1 20000; exit 3").await;
    assert_eq!(
        (number(&ran["stdout_bytes"]), &ran["truncated"], &ran["exit_code"]),
        (whole.len(), &json!(true), &json!(3))
    );
    assert_eq!(number(&ran["next_stdout_offset"]), whole.len());
    let (from, bytes) = (number(&ran["stdout_omitted_from"]), number(&ran["stdout_omitted_bytes"]));
    let shown = text(&ran["stdout"]);
    let line = shown.lines().find(|line| line.contains("omitted")).unwrap();
    assert!(line.contains(&bytes.to_string()) && line.contains(&from.to_string()), "{line}");
    let (head, tail) = shown.split_once(&format!("{line}\n")).unwrap();
    assert_eq!((head, tail), (&whole[..from], &whole[from + bytes..]), "cut at line ends, nothing twice");
    assert!(head.ends_with('\n') && whole[..from + bytes].ends_with('\n'));
    assert!(
        head.len() + tail.len() <= 16_000 && head.len() > 3_900 && tail.len() > 11_800,
        "a quarter, three quarters"
    );

    // What was left out can be read from the offset that the line names.
    let id = text(&ran["command_id"]);
    let rest = session.output(&id, json!({"stdout_offset": from, "max_bytes": 40_000})).await;
    assert_eq!(text(&rest["stdout"]), whole[from..from + 40_000]);
}

#[tokio::test]
async fn stderr_has_a_quarter_of_the_limit_for_sure_and_the_limit_is_a_setting() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[("SSH_OUTPUT_LIMIT", "1000")]).await;
    let without_gap = |view: &Value, stream: &str| -> usize {
        text(&view[stream]).lines().filter(|line| !line.contains("omitted")).map(|line| line.len() + 1).sum()
    };
    let both = session.run("seq 1 5000; seq 1 5000 >&2").await;
    let (out, error) = (without_gap(&both, "stdout"), without_gap(&both, "stderr"));
    assert!((700..=750).contains(&out) && (220..=250).contains(&error), "{out} and {error}");
    let one = session.run("seq 1 5000; echo short >&2").await;
    assert_eq!(one["stderr"], "short\n");
    assert!((950..=994).contains(&without_gap(&one, "stdout")), "{one}");
    let other = session.run("seq 1 5000 >&2").await;
    assert!((950..=1_000).contains(&without_gap(&other, "stderr")), "{other}");
}

#[tokio::test]
async fn ten_mebibytes_on_both_streams_at_once_have_exact_totals() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let command = "head -c 10485760 /dev/zero | tr '\\0' o & head -c 10485760 /dev/zero | tr '\\0' e >&2; wait; exit 9";
    let background = session.start(command).await;
    let foreground = session.run(command).await;
    for view in [foreground, session.ended(&background).await] {
        assert_eq!((&view["status"], &view["exit_code"]), (&json!("completed"), &json!(9)), "{}", view["error"]);
        assert_eq!((&view["stdout_bytes"], &view["stderr_bytes"]), (&json!(10 << 20), &json!(10 << 20)));
        let (out, error) = (text(&view["stdout"]), text(&view["stderr"]));
        assert!(out.len() + error.len() < 16_300 && out.ends_with('o') && error.ends_with('e'));
    }
    // Not everything is kept; what is gone is said to be gone, and reading goes on after it.
    let view = session.output(&background, json!({"stdout_offset": 1_000_000})).await;
    let (begins, from) = (number(&view["stdout_offset"]), number(&view["stdout_omitted_from"]));
    assert_eq!((from, number(&view["stdout_omitted_bytes"])), (1_000_000, begins - 1_000_000));
    assert!(text(&view["stdout"]).contains("no longer kept"));
    assert!(number(&view["next_stdout_offset"]) > begins);
}
