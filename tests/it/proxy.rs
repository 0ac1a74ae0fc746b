//! SOCKS5 and HTTP proxies: small ones of our own that can fail, and real ones where they are installed.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{
    fake_server::RefusingPort,
    free_port,
    home::Home,
    mcp_client::ToolAnswer,
    openssh::{Agent, Sshd},
    session::login,
    wait::eventually,
};

/// What a proxy of ours does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    /// Connects, after this login where it has one.
    Serve(Option<(&'static str, &'static str)>),
    /// Answers with this SOCKS5 reply, or this HTTP status.
    Refuse(u16),
    /// Sends this at once.
    Say(&'static [u8]),
    /// Takes everything and says nothing.
    Silence,
}

struct Proxy {
    port: u16,
    /// Where it was asked to connect to, as it was written.
    asked: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Proxy {
    async fn start(http: bool, does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = asked.clone();
        let serving = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let noted = noted.clone();
                all.spawn(async move {
                    if http { serve_http(client, does, &noted).await } else { serve_socks(client, does, &noted).await }
                });
            }
        });
        Self { port, asked, _serving: AbortOnDropHandle::new(serving) }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn carry(mut client: TcpStream, to: &str, answer: &[u8]) -> Option<()> {
    // Whatever name it was: the servers of these tests are here.
    let port = to.rsplit_once(':')?.1;
    let mut server = TcpStream::connect(format!("127.0.0.1:{port}")).await.ok()?;
    client.write_all(answer).await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}

async fn serve_socks(mut client: TcpStream, does: Does, asked: &Mutex<Vec<String>>) -> Option<()> {
    if let Does::Say(text) = does {
        client.write_all(text).await.ok()?;
    }
    let mut head = [0; 2];
    client.read_exact(&mut head).await.ok()?;
    let mut methods = vec![0; head[1].into()];
    client.read_exact(&mut methods).await.ok()?;
    let login = if let Does::Serve(login) = does { login } else { None };
    match (does, login) {
        (Does::Silence | Does::Say(_), _) => std::future::pending().await,
        (_, Some(_)) if !methods.contains(&2) => {
            client.write_all(&[5, 0xff]).await.ok()?;
            return None;
        }
        (_, Some((user, password))) => {
            client.write_all(&[5, 2]).await.ok()?;
            let mut said = Vec::new();
            client.read_u8().await.ok()?;
            for _ in 0..2 {
                let mut text = vec![0; client.read_u8().await.ok()?.into()];
                client.read_exact(&mut text).await.ok()?;
                said.push(text);
            }
            let right = said == [user.as_bytes(), password.as_bytes()];
            client.write_all(&[1, u8::from(!right)]).await.ok()?;
        }
        (_, None) => client.write_all(&[5, 0]).await.ok()?,
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await.ok()?;
    let mut host = vec![0; if request[3] == 1 { 4 } else { client.read_u8().await.ok()?.into() }];
    client.read_exact(&mut host).await.ok()?;
    let port = client.read_u16().await.ok()?;
    let host = if request[3] == 1 {
        format!("{}.{}.{}.{}", host[0], host[1], host[2], host[3])
    } else {
        String::from_utf8(host).ok()?
    };
    let to = format!("{host}:{port}");
    asked.lock().unwrap().push(to.clone());
    if let Does::Refuse(reply) = does {
        client.write_all(&[5, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
        return None;
    }
    carry(client, &to, b"\x05\x00\x00\x03\x01x\x00\x00").await
}

async fn serve_http(mut client: TcpStream, does: Does, asked: &Mutex<Vec<String>>) -> Option<()> {
    if let Does::Say(text) = does {
        client.write_all(text).await.ok()?;
    }
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(client.read_u8().await.ok()?));
    }
    let to = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    asked.lock().unwrap().push(to.clone());
    match does {
        Does::Silence | Does::Say(_) => std::future::pending().await,
        Does::Refuse(status) => {
            client.write_all(format!("HTTP/1.1 {status} Because\r\nX: y\r\n\r\n").as_bytes()).await.ok()?;
            return None;
        }
        Does::Serve(Some((user, password))) => {
            let right = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
            if !head.contains(&format!("\r\nProxy-Authorization: Basic {right}\r\n")) {
                client.write_all(b"HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic\r\n\r\n").await.ok()?;
                return None;
            }
        }
        Does::Serve(None) => {}
    }
    carry(client, &to, b"HTTP/1.0 200 Connection established\r\nVia: test\r\n\r\n").await
}

fn url(http: bool, login: &str, port: u16) -> String {
    format!("{}://{login}127.0.0.1:{port}", if http { "http" } else { "socks5" })
}

async fn connect(env: &[(&str, &str)], arguments: Value) -> ToolAnswer {
    Home::new().client(env).await.call("ssh_connect", arguments).await
}

/// The login of the ordinary user, under a name that exists at the proxy alone.
fn by_name(sshd: &Sshd) -> Value {
    let mut arguments = login(sshd, &sshd.user().name);
    arguments["address"] = format!("only.known.there.test:{}", sshd.port()).into();
    arguments["max_retries"] = 0.into();
    arguments
}

#[tokio::test]
async fn a_proxy_leads_to_the_server_and_looks_its_name_up() {
    let Some(sshd) = Sshd::start().await else { return };
    for http in [false, true] {
        for (login, url_login) in [(None, ""), (Some(("us@er", "p%ss:w")), "us%40er:p%25ss:w@")] {
            let proxy = Proxy::start(http, Does::Serve(login)).await;
            let opened = connect(&[("SSH_PROXY", &url(http, url_login, proxy.port))], by_name(&sshd)).await.success();
            assert_eq!(opened["host"], "only.known.there.test");
            assert_eq!(proxy.asked(), [format!("only.known.there.test:{}", sshd.port())]);
        }
    }
}

#[tokio::test]
async fn failures_of_a_proxy_are_told_apart_and_name_it() {
    let Some(sshd) = Sshd::start().await else { return };
    let long: &'static [u8] = Box::leak(vec![b'a'; 20_000].into_boxed_slice());
    let cases = [
        (false, Does::Refuse(5), "", "connect_refused", true),
        (false, Does::Refuse(4), "", "unreachable", true),
        (false, Does::Refuse(2), "", "proxy_failed", false),
        (false, Does::Refuse(99), "", "proxy_failed", false),
        (false, Does::Say(b"HTTP/1.1 400 no\r\n\r\n"), "", "proxy_failed", false),
        (false, Does::Serve(Some(("me", "word"))), "", "proxy_auth_failed", false),
        (false, Does::Serve(Some(("me", "word"))), "me:wrong-hunter2@", "proxy_auth_failed", false),
        (true, Does::Refuse(403), "", "proxy_failed", false),
        (true, Does::Refuse(502), "", "unreachable", true),
        (true, Does::Refuse(500), "", "proxy_failed", false),
        (true, Does::Serve(Some(("me", "word"))), "", "proxy_auth_failed", false),
        (true, Does::Serve(Some(("me", "word"))), "me:wrong-hunter2@", "proxy_auth_failed", false),
        (true, Does::Say(b"SSH-2.0-x\r\n\r\n"), "", "proxy_failed", false),
        (true, Does::Say(long), "", "proxy_failed", false),
        (false, Does::Say(long), "", "proxy_failed", false),
    ];
    for (case, (http, does, login, code, retryable)) in cases.into_iter().enumerate() {
        let proxy = Proxy::start(http, does).await;
        let answer = connect(&[("SSH_PROXY", &url(http, login, proxy.port))], by_name(&sshd)).await;
        assert_eq!(
            (answer.code(), &answer.structured["retryable"]),
            (code, &json!(retryable)),
            "{case}: {}",
            answer.text
        );
        assert_eq!(answer.structured["proxy"], url(http, "", proxy.port), "{case}");
        assert!(!answer.text.contains("hunter2"), "{}", answer.text);
    }
    let port = RefusingPort::new();
    let answer = connect(&[("SSH_PROXY", &format!("socks5://{}", port.address()))], by_name(&sshd)).await;
    assert_eq!(answer.code(), "connect_refused");
    assert!(answer.text.contains(&format!("the proxy socks5://{}", port.address())), "{}", answer.text);
}

#[tokio::test]
async fn a_silent_proxy_takes_no_longer_than_the_limit() {
    let Some(sshd) = Sshd::start().await else { return };
    for http in [false, true] {
        let proxy = Proxy::start(http, Does::Silence).await;
        let mut arguments = by_name(&sshd);
        arguments["timeout_secs"] = 1.into();
        let answer = connect(&[("SSH_PROXY", &url(http, "", proxy.port))], arguments).await;
        assert_eq!(answer.code(), "connect_timeout", "{}", answer.text);
    }
}

#[tokio::test]
async fn excepted_hosts_are_reached_without_the_proxy_and_jump_hosts_through_it() {
    let (Some(sshd), Some(hop)) = (Sshd::start().await, Sshd::start().await) else { return };
    let agent = Agent::start(&[hop.client_key(), sshd.client_key()]).await;
    let socket = agent.socket().display().to_string();
    let proxy = Proxy::start(false, Does::Serve(None)).await;
    let (url, excepted) = (url(false, "", proxy.port), format!("10.0.0.0/8:22, 127.0.0.1:{}", sshd.port()));
    let env = [("SSH_PROXY", url.as_str()), ("SSH_NO_PROXY", &excepted), ("SSH_AUTH_SOCK", &socket)];
    connect(&env, login(&sshd, &sshd.user().name)).await.success();
    assert_eq!(proxy.asked(), [""; 0]);
    let mut through = login(&sshd, &sshd.user().name);
    through["jump"] = format!("127.0.0.1:{}", hop.port()).into();
    connect(&env, through).await.success();
    assert_eq!(proxy.asked(), [format!("127.0.0.1:{}", hop.port())], "the first hop alone");
}

#[tokio::test]
async fn real_proxies_serve_too() {
    let Some(sshd) = Sshd::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("tinyproxy.conf");
    let (socks, http) = (free_port(), free_port());
    std::fs::write(
        &config,
        format!("Port {http}\nListen 127.0.0.1\nMaxClients 10\nBasicAuth me word\nLogLevel Critical\n"),
    )
    .unwrap();
    let commands = [
        (
            format!("socks5://me:word@127.0.0.1:{socks}"),
            socks,
            "microsocks",
            vec![
                "-i".into(),
                "127.0.0.1".into(),
                "-p".into(),
                socks.to_string(),
                "-u".into(),
                "me".into(),
                "-P".into(),
                "word".into(),
            ],
        ),
        (
            format!("http://me:word@127.0.0.1:{http}"),
            http,
            "tinyproxy",
            vec!["-d".into(), "-c".into(), config.display().to_string()],
        ),
    ];
    for (url, port, program, arguments) in commands {
        let spawned = tokio::process::Command::new(program)
            .args(arguments)
            .kill_on_drop(true)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
        let Ok(_running) = spawned else { continue };
        eventually("it listens", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        connect(&[("SSH_PROXY", &url)], login(&sshd, &sshd.user().name)).await.success();
        let wrong = url.replace("word", "guess");
        assert_eq!(
            connect(&[("SSH_PROXY", &wrong)], login(&sshd, &sshd.user().name)).await.code(),
            "proxy_auth_failed"
        );
    }
}
