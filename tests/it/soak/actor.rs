//! A caller: it does one random operation after another, and looks at everything that it is told.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{
    model::{Model, Rule, Scene},
    stations::{TOKENS, World},
    truth::{Body, Script},
    wire::{Answer, Gone, Speech, Wire},
};
use crate::support::{random::Random, session::text, wait::holds_within};

/// Who an actor is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    pub(crate) station: &'static str,
    pub(crate) speech: Speech,
    /// Which of the principals; nothing on stdio, which has one.
    pub(crate) principal: Option<usize>,
    pub(crate) slot: usize,
}

/// A session that actors of one principal share.
pub(crate) struct Slot {
    pub(crate) host: &'static str,
    pub(crate) user: &'static str,
    /// Which start of the program has it, and its id.
    pub(crate) session: tokio::sync::Mutex<Option<(u64, String)>>,
}

/// What all actors share.
pub(crate) struct Stage {
    pub(crate) model: Arc<Model>,
    pub(crate) world: World,
    pub(crate) slots: Vec<Slot>,
    /// What comes to this port of 127.0.0.1 goes back.
    pub(crate) echo: u16,
    /// Different in each process, so that two runs do not take each other's commands for their own.
    pub(crate) mark: String,
}

/// One operation: everything random about it was drawn from its own numbers.
pub(crate) struct Operation<'a> {
    pub(crate) tag: String,
    pub(crate) random: &'a mut Random,
}

/// One caller.
pub(crate) struct Actor {
    pub(crate) stage: Arc<Stage>,
    pub(crate) role: Role,
    pub(crate) wire: Option<Wire>,
    /// Commands that were left to themselves.
    pub(crate) left: Vec<String>,
}

impl Actor {
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.stage.model
    }

    pub(crate) fn principal(&self) -> (&'static str, &'static str) {
        self.role.principal.map_or(("stdio", ""), |at| TOKENS[at])
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.stage.slots[self.role.slot]
    }

    /// The client, of the program that runs now.
    pub(crate) async fn wire(&mut self) -> Result<&Wire, Gone> {
        let stage = Arc::clone(&self.stage);
        let station = stage.world.station(self.role.station).ok_or(Gone)?;
        let alive = async || !station.current().ending.load(Ordering::SeqCst);
        if !holds_within(Duration::from_secs(30), alive).await {
            return Err(Gone);
        }
        let current = station.current();
        if self.wire.as_ref().is_none_or(|wire| wire.generation.number != current.number) {
            self.wire = Some(Wire::new(&stage.model, current, self.role.speech, self.principal().1).await?);
        }
        self.wire.as_ref().ok_or(Gone)
    }

    /// The client, if the program is still that one: what is known of an older one means nothing to its successor.
    pub(crate) async fn same(&mut self, generation: u64) -> Result<&Wire, Gone> {
        let wire = self.wire().await?;
        if wire.generation.number == generation { Ok(wire) } else { Err(Gone) }
    }

    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Result<Answer, Gone> {
        self.wire().await?.call(tool, arguments).await
    }

    /// The session of the slot, opened where there is none; nothing where a fault prevents that.
    pub(crate) async fn session(&mut self) -> Result<Option<String>, Gone> {
        let stage = Arc::clone(&self.stage);
        let slot = &stage.slots[self.role.slot];
        let generation = self.wire().await?.generation.number;
        let mut held = slot.session.lock().await;
        if let Some((_, id)) = held.as_ref().filter(|(number, _)| *number == generation) {
            return Ok(Some(id.clone()));
        }
        let host = stage.world.host(slot.host).expect("a slot has a host");
        let since = stage.model.now();
        let answer = self.call("ssh_connect", host.login(slot.user)).await?;
        if answer.is_error {
            let fine = stage.model.struck(slot.host, since);
            stage
                .model
                .holds(Rule::NothingFailsAlone, "-", fine, || format!("connect to {}: {}", slot.host, answer.content));
            return Ok(None);
        }
        let id = text(&answer.content["session_id"]);
        *held = Some((generation, id.clone()));
        Ok(Some(id))
    }

    /// The session was closed: the next use opens another.
    pub(crate) async fn forget(&mut self, session: &str) {
        let mut held = self.slot().session.lock().await;
        if held.as_ref().is_some_and(|(_, id)| id == session) {
            *held = None;
        }
    }

    /// Gets ready to run a command; nothing where there is no session now.
    pub(crate) async fn issue(&mut self, script: &Script) -> Result<Option<(Scene, Value)>, Gone> {
        let Some(session) = self.session().await? else { return Ok(None) };
        let generation = self.wire().await?.generation.number;
        let (station, principal, host) = (self.role.station, self.principal().0, self.slot().host);
        let scene = Scene { station, generation, principal, host, session };
        self.model().issue(script, &scene);
        let mut arguments = json!({"session_id": scene.session, "command": self.model().truth.command(script)});
        if let Body::Echo { text } = &script.body {
            arguments["stdin"] = json!(text);
        }
        Ok(Some((scene, arguments)))
    }

    /// Takes in what a call about a command said. True where there is a command.
    pub(crate) async fn learn(&mut self, tag: &str, by: &str, answer: &Answer) -> bool {
        if answer.is_error && answer.content.get("command_id").is_none() {
            self.model().refused(tag, &answer.content);
            if answer.code().starts_with("session_") {
                let session = self.model().record(tag).scene.session;
                self.forget(&session).await;
            }
            return false;
        }
        self.model().saw(tag, by, &answer.content);
        let view = &answer.content;
        for stream in ["stdout", "stderr"] {
            let whole = view["truncated"] == false && view["status"] != "running" && view["encoding"].is_null();
            let offset = format!("{stream}_offset");
            if let (true, Some(shown)) = (whole, view[stream].as_str()) {
                let from = view[offset].as_u64().unwrap_or(0) as usize;
                self.model().check_output(tag, (stream, from), shown.as_bytes(), (usize::MAX, 0));
            }
        }
        true
    }

    /// Asks for a command once; nothing where its record is gone.
    pub(crate) async fn look(&mut self, tag: &str, more: Value) -> Result<Option<Answer>, Gone> {
        let record = self.model().record(tag);
        let Some(id) = record.id.clone() else { return Ok(None) };
        let mut arguments = json!({"command_id": id});
        arguments.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let wire = self.same(record.scene.generation).await?;
        let answer = wire.call("ssh_get_command_output", arguments).await?;
        if answer.is_error {
            let gone = answer.code() == "command_not_found" && self.model().may_be_gone(&record);
            self.model().holds(Rule::OneFinalState, tag, gone, || format!("asked for it: {}", answer.content));
            return Ok(None);
        }
        self.learn(tag, "output", &answer).await;
        Ok(Some(answer))
    }

    /// Waits until a command has ended.
    pub(crate) async fn follow(&mut self, tag: &str) -> Result<(), Gone> {
        let begun = self.model().now();
        while self.model().record(tag).end.is_none() {
            if self.look(tag, json!({"wait_timeout_secs": 3})).await?.is_none() {
                break;
            }
            let late = self.model().now() - begun > Duration::from_secs(120);
            self.model().holds(Rule::OneFinalState, tag, !late, || "no end within two minutes".to_owned());
            if late {
                break;
            }
        }
        Ok(())
    }

    /// Reads stdout from an offset, exactly.
    pub(crate) async fn read(&mut self, tag: &str, stream: &str, from: usize) -> Result<usize, Gone> {
        let offset = format!("{stream}_offset");
        let arguments = json!({offset.as_str(): from, "max_bytes": 40_000, "encoding": "base64"});
        let Some(answer) = self.look(tag, arguments).await? else { return Ok(0) };
        let view = answer.content;
        let number = |key: &str| view[key].as_u64().map(|value| value as usize);
        let bytes = view[stream].as_str().and_then(|shown| BASE64.decode(shown.as_bytes()).ok());
        let (Some(bytes), Some(at)) = (bytes, number(&offset)) else {
            self.model().holds(Rule::OutputIsTrue, tag, false, || format!("no {stream}: {view}"));
            return Ok(0);
        };
        let gap = (number(&format!("{stream}_omitted_from")), number(&format!("{stream}_omitted_bytes")));
        let gap = (gap.0.filter(|from| *from >= at).unwrap_or(usize::MAX), gap.1.unwrap_or(0));
        self.model().check_output(tag, (stream, at), &bytes, gap);
        // What was written before this place cannot be left out, unless the disk was full.
        Ok(number(&format!("next_{stream}_offset")).unwrap_or(0))
    }

    /// The id of a command that was asked for by a call without an answer, from the list.
    pub(crate) async fn find(&mut self, tag: &str) -> Result<bool, Gone> {
        let record = self.model().record(tag);
        let mark = format!("SOAK={tag};");
        for attempt in 0..6 {
            let wire = self.same(record.scene.generation).await?;
            let listed = wire.call("ssh_list_commands", json!({"session_id": record.scene.session})).await?;
            let rows = listed.content["commands"].as_array().cloned().unwrap_or_default();
            let row = rows.iter().find(|row| row["command"].as_str().is_some_and(|line| line.contains(&mark)));
            if let Some(row) = row {
                self.model().saw(tag, "list", &json!({"command_id": row["command_id"]}));
                return Ok(true);
            }
            // Fifty are listed; it may stand behind them on a busy session.
            if listed.content["more"] == true {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
        }
        let begun = self.model().truth.runs(tag).0;
        self.model().holds(Rule::OneFinalState, tag, begun == 0, || "it ran, and no list has it".to_owned());
        Ok(false)
    }
}
