//! What russh calls back: the host key, the end of the key exchange, the end of the connection.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use russh::{
    Preferred,
    client::{ChannelOpenHandle, Config, DisconnectReason, Msg, Session},
    compression,
    keys::{Algorithm, HashAlg, PublicKeyOrCertificate},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    AgentForward, Channel, ClientError, ConnectSpec, Facts, HostKeyInfo, Negotiated, Target,
    address::shorten,
    agent_forward::Lender,
    host_key::{Certificates, KnownHosts, Offer, Wanted},
    login,
};
use crate::{config::Compression, ssh::counter::Counter};

/// What is learnt of a connection outside of any call on it.
#[derive(Debug, Default)]
pub(super) struct LinkState {
    /// Fires when the connection has ended.
    pub(super) closed: CancellationToken,
    /// How often something came from the server.
    heard: AtomicU64,
    /// Readers of ours that wait for something else, so that nothing passes by them.
    pub(super) stalls: Counter,
    learnt: Mutex<Learnt>,
}

#[derive(Debug, Default)]
struct Learnt {
    greeting: Vec<u8>,
    host_key: Option<HostKeyInfo>,
    server_version: String,
    compression_enabled: bool,
    negotiated: Negotiated,
    warnings: Vec<String>,
    cause: Option<String>,
    disconnected_by_server: bool,
    /// Texts for whoever logs in.
    banner: Vec<String>,
}

/// How often it is looked whether something came; only while a sign of life is waited for.
const LISTEN_EVERY: Duration = Duration::from_millis(20);

/// Banners that are kept of one login.
const MAX_BANNERS: usize = 4;

impl LinkState {
    fn learnt(&self) -> MutexGuard<'_, Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came from the server.
    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something came.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until something came that was not counted in `heard`.
    pub(super) async fn hears_more_than(&self, heard: u64) {
        while self.heard() == heard {
            tokio::time::sleep(LISTEN_EVERY).await;
        }
    }

    pub(super) fn set_greeting(&self, bytes: &[u8]) {
        const KEPT: usize = 64;
        self.learnt().greeting = bytes[..bytes.len().min(KEPT)].to_vec();
    }

    /// The first line that the peer sent, shortened.
    pub(super) fn greeting(&self) -> String {
        let learnt = self.learnt();
        let line = learnt.greeting.split(|b| *b == b'\r' || *b == b'\n').next().unwrap_or_default();
        shorten(&String::from_utf8_lossy(line))
    }

    /// Notes what the caller should know, once.
    pub(super) fn warn(&self, text: &str) {
        let mut learnt = self.learnt();
        if !learnt.warnings.iter().any(|known| known == text) {
            learnt.warnings.push(text.to_owned());
        }
    }

    /// Why the connection ended.
    pub(super) fn cause(&self) -> Option<String> {
        self.learnt().cause.clone()
    }

    /// Whether the server itself said goodbye, as it does after too many authentication failures.
    pub(super) fn disconnected_by_server(&self) -> bool {
        self.learnt().disconnected_by_server
    }

    /// What the server said to whoever logs in.
    pub(super) fn banner(&self) -> Vec<String> {
        self.learnt().banner.clone()
    }

    pub(super) fn facts(&self, auth_method: String) -> Option<Facts> {
        let learnt = self.learnt();
        Some(Facts {
            host_key: learnt.host_key.clone()?,
            server_version: learnt.server_version.clone(),
            compression_enabled: learnt.compression_enabled,
            negotiated: learnt.negotiated.clone(),
            warnings: learnt.warnings.clone(),
            auth_method,
        })
    }
}

pub(super) struct ClientHandler {
    target: Target,
    known_hosts: Arc<KnownHosts>,
    /// Host and port by which the key is known.
    known_as: (String, u16),
    /// Fingerprint of the only key that will do.
    approved: Option<String>,
    link: Arc<LinkState>,
    /// Lends the SSH agent, where a person allows it.
    lender: Option<Lender>,
    /// russh drops the handler with the connection, whatever ended it.
    _closes: DropGuard,
}

impl ClientHandler {
    pub(super) fn new(spec: &ConnectSpec, link: Arc<LinkState>, agent: Option<Arc<AgentForward>>) -> Self {
        let closes = link.closed.clone().drop_guard();
        let (target, known_hosts) = (spec.target.clone(), spec.known_hosts.clone());
        let (known_as, approved) = (spec.known_as(), spec.approved_key.clone());
        Self { target, known_hosts, known_as, approved, link, lender: agent.map(Lender::new), _closes: closes }
    }
}

/// Refuses the channels that a server asks for. None of these is ever allowed to it, and russh accepts them by default:
/// each would be kept as long as the connection.
macro_rules! refuse_channels {
    ($($name:ident($($argument:ty),*);)*) => {$(
        async fn $name(
            &mut self,
            _: russh::Channel<Msg>,
            $(_: $argument,)*
            refuses_when_dropped: ChannelOpenHandle,
            _: &mut Session,
        ) -> Result<(), ClientError> {
            drop(refuses_when_dropped);
            Ok(())
        }
    )*};
}

impl russh::client::Handler for ClientHandler {
    type Error = ClientError;

    refuse_channels! {
        server_channel_open_session();
        server_channel_open_direct_tcpip(&str, u32, &str, u32);
        server_channel_open_direct_streamlocal(&str);
        server_channel_open_forwarded_tcpip(&str, u32, &str, u32);
        server_channel_open_forwarded_streamlocal(&str);
        server_channel_open_x11(&str, u32);
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), ClientError> {
        match &mut self.lender {
            Some(lender) => lender.open(channel, reply),
            // Refuses when dropped.
            None => drop(reply),
        }
        Ok(())
    }

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, ClientError> {
        let key = offered.public_key();
        let checked = match offered.certificate() {
            Some(certificate) => certificate.clone().into(),
            None => key.clone().into(),
        };
        let (known_hosts, target, approved) = (self.known_hosts.clone(), self.target.clone(), self.approved.clone());
        let (host, port) = self.known_as.clone();
        // Reads and writes files, which may be slow.
        let check = tokio::task::spawn_blocking(move || {
            let offer = Offer { host: &host, port, key: &checked, approved: approved.as_deref() };
            let trusted = known_hosts.check_or_record(&offer);
            trusted.map_err(|source| ClientError::HostKey { target, source: source.into() })
        });
        let trusted = check.await.map_err(|error| ClientError::Protocol(error.to_string()))??;
        self.link.learnt().host_key = Some(HostKeyInfo {
            algorithm: key.algorithm().to_string(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            trust: trusted.trust,
            warnings: trusted.warnings,
        });
        Ok(true)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), ClientError> {
        let mut learnt = self.link.learnt();
        if learnt.banner.len() < MAX_BANNERS {
            learnt.banner.push(login::shown(banner));
        }
        Ok(())
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        names: &russh::Names,
        session: &mut Session,
    ) -> Result<(), ClientError> {
        let mut learnt = self.link.learnt();
        learnt.compression_enabled = !matches!(names.server_compression, compression::Compression::None);
        learnt.negotiated = negotiated(names);
        learnt.warnings = learnt.negotiated.warnings();
        learnt.server_version = shorten(String::from_utf8_lossy(session.remote_sshid()).trim());
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<ClientError>) -> Result<(), ClientError> {
        let mut learnt = self.link.learnt();
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                learnt.disconnected_by_server = true;
                learnt.cause = Some(format!("the server disconnected: {}", shorten(&info.message)));
                Ok(())
            }
            DisconnectReason::Error(error) => {
                learnt.cause = Some(shorten(&cause_of(&error)));
                Err(error)
            }
        }
    }
}

fn negotiated(names: &russh::Names) -> Negotiated {
    // AES-GCM and ChaCha20 authenticate by themselves: whatever MAC was named besides is not used.
    let needs_mac = names.cipher.as_ref().ends_with("-ctr") || names.cipher.as_ref().ends_with("-cbc");
    Negotiated {
        kex: names.kex.as_ref().to_owned(),
        host_key: names.key.to_string(),
        cipher: names.cipher.as_ref().to_owned(),
        mac: needs_mac.then(|| names.client_mac.as_ref().to_owned()),
    }
}

fn cause_of(error: &ClientError) -> String {
    match error {
        ClientError::Russh(error) => match &**error {
            russh::Error::KeepaliveTimeout => "the server stopped answering".into(),
            russh::Error::Disconnect | russh::Error::HUP => "the server closed the connection".into(),
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

/// Packets that wait for the pump of a channel. A server may send 256 KiB in each, whatever it was allowed; the
/// channel that is kept for ending commands has no reader at all.
const CHANNEL_QUEUE: usize = 8;

/// Settings of a connection. The key algorithms that stand in known_hosts for the host are asked for
/// first, so that a server with several keys shows the one that is known.
pub(super) fn config(spec: &ConnectSpec, offer: super::algorithms::Offer, wanted: &Wanted) -> Config {
    let (keepalive_interval, keepalive_max) = spec.algorithms.probes();
    let gex = offer.group_sizes();
    let known_first = |order: &mut Vec<Algorithm>| {
        order.sort_by_key(|algorithm| !wanted.known.iter().any(|known| same_type(known, algorithm)));
    };
    Config {
        nodelay: true,
        keepalive_interval: Some(keepalive_interval),
        keepalive_max,
        limits: spec.algorithms.limits(),
        channel_buffer_size: CHANNEL_QUEUE,
        preferred: Preferred {
            compression: Cow::Borrowed(compression_order(spec.compression)),
            ..offer.preferred(known_first, |certificates| only_useful(certificates, wanted))
        },
        gex,
        ..Config::default()
    }
}

/// Certificates go before plain keys in the list of russh, so they are asked for only where they can
/// make a difference. Those of a type that is not known would hide the key that is: they are left
/// out, unless an authority may vouch for them.
fn only_useful(certificates: &mut Vec<Algorithm>, wanted: &Wanted) {
    let known = |algorithm: &Algorithm| wanted.known.iter().any(|known| same_type(known, algorithm));
    match wanted.certificates {
        Certificates::Unasked => certificates.clear(),
        Certificates::OfKnownTypes if wanted.known.is_empty() => {}
        Certificates::OfKnownTypes => certificates.retain(known),
        Certificates::OfAllTypes => {}
    }
}

/// Whether both name the same type of key; RSA keys sign with several hashes.
pub(super) fn same_type(a: &Algorithm, b: &Algorithm) -> bool {
    a == b || matches!((a, b), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }))
}

fn compression_order(compression: Compression) -> &'static [compression::Name] {
    match compression {
        Compression::Auto => &[compression::NONE, compression::ZLIB_LEGACY, compression::ZLIB],
        // `zlib@openssh.com` starts after authentication; plain `zlib` before it.
        Compression::On => &[compression::ZLIB_LEGACY, compression::ZLIB, compression::NONE],
        Compression::Off => &[compression::NONE],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostKeyPolicy;

    #[tokio::test]
    async fn a_panic_in_the_task_of_a_connection_ends_that_connection() {
        let target = Target { host: "h".into(), port: 22, username: "u".into() };
        let links: [Arc<LinkState>; 2] = Default::default();
        let handlers = links.clone().map(|link| ClientHandler {
            target: target.clone(),
            known_hosts: Arc::new(KnownHosts::new(None, None, HostKeyPolicy::Strict)),
            known_as: ("h".into(), 22),
            approved: None,
            lender: None,
            _closes: link.closed.clone().drop_guard(),
            link,
        });
        let [doomed, other] = handlers;
        let task = tokio::spawn(async move {
            let _owned = doomed;
            panic!("as if in russh");
        });
        assert!(task.await.is_err_and(|error| error.is_panic()));
        assert!(links[0].closed.is_cancelled(), "whoever waits for it learns of the end");
        assert!(!links[1].closed.is_cancelled());
        drop(other);
    }
}
