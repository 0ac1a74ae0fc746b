//! SOCKS5 (RFC 1928, 1929) and `CONNECT` of HTTP: the least of both that a TCP stream takes.
//!
//! The proxy looks the name up. Whatever it answers is read up to a bound and not a byte beyond: the SSH server speaks
//! first.

use std::{io, net::IpAddr, sync::Arc};

use data_encoding::BASE64;
use secrecy::zeroize::Zeroizing;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::{
    super::{ClientError, Target, address::shorten},
    Dial, ProxyKind, ProxyServer, RouteError,
    error::ProxyFault,
};

/// Longest head of an answer to CONNECT, in bytes.
const MAX_HEAD_BYTES: usize = 8 << 10;

impl ProxyServer {
    /// A stream to the target through this proxy.
    pub(super) async fn connect(
        &self,
        dial: &Dial,
        target: &Target,
        deadline: Instant,
    ) -> Result<TcpStream, ClientError> {
        let own = Target { host: self.host.clone(), port: self.port, username: target.username.clone() };
        let failed = |fault| RouteError::Proxy { proxy: self.to_string(), fault }.at(target);
        let reached = dial.connect(&own, None, deadline).await;
        let mut tcp = reached.map_err(|error| failed(ProxyFault::Unreached(Box::new(error))))?;
        let asked = match self.kind {
            ProxyKind::Socks5 => self.socks(&mut tcp, target).await,
            ProxyKind::Http => self.http(&mut tcp, target).await,
        };
        asked.map_err(failed)?;
        Ok(tcp)
    }

    async fn socks(&self, tcp: &mut TcpStream, target: &Target) -> Result<(), ProxyFault> {
        const NONE: u8 = 0;
        const PASSWORD: u8 = 2;
        let greeting: &[u8] = if self.login.is_some() { &[5, 2, NONE, PASSWORD] } else { &[5, 1, NONE] };
        tcp.write_all(greeting).await?;
        let [version, method] = read(tcp).await?;
        match (version, method, &self.login) {
            (5, NONE, _) => {}
            (5, PASSWORD, Some(login)) => socks_login(tcp, &login.0, login.1.expose()).await?,
            (5, 0xff, Some(_)) => return Err(ProxyFault::LoginRefused),
            (5, 0xff, None) => return Err(ProxyFault::LoginWanted),
            _ => return Err(ProxyFault::NotAProxy("SOCKS5")),
        }
        tcp.write_all(&socks_request(target)?).await?;
        let [version, reply, _, kind] = read(tcp).await?;
        if version != 5 {
            return Err(ProxyFault::NotAProxy("SOCKS5"));
        }
        socks_reply(reply)?;
        // Its own address, and two bytes of port.
        let length = match kind {
            1 => 4,
            4 => 16,
            3 => usize::from(read::<1>(tcp).await?[0]),
            _ => return Err(ProxyFault::NotAProxy("SOCKS5")),
        };
        let mut address = [0; 257];
        tcp.read_exact(&mut address[..length + 2]).await?;
        Ok(())
    }

    async fn http(&self, tcp: &mut TcpStream, target: &Target) -> Result<(), ProxyFault> {
        let host_port = target.host_port();
        if !host_port.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ProxyFault::Failed("the host name cannot be sent".into()));
        }
        let mut request = Zeroizing::new(format!("CONNECT {host_port} HTTP/1.1\r\nHost: {host_port}\r\n"));
        if let Some(login) = &self.login {
            let login = Zeroizing::new(format!("{}:{}", login.0, login.1.expose()));
            let encoded = Zeroizing::new(BASE64.encode(login.as_bytes()));
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&encoded);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        tcp.write_all(request.as_bytes()).await?;
        let head = read_head(tcp).await?;
        let line = head.lines().next().unwrap_or_default();
        let mut words = line.split(' ');
        let version = words.next().unwrap_or_default();
        let status: Option<u16> = words.next().and_then(|status| status.parse().ok());
        let status = status.filter(|_| version.starts_with("HTTP/1.")).ok_or(ProxyFault::NotAProxy("HTTP"))?;
        let said = || shorten(line);
        match status {
            200..=299 => Ok(()),
            // 401 is for servers, but tinyproxy says it of a wrong password.
            401 | 407 if self.login.is_some() => Err(ProxyFault::LoginRefused),
            401 | 407 => Err(ProxyFault::LoginWanted),
            502..=504 => Err(ProxyFault::TargetUnreached(said())),
            400..=499 => Err(ProxyFault::Denied(said())),
            _ => Err(ProxyFault::Failed(said())),
        }
    }
}

async fn socks_login(tcp: &mut TcpStream, user: &str, password: &str) -> Result<(), ProxyFault> {
    let mut request = Zeroizing::new(vec![1]);
    for text in [user, password] {
        request.push(u8::try_from(text.len()).map_err(|_| ProxyFault::LoginRefused)?);
        request.extend_from_slice(text.as_bytes());
    }
    tcp.write_all(&request).await?;
    let [_, status] = read(tcp).await?;
    if status == 0 { Ok(()) } else { Err(ProxyFault::LoginRefused) }
}

fn socks_request(target: &Target) -> Result<Vec<u8>, ProxyFault> {
    let mut request = vec![5, 1, 0];
    match target.host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
        }
        Err(_) => {
            let too_long = |_| ProxyFault::Failed("the host name is too long".into());
            request.extend_from_slice(&[3, u8::try_from(target.host.len()).map_err(too_long)?]);
            request.extend_from_slice(target.host.as_bytes());
        }
    }
    request.extend_from_slice(&target.port.to_be_bytes());
    Ok(request)
}

fn socks_reply(reply: u8) -> Result<(), ProxyFault> {
    Err(match reply {
        0 => return Ok(()),
        2 => ProxyFault::Denied("by its rules".into()),
        3 => ProxyFault::TargetUnreached("network unreachable".into()),
        4 => ProxyFault::TargetUnreached("host unreachable".into()),
        5 => ProxyFault::TargetRefused,
        6 => ProxyFault::TargetUnreached("time to live expired".into()),
        7 => ProxyFault::Failed("command not supported".into()),
        8 => ProxyFault::Failed("address type not supported".into()),
        other => ProxyFault::Failed(format!("SOCKS5 reply {other}")),
    })
}

async fn read<const N: usize>(tcp: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    tcp.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn read_head(tcp: &mut TcpStream) -> Result<String, ProxyFault> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        if head.len() == MAX_HEAD_BYTES || (head.len() == 5 && !head.starts_with(b"HTTP/")) {
            return Err(ProxyFault::NotAProxy("HTTP"));
        }
        head.push(tcp.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

impl From<io::Error> for ProxyFault {
    fn from(error: io::Error) -> Self {
        ProxyFault::Lost(Arc::new(error))
    }
}
