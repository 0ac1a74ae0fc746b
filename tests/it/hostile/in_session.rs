//! Attacks after the login, while a command runs.

use std::io;

use futures_util::FutureExt;
use serde_json::{Value, json};

use super::{all_of, at_command};
use crate::support::fake_server::wire::{Channels, Exchange, Payload, Wire, kexinit, msg};

/// A window and a packet size as servers have them.
const WINDOW: u32 = 2 << 20;
const PACKET: u32 = 32 << 10;

async fn begin(wire: &mut Wire) -> io::Result<Channels> {
    wire.until_command(&Exchange::default(), WINDOW, PACKET).await
}

fn data(channel: u32, bytes: impl AsRef<[u8]>) -> Payload {
    Payload::new(msg::CHANNEL_DATA).u32(channel).string(bytes)
}

fn request(channel: u32, name: &str) -> Payload {
    Payload::new(msg::CHANNEL_REQUEST).u32(channel).string(name)
}

fn global(name: &str) -> Payload {
    Payload::new(msg::GLOBAL_REQUEST).string(name).byte(1)
}

/// Sends these while the command runs, then ends it with status 0.
async fn then_exit(mut wire: Wire, messages: fn(Channels) -> Vec<Payload>) -> io::Result<()> {
    let channels = begin(&mut wire).await?;
    for message in messages(channels) {
        wire.send(&message).await?;
    }
    wire.exit(channels.command, 0).await?;
    wire.hold().await
}

/// The command must have ended as if nothing had been.
async fn is_passed_over(attack: &str, messages: fn(Channels) -> Vec<Payload>) -> Value {
    let view = at_command(attack, move |wire| then_exit(wire, messages), json!({}), &["completed"]).await;
    assert_eq!((&view["exit_code"], &view["timed_out"]), (&json!(0), &json!(false)), "{attack}: {view}");
    view
}

/// The connection must have ended, and the command with it.
async fn is_fatal(attack: &str, messages: fn(Channels) -> Vec<Payload>) -> Value {
    let script = move |mut wire: Wire| async move {
        let channels = begin(&mut wire).await?;
        wire.send(&data(channels.command, "partial")).await?;
        for message in messages(channels) {
            wire.send(&message).await?;
        }
        wire.hold().await
    };
    let view = at_command(attack, script, json!({}), &["outcome_unknown"]).await;
    assert_eq!((&view["stdout"], view.get("exit_code")), (&json!("partial"), None), "{attack}: {view}");
    view
}

/// Never ends, and the command has its time limit. `listens`: the server reads on.
async fn lasts(attack: &str, listens: bool, message: fn(Channels) -> Payload) -> Value {
    let script = move |mut wire: Wire| async move {
        let channels = begin(&mut wire).await?;
        if listens {
            wire.stop_listening();
        }
        wire.flood(&message(channels)).await
    };
    let view = at_command(attack, script, json!({}), &["completed"]).await;
    assert_eq!((&view["timed_out"], view.get("exit_code")), (&json!(true), None), "{attack}: {view}");
    view
}

#[tokio::test]
async fn windows_that_are_bogus_end_with_the_time_of_the_command() {
    let sized = |attack: &'static str, window, packet| {
        let script = move |mut wire: Wire| async move {
            wire.until_command(&Exchange::default(), window, packet).await?;
            wire.hold().await
        };
        let run = async move {
            let view = at_command(attack, script, json!({}), &["completed"]).await;
            assert_eq!(view["timed_out"], json!(true), "{attack}: {view}");
        };
        run.boxed_local()
    };
    // russh ends the connection at the first request on such a channel; another one is tried, once.
    let none = |mut wire: Wire| async move {
        wire.until_command(&Exchange::default(), WINDOW, 0).await?;
        wire.hold().await
    };
    let none = async move { drop(at_command("packets of 0 bytes", none, json!({}), &["connection_lost"]).await) };
    // CVE-2025-54804: the sum of the windows overflowed.
    let sum = is_passed_over("windows that add up to more than 4 GiB", |channels| {
        vec![Payload::new(msg::CHANNEL_WINDOW_ADJUST).u32(channels.command).u32(u32::MAX); 3]
    });
    all_of([
        sized("window of 0 for ever", 0, PACKET),
        sized("window and packets of 4 GiB", u32::MAX, u32::MAX),
        none.boxed_local(),
        async move { drop(sum.await) }.boxed_local(),
    ])
    .await;
    lasts("a flood of window adjustments", true, |channels| {
        Payload::new(msg::CHANNEL_WINDOW_ADJUST).u32(channels.command).u32(u32::MAX)
    })
    .await;
}

#[tokio::test]
async fn a_server_that_ends_each_connection_at_its_first_channel_is_asked_twice() {
    let script = |mut wire: Wire| async move {
        wire.log_in(&Exchange::default()).await?;
        wire.receive_number(msg::CHANNEL_OPEN).await.map(drop)
    };
    at_command("the connection ends at its first channel", script, json!({}), &["connection_lost"]).await;
}

#[tokio::test]
async fn data_beyond_any_window_takes_no_memory() {
    lasts("data beyond our window", true, |channels| data(channels.command, [b'x'; 32 << 10])).await;
    lasts("packets of 256 KB beyond our window", false, |channels| data(channels.command, [b'x'; 256_000])).await;
    lasts("stderr beyond our window", true, |channels| {
        Payload::new(msg::CHANNEL_EXTENDED_DATA).u32(channels.command).u32(1).string([b'e'; 32 << 10])
    })
    .await;
    lasts("data of no bytes", true, |channels| data(channels.command, "")).await;
    // Nobody reads there.
    lasts("data on a channel that is kept", true, |channels| {
        data(channels.spare.expect("a second channel"), [b'x'; 256_000])
    })
    .await;
    let view = is_passed_over("data of a kind that does not exist", |channels| {
        vec![Payload::new(msg::CHANNEL_EXTENDED_DATA).u32(channels.command).u32(7).string("seven"); 1000]
    })
    .await;
    assert_eq!((&view["stdout_bytes"], &view["stderr_bytes"]), (&json!(0), &json!(0)), "{view}");
}

#[tokio::test]
async fn channels_that_nobody_opened_are_none() {
    is_passed_over("data on a channel that is not open", |_| vec![data(4711, [b'x'; 1000]); 1000]).await;
    is_passed_over("requests on a channel that is not open", |_| {
        vec![request(4711, "exit-status").byte(0).u32(1); 1000]
    })
    .await;
    is_passed_over("the end of channels that are not open", |_| {
        let end = |number| Payload::new(number).u32(4711);
        vec![end(msg::CHANNEL_EOF), end(msg::CHANNEL_CLOSE), end(msg::CHANNEL_WINDOW_ADJUST).u32(u32::MAX)]
    })
    .await;
    is_passed_over("a refusal of a channel that nobody asked for", |_| {
        vec![Payload::new(msg::CHANNEL_OPEN_FAILURE).u32(4711).u32(1).string("no").string("")]
    })
    .await;
    is_fatal("a channel is confirmed that nobody asked for", |_| {
        vec![Payload::new(msg::CHANNEL_OPEN_CONFIRMATION).u32(4711).u32(1).u32(1).u32(1)]
    })
    .await;
    is_fatal("the channel of the command is refused afterwards", |channels| {
        vec![Payload::new(msg::CHANNEL_OPEN_FAILURE).u32(channels.command).u32(1).string("no").string("")]
    })
    .await;
}

/// Every kind of channel that a server may ask for.
fn towards_us() -> Vec<Payload> {
    let open = |kind: &str| Payload::new(msg::CHANNEL_OPEN).string(kind).u32(9).u32(WINDOW).u32(PACKET);
    let addresses = |payload: Payload| payload.string("127.0.0.1").u32(22).string("127.0.0.1").u32(4711);
    vec![
        open("session"),
        addresses(open("direct-tcpip")),
        addresses(open("forwarded-tcpip")),
        open("x11").string("127.0.0.1").u32(6000),
        open("auth-agent@openssh.com"),
        open("forwarded-streamlocal@openssh.com").string("/run/socket").string(""),
        open("direct-streamlocal@openssh.com").string("/run/socket").string("").u32(0),
        open("made-up@example.org"),
    ]
}

#[tokio::test]
async fn a_server_that_opens_channels_towards_us_is_refused() {
    let script = |mut wire: Wire| async move {
        let channels = begin(&mut wire).await?;
        let mut accepted = 0;
        for open in towards_us() {
            wire.send(&open).await?;
            loop {
                match wire.receive().await?[0] {
                    msg::CHANNEL_OPEN_FAILURE => break,
                    msg::CHANNEL_OPEN_CONFIRMATION => {
                        accepted += 1;
                        break;
                    }
                    _ => {}
                }
            }
        }
        wire.exit(channels.command, accepted).await?;
        wire.hold().await
    };
    let view = at_command("channels of every kind towards us", script, json!({}), &["completed"]).await;
    assert_eq!(view["exit_code"], json!(0), "so many were accepted: {view}");
    lasts("a flood of channels towards us", true, |_| towards_us().swap_remove(0)).await;
    lasts("a flood of forwarded connections", true, |_| towards_us().swap_remove(2)).await;
}

#[tokio::test]
async fn ends_that_contradict_each_other_are_an_end() {
    let view =
        is_passed_over("exit status twice", |channels| vec![request(channels.command, "exit-status").byte(0).u32(0)])
            .await;
    assert_eq!(view["exit_signal"], Value::Null, "{view}");
    let signal = |channels: Channels| {
        let text = "K".repeat(120_000);
        vec![request(channels.command, "exit-signal").byte(0).string(&text).byte(0).string(&text).string("")]
    };
    let view = is_passed_over("a signal with a name of 120,000 bytes", signal).await;
    assert!(view["exit_signal"].as_str().is_some_and(|name| name.len() < 300), "{view}");
    let view = is_passed_over("data after the end of data", |channels| {
        let eof = Payload::new(msg::CHANNEL_EOF).u32(channels.command);
        let stderr = Payload::new(msg::CHANNEL_EXTENDED_DATA).u32(channels.command).u32(1).string("later");
        vec![eof.clone(), eof, data(channels.command, "late"), stderr]
    })
    .await;
    assert_eq!((&view["stdout"], &view["stderr"]), (&json!("late"), &json!("later")), "{view}");
    let closed = |mut wire: Wire| async move {
        let channels = begin(&mut wire).await?;
        wire.exit(channels.command, 0).await?;
        wire.burst(&data(channels.command, [b'x'; 1000]), 10_000).await?;
        wire.exit(channels.command, 7).await?;
        wire.hold().await
    };
    let view = at_command("everything again after the end", closed, json!({}), &["completed"]).await;
    assert_eq!((&view["exit_code"], &view["stdout"]), (&json!(0), &json!("")), "{view}");
    let never = |mut wire: Wire| async move {
        let channels = begin(&mut wire).await?;
        wire.stop_listening();
        wire.send(&request(channels.command, "exit-status").byte(0).u32(0)).await?;
        wire.flood(&data(channels.command, [b'x'; 32 << 10])).await
    };
    let view = at_command("output without end after the exit", never, json!({}), &["completed"]).await;
    assert_eq!((&view["exit_code"], &view["timed_out"]), (&json!(0), &json!(false)), "{view}");
    let silent = |mut wire: Wire| async move {
        let channels = begin(&mut wire).await?;
        wire.send(&Payload::new(msg::CHANNEL_CLOSE).u32(channels.command)).await?;
        wire.hold().await
    };
    let view = at_command("close without an exit", silent, json!({}), &["completed"]).await;
    assert_eq!((view.get("exit_code"), view.get("exit_signal")), (None, None), "{view}");
}

#[tokio::test]
async fn floods_in_a_session_end_with_the_time_of_the_command() {
    for listens in [true, false] {
        lasts("requests that want an answer", listens, |channels| request(channels.command, "who-are-you").byte(1))
            .await;
        lasts("keepalives", listens, |_| global("keepalive@openssh.com")).await;
    }
}

#[tokio::test]
async fn floods_without_meaning_end_with_the_time_of_the_command() {
    lasts("global requests", true, |_| global("tcpip-forward").string("0.0.0.0").u32(0)).await;
    lasts("host keys without end", true, |_| {
        let key = Payload(Vec::new()).string("ssh-ed25519").string([7; 32]).0;
        let keys = Payload(Vec::new()).string(key).0.repeat(3_000);
        global("hostkeys-00@openssh.com").raw(keys)
    })
    .await;
    lasts("answers that nobody asked for", true, |_| Payload::new(81)).await;
    lasts("confirmations of the same channel", true, |channels| {
        let confirmed = Payload::new(msg::CHANNEL_OPEN_CONFIRMATION).u32(channels.command).u32(channels.command);
        confirmed.u32(WINDOW).u32(PACKET)
    })
    .await;
    lasts("unknown messages", true, |_| Payload::new(242).raw([0; 1000])).await;
    lasts("IGNORE", true, |_| Payload::new(msg::IGNORE).string([0; 1000])).await;
    lasts("DEBUG", true, |_| Payload::new(msg::DEBUG).byte(1).string("debug").string("en")).await;
    lasts("UNIMPLEMENTED", true, |_| Payload::new(msg::UNIMPLEMENTED).u32(0)).await;
}

#[tokio::test]
async fn messages_that_lie_end_their_connection_only() {
    is_fatal("a string of 4 GiB", |channels| vec![Payload::new(msg::CHANNEL_DATA).u32(channels.command).u32(u32::MAX)])
        .await;
    is_fatal("half a message", |_| vec![Payload::new(msg::CHANNEL_DATA).raw([0, 0])]).await;
    is_fatal("more than the message", |channels| vec![data(channels.command, "more").raw("and more")]).await;
    is_fatal("a signal of no text", |channels| {
        vec![request(channels.command, "exit-signal").byte(0).string([0xff; 9])]
    })
    .await;
    is_fatal("keys of 4 GiB", |_| vec![global("hostkeys-00@openssh.com").u32(u32::MAX)]).await;
    is_fatal("a goodbye", |_| {
        vec![Payload::new(msg::DISCONNECT).u32(2).string("\u{1b}]0;x\u{7}".repeat(9_000)).string("")]
    })
    .await;
    let forged = |mut wire: Wire| async move {
        let channels = begin(&mut wire).await?;
        wire.send(&data(channels.command, "partial")).await?;
        let mut packet = wire.packet(&data(channels.command, "forged").0);
        *packet.last_mut().expect("a tag") ^= 1;
        wire.raw(&packet).await?;
        wire.hold().await
    };
    let view = at_command("a packet with a wrong tag", forged, json!({}), &["outcome_unknown"]).await;
    assert_eq!(view["stdout"], json!("partial"), "{view}");
}

#[tokio::test]
async fn key_exchanges_in_a_session_are_bounded() {
    let storm = |mut wire: Wire| async move {
        begin(&mut wire).await?;
        loop {
            wire.exchange_keys(&Exchange::default()).await?;
        }
    };
    let view = at_command("key exchanges without end", storm, json!({}), &["completed"]).await;
    assert_eq!(view["timed_out"], json!(true), "{view}");
    let stalled = |mut wire: Wire| async move {
        begin(&mut wire).await?;
        wire.send(&kexinit(&Exchange::default())).await?;
        wire.hold().await
    };
    at_command("a key exchange that stalls", stalled, json!({}), &["completed"]).await;
    let flooded = |mut wire: Wire| async move {
        begin(&mut wire).await?;
        wire.send(&kexinit(&Exchange::default())).await?;
        wire.stop_listening();
        wire.flood(&global("keepalive@openssh.com")).await
    };
    at_command("a flood within a key exchange", flooded, json!({}), &["outcome_unknown"]).await;
    let other = |mut wire: Wire| async move {
        begin(&mut wire).await?;
        wire.exchange_keys(&Exchange { wrong_signature: true, ..Exchange::default() }).await?;
        wire.hold().await
    };
    at_command("a second key exchange with a wrong signature", other, json!({}), &["outcome_unknown"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_packets_are_bounded_after_they_are_unpacked() {
    // CVE-2026-46702: only the packed size was bounded.
    let packed = || Exchange { compression: "zlib@openssh.com", ..Exchange::default() };
    let bomb = move |mut wire: Wire| async move {
        let channels = wire.until_command(&packed(), WINDOW, PACKET).await?;
        wire.send(&data(channels.command, "partial")).await?;
        wire.send(&data(channels.command, vec![0; 8 << 20])).await?;
        wire.hold().await
    };
    let view = at_command("8 MiB in a packet of 8 KB", bomb, json!({"compress": true}), &["outcome_unknown"]).await;
    assert_eq!(view["stdout"], json!("partial"), "{view}");
    let flood = move |mut wire: Wire| async move {
        let channels = wire.until_command(&packed(), WINDOW, PACKET).await?;
        wire.stop_listening();
        loop {
            wire.send(&data(channels.command, [0; 256_000])).await?;
        }
    };
    let view =
        at_command("packets of 1 KB that unpack to 256 KB", flood, json!({"compress": true}), &["completed"]).await;
    assert_eq!(view["timed_out"], json!(true), "{view}");
}
