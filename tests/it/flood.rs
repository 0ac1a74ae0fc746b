//! A command that floods its output, and nobody reads it: the others of its connection do not notice.

use serde_json::{Value, json};

use crate::support::{openssh::Sshd, process::alive, resources::Resources, session::Session, wait::eventually};

/// How much our memory may grow, whatever a command writes.
const GROWTH: u64 = 32 << 20;

#[tokio::test]
async fn flooding_command_does_not_disturb_the_others_of_its_connection() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    session.run("true").await;
    let before = Resources::of(session.client.pid());
    let flood = session.start("echo $$; exec yes").await;
    let written = async || session.output(&flood, json!({"max_bytes": 1000})).await["stdout_bytes"].as_u64().unwrap();
    // More than would be kept, and than a window holds.
    eventually("it floods", async || written().await > 16 << 20).await;
    let begun = written().await;
    for number in 0..50 {
        let view = session.run(&format!("echo {number}")).await;
        assert_eq!((&view["stdout"], &view["exit_code"]), (&json!(format!("{number}\n")), &json!(0)), "{view}");
    }
    assert!(written().await > begun, "it still floods");
    assert_eq!(sshd.logged("Accepted publickey for"), 1, "on the same connection");
    let after = Resources::of(session.client.pid());
    assert!(after.memory < before.memory + GROWTH, "{before:?} {after:?}");

    let head = session.output(&flood, json!({"stdout_offset": 0, "max_bytes": 1000})).await;
    let pid = pid(&head);
    assert!(alive(pid));
    let view = session.cancel(&flood).await;
    assert_eq!((&view["status"], &view["remote_ended"]), (&json!("cancelled"), &json!(true)), "{view}");
    eventually("the flood has ended", async || !alive(pid)).await;
}

/// The process id that a command wrote as its first line.
fn pid(view: &Value) -> u32 {
    view["stdout"].as_str().and_then(|shown| shown.lines().next()?.parse().ok()).expect("a process id")
}
