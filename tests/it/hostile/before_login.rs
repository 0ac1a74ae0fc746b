//! Attacks before anybody is logged in.

use std::{io, time::Duration};

use super::{BANNER_MEMORY, MEMORY, all_of, at_connect, attack};
use crate::support::fake_server::wire::{Exchange, ID, Payload, Wire, kexinit, msg};

const TIMEOUT: &[&str] = &["connect_timeout"];
const NOT_SSH: &[&str] = &["not_ssh"];
const LOST: &[&str] = &["connection_lost"];
/// russh passes over what has no meaning before the keys; the time of connecting ends it.
const UNANSWERED: &[&str] = &["connection_lost", "connect_timeout"];

#[tokio::test]
async fn banners_that_are_none_end_within_the_time_and_a_mebibyte() {
    let drip = |mut wire: Wire| async move {
        for byte in ID.bytes().cycle() {
            wire.raw(&[byte]).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    };
    let http = |mut wire: Wire| async move {
        wire.read_identification().await?;
        wire.raw(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await
    };
    let huge = |mut wire: Wire| async move {
        wire.raw(b"SSH-2.0-").await?;
        wire.raw_for_ever(&[b'x'; 4096]).await
    };
    let endless = |name: &str, what: &'static [u8]| {
        attack(name, move |mut wire| async move { wire.raw_for_ever(what).await }, NOT_SSH, BANNER_MEMORY)
    };
    all_of([
        attack("silent", |mut wire| async move { wire.hold().await }, TIMEOUT, BANNER_MEMORY),
        attack("one byte a second", drip, TIMEOUT, BANNER_MEMORY),
        endless("endless garbage", &[0xff, 0, 0x1b, 7, b'\n', 0x80]),
        endless("endless banner lines", b"Welcome, and wait.\r\n"),
        endless("one endless line", &[b'a'; 4096]),
        attack("an HTTP server", http, NOT_SSH, BANNER_MEMORY),
        attack("endless identification", huge, NOT_SSH, BANNER_MEMORY),
        attack("hangs up", |_| async { Ok(()) }, LOST, BANNER_MEMORY),
    ])
    .await;
}

/// The first packet has this length field, and something follows for ever.
async fn length(mut wire: Wire, length: u32) -> io::Result<()> {
    wire.identify().await?;
    wire.raw(&length.to_be_bytes()).await?;
    wire.raw_for_ever(&[4; 4096]).await
}

#[tokio::test]
async fn packets_of_impossible_lengths_are_refused_before_they_are_read() {
    // CVE-2024-43410: so much was allocated as the length said.
    let codes = &["not_ssh", "connection_lost"];
    at_connect("packet of 4 GiB", |wire| length(wire, u32::MAX), codes, BANNER_MEMORY).await;
    at_connect("packet of 2 GiB", |wire| length(wire, 1 << 31), codes, BANNER_MEMORY).await;
    at_connect("packet of 257 KiB", |wire| length(wire, 257 << 10), codes, BANNER_MEMORY).await;
    at_connect("packet of 0 bytes", |wire| length(wire, 0), codes, BANNER_MEMORY).await;
    at_connect("packet of 1 byte", |wire| length(wire, 1), codes, BANNER_MEMORY).await;
    at_connect("packet of 12 bytes", |wire| length(wire, 12), codes, BANNER_MEMORY).await;
    let padding = |mut wire: Wire| async move {
        wire.identify().await?;
        let packet = wire.sealed(vec![255; 20]);
        wire.raw(&packet).await?;
        wire.hold().await
    };
    at_connect("more padding than packet", padding, codes, BANNER_MEMORY).await;
    let unpadded = |mut wire: Wire| async move {
        wire.identify().await?;
        let body = [&[0], kexinit(&Exchange::default()).0.as_slice()].concat();
        let packet = wire.sealed(body);
        wire.raw(&packet).await?;
        wire.hold().await
    };
    at_connect("no padding at all", unpadded, &["connect_timeout", "connection_lost"], BANNER_MEMORY).await;
}

async fn first_message(mut wire: Wire, payload: Payload) -> io::Result<()> {
    wire.identify().await?;
    wire.send(&payload).await?;
    wire.hold().await
}

#[tokio::test]
async fn key_exchanges_that_lie_end_in_a_typed_error() {
    // CVE-2026-48110 and CVE-2026-46673: lists and strings that were allocated before they were read.
    let methods = |name: &str, list: String| {
        let exchange = Exchange { kex: list, ..Exchange::default() };
        let first = kexinit(&exchange);
        attack(
            name,
            move |wire| first_message(wire, first.clone()),
            &["no_common_algorithm", "connection_lost"],
            MEMORY,
        )
    };
    let first = |name: &str, payload: Payload, codes| {
        attack(name, move |wire| first_message(wire, payload.clone()), codes, MEMORY)
    };
    let again = |mut wire: Wire| async move {
        wire.identify().await?;
        wire.burst(&kexinit(&Exchange::default()), 3).await?;
        wire.hold().await
    };
    let liar = Payload::new(msg::KEXINIT).raw([7; 16]).u32(u32::MAX).raw("curve25519-sha256");
    let data = Payload::new(msg::CHANNEL_DATA).u32(0).string("data before any key");
    all_of([
        methods("120,000 names of methods", "a,".repeat(120_000)),
        methods("240,000 empty names", ",".repeat(240_000)),
        first("a list of 4 GiB", liar, LOST),
        first("half a KEXINIT", Payload::new(msg::KEXINIT).raw([7; 3]), LOST),
        first("data first", data, UNANSWERED),
        first("NEWKEYS first", Payload::new(msg::NEWKEYS), UNANSWERED),
        first("login without a key exchange", Payload::new(msg::USERAUTH_SUCCESS), UNANSWERED),
        attack("KEXINIT three times", again, LOST, MEMORY),
    ])
    .await;
}

/// A key exchange of this kind; then the connection is held.
async fn exchange(mut wire: Wire, exchange: Exchange) -> io::Result<()> {
    wire.handshake(&exchange).await?;
    wire.hold().await
}

#[tokio::test]
async fn public_values_and_signatures_that_are_wrong_are_refused() {
    // GHSA-g9hv-x236-4qp3: a client panicked at a value of another length.
    for length in [0_usize, 1, 31, 33, 65_536] {
        let attack = format!("public value of {length} bytes");
        let lie = Exchange { public_value: Some(vec![9; length]), ..Exchange::default() };
        at_connect(&attack, move |wire| exchange(wire, lie.clone()), LOST, MEMORY).await;
    }
    let zeros = Exchange { public_value: Some(vec![0; 32]), ..Exchange::default() };
    at_connect("public value of zeros", move |wire| exchange(wire, zeros.clone()), LOST, MEMORY).await;
    let forged = Exchange { wrong_signature: true, ..Exchange::default() };
    at_connect("wrong signature", move |wire| exchange(wire, forged.clone()), LOST, MEMORY).await;
    // CVE-2023-28113 was about values of Diffie-Hellman; groups that are too small are not offered at all.
    let weak = Exchange { kex: "diffie-hellman-group1-sha1,diffie-hellman-group14-sha1".into(), ..Exchange::default() };
    at_connect("weak groups only", move |wire| exchange(wire, weak.clone()), &["no_common_algorithm"], MEMORY).await;
}

#[tokio::test]
async fn nothing_is_injected_into_a_strict_key_exchange() {
    // Terrapin, CVE-2023-48795.
    let strict = || "curve25519-sha256,kex-strict-s-v00@openssh.com".to_owned();
    let early = move |mut wire: Wire| async move {
        wire.identify().await?;
        wire.send(&Payload::new(msg::IGNORE).string("")).await?;
        wire.exchange_keys(&Exchange { kex: strict(), ..Exchange::default() }).await?;
        wire.hold().await
    };
    at_connect("IGNORE before a strict KEXINIT", early, LOST, MEMORY).await;
    let ignore = vec![Payload::new(msg::IGNORE).string("")];
    let injected = Exchange { kex: strict(), injected: ignore.clone(), ..Exchange::default() };
    at_connect("IGNORE within a strict exchange", move |wire| exchange(wire, injected.clone()), LOST, MEMORY).await;
    let debug = vec![Payload::new(msg::DEBUG).byte(1).string("hello").string("")];
    let injected = Exchange { kex: strict(), injected: debug, ..Exchange::default() };
    at_connect("DEBUG within a strict exchange", move |wire| exchange(wire, injected.clone()), LOST, MEMORY).await;
    // What is wrong above is the injection and nothing else: without it the exchange succeeds, and only the login
    // that never comes is missed.
    let honest = Exchange { kex: strict(), ..Exchange::default() };
    at_connect("a strict exchange as it should be", move |wire| exchange(wire, honest.clone()), TIMEOUT, MEMORY).await;
}

#[tokio::test]
async fn a_goodbye_at_any_stage_is_told() {
    let goodbye = || Payload::new(msg::DISCONNECT).u32(11).string("go\u{1b}[31m away".repeat(8_000)).string("");
    let first = goodbye();
    at_connect("goodbye before the keys", move |wire| first_message(wire, first.clone()), LOST, MEMORY).await;
    let within = Exchange { injected: vec![goodbye()], ..Exchange::default() };
    at_connect("goodbye within the exchange", move |wire| exchange(wire, within.clone()), LOST, MEMORY).await;
    let after = move |mut wire: Wire| async move {
        wire.handshake(&Exchange::default()).await?;
        wire.send(&goodbye()).await
    };
    at_connect("goodbye after the keys", after, &["connection_lost", "auth_failed"], MEMORY).await;
    let login = move |mut wire: Wire| async move {
        wire.until_login(&Exchange::default()).await?;
        wire.send(&goodbye()).await
    };
    at_connect("goodbye at the login", login, &["connection_lost", "auth_failed"], MEMORY).await;
    let broken = |mut wire: Wire| async move {
        wire.until_login(&Exchange::default()).await?;
        wire.send(&Payload::new(msg::DISCONNECT).u32(u32::MAX).u32(u32::MAX)).await?;
        wire.hold().await
    };
    at_connect("a goodbye that lies", broken, LOST, MEMORY).await;
}

#[tokio::test]
async fn what_does_not_open_with_the_keys_ends_the_connection() {
    let garbage = |mut wire: Wire| async move {
        wire.handshake(&Exchange::default()).await?;
        wire.raw(&[&[0, 0, 0, 32], [0x5a; 48].as_slice()].concat()).await?;
        wire.hold().await
    };
    at_connect("garbage after NEWKEYS", garbage, LOST, MEMORY).await;
    let flipped = |mut wire: Wire| async move {
        wire.handshake(&Exchange::default()).await?;
        let mut packet = wire.packet(&Payload::new(msg::SERVICE_ACCEPT).string("ssh-userauth").0);
        *packet.last_mut().expect("a tag") ^= 1;
        wire.raw(&packet).await?;
        wire.hold().await
    };
    at_connect("wrong tag after NEWKEYS", flipped, LOST, MEMORY).await;
    let huge = |mut wire: Wire| async move {
        wire.handshake(&Exchange::default()).await?;
        wire.raw(&u32::MAX.to_be_bytes()).await?;
        wire.raw_for_ever(&[0; 4096]).await
    };
    at_connect("packet of 4 GiB after NEWKEYS", huge, LOST, MEMORY).await;
    let empty = |mut wire: Wire| async move {
        wire.handshake(&Exchange::default()).await?;
        let packet = wire.sealed(Vec::new());
        wire.raw(&packet).await?;
        wire.hold().await
    };
    at_connect("empty packet after NEWKEYS", empty, &["connection_lost", "connect_timeout"], MEMORY).await;
    let padding = |mut wire: Wire| async move {
        wire.handshake(&Exchange::default()).await?;
        let packet = wire.sealed(vec![255; 16]);
        wire.raw(&packet).await?;
        wire.hold().await
    };
    at_connect("more padding than packet after NEWKEYS", padding, LOST, MEMORY).await;
}

async fn flood_before_keys(mut wire: Wire, payload: Payload) -> io::Result<()> {
    wire.identify().await?;
    wire.stop_listening();
    wire.flood(&payload).await
}

async fn flood_at_login(mut wire: Wire, payload: Payload) -> io::Result<()> {
    wire.until_login(&Exchange::default()).await?;
    wire.stop_listening();
    wire.flood(&payload).await
}

#[tokio::test]
async fn floods_before_the_login_end_with_the_time_of_connecting() {
    for (name, payload) in meaningless() {
        let flood = payload.clone();
        let attack = format!("flood of {name} before the keys");
        at_connect(
            &attack,
            move |wire| flood_before_keys(wire, flood.clone()),
            &["connect_timeout", "connection_lost"],
            MEMORY,
        )
        .await;
        let attack = format!("flood of {name} at the login");
        at_connect(&attack, move |wire| flood_at_login(wire, payload.clone()), TIMEOUT, MEMORY).await;
    }
}

/// Messages that may come at any time and mean nothing.
fn meaningless() -> [(&'static str, Payload); 3] {
    [
        ("IGNORE", Payload::new(msg::IGNORE).string([0; 1000])),
        ("DEBUG", Payload::new(msg::DEBUG).byte(1).string("debug").string("en")),
        ("UNIMPLEMENTED", Payload::new(msg::UNIMPLEMENTED).u32(0)),
    ]
}

#[tokio::test]
async fn floods_of_the_login_end_with_the_time_of_connecting() {
    let floods = [
        ("a million banners", Payload::new(msg::USERAUTH_BANNER).string("banner").string("")),
        ("banners of 200 KB", Payload::new(msg::USERAUTH_BANNER).string([b'b'; 200_000]).string("")),
        (
            "a million prompts nobody asked for",
            Payload::new(msg::USERAUTH_INFO_REQUEST)
                .string("")
                .string("")
                .string("")
                .u32(1)
                .string("Password: ")
                .byte(0),
        ),
        (
            "a packet of 52,000 prompts",
            Payload::new(msg::USERAUTH_INFO_REQUEST).string("").string("").string("").u32(52_000).raw([0; 5 * 50_000]),
        ),
        ("keepalives", Payload::new(msg::GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1)),
        ("channels before the login", Payload::new(msg::CHANNEL_OPEN).string("session").u32(0).u32(1).u32(1)),
        ("unknown messages", Payload::new(242).raw("what?")),
    ];
    for (attack, payload) in floods {
        at_connect(
            attack,
            move |wire| flood_at_login(wire, payload.clone()),
            &["connect_timeout", "connection_lost"],
            MEMORY,
        )
        .await;
    }
    let refusals = Payload::new(msg::USERAUTH_FAILURE).string("password,publickey").byte(0);
    at_connect("a flood of refusals", move |wire| flood_at_login(wire, refusals.clone()), &["auth_failed"], MEMORY)
        .await;
    let partial = Payload::new(msg::USERAUTH_FAILURE).string("x,".repeat(100_000)).byte(1);
    at_connect(
        "refusals with 100,000 methods",
        move |wire| flood_at_login(wire, partial.clone()),
        &["auth_failed", "connection_lost"],
        MEMORY,
    )
    .await;
    let extensions = |mut wire: Wire| async move {
        wire.handshake(&Exchange::default()).await?;
        let pairs = [0; 8 * 30_000];
        wire.flood(&Payload::new(msg::EXT_INFO).u32(30_000).raw(pairs)).await
    };
    at_connect("EXT_INFO with 30,000 extensions", extensions, &["connection_lost"], MEMORY).await;
    let algorithms = |mut wire: Wire| async move {
        wire.handshake(&Exchange::default()).await?;
        let list = "ssh-ed25519,".repeat(20_000);
        wire.flood(&Payload::new(msg::EXT_INFO).u32(1).string("server-sig-algs").string(list)).await
    };
    at_connect("EXT_INFO with 20,000 algorithms", algorithms, &["connection_lost"], MEMORY).await;
    let liar = |mut wire: Wire| async move {
        wire.handshake(&Exchange::default()).await?;
        wire.send(&Payload::new(msg::EXT_INFO).u32(u32::MAX).u32(u32::MAX)).await?;
        wire.hold().await
    };
    at_connect("EXT_INFO that lies", liar, &["connection_lost"], MEMORY).await;
    let early = |mut wire: Wire| async move {
        wire.handshake(&Exchange::default()).await?;
        wire.send(&Payload::new(msg::USERAUTH_SUCCESS)).await?;
        wire.hold().await
    };
    at_connect("success before any request", early, &["connection_lost"], MEMORY).await;
    let storm = |mut wire: Wire| async move {
        wire.until_login(&Exchange::default()).await?;
        loop {
            wire.exchange_keys(&Exchange::default()).await?;
        }
    };
    at_connect("key exchanges without end", storm, TIMEOUT, MEMORY).await;
}
