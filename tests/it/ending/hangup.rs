//! The terminal that a program was started from closes.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{SHAPES, Victim, program::Program};
use crate::support::{mcp_client::HttpServer, openssh::Sshd, session::login, wait::holds_within};

async fn with_a_command(sshd: &Sshd, mut program: Program) -> (Program, Victim) {
    let session = program.session(login(sshd, &sshd.user().name)).await;
    let victim = Victim::new("hangup", &SHAPES[0]);
    program.start(&session, &victim.command()).await;
    victim.runs().await;
    (program, victim)
}

#[tokio::test]
async fn hangup_ends_the_http_server_with_its_commands() {
    let Some(sshd) = Sshd::start().await else { return };
    let (mut program, victim) = with_a_command(&sshd, Program::http().await).await;
    let begun = Instant::now();
    program.end("HUP").await;
    victim.is_gone(begun).await;
}

#[tokio::test]
async fn hangup_leaves_a_program_alone_whose_client_or_user_wants_it_to_stay() {
    let Some(sshd) = Sshd::start().await else { return };
    let nohup = Program::Http(HttpServer::start_nohup().await);
    for (program, by) in [(Program::stdio().await, "EOF"), (nohup, "TERM")] {
        let (mut program, victim) = with_a_command(&sshd, program).await;
        program.process().signal("HUP");
        let ended = holds_within(Duration::from_millis(500), async || program.process().ended().is_some()).await;
        assert!(!ended, "it ended by SIGHUP: {}", program.stderr());
        let list = program.call("ssh_list_commands", json!({})).await;
        assert_eq!(list["commands"][0]["status"], "running", "{list}");
        let begun = Instant::now();
        program.end(by).await;
        victim.is_gone(begun).await;
    }
}
