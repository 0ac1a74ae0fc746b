//! A slow call holds up nobody, on any transport; all transports see the same sessions.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::{
    mcp_client::{HttpServer, McpClient},
    openssh::Sshd,
    session::{Session, login},
};

/// "At once" on a loaded machine; the slow call takes three seconds.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn slow_call_holds_up_nobody(session: &Session) {
    let begun = Instant::now();
    let slow = async {
        let ran = session.run("sleep 3; echo slow").await;
        assert_eq!(ran["stdout"], "slow\n");
        begun.elapsed()
    };
    let quick = async {
        // The slow call is on its way.
        while session.listed().await.is_none_or(|row| row["running_commands"] == 0) {}
        let asked = Instant::now();
        session.client.peer().send_request(ping()).await.unwrap();
        let pinged = asked.elapsed();
        assert_eq!(session.run("echo quick").await["stdout"], "quick\n");
        (pinged, asked.elapsed(), begun.elapsed())
    };
    let (slow, (pinged, echoed, after)) = tokio::join!(slow, quick);
    assert!(pinged < AT_ONCE && echoed < AT_ONCE, "ping {pinged:?}, echo {echoed:?}");
    assert!(after < slow && slow >= Duration::from_secs(3), "{after:?} of {slow:?}");
}

fn ping() -> rmcp::model::ClientRequest {
    rmcp::model::ClientRequest::PingRequest(rmcp::model::PingRequest::default())
}

#[tokio::test]
async fn a_slow_command_holds_up_nobody_on_stdio() {
    let Some(sshd) = Sshd::start().await else { return };
    slow_call_holds_up_nobody(&Session::on_sshd(&sshd, &[]).await).await;
}

#[tokio::test]
async fn a_slow_command_holds_up_nobody_on_mcp() {
    let Some(sshd) = Sshd::start().await else { return };
    let server = HttpServer::start(&[]).await;
    let client = McpClient::http(&server).await;
    slow_call_holds_up_nobody(&Session::open(client, login(&sshd, &sshd.user().name)).await).await;
}

#[tokio::test]
async fn a_slow_command_holds_up_nobody_on_sse() {
    let Some(sshd) = Sshd::start().await else { return };
    let server = HttpServer::start(&[]).await;
    let client = McpClient::sse(&server).await;
    slow_call_holds_up_nobody(&Session::open(client, login(&sshd, &sshd.user().name)).await).await;
}

#[tokio::test]
async fn a_wait_holds_up_nobody() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    let id = session.start("sleep 2; echo ended").await;
    let wait = async || (session.output(&id, json!({"wait": true})).await, Instant::now());
    let echo = async || (session.run("echo quick").await, Instant::now());
    let (one, other, echoed) = tokio::join!(wait(), wait(), echo());
    assert_eq!((&one.0["stdout"], &other.0["stdout"]), (&json!("ended\n"), &json!("ended\n")));
    assert_eq!(echoed.0["stdout"], "quick\n");
    assert!(echoed.1 < one.1 && echoed.1 < other.1);
}

#[tokio::test]
async fn a_session_opened_over_sse_serves_callers_on_mcp_and_by_curl() {
    let Some(sshd) = Sshd::start().await else { return };
    let server = HttpServer::start(&[]).await;
    let (sse, mcp) = tokio::join!(McpClient::sse(&server), McpClient::http(&server));
    let opened = Session::open(sse, login(&sshd, &sshd.user().name)).await;
    let list = mcp.call("ssh_list_sessions", json!({})).await.success();
    assert_eq!((&list["count"], &list["sessions"][0]["session_id"]), (&json!(1), &json!(opened.id)));
    let background = opened.start("sleep 1; echo background").await;
    let arguments = json!({"session_id": opened.id, "command": "echo here"});
    assert_eq!(mcp.call("ssh_execute", arguments.clone()).await.success()["stdout"], "here\n");
    let reply = server.curl("ssh_execute", arguments).await;
    assert_eq!(reply["result"]["structuredContent"]["stdout"], "here\n", "{reply}");
    // The session is the server's, not the connection's.
    drop(opened);
    let arguments = json!({"command_id": background, "wait": true});
    assert_eq!(mcp.call("ssh_get_command_output", arguments).await.success()["stdout"], "background\n");
}
