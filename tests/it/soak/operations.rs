//! What actors do.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    actor::{Actor, Operation},
    model::{Record, Rule},
    truth::{Body, Script, processes},
    wire::{Gone, Speech},
};
use crate::support::wait::holds_within;

/// After a call was cancelled by its client, or a session was closed: how long its command may run on.
const GONE_BOUND: Duration = Duration::from_secs(10);

impl Actor {
    /// One operation.
    pub(crate) async fn operate(&mut self, operation: Operation<'_>) -> Result<(), Gone> {
        let chosen = operation.random.below(100);
        let kind = match chosen {
            0..22 => "execute",
            22..30 => "bulk",
            30..36 => "stdin",
            36..52 => "background",
            52..66 => "cancel",
            66..70 => "time limit",
            70..78 => "abandoned call",
            78..80 => "slow reader",
            80..84 => "list",
            84..93 => "look back",
            93..97 => "forward",
            97 => "disconnect",
            _ => "connect again",
        };
        self.model().operation(kind);
        match chosen {
            0..36 => self.execute(operation, kind).await,
            36..52 => self.background(operation).await,
            52..66 => self.cancel(operation).await,
            66..70 => self.time_limit(operation).await,
            70..78 => self.abandon(operation).await,
            78..80 => self.read_late(operation).await,
            80..84 => self.list().await,
            84..93 => self.look_back(operation).await,
            93..97 => self.forward(operation).await,
            97 => self.disconnect().await,
            _ => self.connect_again().await,
        }
    }

    /// A command without any chance in it, to begin with.
    pub(crate) async fn execute_first(&mut self, operation: Operation<'_>) -> Result<(), Gone> {
        self.execute(operation, "execute").await
    }

    async fn execute(&mut self, operation: Operation<'_>, kind: &str) -> Result<(), Gone> {
        let Operation { tag, random } = operation;
        let body = match kind {
            "bulk" => Body::Bulk { lines: random.pick(&[500, 5_000, 40_000, 120_000]) },
            "stdin" => Body::Echo { text: lines(1 + random.below(400)) },
            _ => Body::Lines { count: random.below(12), pause: random.pick(&[0, 0, 5, 40]) },
        };
        let (exit, places) = (random.below(4) as u64, [random.next() as usize, random.next() as usize]);
        let script = Script { tag: tag.clone(), body, exit };
        let Some((scene, arguments)) = self.issue(&script).await? else { return Ok(()) };
        let answer = self.same(scene.generation).await?.call("ssh_execute", arguments).await?;
        if !self.learn(&tag, "execute", &answer).await {
            return Ok(());
        }
        self.follow(&tag).await?;
        self.verify(&tag, places).await
    }

    /// Reads an ended command's streams: the start, two other places, the end.
    async fn verify(&mut self, tag: &str, places: [usize; 2]) -> Result<(), Gone> {
        let total = self.model().truth.stream(tag, "stdout").len();
        self.read(tag, "stderr", 0).await?;
        let next = self.read(tag, "stdout", 0).await?;
        if next > 0 && next < total {
            for place in places {
                self.read(tag, "stdout", place % total).await?;
            }
            self.read(tag, "stdout", total.saturating_sub(20_000)).await?;
        }
        Ok(())
    }

    async fn background(&mut self, operation: Operation<'_>) -> Result<(), Gone> {
        let Operation { tag, random } = operation;
        let body = Body::Lines { count: 1 + random.below(30), pause: random.pick(&[5, 40, 100]) };
        let (polls, leave) = (random.below(4), random.one_in(4));
        let pauses: Vec<_> = (0..polls).map(|_| random.below(300) as u64).collect();
        let (exit, places) = (random.below(4) as u64, [random.next() as usize, random.next() as usize]);
        let script = Script { tag: tag.clone(), body, exit };
        let Some((scene, arguments)) = self.issue(&script).await? else { return Ok(()) };
        let answer = self.same(scene.generation).await?.call("ssh_execute_async", arguments).await?;
        if !self.learn(&tag, "start", &answer).await {
            return Ok(());
        }
        let mut from = 0;
        for pause in pauses {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            from = self.read(&tag, "stdout", from).await?;
        }
        if leave {
            self.left.push(tag);
            return Ok(());
        }
        self.follow(&tag).await?;
        self.verify(&tag, places).await
    }

    async fn cancel(&mut self, operation: Operation<'_>) -> Result<(), Gone> {
        let Operation { tag, random } = operation;
        let body = Body::Long { stubborn: random.one_in(4), below: random.one_in(3) };
        let (delay, twice, places) =
            (random.pick(&[0, 0, 20, 100, 700]), random.one_in(3), [random.next() as usize, 0]);
        let script = Script { tag: tag.clone(), body, exit: 0 };
        let Some((scene, arguments)) = self.issue(&script).await? else { return Ok(()) };
        let answer = self.same(scene.generation).await?.call("ssh_execute_async", arguments).await?;
        if !self.learn(&tag, "start", &answer).await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(delay)).await;
        self.model().ask_for_the_end(&tag);
        let id = json!({"command_id": answer.content["command_id"]});
        let wire = self.same(scene.generation).await?;
        let (one, other) = tokio::join!(wire.call("ssh_cancel_command", id.clone()), async {
            if twice { wire.call("ssh_cancel_command", id.clone()).await.map(Some) } else { Ok(None) }
        });
        let (one, other) = (one?, other?);
        for answer in [Some(one), other].into_iter().flatten() {
            let fine = !answer.is_error;
            self.model().holds(Rule::OneFinalState, &tag, fine, || format!("cancel: {}", answer.content));
            if fine {
                self.learn(&tag, "cancel", &answer).await;
            }
        }
        self.follow(&tag).await?;
        self.verify(&tag, places).await
    }

    async fn time_limit(&mut self, operation: Operation<'_>) -> Result<(), Gone> {
        let Operation { tag, random } = operation;
        let script = Script {
            tag: tag.clone(),
            body: Body::Long { stubborn: random.one_in(3), below: random.one_in(3) },
            exit: 0,
        };
        let Some((scene, mut arguments)) = self.issue(&script).await? else { return Ok(()) };
        arguments["timeout_secs"] = json!(1);
        let answer = self.same(scene.generation).await?.call("ssh_execute", arguments).await?;
        if self.learn(&tag, "execute", &answer).await {
            self.follow(&tag).await?;
            self.verify(&tag, [0, 0]).await?;
        }
        Ok(())
    }

    /// The client goes away in the midst of a call.
    async fn abandon(&mut self, operation: Operation<'_>) -> Result<(), Gone> {
        let Operation { tag, random } = operation;
        let long = random.one_in(2);
        let (after, whole) = (Duration::from_millis(random.below(600) as u64), random.one_in(2));
        let body =
            if long { Body::Long { stubborn: false, below: false } } else { Body::Lines { count: 10, pause: 40 } };
        let script = Script { tag: tag.clone(), body, exit: 2 };
        let Some((scene, arguments)) = self.issue(&script).await? else { return Ok(()) };
        let model = Arc::clone(self.model());
        model.strike("client drop", &[], Duration::ZERO);
        model.ask_for_the_end(&tag);
        self.same(scene.generation).await?;
        let cancels = if whole && self.role.speech == Speech::Sse {
            let wire = self.wire.take().ok_or(Gone)?;
            // The stream itself goes, with everything that was to come on it.
            let _ = timeout(after, wire.call("ssh_execute", arguments)).await;
            false
        } else {
            self.same(scene.generation).await?.abandon("ssh_execute", arguments, after).await
        };
        if !self.find(&tag).await? {
            return Ok(());
        }
        if long && cancels && !model.struck(scene.host, model.record(&tag).issued) {
            let gone = holds_within(GONE_BOUND, async || processes(&tag).is_empty()).await;
            model.holds(Rule::NothingAfterTheEnd, &tag, gone, || "its call was cancelled, and it runs on".to_owned());
        }
        if long && !cancels {
            self.left.push(tag);
            return Ok(());
        }
        self.follow(&tag).await
    }

    async fn read_late(&mut self, operation: Operation<'_>) -> Result<(), Gone> {
        let Operation { tag, random } = operation;
        let after = Duration::from_millis(300 + random.below(2_500) as u64);
        let script = Script { tag: tag.clone(), body: Body::Bulk { lines: 5_000 }, exit: 0 };
        let Some((scene, arguments)) = self.issue(&script).await? else { return Ok(()) };
        let answer = self.same(scene.generation).await?.call("ssh_execute", arguments).await?;
        if !self.learn(&tag, "execute", &answer).await {
            return Ok(());
        }
        self.follow(&tag).await?;
        self.model().strike("slow reader", &[], Duration::ZERO);
        let read = json!({"command_id": answer.content["command_id"], "stdout_offset": 0, "max_bytes": 40_000});
        let calls = (0..60).map(|_| ("ssh_get_command_output", read.clone())).collect();
        self.same(scene.generation).await?.read_late(calls, after).await
    }

    async fn list(&mut self) -> Result<(), Gone> {
        let (sessions, commands) =
            (self.call("ssh_list_sessions", json!({})).await?, self.call("ssh_list_commands", json!({})).await?);
        for answer in [sessions, commands] {
            self.model().holds(Rule::RepliesOnce, "-", !answer.is_error, || format!("a list: {}", answer.content));
        }
        Ok(())
    }

    /// An ended command of anybody on this program: the same end for its principal, nothing for others.
    async fn look_back(&mut self, operation: Operation<'_>) -> Result<(), Gone> {
        let (at, station) = (operation.random.next() as usize, self.role.station);
        let generation = self.wire().await?.generation.number;
        let Some((id, record)) = self.model().ended_on(station, generation, at) else { return Ok(()) };
        let own = self.role.principal.is_none_or(|at| super::stations::TOKENS[at].0 == record.scene.principal);
        let tag = &record.script.tag;
        if own {
            return self.look(tag, json!({})).await.map(drop);
        }
        for tool in ["ssh_get_command_output", "ssh_cancel_command"] {
            let answer = self.call(tool, json!({"command_id": id})).await?;
            let fine = answer.code() == "command_not_found";
            self.model().holds(Rule::OthersAreNotThere, tag, fine, || format!("{tool} by another: {}", answer.content));
        }
        Ok(())
    }

    /// Bytes through a port forward and back.
    async fn forward(&mut self, operation: Operation<'_>) -> Result<(), Gone> {
        let Operation { random, .. } = operation;
        let sent: Vec<u8> = (0..1 + random.below(60_000)).map(|_| random.next() as u8).collect();
        let host = self.slot().host;
        // Nothing of ours is behind the link.
        if host == "far" || host == "near" {
            return self.list().await;
        }
        let Some(session) = self.session().await? else { return Ok(()) };
        let (model, since) = (Arc::clone(self.model()), self.model().now());
        let arguments = json!({"session_id": session, "local_port": 0, "remote_address": "127.0.0.1", "remote_port": self.stage.echo});
        let answer = self.call("ssh_forward", arguments).await?;
        if answer.is_error {
            let fine = answer.code().starts_with("session_") || model.struck(host, since);
            model.holds(Rule::NothingFailsAlone, "-", fine, || format!("forward: {}", answer.content));
            return Ok(());
        }
        let local = answer.content["local_address"].as_str().unwrap_or_default().to_owned();
        let exchange = async {
            let mut stream = TcpStream::connect(&local).await?;
            let (mut from, mut to) = stream.split();
            let (mut back, mut piece) = (Vec::new(), vec![0; 16 << 10]);
            let write = async {
                to.write_all(&sent).await?;
                to.shutdown().await
            };
            let read = async {
                while let Ok(read @ 1..) = from.read(&mut piece).await {
                    back.extend_from_slice(&piece[..read]);
                }
            };
            let _ = tokio::join!(write, read);
            std::io::Result::Ok(back)
        };
        let back = timeout(Duration::from_secs(20), exchange).await;
        let back = back.unwrap_or(Ok(Vec::new())).unwrap_or_default();
        let closed = model.is_closed(&session) || self.is_ending().await;
        let fine = sent.starts_with(&back) && (back.len() == sent.len() || closed || model.struck(host, since));
        model.holds(Rule::OutputIsTrue, "-", fine, || {
            format!("{} of {} bytes came back from {host}", back.len(), sent.len())
        });
        Ok(())
    }

    async fn is_ending(&mut self) -> bool {
        let wire = self.wire.as_ref();
        wire.is_none_or(|wire| wire.generation.ending.load(std::sync::atomic::Ordering::SeqCst))
    }

    /// Closes the session that others use too.
    pub(crate) async fn disconnect(&mut self) -> Result<(), Gone> {
        let stage = Arc::clone(&self.stage);
        let (model, slot) = (&stage.model, &stage.slots[self.role.slot]);
        let generation = self.wire().await?.generation.number;
        let held = slot.session.lock().await.take();
        let Some((_, session)) = held.filter(|(number, _)| *number == generation) else { return Ok(()) };
        model.closing(session.clone());
        let answer = self.same(generation).await?.call("ssh_disconnect", json!({"session_id": session})).await?;
        model.holds(Rule::OneFinalState, "-", !answer.is_error, || format!("disconnect: {}", answer.content));
        let own = |record: &Record| record.scene.session == session;
        model.check_gone(GONE_BOUND, own, "its session was closed").await;
        Ok(())
    }

    async fn connect_again(&mut self) -> Result<(), Gone> {
        let generation = self.wire().await?.generation.number;
        let Some(session) = self.session().await? else { return Ok(()) };
        let stage = Arc::clone(&self.stage);
        let slot = self.slot();
        let (host, user) = (slot.host, slot.user);
        let mut arguments = stage.world.host(host).expect("a slot has a host").login(user);
        arguments["session_id"] = json!(session);
        let since = stage.model.now();
        let answer = self.same(generation).await?.call("ssh_connect", arguments).await?;
        let same = answer.content["session_id"] == Value::String(session.clone());
        if !same && !answer.is_error {
            // Closed meanwhile: it is another one, and nobody else knows it.
            let id = answer.content["session_id"].clone();
            stage.model.closing(id.as_str().unwrap_or_default().to_owned());
            self.call("ssh_disconnect", json!({"session_id": id})).await?;
        }
        let fine = same || stage.model.is_closed(&session) || stage.model.struck(host, since);
        stage.model.holds(Rule::NothingFailsAlone, "-", fine, || format!("connect again: {}", answer.content));
        Ok(())
    }
}

fn lines(count: usize) -> String {
    (0..count).map(|number| format!("{number} of what is read\n")).collect()
}
