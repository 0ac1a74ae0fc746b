//! Random operations of several principals, over all transports, on real servers, while everything around fails; and
//! what must hold meanwhile, checked against what the hosts say.
//!
//! `SSH_MCP_SOAK_SECS=1800 SSH_MCP_SEED=7 cargo test --test it soak -- --nocapture` runs for half an hour and prints how
//! much was done and how resources went. The seed decides for each caller and each kind of fault what it does one after
//! the other, with all sizes, pauses and places; it does not decide when two of them meet: that is the scheduler's. A
//! run for another time does the same in each round as far as it comes.

mod actor;
mod faults;
mod measure;
mod model;
mod operations;
mod pipe;
mod stations;
mod truth;
mod wire;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
};

use self::{
    actor::{Actor, Operation, Role, Slot, Stage},
    faults::{INJECTORS, inject},
    measure::Samples,
    model::{Model, Rule},
    stations::World,
    wire::Speech,
};
use crate::support::{random::Random, wait::holds_within};

/// How long the load lasts in the ordinary suite.
const SECS: u64 = 35;
/// The longest round. After each one everything is closed and looked at.
const ROUND: Duration = Duration::from_secs(45);
/// How long resources may take to come back: threads that wait for blocking work end after 10 s.
const REST_BOUND: Duration = Duration::from_secs(25);
/// More descriptors than at the start: what is opened once and kept, such as the directory of spilled output.
const MORE_DESCRIPTORS: usize = 6;
/// More threads than at the start.
const MORE_THREADS: usize = 2;
/// More memory than at the start: what is kept of ended commands (24 MiB), and as much again for what the allocator has
/// not given back.
const MORE_MEMORY: u64 = 48 << 20;
/// Programs that are never ended, so that their resources can be followed.
const LASTING: [&str; 3] = ["http", "stdio", "stdio-far"];

const ROLES: [Role; 11] = [
    Role { station: "http", speech: Speech::Modern, principal: Some(0), slot: 0 },
    Role { station: "http", speech: Speech::Sse, principal: Some(0), slot: 0 },
    Role { station: "http", speech: Speech::Session, principal: Some(1), slot: 1 },
    Role { station: "http", speech: Speech::Bare, principal: Some(1), slot: 2 },
    Role { station: "http-ended", speech: Speech::Modern, principal: Some(0), slot: 3 },
    Role { station: "http-ended", speech: Speech::Sse, principal: Some(1), slot: 4 },
    Role { station: "stdio", speech: Speech::Stdio, principal: None, slot: 5 },
    Role { station: "stdio", speech: Speech::Stdio, principal: None, slot: 6 },
    Role { station: "stdio-ended", speech: Speech::Stdio, principal: None, slot: 7 },
    Role { station: "stdio-far", speech: Speech::Stdio, principal: None, slot: 8 },
    Role { station: "stdio-far", speech: Speech::Stdio, principal: None, slot: 9 },
];

/// Hosts and users of the slots.
const SLOTS: [(&str, &str); 10] = [
    ("first", "ordinary"),
    ("first", "root"),
    ("few", "ordinary"),
    ("third", "ordinary"),
    ("third", "root"),
    ("first", "ordinary"),
    ("few", "root"),
    ("third", "ordinary"),
    ("far", "ordinary"),
    ("near", "ordinary"),
];

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_invariant_holds_under_random_operations_and_faults() {
    let seed = setting("SSH_MCP_SEED").unwrap_or_else(|| {
        let mut seed = [0; 4];
        getrandom::fill(&mut seed).expect("random bytes");
        u32::from_le_bytes(seed).into()
    });
    let time = Duration::from_secs(setting("SSH_MCP_SOAK_SECS").unwrap_or(SECS));
    say(&format!("soak: seed {seed}, {time:?}"));
    let model = Arc::new(Model::new(seed));
    let Some(world) = World::start(&model).await else { return };
    let (echo, echoing) = echo().await;
    let slot = |(host, user)| Slot { host, user, session: tokio::sync::Mutex::default() };
    let mark = format!("{:x}", std::process::id());
    let slots = SLOTS.into_iter().map(slot).collect();
    let stage = Arc::new(Stage { model: Arc::clone(&model), world, slots, echo, mark });
    let mut run = Run { actors: actors(&stage), stage, resting: BTreeMap::new(), loaded: BTreeMap::new() };
    run.warm_up().await;

    let end = Instant::now() + time;
    let mut round = 0;
    while Instant::now() < end && !model.is_over() {
        run.round(round, end.min(Instant::now() + ROUND)).await;
        round += 1;
    }
    echoing.abort();
    run.finish(round);
}

#[expect(clippy::print_stdout, reason = "who soaks wants to know the seed and what was done")]
fn say(what: &str) {
    println!("{what}");
}

/// One run: the callers, and what was measured.
struct Run {
    stage: Arc<Stage>,
    actors: Vec<Actor>,
    /// With everything closed.
    resting: BTreeMap<&'static str, Samples>,
    /// Under load.
    loaded: BTreeMap<&'static str, Samples>,
}

fn actors(stage: &Arc<Stage>) -> Vec<Actor> {
    let there = ROLES.into_iter().filter(|role| stage.world.host(SLOTS[role.slot].0).is_some());
    let actor = |role| Actor { stage: Arc::clone(stage), role, wire: None, left: Vec::new() };
    there.map(actor).collect()
}

impl Run {
    /// Everything is used once; what it takes then is the base.
    async fn warm_up(&mut self) {
        let mut random = Random::new(1);
        for (number, actor) in self.actors.iter_mut().enumerate() {
            let tag = format!("x{}w{number}", actor.stage.mark);
            assert!(actor.execute_first(Operation { tag, random: &mut random }).await.is_ok(), "nothing works");
        }
        self.rest().await;
    }

    async fn round(&mut self, round: u64, end: Instant) {
        let stage = Arc::clone(&self.stage);
        let (over, seen) = watch::channel(false);
        let numbers = |of: u64| Random::new(mixed(&[stage.model.seed, round, 1_000 + of]));
        let injecting =
            join_all((0..INJECTORS).map(|injector| inject(&stage, injector, numbers(injector as u64), seen.clone())));
        let callers = std::mem::take(&mut self.actors).into_iter().enumerate();
        let acting = join_all(callers.map(|(number, actor)| act(actor, (round, number as u64), end)));
        let watching = async {
            while Instant::now() < end && !stage.model.is_over() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.sample(false);
            }
            over.send_replace(true);
        };
        let faults = async {
            tokio::join!(watching, injecting);
            stage.world.heal();
        };
        (_, self.actors) = tokio::join!(faults, acting);
        self.settle().await;
        self.rest().await;
        if round % 4 == 3 {
            say(&format!("after round {round}, {:?}: {}", stage.model.now(), stage.model.summary()));
        }
    }

    /// Every command comes to its end, and is compared with what the host says.
    async fn settle(&mut self) {
        let model = Arc::clone(&self.stage.model);
        for actor in &mut self.actors {
            for tag in std::mem::take(&mut actor.left) {
                let _ = actor.follow(&tag).await;
            }
        }
        for tag in model.tags() {
            let record = model.record(&tag);
            let scene = &record.scene;
            let lasts = self
                .stage
                .world
                .station(scene.station)
                .is_some_and(|station| station.current().number == scene.generation);
            let begun = model.truth.runs(&tag).0;
            if lasts && record.end.is_none() && !record.refused && (begun > 0 || record.id.is_some()) {
                let own = self
                    .actors
                    .iter_mut()
                    .find(|actor| actor.role.station == scene.station && actor.principal().0 == scene.principal);
                let Some(actor) = own else { continue };
                if record.id.is_some() || actor.find(&tag).await.is_ok_and(|found| found) {
                    let _ = actor.follow(&tag).await;
                }
            }
            model.close(&tag);
        }
    }

    /// All sessions are closed; what the programs hold comes back to the base.
    async fn rest(&mut self) {
        let model = Arc::clone(&self.stage.model);
        for actor in &mut self.actors {
            let _ = actor.disconnect().await;
        }
        for actor in &mut self.actors {
            let what = format!("{:?}", actor.role);
            for (tool, arguments) in
                [("ssh_list_sessions", json!({})), ("ssh_list_commands", json!({"status": "running"}))]
            {
                let count = actor.call(tool, arguments).await.map(|answer| answer.content["count"].clone());
                let fine = count.as_ref().is_ok_and(|count| *count == 0);
                model.holds(Rule::BackToBase, "-", fine, || format!("{what}: {tool} still counts {count:?}"));
            }
        }
        for name in LASTING {
            let Some(station) = self.stage.world.station(name) else { continue };
            let base = self.resting.get(name).and_then(Samples::first);
            let fits = || {
                let now = station.resources();
                base.is_none_or(|base| {
                    now.descriptors <= base.descriptors + MORE_DESCRIPTORS && now.threads <= base.threads + MORE_THREADS
                })
            };
            let fine = holds_within(REST_BOUND, async || fits()).await;
            model
                .holds(Rule::BackToBase, "-", fine, || format!("{name}: {:?}, at first {base:?}", station.resources()));
        }
        self.sample(true);
    }

    fn sample(&mut self, resting: bool) {
        let now = self.stage.model.now();
        let into = if resting { &mut self.resting } else { &mut self.loaded };
        for name in LASTING {
            if let Some(station) = self.stage.world.station(name) {
                into.entry(name).or_default().push(now, station.resources());
            }
        }
    }

    /// Memory over the whole run, the summary, and the verdict.
    fn finish(&self, rounds: u64) {
        let model = &self.stage.model;
        for (name, samples) in &self.resting {
            let now = self.stage.world.station(name).map_or(0, |station| station.resources().memory);
            let grown = samples.first().map_or(0, |first| now.saturating_sub(first.memory));
            let what = || format!("{name} has {grown} bytes more than at first");
            model.holds(Rule::BackToBase, "-", grown < MORE_MEMORY, what);
            let steady = samples.from(samples.len() / 3);
            let loaded = self.loaded.get(name).map(Samples::line).unwrap_or_default();
            say(&format!("{name} at rest, last two thirds: {}\n{name} under load: {loaded}", steady.line()));
        }
        say(&format!("soak: seed {}, {rounds} rounds, {:?}\n{}", model.seed, model.now(), model.summary()));
        assert!(model.violations().is_empty(), "seed {}: {:?}", model.seed, model.violations());
    }
}

/// One caller's round.
async fn act(mut actor: Actor, (round, number): (u64, u64), end: Instant) -> Actor {
    // Beside other tests there is to be some room for them.
    let haste = if setting("SSH_MCP_SOAK_SECS").is_some() { 4 } else { 1 };
    let mut at = 0;
    while Instant::now() < end && !actor.stage.model.is_over() {
        // Numbers of its own for each operation: how one goes does not change the next.
        let mut random = Random::new(mixed(&[actor.stage.model.seed, round, number, at]));
        let pause = Duration::from_millis(random.below(400) as u64) / haste;
        let tag = format!("x{}r{round}a{number}o{at}", actor.stage.mark);
        let _ = actor.operate(Operation { tag, random: &mut random }).await;
        tokio::time::sleep(pause).await;
        at += 1;
    }
    actor
}

/// One number of many.
fn mixed(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |mixed, number| Random::new(mixed ^ number).next())
}

/// What comes to a port goes back.
async fn echo() -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let mut piece = vec![0; 16 << 10];
                while let Ok(read @ 1..) = from.read(&mut piece).await {
                    if to.write_all(&piece[..read]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (port, serving)
}
