//! What must hold, and what is known so far: every command with its history, every fault, every violation.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::truth::{Script, Truth, Written, processes, running};
use crate::support::{session::text, wait::holds_within};

/// After so many violations the run ends: what follows is the same.
const ENOUGH: usize = 8;
/// A loss is noticed, and a command on a lost connection fails, up to so long after the fault itself is over.
const AFTERMATH: Duration = Duration::from_secs(12);
/// So many newer commands of the same principal may push a record out (their output counts too).
const KEPT: usize = 20;

/// The invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Every id has exactly one final state, the same for everybody who asks.
    OneFinalState,
    /// Output is a prefix of what the host says, and all of it where the command completed.
    OutputIsTrue,
    /// Nothing runs after its end was confirmed.
    NothingAfterTheEnd,
    /// Nothing runs twice, and what is said not to have started has not.
    NothingTwice,
    /// Every call has one reply.
    RepliesOnce,
    /// Descriptors, threads and memory return to base.
    BackToBase,
    /// Nothing fails where no fault was.
    NothingFailsAlone,
    /// What is another principal's does not exist.
    OthersAreNotThere,
}

/// Who runs a command, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scene {
    /// The program of ours, and which start of it.
    pub(crate) station: &'static str,
    pub(crate) generation: u64,
    pub(crate) principal: &'static str,
    pub(crate) host: &'static str,
    pub(crate) session: String,
}

/// How a command ended, as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) status: String,
    pub(crate) code: Option<String>,
    told: String,
    pub(crate) confirmed: bool,
}

impl End {
    /// Nothing where it still runs.
    fn of(view: &Value) -> Option<Self> {
        let status = text(&view["status"]);
        let told =
            ["exit_code", "exit_signal", "timed_out", "stdout_bytes", "stderr_bytes"].map(|key| view[key].to_string());
        let unsure = view["notices"].to_string().contains("may still run") || view["remote_ended"] == false;
        let ended = view["exit_code"].is_u64() || view["timed_out"] == true;
        (status != "running").then(|| Self {
            confirmed: (status == "completed" && ended && !unsure) || view["remote_ended"] == true,
            code: view["error"]["code"].as_str().map(str::to_owned),
            told: told.join(" "),
            status,
        })
    }

    /// By itself, and the host said so.
    fn exited(&self) -> bool {
        !self.told.starts_with("null")
    }

    fn timed_out(&self) -> bool {
        self.told.contains(" true ")
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.status, &self.code, &self.told) == (&other.status, &other.code, &other.told)
    }
}

/// Why a command may end other than by itself.
struct Excuses {
    since: Duration,
    asked: bool,
    closed: Vec<String>,
}

/// A view without its output.
fn brief(view: &Value) -> String {
    let mut view = view.clone();
    for stream in ["stdout", "stderr"] {
        if let Some(shown) = view[stream].as_str() {
            view[stream] = format!("{} characters", shown.len()).into();
        }
    }
    view.to_string()
}

/// A command and all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) script: Script,
    pub(crate) scene: Scene,
    pub(crate) id: Option<String>,
    pub(crate) end: Option<End>,
    /// It did not start, as an error said.
    pub(crate) refused: bool,
    pub(crate) issued: Duration,
    /// Somebody asked for its end.
    asked: bool,
    /// How many its principal had issued before.
    number: usize,
    /// What stood in its files when its end was confirmed.
    written: Option<Written>,
    history: Vec<String>,
}

/// A fault on a host: from when, until when.
struct Strike {
    host: &'static str,
    from: Duration,
    to: Duration,
}

#[derive(Default)]
struct Inner {
    /// By tag.
    records: HashMap<String, Record>,
    /// Tags by id; ids stay after their records.
    ids: HashMap<String, String>,
    issued: HashMap<(&'static str, &'static str), usize>,
    strikes: Vec<Strike>,
    faults: BTreeMap<&'static str, usize>,
    operations: BTreeMap<&'static str, usize>,
    checks: BTreeMap<Rule, usize>,
    violations: Vec<Rule>,
    /// One tag may break one rule once; more would say the same.
    told: Vec<(Rule, String)>,
    /// Sessions that were closed on purpose, and programs that were ended: `station generation`.
    closed: Vec<String>,
}

/// One run.
pub(crate) struct Model {
    pub(crate) seed: u64,
    pub(crate) truth: Truth,
    begun: Instant,
    over: AtomicBool,
    inner: Mutex<Inner>,
}

impl Model {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, truth: Truth::new(), begun: Instant::now(), over: AtomicBool::new(false), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic")
    }

    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Enough was found.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub(crate) fn operation(&self, kind: &'static str) {
        *self.lock().operations.entry(kind).or_default() += 1;
    }

    /// A fault that lasts from now on for so long.
    pub(crate) fn strike(&self, kind: &'static str, hosts: &[&'static str], lasts: Duration) {
        let now = self.now();
        let mut inner = self.lock();
        *inner.faults.entry(kind).or_default() += 1;
        inner.strikes.extend(hosts.iter().map(|host| Strike { host, from: now, to: now + lasts }));
    }

    /// A session, or all of a start of a program, is ended on purpose: what runs there may be cancelled from now on.
    pub(crate) fn closing(&self, what: String) {
        self.lock().closed.push(what);
    }

    /// Whether a fault on that host may have touched what has gone on since then.
    pub(crate) fn struck(&self, host: &str, since: Duration) -> bool {
        self.lock().strikes.iter().any(|strike| strike.host == host && strike.to + AFTERMATH >= since)
    }

    /// Notes that a command is about to be asked for.
    pub(crate) fn issue(&self, script: &Script, scene: &Scene) {
        let issued = self.now();
        let mut inner = self.lock();
        let number = inner.issued.entry((scene.station, scene.principal)).or_default();
        *number += 1;
        let record = Record {
            script: script.clone(),
            scene: scene.clone(),
            id: None,
            end: None,
            refused: false,
            issued,
            asked: false,
            number: *number,
            written: None,
            history: vec![format!("{issued:?} asked for on {} through {scene:?}", scene.host)],
        };
        inner.records.insert(script.tag.clone(), record);
    }

    pub(crate) fn record(&self, tag: &str) -> Record {
        self.lock().records[tag].clone()
    }

    /// Waits until nothing of these commands runs, but for those that a fault may have cut off.
    pub(crate) async fn check_gone(&self, bound: Duration, own: impl Fn(&Record) -> bool, why: &str) {
        let tags: Vec<_> = {
            let inner = self.lock();
            let found = inner.records.iter().filter(|(_, record)| own(record));
            found.map(|(tag, record)| (tag.clone(), record.scene.host, record.issued)).collect()
        };
        // All of them at one look: a look at every process of the machine takes its time.
        let left = || {
            let running = running();
            let fair = tags.iter().filter(|(_, host, issued)| !self.struck(host, *issued));
            fair.map(|(tag, ..)| tag.clone()).filter(|tag| running.contains(tag)).collect::<Vec<_>>()
        };
        holds_within(bound, async || left().is_empty()).await;
        let left = left();
        for (tag, ..) in &tags {
            let gone = !left.contains(tag);
            self.holds(Rule::NothingAfterTheEnd, tag, gone, || format!("{why}, and it runs on"));
        }
    }

    /// Whether a session was closed on purpose.
    pub(crate) fn is_closed(&self, session: &str) -> bool {
        self.lock().closed.iter().any(|closed| closed == session)
    }

    /// The tags of all commands that are not forgotten.
    pub(crate) fn tags(&self) -> Vec<String> {
        let mut tags: Vec<_> = self.lock().records.keys().cloned().collect();
        tags.sort();
        tags
    }

    /// An ended command of this program whose record must still be there, if any: the one that stands at this place.
    pub(crate) fn ended_on(&self, station: &str, generation: u64, at: usize) -> Option<(String, Record)> {
        let inner = self.lock();
        let is = |record: &&Record| {
            let scene = &record.scene;
            let newest = inner.issued.get(&(scene.station, scene.principal)).copied().unwrap_or(0);
            let fits = scene.station == station && scene.generation == generation;
            fits && record.end.is_some() && record.number + KEPT / 2 >= newest
        };
        let mut found: Vec<_> = inner.records.values().filter(is).collect();
        found.sort_by_key(|record| (&record.scene.principal, record.number));
        let record = (*found.get(at % found.len().max(1))?).clone();
        Some((record.id.clone()?, record))
    }

    /// Whether the record may have been pushed out by now.
    pub(crate) fn may_be_gone(&self, record: &Record) -> bool {
        let inner = self.lock();
        let newest = inner.issued.get(&(record.scene.station, record.scene.principal)).copied().unwrap_or(0);
        record.number + KEPT < newest
    }

    pub(crate) fn note(&self, tag: &str, what: &str) {
        let line = format!("{:?} {}", self.now(), what.chars().take(1_500).collect::<String>());
        if let Some(record) = self.lock().records.get_mut(tag) {
            record.history.push(line);
        }
    }

    /// What a view of a command says: its id, and its end if it has one.
    pub(crate) fn saw(&self, tag: &str, by: &str, view: &Value) {
        self.note(tag, &format!("{by}: {}", brief(view)));
        let id = text(&view["command_id"]);
        let mut wrong = Vec::new();
        let mut inner_guard = self.lock();
        let known = inner_guard.ids.entry(id.clone()).or_insert_with(|| tag.to_owned()).clone();
        if known != tag {
            wrong.push(format!("its id {id} was given to {known} too"));
        }
        let closed = inner_guard.closed.clone();
        let inner = &mut *inner_guard;
        let Some(record) = inner.records.get_mut(tag) else { return };
        if record.id.get_or_insert(id.clone()) != &id {
            wrong.push(format!("it has a second id, {id}"));
        }
        let end = if view.get("status").is_some() { End::of(view) } else { None };
        match (&record.end, end) {
            (Some(before), None) if view.get("status").is_some() => {
                wrong.push(format!("it runs again after {before:?}"))
            }
            (Some(before), Some(now)) if !before.is_same(&now) => wrong.push(format!("{before:?} became {now:?}")),
            (None, Some(end)) => {
                if view["notices"].to_string().contains("No space left") {
                    *inner.faults.entry("full disk").or_default() += 1;
                }
                if end.confirmed {
                    record.written = Some(self.truth.written(tag));
                }
                record.end = Some(end);
            }
            _ => {}
        }
        let (scene, end) = (record.scene.clone(), record.end.clone());
        let may = Excuses { since: record.issued, asked: record.asked, closed };
        drop(inner_guard);
        self.check_totals(tag, view, end.as_ref());
        self.holds(Rule::OneFinalState, tag, wrong.is_empty(), || wrong.join("; "));
        if let Some(end) = end {
            self.check_end(tag, &end, &scene, &may);
        }
    }

    /// The host wrote first, and is looked at last.
    fn check_totals(&self, tag: &str, view: &Value, end: Option<&End>) {
        let told = ["stdout_bytes", "stderr_bytes"].map(|key| view[key].as_u64().unwrap_or(0) as usize);
        let written = self.truth.written(tag);
        let on_host = [written.stdout, written.stderr];
        let cut = view["notices"].to_string().contains("output may be missing");
        let whole = end.is_some_and(|end| end.status == "completed" && end.exited()) && !cut;
        let fine = if whole { told == on_host } else { told[0] <= on_host[0] && told[1] <= on_host[1] };
        let has = view.get("stdout_bytes").is_some();
        self.holds(Rule::OutputIsTrue, tag, fine || !has, || {
            format!("{told:?} bytes are told, the host has {on_host:?}; {end:?}")
        });
    }

    fn check_end(&self, tag: &str, end: &End, scene: &Scene, may: &Excuses) {
        let excused = self.struck(scene.host, may.since);
        let own = [scene.session.clone(), format!("{} {}", scene.station, scene.generation)];
        let closed = own.iter().any(|one| may.closed.contains(one));
        let fine = match end.status.as_str() {
            "failed" => excused || closed,
            "cancelled" => may.asked || closed,
            _ => end.exited() || end.timed_out() || excused,
        };
        self.holds(Rule::NothingFailsAlone, tag, fine, || format!("no fault on {}: {end:?}", scene.host));
        if end.confirmed {
            let left = processes(tag);
            self.holds(Rule::NothingAfterTheEnd, tag, left.is_empty(), || format!("after {end:?} there are {left:?}"));
        }
    }

    /// From now on the command may be cancelled.
    pub(crate) fn ask_for_the_end(&self, tag: &str) {
        if let Some(record) = self.lock().records.get_mut(tag) {
            record.asked = true;
        }
    }

    /// What an answer shows of a stream from an offset on; `omitted` is a gap in it: from where, and how long.
    pub(crate) fn check_output(
        &self,
        tag: &str,
        (stream, offset): (&str, usize),
        bytes: &[u8],
        omitted: (usize, usize),
    ) {
        let truth = self.truth.stream(tag, stream);
        let (before, after) = bytes.split_at(omitted.0.saturating_sub(offset).min(bytes.len()));
        let at = |from: usize, piece: &[u8]| piece.is_empty() || truth.get(from..from + piece.len()) == Some(piece);
        let fine = at(offset, before) && at(offset + before.len() + omitted.1, after);
        self.holds(Rule::OutputIsTrue, tag, fine, || {
            format!(
                "{stream} from {offset}, {} bytes, gap {omitted:?}, host has {}: {:?} ..",
                bytes.len(),
                truth.len(),
                String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
            )
        });
    }

    /// A call that should have started a command was refused with this error.
    pub(crate) fn refused(&self, tag: &str, error: &Value) {
        self.note(tag, &format!("refused: {error}"));
        let Some((scene, issued)) = self.lock().records.get_mut(tag).map(|record| {
            record.refused = true;
            (record.scene.clone(), record.issued)
        }) else {
            return;
        };
        let ours = matches!(error["code"].as_str(), Some("session_closed" | "session_not_found"));
        let fine = ours || self.struck(scene.host, issued);
        self.holds(Rule::NothingFailsAlone, tag, fine, || format!("no fault on {}: {error}", scene.host));
    }

    /// Looks at one rule; prints what is wrong with the seed, the operation and the history of the id.
    pub(crate) fn holds(&self, rule: Rule, tag: &str, fine: bool, what: impl FnOnce() -> String) {
        *self.lock().checks.entry(rule).or_default() += 1;
        if !fine {
            self.violated(rule, tag, &what());
        }
    }

    #[expect(clippy::print_stderr, reason = "a violation is told when it is found")]
    fn violated(&self, rule: Rule, tag: &str, what: &str) {
        let now = self.now();
        let mut inner = self.lock();
        let key = (rule, if tag == "-" { what.to_owned() } else { tag.to_owned() });
        if inner.told.contains(&key) || inner.violations.len() >= ENOUGH {
            return;
        }
        inner.told.push(key);
        inner.violations.push(rule);
        let enough = inner.violations.len() >= ENOUGH;
        let history = inner.records.get(tag).map(|record| record.history.join("\n    ")).unwrap_or_default();
        let lately = inner.strikes.iter().filter(|strike| strike.to + AFTERMATH >= now);
        let strikes: Vec<_> =
            lately.map(|strike| format!("{} {:?}..{:?}", strike.host, strike.from, strike.to)).collect();
        drop(inner);
        eprintln!(
            "VIOLATED {rule:?} at {now:?}, seed {}, operation {tag}: {what}\n  on the host: {:?} {:?}, running: {:?}\n  \
             faults lately: {}\n  history:\n    {history}",
            self.seed,
            self.truth.runs(tag),
            self.truth.written(tag),
            processes(tag),
            strikes.join(", ")
        );
        if enough {
            self.over.store(true, Ordering::SeqCst);
        }
    }

    /// What the end of a round asks of a command that is over, on the host too; then it is forgotten.
    pub(crate) fn close(&self, tag: &str) {
        let record = self.record(tag);
        let (begun, ended) = self.truth.runs(tag);
        self.holds(Rule::NothingTwice, tag, begun <= 1, || format!("it began {begun} times"));
        let end = record.end.as_ref();
        let not_started =
            record.refused || end.is_some_and(|end| end.code.as_deref().is_some_and(|code| code != "outcome_unknown"));
        self.holds(Rule::NothingTwice, tag, !not_started || begun == 0, || {
            format!("it did not start, they say: {end:?}")
        });
        let exited = end.is_some_and(|end| end.status == "completed" && end.exited());
        let exit = end.is_some_and(|end| end.told.starts_with(&format!("{} ", record.script.exit)));
        let fine = !exited || (exit && (begun, ended) == (1, 1));
        self.holds(Rule::NothingTwice, tag, fine, || format!("{end:?}, but {begun} starts and {ended} ends"));
        if let Some(written) = record.written {
            let now = self.truth.written(tag);
            self.holds(Rule::NothingAfterTheEnd, tag, now == written, || format!("{written:?} has become {now:?}"));
        }
        self.truth.forget(tag);
        self.lock().records.remove(tag);
    }

    pub(crate) fn violations(&self) -> Vec<Rule> {
        self.lock().violations.clone()
    }

    /// Operations, faults and checks, for people.
    pub(crate) fn summary(&self) -> String {
        let inner = self.lock();
        let table = |of: &BTreeMap<&'static str, usize>| {
            of.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
        };
        let checks: Vec<_> = inner.checks.iter().map(|(rule, count)| format!("{rule:?} {count}")).collect();
        let commands: usize = inner.issued.values().sum();
        let total = |of: &BTreeMap<&'static str, usize>| of.values().sum::<usize>();
        format!(
            "operations {} ({}); commands {commands}, ids {}\nfaults {} ({})\nchecks {}\nviolations {:?}",
            total(&inner.operations),
            table(&inner.operations),
            inner.ids.len(),
            total(&inner.faults),
            table(&inner.faults),
            checks.join(", "),
            inner.violations
        )
    }
}
