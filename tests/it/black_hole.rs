//! A network that swallows everything: every call ends by its own time, and other hosts do not notice.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    fake_server::{FakeServer, Play},
    home::with,
    mcp_client::{McpClient, ToolAnswer},
    namespace::{FAR, Link},
    openssh::Sshd,
    session::{Session, login, text},
    wait::eventually,
};

/// A host behind the link, one at hand, and a client that has a session on each.
struct Network {
    far: Session,
    near: Session,
    sshd: Sshd,
    _near_sshd: Sshd,
    /// The last to go.
    link: Link,
}

impl Network {
    async fn start(env: &[(&str, &str)], more: Value) -> Option<Self> {
        let link = Link::new()?;
        let sshd = Sshd::builder().within(link.far(), FAR).start().await?;
        let near_sshd = Sshd::builder().within(link.near(), std::net::Ipv4Addr::LOCALHOST).start().await?;
        let client = McpClient::stdio_within(link.near(), env).await;
        let near = Session::open(client, login(&near_sshd, &near_sshd.user().name)).await;
        let address = json!({"address": format!("{FAR}:{}", sshd.port())});
        let far = near.another(with(with(login(&sshd, &sshd.user().name), address), more)).await;
        far.run("true").await;
        near.run("true").await;
        Some(Self { far, near, sshd, _near_sshd: near_sshd, link })
    }

    /// The other host answers at once; asked again and again while something else goes on.
    async fn near_answers(&self) {
        for _ in 0..10 {
            let asked = Instant::now();
            assert_eq!(self.near.run("echo near").await["stdout"], "near\n");
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        }
    }
}

/// The answer, and how many seconds it took.
async fn timed<T>(call: impl Future<Output = T>) -> (T, f32) {
    let asked = Instant::now();
    let answer = call.await;
    (answer, asked.elapsed().as_secs_f32())
}

#[tokio::test]
async fn running_command_ends_by_its_own_time_limit_and_other_hosts_answer() {
    let Some(network) = Network::start(&[], json!({})).await else { return };
    let far = &network.far;
    let begun = Instant::now();
    let (view, ()) = tokio::join!(
        far.call("ssh_execute", json!({"command": "printf early; sleep 300", "timeout_secs": 2})),
        async {
            let mut id = None;
            eventually("it runs", async || {
                let running = far.call("ssh_list_commands", json!({"status": "running"})).await.success();
                id = running["commands"][0]["command_id"].as_str().map(str::to_owned);
                id.is_some()
            })
            .await;
            far.shows(&id.unwrap(), "early").await;
            network.link.cut();
            network.near_answers().await;
        }
    );
    let (view, took) = (view.success(), begun.elapsed().as_secs_f32());
    assert_eq!(view["timed_out"], true, "{view}");
    assert!(text(&view["notices"][0]).contains("may still run"), "{view}");
    assert_eq!((&view["stdout"], view.get("exit_code")), (&json!("early"), None), "{view}");
    assert!((2.0..6.0).contains(&took), "{took}");

    // The server is silent, and that is all that is known: neither lost nor ended.
    let (listed, took) = timed(far.listed()).await;
    assert_eq!(listed.unwrap()["healthy"], false);
    assert!(took < 4.0, "{took}");
    let (_, took) = timed(network.near_answers()).await;
    assert!(took < 10.0, "{took}");
    let (closed, took) = timed(far.disconnect()).await;
    assert!(took < 4.0, "{took}: {closed}");
}

#[tokio::test]
async fn new_connection_fails_by_its_time_limit() {
    let Some(network) = Network::start(&[], json!({})).await else { return };
    network.link.cut();
    let connect = async |limit: u64| -> (ToolAnswer, f32) {
        let arguments = with(network.far.login().clone(), json!({"timeout_secs": limit}));
        timed(network.far.client.call("ssh_connect", arguments)).await
    };
    let ((short, short_took), (long, long_took), ()) = tokio::join!(connect(1), connect(3), network.near_answers());
    for (answer, took, limit) in [(short, short_took, 1.0), (long, long_took, 3.0)] {
        assert_eq!(
            (answer.code(), &answer.structured["retryable"]),
            ("connect_timeout", &json!(true)),
            "{}",
            answer.text
        );
        assert!((limit..limit + 1.0).contains(&took), "{took}: {}", answer.text);
    }
}

#[tokio::test]
async fn next_call_fails_fast_while_the_link_is_down_and_reconnects_when_it_is_up() {
    let Some(network) = Network::start(&[], json!({"timeout_secs": 2})).await else { return };
    let far = &network.far;
    let background = far.start("printf partial; sleep 300").await;
    far.shows(&background, "partial").await;
    network.link.cut();
    let (answer, took) = timed(far.call("ssh_execute", json!({"command": "true"}))).await;
    // Five seconds for the channel, two for a sign of life, two to connect anew.
    assert!(took < 5.0 + 2.0 + 2.0 + 1.0, "{took}: {}", answer.text);
    assert_eq!((answer.code(), &answer.structured["retryable"]), ("connect_timeout", &json!(true)), "{}", answer.text);
    let (answer, took) = timed(far.call("ssh_execute", json!({"command": "true"}))).await;
    assert!(took < 3.0, "what is known to be lost is not waited for again: {took}: {}", answer.text);
    assert_eq!(far.listed().await.unwrap()["healthy"], false);
    let view = far.ended(&background).await;
    assert_eq!((&view["error"]["code"], &view["stdout"]), (&json!("outcome_unknown"), &json!("partial")), "{view}");

    network.link.mend();
    let again = far.run("echo again").await;
    assert_eq!((&again["stdout"], &again["reconnected"]), (&json!("again\n"), &json!(true)), "{again}");
    assert_eq!(network.sshd.logged("Accepted publickey for"), 2);
}

#[tokio::test]
async fn every_call_keeps_the_answer_limit() {
    let Some(network) = Network::start(&[("SSH_ANSWER_LIMIT", "2")], json!({})).await else { return };
    let far = &network.far;
    let running = far.start("printf early; sleep 300").await;
    far.shows(&running, "early").await;
    network.link.cut();
    let limit = 2.0 + 1.0;
    let (execute, wait, list, ()) = tokio::join!(
        timed(far.call("ssh_execute", json!({"command": "true"}))),
        timed(far.client.call("ssh_get_command_output", json!({"command_id": running, "wait": true}))),
        timed(far.client.call("ssh_list_sessions", json!({}))),
        network.near_answers(),
    );
    for (answer, took) in [&execute, &wait, &list] {
        assert!(*took < limit, "{took}: {}", answer.text);
    }
    assert_eq!((&execute.0.structured["status"], &wait.0.structured["status"]), (&json!("running"), &json!("running")));

    // A cancel takes the time to try; what it could not confirm it does not claim.
    let (cancelled, took) = timed(far.cancel(&running)).await;
    assert_eq!((&cancelled["status"], &cancelled["remote_ended"]), (&json!("cancelled"), &json!(false)), "{cancelled}");
    assert!(took < 4.0, "{took}");

    let (forward, connect) = tokio::join!(
        timed(far.call("ssh_forward", json!({"local_port": 0, "remote_address": "localhost", "remote_port": 9}))),
        timed(far.client.call("ssh_connect", with(far.login().clone(), json!({"session_id": far.id})))),
    );
    for (answer, took) in [&forward, &connect] {
        assert_eq!(answer.code(), "connect_timeout", "{}", answer.text);
        assert!(*took < limit, "{took}: {}", answer.text);
    }
    let (closed, took) = timed(far.disconnect()).await;
    assert!(took < 4.0, "{took}: {closed}");
}

#[tokio::test]
async fn time_limit_is_kept_to_the_second() {
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[]).await;
    session.run("true").await;
    let (answer, took) = timed(session.call("ssh_execute", json!({"command": "sleep 60", "timeout_secs": 5}))).await;
    let view = answer.success();
    assert_eq!((&view["timed_out"], view.get("notices")), (&json!(true), None), "{view}");
    assert!((5.0..6.0).contains(&took), "{took}: {view}");
}

#[tokio::test]
async fn disconnect_does_not_wait_for_a_reconnect() {
    let Some(sshd) = Sshd::start().await else { return };
    let relay = FakeServer::start(Play::Once(sshd.port())).await;
    let login = with(login(&sshd, &sshd.user().name), json!({"address": relay.address()}));
    let session = Session::open(McpClient::stdio(&[]).await, login).await;
    session.run("true").await;
    sshd.signal_connections("KILL");
    let id = session.start("true").await;
    eventually("it connects again", async || relay.connections() == 2).await;
    let asked = Instant::now();
    assert_eq!(session.disconnect().await["commands_cancelled"], 1);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_eq!(session.ended(&id).await["status"], "cancelled");
}
