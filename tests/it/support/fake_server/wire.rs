//! The server's half of the SSH transport, small enough that a test can break any rule of it.
//!
//! One suite: curve25519-sha256, ssh-ed25519, aes256-gcm. What is sent is whatever the test says: there is no state
//! that would refuse a message.

use std::io;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Message numbers (RFC 4250, section 4.1).
pub(crate) mod msg {
    pub(crate) const DISCONNECT: u8 = 1;
    pub(crate) const IGNORE: u8 = 2;
    pub(crate) const UNIMPLEMENTED: u8 = 3;
    pub(crate) const DEBUG: u8 = 4;
    pub(crate) const SERVICE_REQUEST: u8 = 5;
    pub(crate) const SERVICE_ACCEPT: u8 = 6;
    pub(crate) const EXT_INFO: u8 = 7;
    pub(crate) const KEXINIT: u8 = 20;
    pub(crate) const NEWKEYS: u8 = 21;
    pub(crate) const KEX_ECDH_INIT: u8 = 30;
    pub(crate) const KEX_ECDH_REPLY: u8 = 31;
    pub(crate) const USERAUTH_REQUEST: u8 = 50;
    pub(crate) const USERAUTH_FAILURE: u8 = 51;
    pub(crate) const USERAUTH_SUCCESS: u8 = 52;
    pub(crate) const USERAUTH_BANNER: u8 = 53;
    pub(crate) const USERAUTH_INFO_REQUEST: u8 = 60;
    pub(crate) const GLOBAL_REQUEST: u8 = 80;
    pub(crate) const CHANNEL_OPEN: u8 = 90;
    pub(crate) const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
    pub(crate) const CHANNEL_OPEN_FAILURE: u8 = 92;
    pub(crate) const CHANNEL_WINDOW_ADJUST: u8 = 93;
    pub(crate) const CHANNEL_DATA: u8 = 94;
    pub(crate) const CHANNEL_EXTENDED_DATA: u8 = 95;
    pub(crate) const CHANNEL_EOF: u8 = 96;
    pub(crate) const CHANNEL_CLOSE: u8 = 97;
    pub(crate) const CHANNEL_REQUEST: u8 = 98;
    pub(crate) const CHANNEL_SUCCESS: u8 = 99;
}

/// What this server calls itself.
pub(crate) const ID: &str = "SSH-2.0-Hostile_1.0";

/// The payload of a message, field by field (RFC 4251, section 5).
#[derive(Clone)]
pub(crate) struct Payload(pub(crate) Vec<u8>);

impl Payload {
    pub(crate) fn new(number: u8) -> Self {
        Self(vec![number])
    }

    pub(crate) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn string(mut self, value: impl AsRef<[u8]>) -> Self {
        put(&mut self.0, value.as_ref());
        self
    }

    pub(crate) fn raw(mut self, value: impl AsRef<[u8]>) -> Self {
        self.0.extend(value.as_ref());
        self
    }
}

/// What a server says in its key exchange.
#[derive(Clone)]
pub(crate) struct Exchange {
    /// The methods, in place of curve25519-sha256.
    pub(crate) kex: String,
    /// Compression from the server to the client.
    pub(crate) compression: &'static str,
    /// Sent in place of the server's public value, if given.
    pub(crate) public_value: Option<Vec<u8>>,
    /// The signature is over something else.
    pub(crate) wrong_signature: bool,
    /// Sent in the clear before the reply.
    pub(crate) injected: Vec<Payload>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            kex: "curve25519-sha256".into(),
            compression: "none",
            public_value: None,
            wrong_signature: false,
            injected: Vec::new(),
        }
    }
}

/// One connection, from the server's side.
pub(crate) struct Wire {
    read: Option<BufReader<OwnedReadHalf>>,
    pub(crate) write: OwnedWriteHalf,
    host_key: Ed25519KeyPair,
    client_id: Vec<u8>,
    session_id: Vec<u8>,
    opening: Option<Key>,
    sealing: Option<Key>,
    compress: Option<flate2::Compress>,
}

/// One direction of aes256-gcm (RFC 5647).
struct Key {
    key: LessSafeKey,
    nonce: [u8; NONCE_LEN],
}

impl Key {
    fn new(key: &[u8], nonce: &[u8]) -> Self {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes"));
        Self { key, nonce: nonce[..NONCE_LEN].try_into().expect("12 bytes") }
    }

    fn next(&mut self) -> Nonce {
        let used = self.nonce;
        let counter = u64::from_be_bytes(used[4..].try_into().expect("8 bytes")).wrapping_add(1);
        self.nonce[4..].copy_from_slice(&counter.to_be_bytes());
        Nonce::assume_unique_for_key(used)
    }
}

impl Wire {
    pub(crate) fn new(socket: TcpStream, host_key: &[u8; 32]) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let (read, write) = socket.into_split();
        let host_key = Ed25519KeyPair::from_seed_unchecked(host_key).map_err(io::Error::other)?;
        Ok(Self {
            read: Some(BufReader::new(read)),
            write,
            host_key,
            client_id: Vec::new(),
            session_id: Vec::new(),
            opening: None,
            sealing: None,
            compress: None,
        })
    }

    /// Sends bytes as they are.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await
    }

    /// Sends bytes as they are, until the client has gone.
    pub(crate) async fn raw_for_ever(&mut self, bytes: &[u8]) -> io::Result<()> {
        loop {
            self.raw(bytes).await?;
        }
    }

    /// Exchanges the identification lines.
    pub(crate) async fn identify(&mut self) -> io::Result<()> {
        self.raw(format!("{ID}\r\n").as_bytes()).await?;
        self.read_identification().await
    }

    pub(crate) async fn read_identification(&mut self) -> io::Result<()> {
        let mut line = Vec::new();
        self.reader()?.read_until(b'\n', &mut line).await?;
        self.client_id = line.trim_ascii_end().to_vec();
        Ok(())
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, payload: &Payload) -> io::Result<()> {
        let packet = self.packet(&payload.0);
        self.raw(&packet).await
    }

    /// Sends a message again and again, many in one write, until the client has gone.
    pub(crate) async fn flood(&mut self, payload: &Payload) -> io::Result<()> {
        loop {
            self.burst(payload, 64).await?;
        }
    }

    /// Sends a message so many times.
    pub(crate) async fn burst(&mut self, payload: &Payload, count: usize) -> io::Result<()> {
        for first in (0..count).step_by(64) {
            let mut packets = Vec::new();
            for _ in first..count.min(first + 64) {
                packets.extend(self.packet(&payload.0));
            }
            self.raw(&packets).await?;
        }
        Ok(())
    }

    /// A packet of this payload, as the other side expects the next one (RFC 4253, section 6).
    pub(crate) fn packet(&mut self, payload: &[u8]) -> Vec<u8> {
        let compressed = self.compress.as_mut().map(|compress| deflate(compress, payload));
        let payload = compressed.as_deref().unwrap_or(payload);
        let block = if self.sealing.is_some() { 16 } else { 8 };
        // The length field is not encrypted and does not count with AES-GCM.
        let counted = payload.len() + 1 + if self.sealing.is_some() { 0 } else { 4 };
        let mut padding = block - counted % block;
        if padding < 4 {
            padding += block;
        }
        let mut body = vec![u8::try_from(padding).expect("20 at most")];
        body.extend(payload);
        body.resize(body.len() + padding, 0);
        self.sealed(body)
    }

    /// A packet with this body: padding length, payload, padding.
    pub(crate) fn sealed(&mut self, mut body: Vec<u8>) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("a packet").to_be_bytes();
        if let Some(sealing) = &mut self.sealing {
            let nonce = sealing.next();
            sealing.key.seal_in_place_append_tag(nonce, Aad::from(length), &mut body).expect("sealed");
        }
        let mut packet = length.to_vec();
        packet.append(&mut body);
        packet
    }

    /// The next message.
    pub(crate) async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.reader()?.read_exact(&mut length).await?;
        let tag = if self.opening.is_some() { 16 } else { 0 };
        let mut body = vec![0; u32::from_be_bytes(length) as usize + tag];
        self.reader()?.read_exact(&mut body).await?;
        if let Some(opening) = &mut self.opening {
            let nonce = opening.next();
            let plain = opening.key.open_in_place(nonce, Aad::from(length), &mut body);
            let plain = plain.map_err(|_| io::Error::other("a packet of the client does not open"))?.len();
            body.truncate(plain);
        }
        let end = body.len() - usize::from(body[0]);
        Ok(body[1..end].to_vec())
    }

    /// The next message with this number; others are passed over.
    pub(crate) async fn receive_number(&mut self, number: u8) -> io::Result<Vec<u8>> {
        loop {
            let message = self.receive().await?;
            if message.first() == Some(&number) {
                return Ok(message);
            }
        }
    }

    /// Identification, key exchange and new keys.
    pub(crate) async fn handshake(&mut self, exchange: &Exchange) -> io::Result<()> {
        self.identify().await?;
        self.exchange_keys(exchange).await
    }

    /// A key exchange: the first, or one more.
    pub(crate) async fn exchange_keys(&mut self, exchange: &Exchange) -> io::Result<()> {
        let ours = kexinit(exchange);
        self.send(&ours).await?;
        let theirs = self.receive_number(msg::KEXINIT).await?;
        for injected in &exchange.injected {
            self.send(injected).await?;
        }
        self.reply(exchange, &ours.0, &theirs).await
    }

    async fn reply(&mut self, exchange: &Exchange, ours: &[u8], theirs: &[u8]) -> io::Result<()> {
        let init = self.receive_number(msg::KEX_ECDH_INIT).await?;
        let client_value = init[5..].to_vec();
        let random = SystemRandom::new();
        let private = EphemeralPrivateKey::generate(&X25519, &random).map_err(io::Error::other)?;
        let public = private.compute_public_key().map_err(io::Error::other)?;
        let public = exchange.public_value.clone().unwrap_or_else(|| public.as_ref().to_vec());
        let peer = UnparsedPublicKey::new(&X25519, &client_value);
        let shared = agree_ephemeral(private, &peer, mpint).map_err(io::Error::other)?;
        let host_key = Payload(Vec::new()).string("ssh-ed25519").string(self.host_key.public_key()).0;
        let hashed = Payload(Vec::new()).string(&self.client_id).string(ID).string(theirs).string(ours);
        let hashed = hashed.string(&host_key).string(&client_value).string(&public).raw(&shared).0;
        let hash = digest(&SHA256, &hashed).as_ref().to_vec();
        let signed: &[u8] = if exchange.wrong_signature { b"something else" } else { &hash };
        let signature = Payload(Vec::new()).string("ssh-ed25519").string(self.host_key.sign(signed)).0;
        let reply = Payload::new(msg::KEX_ECDH_REPLY).string(&host_key).string(&public).string(&signature);
        self.send(&reply).await?;
        self.send(&Payload::new(msg::NEWKEYS)).await?;
        if self.session_id.is_empty() {
            self.session_id.clone_from(&hash);
        }
        let session_id = self.session_id.clone();
        let derive = |letter: u8| {
            let input = Payload(shared.clone()).raw(&hash).byte(letter).raw(&session_id).0;
            digest(&SHA256, &input).as_ref().to_vec()
        };
        self.sealing = Some(Key::new(&derive(b'D'), &derive(b'B')));
        self.receive_number(msg::NEWKEYS).await?;
        self.opening = Some(Key::new(&derive(b'C'), &derive(b'A')));
        Ok(())
    }

    /// Everything up to the request to log in.
    pub(crate) async fn until_login(&mut self, exchange: &Exchange) -> io::Result<()> {
        self.handshake(exchange).await?;
        self.receive_number(msg::SERVICE_REQUEST).await?;
        self.send(&Payload::new(msg::SERVICE_ACCEPT).string("ssh-userauth")).await?;
        self.receive_number(msg::USERAUTH_REQUEST).await.map(drop)
    }

    /// Everything up to a login that is let in.
    pub(crate) async fn log_in(&mut self, exchange: &Exchange) -> io::Result<()> {
        self.until_login(exchange).await?;
        self.send(&Payload::new(msg::USERAUTH_SUCCESS)).await?;
        if exchange.compression == "zlib@openssh.com" {
            self.compress = Some(flate2::Compress::new(flate2::Compression::best(), true));
        }
        Ok(())
    }

    /// Lets in, opens every session channel with this window and packet size, and accepts the first command. The
    /// question for the login shell gets no answer.
    pub(crate) async fn until_command(
        &mut self,
        exchange: &Exchange,
        window: u32,
        packet: u32,
    ) -> io::Result<Channels> {
        self.log_in(exchange).await?;
        let mut opened = Vec::new();
        loop {
            let message = self.receive().await?;
            match message.first() {
                Some(&msg::CHANNEL_OPEN) => {
                    let kind = number(&message[1..]) as usize;
                    let channel = number(&message[5 + kind..]);
                    opened.push(channel);
                    let confirmed = Payload::new(msg::CHANNEL_OPEN_CONFIRMATION).u32(channel).u32(channel);
                    self.send(&confirmed.u32(window).u32(packet)).await?;
                }
                Some(&msg::CHANNEL_REQUEST) => {
                    let channel = number(&message[1..]);
                    self.send(&Payload::new(msg::CHANNEL_SUCCESS).u32(channel)).await?;
                    opened.retain(|other| *other != channel);
                    if !message.ends_with(b" $SHELL") {
                        return Ok(Channels { command: channel, spare: opened.first().copied() });
                    }
                    self.exit(channel, 0).await?;
                }
                _ => {}
            }
        }
    }

    /// The end of a command, as it should be.
    pub(crate) async fn exit(&mut self, channel: u32, status: u32) -> io::Result<()> {
        let exit = Payload::new(msg::CHANNEL_REQUEST).u32(channel).string("exit-status").byte(0).u32(status);
        self.send(&exit).await?;
        self.send(&Payload::new(msg::CHANNEL_EOF).u32(channel)).await?;
        self.send(&Payload::new(msg::CHANNEL_CLOSE).u32(channel)).await
    }

    /// From now on what the client says is read and thrown away.
    pub(crate) fn stop_listening(&mut self) {
        if let Some(mut read) = self.read.take() {
            // It ends with the connection.
            tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
        }
    }

    /// Holds the connection until the client has gone.
    pub(crate) async fn hold(&mut self) -> io::Result<()> {
        match self.read.take() {
            Some(mut read) => tokio::io::copy(&mut read, &mut tokio::io::sink()).await.map(drop),
            None => std::future::pending().await,
        }
    }

    fn reader(&mut self) -> io::Result<&mut BufReader<OwnedReadHalf>> {
        self.read.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// The channels that a client has opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channels {
    /// The one with the command.
    pub(crate) command: u32,
    /// Another one, which the client keeps.
    pub(crate) spare: Option<u32>,
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().expect("4 bytes"))
}

fn put(into: &mut Vec<u8>, value: &[u8]) {
    into.extend(u32::try_from(value.len()).expect("a field").to_be_bytes());
    into.extend(value);
}

/// Its bytes as a positive number (RFC 4251, section 5).
fn mpint(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = &bytes[zeros..];
    let sign: &[u8] = if digits.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
    Payload(Vec::new()).string([sign, digits].concat()).0
}

pub(crate) fn kexinit(exchange: &Exchange) -> Payload {
    let both = |payload: Payload, names: &str| payload.string(names).string(names);
    let payload = Payload::new(msg::KEXINIT).raw([7; 16]).string(&exchange.kex).string("ssh-ed25519");
    let payload = both(both(payload, "aes256-gcm@openssh.com"), "hmac-sha2-256");
    let payload = payload.string("none").string(exchange.compression);
    both(payload, "").byte(0).u32(0)
}

fn deflate(compress: &mut flate2::Compress, payload: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(payload.len() + 1024);
    compress.compress_vec(payload, &mut packed, flate2::FlushCompress::Partial).expect("room enough");
    packed
}
