//! A password that has expired: what each kind of server says, and what is made of it.

use serde_json::json;

use crate::support::{
    fake_server::{
        HostileServer,
        wire::{Exchange, Payload, Wire, msg},
    },
    home::Home,
    openssh::{Sshd, expired_user},
};

/// sshd lets the user in, and runs nothing. It never asks for another password in the login itself.
#[tokio::test]
async fn an_expired_password_of_sshd_is_told_with_the_first_command() {
    let Some(sshd) = Sshd::builder().config("LogLevel INFO").start().await else { return };
    let Some(user) = expired_user() else { return };
    let client = Home::new().client(&[]).await;
    let address = format!("{}@127.0.0.1:{}", user.name, sshd.port());
    let session = client.call("ssh_connect", json!({"address": address, "password": user.password})).await.success();
    let arguments = json!({"session_id": session["session_id"], "command": "id -un"});
    let ran = client.call("ssh_execute", arguments).await.success();
    assert_eq!((&ran["exit_code"], &ran["stdout"]), (&json!(1), &json!("")), "{ran}");
    assert!(ran["stderr"].as_str().unwrap().contains("expired"), "{ran}");
    let hint = ran["hint"].as_str().unwrap();
    assert!(hint.contains("expired") && hint.contains("Nothing was run") && hint.contains("Ask the user"), "{hint}");
}

/// The SSH library does not know the message of RFC 4252, section 8, and passes over it.
#[tokio::test]
async fn a_server_that_wants_another_password_in_the_login_is_given_up_in_time() {
    const PASSWD_CHANGEREQ: u8 = msg::USERAUTH_INFO_REQUEST;
    let script = |mut wire: Wire| async move {
        wire.until_login(&Exchange::default()).await?;
        let methods = Payload::new(msg::USERAUTH_FAILURE).string("password").byte(0);
        wire.send(&methods).await?;
        let asked = wire.receive_number(msg::USERAUTH_REQUEST).await?;
        assert!(asked.windows(8).any(|part| part == b"password"));
        wire.send(&Payload::new(PASSWD_CHANGEREQ).string("Your password has expired").string("")).await?;
        wire.hold().await
    };
    let server = HostileServer::start(script).await;
    let client = Home::new().client(&[]).await;
    let arguments =
        json!({"address": server.address(), "username": "u", "password": "p", "max_retries": 0, "timeout_secs": 3});
    let refused = client.call("ssh_connect", arguments).await;
    assert_eq!((refused.code(), &refused.structured["why"]), ("auth_failed", &json!("unanswered")), "{}", refused.text);
    assert!(refused.structured["hint"].as_str().unwrap().contains("new password"), "{}", refused.text);
}
