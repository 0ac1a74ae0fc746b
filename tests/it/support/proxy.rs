//! A small TCP proxy before an SSH server, which resets connections and stops to forward.

use std::{io, net::Ipv4Addr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What it does now. Both directions of every connection follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Nothing goes on, nobody is told, new connections neither.
    stalled: bool,
    /// One piece of at most 256 bytes each 10 ms: a second for a packet of SSH.
    drips: bool,
    /// A new connection is reset at once.
    refuses: bool,
    /// Counts resets: a connection that sees another number is reset.
    resets: u64,
}

/// A running proxy; it ends when dropped.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<watch::Sender<State>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let own = listener.local_addr().expect("an address").port();
        let state = Arc::new(watch::Sender::new(State::default()));
        let seen = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                serving.spawn(serve(near, port, seen.subscribe()));
                while serving.try_join_next().is_some() {}
            }
        });
        Self { port: own, state, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Every connection that is open now is reset.
    pub(crate) fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    pub(crate) fn stall(&self, stalled: bool) {
        self.state.send_modify(|state| state.stalled = stalled);
    }

    pub(crate) fn refuse(&self, refuses: bool) {
        self.state.send_modify(|state| state.refuses = refuses);
    }

    pub(crate) fn drip(&self, drips: bool) {
        self.state.send_modify(|state| state.drips = drips);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(near: TcpStream, port: u16, mut state: watch::Receiver<State>) -> io::Result<()> {
    let State { resets, refuses, .. } = *state.borrow_and_update();
    if refuses {
        return near.set_zero_linger();
    }
    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut near, mut far) = (near, far);
    let over = {
        let (mut from_near, mut to_near) = near.split();
        let (mut from_far, mut to_far) = far.split();
        let (up, down) = (state.clone(), state.clone());
        tokio::select! {
            () = async { tokio::join!(pump(&mut from_near, &mut to_far, up), pump(&mut from_far, &mut to_near, down)); } => false,
            _ = state.wait_for(|state| state.resets != resets) => true,
        }
    };
    if over {
        // No linger: the kernel sends a reset in place of the end.
        near.set_zero_linger()?;
        far.set_zero_linger()?;
    }
    Ok(())
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let drips = state.borrow().drips;
        let room = if drips { 256 } else { buffer.len() };
        let Ok(read @ 1..) = from.read(&mut buffer[..room]).await else { break };
        if drips {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        if state.wait_for(|state| !state.stalled).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
