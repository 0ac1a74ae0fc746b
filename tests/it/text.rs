//! How output becomes text: harmless by default, as it came on request, exact in base64.

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::{
    embedded_host::EmbeddedHost,
    openssh::Sshd,
    session::{Session, text},
};

/// What a hostile host may print, as `printf` writes it.
const HOSTILE: &str = r"\033[31mred\033[0m \033]8;;http://evil\033\\link\033]8;;\033\\ \033]52;c;ZXZpbA==\007\033P1q\033\\|bidi \342\200\256|zero \342\200\213|c1 \302\233|bell \007|nul \000|over\rwritten\r\n\033_open";
/// What is left of it.
const HARMLESS: &str =
    "red link |bidi \\u{202e}|zero \\u{200b}|c1 \\u{9b}|bell \\u{7}|nul \\u{0}|over\nwritten\n\\u{1b}_open";

fn hostile_bytes() -> Vec<u8> {
    let octal = HOSTILE.replace(r"\\", "\u{1}");
    let mut bytes = Vec::new();
    let mut rest = octal.as_str();
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend(before.bytes());
        let (escape, length) = match &after[..1] {
            "r" => (b'\r', 1),
            "n" => (b'\n', 1),
            _ => (u8::from_str_radix(&after[..3], 8).unwrap(), 3),
        };
        bytes.push(escape);
        rest = &after[length..];
    }
    bytes.extend(rest.bytes());
    bytes.iter().map(|byte| if *byte == 1 { b'\\' } else { *byte }).collect()
}

fn decoded(value: &Value) -> Vec<u8> {
    BASE64.decode(text(value).as_bytes()).unwrap()
}

async fn execute(session: &Session, arguments: Value) -> Value {
    session.call("ssh_execute", arguments).await.success()
}

#[tokio::test]
async fn control_sequences_are_harmless_in_text_kept_raw_and_exact_in_base64() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let command = format!("printf '{HOSTILE}'; printf '{HOSTILE}' >&2");
    let ran = session.run(&command).await;
    assert_eq!((text(&ran["stdout"]).as_str(), text(&ran["stderr"]).as_str()), (HARMLESS, HARMLESS));
    assert_eq!((&ran["stdout_bytes"], ran.get("encoding")), (&json!(hostile_bytes().len()), None));

    let raw = execute(&session, json!({"command": command, "raw": true})).await;
    assert_eq!(text(&raw["stdout"]).as_bytes(), hostile_bytes());
    let exact = execute(&session, json!({"command": command, "encoding": "base64"})).await;
    assert_eq!((decoded(&exact["stdout"]), decoded(&exact["stderr"])), (hostile_bytes(), hostile_bytes()));
    assert_eq!((&exact["encoding"], &exact["next_stdout_offset"]), (&json!("base64"), &ran["stdout_bytes"]));

    let id = text(&ran["command_id"]);
    assert_eq!(session.output(&id, json!({})).await["stdout"], HARMLESS);
    assert_eq!(text(&session.output(&id, json!({"raw": true})).await["stdout"]).as_bytes(), hostile_bytes());
    let exact = session.output(&id, json!({"encoding": "base64", "stdout_offset": 3})).await;
    assert_eq!(decoded(&exact["stdout"]), hostile_bytes()[3..]);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_exact_in_base64() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let ran = execute(&session, json!({"command": r"printf '\377\000\200a\303'", "encoding": "base64"})).await;
    assert_eq!(decoded(&ran["stdout"]), [0xff, 0, 0x80, b'a', 0xc3]);
    assert_eq!(ran["stdout"], "/wCAYcM=", "the standard alphabet, with padding");
    let shown = session.output(&text(&ran["command_id"]), json!({})).await;
    assert_eq!(shown["stdout"], "\u{fffd}\\u{0}\u{fffd}a\u{fffd}");
}

#[tokio::test]
async fn base64_reads_on_by_offset_within_the_budget_and_without_a_word_of_ours() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let whole: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    let first = execute(&session, json!({"command": "seq 1 20000", "encoding": "base64"})).await;
    assert_eq!((&first["truncated"], first.get("stdout_omitted_from")), (&json!(true), None));
    let id = text(&first["command_id"]);
    let (mut read, mut view) = (decoded(&first["stdout"]), first);
    while read.len() < whole.len() {
        assert!(text(&view["stdout"]).len() <= 16_000);
        let arguments = json!({"stdout_offset": view["next_stdout_offset"], "encoding": "base64"});
        view = session.output(&id, arguments).await;
        read.extend(decoded(&view["stdout"]));
    }
    assert!(read == whole.as_bytes());

    let id = session.start("seq 1 20000; read x < /dev/tty || sleep 60").await;
    session.shows(&id, "20000\n").await;
    let running = session.output(&id, json!({"encoding": "base64"})).await;
    assert_eq!(decoded(&running["stdout"]), whole.as_bytes()[whole.len() - 3_000..], "the end while it runs");
}

#[tokio::test]
async fn what_has_no_effect_or_no_meaning_is_said() {
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[]).await;
    let both = execute(&session, json!({"command": "echo", "encoding": "base64", "raw": true})).await;
    assert_eq!(both["notices"], json!(["raw has no effect with encoding=base64."]));
    let plain = execute(&session, json!({"command": "echo", "encoding": " text ", "raw": "false"})).await;
    assert_eq!((&plain["stdout"], plain.get("notices")), (&json!("\n"), None));
    let hex = session.call("ssh_execute", json!({"command": "echo", "encoding": "hex"})).await;
    assert_eq!(hex.code(), "invalid_argument");
    assert!(hex.text.contains("base64"), "{}", hex.text);
    let started = session.call("ssh_execute_async", json!({"command": "echo", "raw": true})).await;
    assert_eq!(started.code(), "unknown_argument");
}
