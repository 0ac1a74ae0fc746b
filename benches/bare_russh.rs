//! russh with nothing of ours around it, for `benches/run`: what remains of a call's time is ours.
//!
//! `bare_russh PORT USER KEY` reads one order a line and answers each with the seconds that it took:
//! `execute` runs `true` over one connection, `connect` opens another one and closes it unmeasured,
//! `parallel CONNECTIONS CALLERS COUNT` runs `true` COUNT times, `hold COUNT` opens connections and
//! keeps them.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "numbers are what a benchmark is for")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot run says where it stopped")]

use std::{
    borrow::Cow,
    io::stdin,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use russh::{
    ChannelMsg, Disconnect, Preferred, cipher,
    client::{Config, Handle, Handler, connect},
    keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key},
};
use tokio::{runtime::Runtime, task::JoinSet};

type Connection = Arc<Handle<TrustAll>>;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [port, user, key] = &arguments[..] else {
        return eprintln!("bare_russh PORT USER KEY: started by benches/run");
    };
    let server = Arc::new(Server { port: port.parse().expect("a port"), user: user.clone(), key: key.clone() });
    Runtime::new().unwrap().block_on(serve(&server));
}

async fn serve(server: &Arc<Server>) {
    let first = server.connect().await;
    let mut held = Vec::new();
    for line in stdin().lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let number = |index: usize| words[index].parse::<usize>().expect("a number");
        let began = Instant::now();
        let took = match words[0] {
            "execute" => {
                execute(&first).await;
                began.elapsed()
            }
            "connect" => {
                let connection = server.connect().await;
                let took = began.elapsed();
                connection.disconnect(Disconnect::ByApplication, "", "").await.unwrap();
                took
            }
            "parallel" => parallel(server, number(1), number(2), number(3)).await,
            "hold" => {
                for _ in 0..number(1) {
                    held.push(server.connect().await);
                }
                began.elapsed()
            }
            other => panic!("no such order: {other}"),
        };
        println!("{}", took.as_secs_f64());
    }
}

/// `count` commands by `callers` at a time; the connections are made before the clock starts.
async fn parallel(server: &Arc<Server>, connections: usize, callers: usize, count: usize) -> Duration {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(server.connect().await);
    }
    let left = Arc::new(AtomicUsize::new(count));
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for caller in 0..callers {
        let (connection, left) = (opened[caller % connections].clone(), left.clone());
        tasks.spawn(async move {
            while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                execute(&connection).await;
            }
        });
    }
    tasks.join_all().await;
    began.elapsed()
}

/// Trusts the server that the benchmark has just started.
struct TrustAll;

impl Handler for TrustAll {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _offered: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// Whom to connect to, and as whom.
struct Server {
    port: u16,
    user: String,
    key: String,
}

impl Server {
    /// A connection with the ciphers of ssh-mcp.
    async fn connect(&self) -> Connection {
        const CIPHERS: &[cipher::Name] = &[cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::CHACHA20_POLY1305];
        let preferred = Preferred { cipher: Cow::Borrowed(CIPHERS), ..Preferred::DEFAULT };
        let config = Config { nodelay: true, preferred, ..Config::default() };
        let mut handle = connect(Arc::new(config), ("127.0.0.1", self.port), TrustAll).await.unwrap();
        let key = load_secret_key(Path::new(&self.key), None).unwrap();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let login = handle.authenticate_publickey(&self.user, key).await.unwrap();
        assert!(login.success());
        Arc::new(handle)
    }
}

async fn execute(connection: &Connection) {
    let ended = tokio::time::timeout(Duration::from_secs(30), run_true(connection)).await;
    assert_eq!(ended.expect("the command ends"), Some(0));
}

async fn run_true(connection: &Connection) -> Option<u32> {
    let mut channel = loop {
        match connection.channel_open_session().await {
            Ok(channel) => break channel,
            // The server still holds the place of a command that has just ended.
            Err(russh::Error::ChannelOpenFailure(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("no channel: {error}"),
        }
    };
    channel.exec(true, "true").await.unwrap();
    let mut status = None;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    status
}
