//! Session channels of the embedded host: commands, their signals, and the scripts.

use std::{
    ffi::OsStr,
    io,
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use russh::{
    ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig,
    server::{Handle, Msg},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{ChildStdin, Command},
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// A session channel after it was opened.
pub(crate) struct SessionChannel {
    pub(crate) output: Arc<ChannelWriteHalf<Msg>>,
    pub(crate) handle: Handle,
    /// Its place among the sessions of the connection.
    pub(crate) place: OwnedSemaphorePermit,
    /// Cancelled: the socket closes at once.
    pub(crate) connection: CancellationToken,
}

impl SessionChannel {
    /// Waits for the one exec request and serves it. An error means that the connection is gone.
    pub(crate) async fn serve(self, mut requests: ChannelReadHalf) {
        let command = loop {
            match requests.wait().await {
                Some(ChannelMsg::Exec { command, .. }) => break command,
                Some(ChannelMsg::Close) | None => return,
                Some(_) => {}
            }
        };
        let _ = match scripted(&command).map(String::from_utf8_lossy) {
            Some(name) => script(self, &name).await,
            None => self.run(&command, requests).await,
        };
    }

    async fn run(self, command: &[u8], mut requests: ChannelReadHalf) -> Result<(), russh::Error> {
        let spawned = Command::new("sh")
            .arg("-c")
            .arg(OsStr::from_bytes(command))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return self.could_not_start(&error).await,
        };
        let mut group = ProcessGroup(child.id());
        let mut copies = JoinSet::new();
        copies.spawn(copy(child.stdout.take(), Arc::clone(&self.output), None));
        copies.spawn(copy(child.stderr.take(), Arc::clone(&self.output), Some(1)));
        let (input, pending) = mpsc::unbounded_channel();
        let mut feeder = JoinSet::new();
        feeder.spawn(feed(child.stdin.take(), pending));

        let ended = async {
            // As sshd does: the exit status as soon as the shell ends, the end of the channel when
            // nobody holds its output any more.
            self.report(child.wait().await?).await?;
            while copies.join_next().await.is_some() {}
            Ok::<_, russh::Error>(())
        };
        tokio::select! {
            ended = ended => {
                ended?;
                group.disarm();
                self.finish().await
            }
            () = obey(&mut requests, input, &group) => Ok(()),
        }
    }

    async fn could_not_start(self, error: &io::Error) -> Result<(), russh::Error> {
        self.output.extended_data_bytes(1, format!("sh: {error}\n").into_bytes()).await?;
        self.output.exit_status(1).await?;
        self.finish().await
    }

    async fn report(&self, status: ExitStatus) -> Result<(), russh::Error> {
        match (status.code(), status.signal()) {
            (Some(code), _) => self.output.exit_status(code.unsigned_abs()).await,
            (None, signal) => self.exit_signal(signal_name(signal.unwrap_or_default())).await,
        }
    }

    async fn exit_signal(&self, signal: Sig) -> Result<(), russh::Error> {
        let sent = self.handle.exit_signal_request(self.output.id(), signal, false, String::new(), String::new());
        sent.await.map_err(|()| russh::Error::SendError)
    }

    /// The place is free before the client can know that the channel is closed.
    async fn finish(self) -> Result<(), russh::Error> {
        drop(self.place);
        self.output.eof().await?;
        self.output.close().await
    }
}

/// The name of a script: what stands behind the preamble of the product, and begins with `@`.
pub(crate) fn scripted(command: &[u8]) -> Option<&[u8]> {
    let last = command.windows(2).rposition(|two| two == b"; ").map_or(command, |at| &command[at + 2..]);
    last.strip_prefix(b"@")
}

/// What no shell does: the commands that begin with `@`.
///
/// - `@no-exit-status`: writes `out` and closes the channel without a status
/// - `@exit-signal NAME`: an exit signal and no status
/// - `@exit-then-late-data`: status 0, `late` 100 ms later, then the end
/// - `@exit-then-drop`: writes `partial`, status 0, then the TCP connection is gone
/// - `@drop-connection`: writes `partial`, then the TCP connection is gone
/// - `@refuse`: the exec request itself is refused
async fn script(channel: SessionChannel, name: &str) -> Result<(), russh::Error> {
    match name.split_once(' ').unwrap_or((name, "")) {
        ("no-exit-status", _) => channel.output.data_bytes("out").await?,
        ("exit-signal", signal) => channel.exit_signal(Sig::Custom(signal.to_owned())).await?,
        ("exit-then-late-data", _) => {
            channel.output.exit_status(0).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            channel.output.data_bytes("late").await?;
        }
        ("drop-connection" | "exit-then-drop", _) => {
            channel.output.data_bytes("partial").await?;
            if name == "exit-then-drop" {
                channel.output.exit_status(0).await?;
            }
            // Nothing tells when russh has written it out.
            tokio::time::sleep(Duration::from_millis(100)).await;
            channel.connection.cancel();
            return Ok(());
        }
        ("refuse", _) => return Ok(()),
        _ => {
            channel.output.extended_data_bytes(1, "no such script\n").await?;
            channel.output.exit_status(127).await?;
        }
    }
    channel.finish().await
}

/// Follows the client until it closes the channel or its connection is lost.
async fn obey(requests: &mut ChannelReadHalf, input: mpsc::UnboundedSender<Vec<u8>>, group: &ProcessGroup) {
    let mut input = Some(input);
    loop {
        match requests.wait().await {
            Some(ChannelMsg::Data { data }) => {
                let _ = input.as_ref().map(|input| input.send(data.to_vec()));
            }
            Some(ChannelMsg::Eof) => input = None,
            Some(ChannelMsg::Signal { signal }) => group.signal(&signal).await,
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
    }
}

/// Writes what the client sends to the command, and closes its input after the client's end-of-file.
async fn feed(stdin: Option<ChildStdin>, mut pending: mpsc::UnboundedReceiver<Vec<u8>>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(data) = pending.recv().await {
        if stdin.write_all(&data).await.is_err() {
            return;
        }
    }
}

/// Sends what the command writes. The channel's own writer waits for its window; `Handle::data` does not.
async fn copy(from: Option<impl AsyncRead + Unpin>, to: Arc<ChannelWriteHalf<Msg>>, extended: Option<u32>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let data = buffer[..read].to_vec();
        let sent = match extended {
            None => to.data_bytes(data).await,
            Some(kind) => to.extended_data_bytes(kind, data).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// A command with all that it started; killed when dropped, unless it ended by itself.
struct ProcessGroup(Option<u32>);

impl ProcessGroup {
    async fn signal(&self, signal: &Sig) {
        let name = match signal {
            Sig::Custom(name) => name.clone(),
            known => format!("{known:?}"),
        };
        if let Some(leader) = self.0 {
            let _ = Command::from(kill(leader, &name)).status().await;
        }
    }

    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill(leader, "KILL").status();
        }
    }
}

/// The shell's own `kill`: there need not be a program of that name.
fn kill(leader: u32, signal: &str) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", r#"kill -s "$1" -- "-$2""#, "sh", signal, &leader.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The signals whose numbers are the same on every Unix.
fn signal_name(number: i32) -> Sig {
    match number {
        1 => Sig::HUP,
        2 => Sig::INT,
        3 => Sig::QUIT,
        4 => Sig::ILL,
        6 => Sig::ABRT,
        8 => Sig::FPE,
        9 => Sig::KILL,
        11 => Sig::SEGV,
        13 => Sig::PIPE,
        14 => Sig::ALRM,
        15 => Sig::TERM,
        other => Sig::Custom(format!("SIG{other}")),
    }
}
