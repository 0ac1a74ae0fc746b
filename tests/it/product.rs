//! The built programs as a newcomer meets them: every transport and era, curl, settings, the end.

use rmcp::model::ClientRequest;
use serde_json::{Value, json};

use crate::support::{
    embedded_host::EmbeddedHost,
    mcp_client::{HttpServer, McpClient, RawStdio, run},
    session::Session,
};

const NOTHING_OPEN: &str = r#"{"count":0"#;

async fn lists_nothing(client: &McpClient) {
    let listed = client.call("ssh_list_sessions", json!({})).await;
    assert!(!listed.is_error && listed.text.starts_with(NOTHING_OPEN), "{}", listed.text);
    assert_eq!(serde_json::from_str::<Value>(&listed.text).unwrap(), listed.structured, "both places say the same");
}

#[tokio::test]
async fn every_transport_serves_both_protocol_eras() {
    lists_nothing(&McpClient::stdio(&[]).await).await;
    lists_nothing(&McpClient::stdio_discover(&[]).await).await;
    let server = HttpServer::start(&[]).await;
    lists_nothing(&McpClient::http(&server).await).await;
    lists_nothing(&McpClient::http_discover(&server).await).await;
    lists_nothing(&McpClient::sse(&server).await).await;
}

#[tokio::test]
async fn a_whole_session_works_by_bare_curl_a_slow_call_too() {
    let host = EmbeddedHost::start().await.unwrap();
    // It holds the key file.
    let other = Session::on_host(&host, &[]).await;
    let login = other.login().clone();
    let server = HttpServer::start(&[]).await;
    let call = async |tool: &str, arguments: Value| {
        let reply = server.curl(tool, arguments).await;
        assert_eq!((&reply["id"], &reply["result"]["isError"]), (&json!(1), &json!(false)), "{reply}");
        reply["result"]["structuredContent"].clone()
    };
    let opened = call("ssh_connect", login).await;
    let id = &opened["session_id"];
    let ran = call("ssh_execute", json!({"session_id": id, "command": "sleep 3; echo done"})).await;
    assert_eq!((&ran["exit_code"], &ran["stdout"]), (&json!(0), &json!("done\n")));
    let closed = call("ssh_disconnect", json!({"session_id": id})).await;
    assert_eq!((&closed["commands_cancelled"], &closed["forwards_closed"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn curl_gets_one_json_object_and_health_needs_no_more_than_a_get() {
    let server = HttpServer::start(&[]).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "ssh_list_sessions", "arguments": {}}});
    let reply = server.post(&[("Content-Type", "application/json")], &call.to_string()).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert_eq!(reply.json()["result"]["structuredContent"]["count"], 0);
    let health = server.get("/health").await;
    assert_eq!((health.status, health.json()["sessions"].clone()), (200, json!(0)));
    assert_eq!(health.json()["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn every_bad_setting_is_told_in_one_message_and_nothing_starts() {
    let ended = run(false, &[], &[("MCP_PORT", "abc"), ("SSH_MAX_RETRIES", "-1")]).await;
    assert_eq!(ended.status.code(), Some(2));
    let message = String::from_utf8(ended.stderr).unwrap();
    assert!(message.contains("MCP_PORT") && message.contains("SSH_MAX_RETRIES"), "{message}");
    assert!(ended.stdout.is_empty());
    let help = run(true, &["--help"], &[]).await;
    assert!(help.status.success() && !help.stdout.is_empty());
}

#[tokio::test]
async fn arguments_that_are_no_object_are_told_to_the_model() {
    let mut client = RawStdio::initialized(&[]).await;
    let params = json!({"name": "ssh_list_sessions", "arguments": "all of them"});
    let reply = client.request(7, "tools/call", params).await;
    assert_eq!(reply["result"]["structuredContent"]["code"], "invalid_argument", "{reply}");
    let reply = client.request(8, "tools/call", json!({"name": "ssh_list_sessions", "arguments": {}})).await;
    assert_eq!(reply["result"]["isError"], false);
}

#[tokio::test]
async fn a_ping_is_answered_on_every_transport() {
    let server = HttpServer::start(&[]).await;
    for client in [McpClient::stdio(&[]).await, McpClient::http(&server).await, McpClient::sse(&server).await] {
        client.peer().send_request(ClientRequest::PingRequest(Default::default())).await.unwrap();
    }
}
