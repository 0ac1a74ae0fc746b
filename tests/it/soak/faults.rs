//! What goes wrong, each kind by its own random numbers and in its own time.

use std::time::Duration;

use tokio::sync::watch;

use super::actor::Stage;
use crate::support::random::Random;

/// The kinds of faults that have random numbers of their own.
pub(crate) const INJECTORS: usize = 5;

/// Brings on faults until the round is over.
pub(crate) async fn inject(stage: &Stage, injector: usize, mut random: Random, mut over: watch::Receiver<bool>) {
    loop {
        let (least, spread) =
            [(500, 4_500), (1_500, 6_000), (2_000, 8_000), (8_000, 12_000), (4_000, 10_000)][injector];
        let pause = Duration::from_millis((least + random.below(spread)) as u64);
        if sleeps(pause, &mut over).await {
            return;
        }
        let lasts = Duration::from_millis(500 + random.below(6_500) as u64);
        let drawn = random.below(12);
        match injector {
            0 => network(stage, drawn, lasts, &mut over).await,
            1 => sshd(stage, drawn, lasts, &mut over).await,
            2 => link(stage, lasts, &mut over).await,
            3 => end(stage, "http-ended", true).await,
            _ => end(stage, "stdio-ended", drawn < 6).await,
        }
    }
}

/// Waits, or until the round is over; whether it is.
async fn sleeps(time: Duration, over: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(time, over.wait_for(|over| *over)).await.is_ok()
}

async fn network(stage: &Stage, drawn: usize, lasts: Duration, over: &mut watch::Receiver<bool>) {
    let name = ["first", "few"][drawn % 2];
    let Some(proxy) = stage.world.host(name).and_then(|host| host.proxy.as_ref()) else { return };
    match drawn / 2 {
        0..3 => {
            stage.model.strike("connections reset", &[name], Duration::ZERO);
            proxy.reset();
        }
        3 => {
            stage.model.strike("slow link", &[name], lasts);
            proxy.drip(true);
            sleeps(lasts, over).await;
            proxy.drip(false);
        }
        _ => {
            stage.model.strike("proxy is silent", &[name], lasts);
            proxy.stall(true);
            sleeps(lasts, over).await;
            proxy.stall(false);
        }
    }
}

async fn sshd(stage: &Stage, drawn: usize, lasts: Duration, over: &mut watch::Receiver<bool>) {
    let name = ["first", "few", "third"][drawn % 3];
    let Some(host) = stage.world.host(name) else { return };
    if drawn / 3 < 3 {
        stage.model.strike("sshd killed", &[name], Duration::ZERO);
        host.sshd.signal_connections("KILL");
    } else {
        stage.model.strike("sshd stopped", &[name], lasts);
        host.sshd.signal_connections("STOP");
        sleeps(lasts, over).await;
        host.sshd.signal_connections("CONT");
    }
}

async fn link(stage: &Stage, lasts: Duration, over: &mut watch::Receiver<bool>) {
    if let Some(link) = &stage.world.link {
        stage.model.strike("link cut", &["far"], lasts);
        link.cut();
        sleeps(lasts, over).await;
        link.mend();
    }
}

async fn end(stage: &Stage, name: &str, by_signal: bool) {
    if let Some(station) = stage.world.station(name) {
        stage.model.strike(if by_signal { "SIGTERM" } else { "end of input" }, &[], Duration::ZERO);
        station.end_and_begin(&stage.model, by_signal).await;
    }
}
