//! Who is served without a token: over TCP, over the Unix socket; and TLS, as curl sees it.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Output},
};

use secrecy::SecretSlice;
use ssh_mcp::{
    config::{HttpSettings, TlsSettings},
    transport::{
        Error,
        http::{Server, TlsError},
    },
};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{
    http::{Running, settings},
    support::{
        mcp_client::HttpServer,
        openssh::{is_root, ordinary_user},
    },
    wire::{Ask, SOON, TestResult, ping},
};

/// Runs curl, as another user where one is named. It prints the body and the status.
async fn curl(user: Option<&str>, arguments: &[&str]) -> (u16, String) {
    let output = run_curl(user, arguments).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
    (status.parse().unwrap_or(0), body.to_owned())
}

async fn run_curl(user: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(if user.is_some() { "runuser" } else { "curl" });
    if let Some(user) = user {
        command.args(["-u", user, "--", "curl"]);
    }
    command.args(["-sS", "--noproxy", "*", "--max-time", "15", "-w", "\n%{http_code}"]);
    command.args(["-H", "Content-Type: application/json"]).args(arguments);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).output().await.expect("curl starts")
}

fn another_user() -> Option<&'static str> {
    is_root().then(|| ordinary_user().ok()).flatten().map(|user| user.name.as_str())
}

#[tokio::test]
async fn without_a_token_another_user_of_the_machine_is_refused() -> TestResult {
    let Some(user) = another_user() else {
        return Ok(());
    };
    let server = Running::new(&[]).await?;
    let ping = ping(1).to_string();
    let port = server.address.port();
    for url in [format!("http://127.0.0.1:{port}/mcp"), format!("http://[::ffff:127.0.0.1]:{port}/mcp")] {
        let arguments = ["-H", "Host: localhost", "-d", &ping, &url];
        let (status, body) = curl(Some(user), &arguments).await;
        assert_eq!(status, 403, "{url}: {body}");
        assert!(body.contains("its own user and root alone") && body.contains("MCP_TOKEN_FILE"), "{body}");
        assert_eq!(curl(None, &arguments).await.0, 200, "{url}");
    }
    // Whom the namespace of the server does not know looks like this user.
    let (status, _) = curl(Some("nobody"), &["-d", &ping, &format!("http://127.0.0.1:{port}/mcp")]).await;
    assert_eq!(status, 403);
    // Counts are no secret, and a token is as good as the right uid.
    assert_eq!(curl(Some(user), &[&format!("http://127.0.0.1:{port}/health")]).await.0, 200);
    let server = Running::new(&[("alice", "Secret-Token")]).await?;
    let url = format!("http://127.0.0.1:{}/mcp", server.address.port());
    let with_token = ["-H", "Authorization: Bearer Secret-Token", "-d", &ping, &url];
    assert_eq!(curl(Some(user), &with_token).await.0, 200);
    assert_eq!(curl(Some(user), &["-d", &ping, &url]).await.0, 401);
    Ok(())
}

#[tokio::test]
async fn a_server_of_an_ordinary_user_serves_that_user_and_root() -> TestResult {
    let Some(user) = another_user() else {
        return Ok(());
    };
    let server = HttpServer::start_as(user).await;
    let (url, ping) = (format!("http://127.0.0.1:{}/mcp", server.port()), ping(1).to_string());
    assert_eq!(curl(Some(user), &["-d", &ping, &url]).await.0, 200);
    assert_eq!(curl(None, &["-d", &ping, &url]).await.0, 200);
    assert_eq!(curl(Some("nobody"), &["-d", &ping, &url]).await.0, 403);
    Ok(())
}

#[tokio::test]
async fn the_unix_socket_serves_its_user_without_a_token() -> TestResult {
    let room = tempfile::tempdir()?;
    let path = room.path().join("mcp.sock");
    let with_socket = |tokens| HttpSettings { socket: Some(path.clone()), ..settings(tokens) };
    let server = Running::with(with_socket(&[("alice", "Secret-Token")])).await?;
    let (socket, ping) = (path.to_str().ok_or("a path")?, ping(1).to_string());
    let ask = ["--unix-socket", socket, "-d", ping.as_str(), "http://localhost/mcp"];
    assert_eq!(fs::metadata(&path)?.mode() & 0o7777, 0o600);
    assert_eq!(curl(None, &ask).await.0, 200);
    let rebound = ["--unix-socket", socket, "-d", ping.as_str(), "http://evil.com/mcp"];
    assert_eq!(curl(None, &rebound).await.0, 403);
    // The port still wants the token.
    assert_eq!(Ask::post("/mcp", &serde_json::from_str(&ping)?).send(server.address).await?.status, 401);
    if let Some(user) = another_user() {
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755))?;
        assert_eq!(run_curl(Some(user), &ask).await.status.code(), Some(7), "the mode keeps others out");
        // Were the mode lost, the kernel still tells who it is.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        assert_eq!(curl(Some(user), &ask).await.0, 403);
    }
    // One that is in use is not taken over; the end of a server removes its own.
    assert!(matches!(Server::bind(&with_socket(&[])).await, Err(Error::Socket { .. })));
    assert_eq!(curl(None, &ask).await.0, 200);
    server.end().await?;
    assert!(!path.exists());
    assert_eq!(fs::read_dir(room.path())?.count(), 0);
    Ok(())
}

#[tokio::test]
async fn only_a_dead_socket_of_ours_is_replaced() -> TestResult {
    let room = tempfile::tempdir()?;
    let bind = async |path: &Path| {
        Server::bind(&HttpSettings { socket: Some(path.to_owned()), ..settings(&[]) }).await.map(drop)
    };
    let file = room.path().join("file");
    fs::write(&file, "mine")?;
    std::os::unix::fs::symlink(&file, room.path().join("link"))?;
    for name in ["file", "link", "."] {
        let path = room.path().join(name);
        let error = bind(&path).await.expect_err("something is there");
        assert!(matches!(&error, Error::Socket { .. }) && error.to_string().contains("no socket"), "{error}");
    }
    assert_eq!(fs::read_to_string(&file)?, "mine");
    let dead = room.path().join("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead)?);
    if is_root() {
        std::os::unix::fs::chown(&dead, Some(12_345), None)?;
        assert!(bind(&dead).await.is_err_and(|error| error.to_string().contains("another user")));
        std::os::unix::fs::chown(&dead, Some(0), None)?;
    }
    bind(&dead).await?;
    let nowhere = room.path().join("no/such");
    let error = bind(&nowhere.join("place")).await.expect_err("no directory").to_string();
    let told = format!("{}: nothing can be made in {} (", nowhere.join("place").display(), nowhere.display());
    assert!(error.contains(&told), "{error}");
    Ok(())
}

/// A certificate for localhost and its key, made by openssl.
fn certificate(room: &Path) -> (String, TlsSettings) {
    let (cert, key) = (room.join("cert.pem"), room.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-out")
        .arg(&cert)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl starts");
    assert!(made.status.success(), "{made:?}");
    let tls = TlsSettings {
        certificate: fs::read(&cert).expect("a certificate"),
        key: SecretSlice::from(fs::read(&key).expect("a key")),
    };
    (cert.display().to_string(), tls)
}

#[tokio::test]
async fn tls_is_spoken_from_1_2_on_and_plain_http_is_not() -> TestResult {
    let room = tempfile::tempdir()?;
    let (authority, tls) = certificate(room.path());
    let short = std::time::Duration::from_millis(500);
    let public = HttpSettings { tls: Some(tls), ..settings(&[("alice", "Secret-Token")]) };
    let server = Running::with(public.clone()).await?;
    let (url, ping) = (format!("https://localhost:{}/mcp", server.address.port()), ping(1).to_string());
    let ask = ["--cacert", &authority, "-H", "Authorization: Bearer Secret-Token", "-d", &ping, &url];
    for version in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        let (status, body) = curl(None, &[&version[..], &ask].concat()).await;
        assert_eq!((status, body.contains("\"id\":1")), (200, true), "{version:?} {body}");
    }
    assert_eq!(curl(None, &["--cacert", &authority, "-d", &ping, &url]).await.0, 401);
    assert!(!run_curl(None, &["-d", &ping, &url]).await.status.success(), "nobody vouches for the certificate");
    let old = [&["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"][..], &ask].concat();
    assert!(!run_curl(None, &old).await.status.success(), "TLS 1.1");
    assert!(Ask::post("/mcp", &serde_json::from_str(&ping)?).send(server.address).await.is_err(), "plain HTTP");

    let quick = Running::with(HttpSettings { header_timeout: short, ..public }).await?;
    let mut silent = TcpStream::connect(quick.address).await?;
    let end = timeout(SOON, silent.read(&mut [0; 8])).await.map_err(|_| "a silent handshake goes on")?;
    assert_eq!(end?, 0);
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start() -> TestResult {
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let ((_, mine), (_, other)) = (certificate(one.path()), certificate(two.path()));
    let start = async |certificate: &[u8], key: SecretSlice<u8>| {
        let tls = Some(TlsSettings { certificate: certificate.to_vec(), key });
        Server::bind(&HttpSettings { tls, ..settings(&[]) }).await.map(drop)
    };
    let garbage = || SecretSlice::from(b"canary".to_vec());
    assert!(matches!(start(&mine.certificate, other.key).await, Err(Error::Tls(TlsError::Pair(_)))));
    assert!(matches!(start(b"canary", mine.key.clone()).await, Err(Error::Tls(TlsError::Certificate(_)))));
    let error = start(&mine.certificate, garbage()).await.expect_err("no key");
    assert!(matches!(error, Error::Tls(TlsError::Key)) && !error.to_string().contains("canary"), "{error}");
    start(&mine.certificate, mine.key).await?;
    Ok(())
}

/// Processor time of a process, in clock ticks (a hundredth of a second on Linux).
#[cfg(target_os = "linux")]
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<_> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_server_without_descriptors_does_not_spin_and_serves_again() -> TestResult {
    use crate::support::wait::eventually;

    let mut server = HttpServer::start(&[("MCP_HEADER_TIMEOUT", "3600")]).await;
    let pid = server.process().pid();
    let limit = Command::new("prlimit").args(["--nofile=64:64", "--pid", &pid.to_string()]).status()?;
    assert!(limit.success());
    let mut held = Vec::new();
    for _ in 0..120 {
        held.push(TcpStream::connect(("127.0.0.1", server.port())).await?);
    }
    eventually("it runs out", async || server.log().contains("cannot accept a connection")).await;
    eventually("it uses under five per cent of a processor", async || {
        let before = ticks(pid);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        ticks(pid) - before < 5
    })
    .await;
    drop(held);
    let health = format!("http://127.0.0.1:{}/health", server.port());
    assert_eq!(curl(None, &[&health]).await.0, 200);
    assert_eq!(server.log().matches("cannot accept a connection").count(), 1);
    Ok(())
}
