//! Security keys, through an agent that waits for a touch.

use std::{path::Path, time::Duration};

use data_encoding::BASE64;
use ring::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::support::{home::Home, openssh::Sshd};

const KIND: &[u8] = b"sk-ssh-ed25519@openssh.com";
const APPLICATION: &[u8] = b"ssh:";

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// The key as `ssh-agent` would have it, made in software (PROTOCOL.u2f of OpenSSH).
struct Token(Ed25519KeyPair);

impl Token {
    fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap())
    }

    fn public(&self) -> Vec<u8> {
        [string(KIND), string(self.0.public_key().as_ref()), string(APPLICATION)].concat()
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        let touched_and_counter = [1, 0, 0, 0, 9];
        let hashes = (digest(&SHA256, APPLICATION), digest(&SHA256, text));
        let signed = [hashes.0.as_ref(), &touched_and_counter, hashes.1.as_ref()].concat();
        [string(KIND), string(self.0.sign(&signed).as_ref()), touched_and_counter.to_vec()].concat()
    }
}

/// Serves one connection; a touch takes as long as it takes.
async fn serve(mut stream: UnixStream, touch: Option<Duration>) -> std::io::Result<()> {
    let token = Token::new();
    loop {
        let length = stream.read_u32().await?;
        let mut question = vec![0; length as usize];
        stream.read_exact(&mut question).await?;
        let answer = match question[0] {
            11 => [&[12, 0, 0, 0, 1][..], &string(&token.public()), &string(b"token")].concat(),
            13 => {
                match touch {
                    Some(touch) => tokio::time::sleep(touch).await,
                    None => std::future::pending().await,
                }
                // After the key: the text, with its length.
                let text = &question[1 + 4 + token.public().len()..];
                let length = u32::from_be_bytes(text[..4].try_into().unwrap()) as usize;
                [&[14][..], &string(&token.sign(&text[4..4 + length]))].concat()
            }
            _ => vec![5],
        };
        stream.write_all(&string(&answer)).await?;
    }
}

fn agent(socket: &Path, touch: Option<Duration>) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, touch));
        }
    })
}

#[tokio::test]
async fn touch_may_take_longer_than_an_answer_of_the_agent_and_one_that_never_comes_is_told() {
    let Some(sshd) = Sshd::start().await else { return };
    let kind = std::str::from_utf8(KIND).unwrap();
    sshd.authorize_line(&format!("{kind} {} token", BASE64.encode(&Token::new().public())));
    let home = Home::new();
    let arguments = |secs: u64| {
        let address = format!("127.0.0.1:{}", sshd.port());
        json!({"address": address, "username": sshd.user().name, "timeout_secs": secs})
    };
    // Six seconds: beyond the five in which an agent has to list its keys.
    let slow = home.path().join("slow");
    let serving = agent(&slow, Some(Duration::from_secs(6)));
    let client = home.client(&[("SSH_AUTH_SOCK", slow.to_str().unwrap())]).await;
    let answer = client.call("ssh_connect", arguments(20)).await;
    assert!(!answer.is_error, "{}\n{}", answer.text, sshd.log());
    assert_eq!(answer.success()["auth_method"], "agent");
    serving.abort();

    let silent = home.path().join("silent");
    let serving = agent(&silent, None);
    let client = home.client(&[("SSH_AUTH_SOCK", silent.to_str().unwrap())]).await;
    let answer = client.call("ssh_connect", arguments(4)).await;
    assert_eq!(
        (answer.code(), answer.structured["why"].as_str()),
        ("auth_failed", Some("not_signed")),
        "{}",
        answer.text
    );
    assert!(answer.structured["hint"].as_str().unwrap().contains("touch"), "{}", answer.text);
    serving.abort();
}
