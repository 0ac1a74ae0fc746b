//! Who signs, once the server has said that it would take a key.

use std::{path::PathBuf, sync::Arc, time::Duration};

use russh::{
    Signer,
    keys::{
        HashAlg, PrivateKey,
        agent::{AgentIdentity, AgentSessionBinding},
        signature::Signer as _,
        ssh_encoding::Encode,
        ssh_key::{Signature, private::KeypairData},
    },
};

use super::{AgentUse, agent};

/// The private half of what is offered.
#[derive(Clone)]
pub(super) enum By {
    Agent(Box<AgentIdentity>),
    File(Arc<PrivateKey>),
    Locked(PathBuf),
}

/// Signs once.
pub(super) struct Signing<'a> {
    pub(super) by: &'a By,
    pub(super) agent: &'a AgentUse,
    pub(super) binding: Option<&'a AgentSessionBinding>,
    /// An agent may ask a person, or wait for a touch.
    pub(super) limit: Duration,
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSigned {
    #[error("the connection ended")]
    Ended,
    #[error("its file is encrypted")]
    Locked,
    #[error("{0}")]
    Agent(String),
    #[error("the key cannot sign: {0}")]
    Key(String),
}

impl From<russh::SendError> for NotSigned {
    fn from(_: russh::SendError) -> Self {
        NotSigned::Ended
    }
}

impl Signer for Signing<'_> {
    type Error = NotSigned;

    /// Gives the text with the signature after it.
    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        text: Vec<u8>,
    ) -> Result<Vec<u8>, NotSigned> {
        match self.by {
            By::Locked(_) => Err(NotSigned::Locked),
            By::File(key) => {
                let key = key.clone();
                // An RSA signature takes milliseconds.
                let signing = tokio::task::spawn_blocking(move || sign(&key, hash, text));
                signing.await.map_err(|error| NotSigned::Key(error.to_string()))?
            }
            By::Agent(identity) => {
                let signing = async {
                    // A connection of its own: one that was not answered in time is of no use for the next key.
                    let agent = agent::connect(self.agent, self.binding, self.limit).await;
                    let mut agent = agent.map_err(|error| NotSigned::Agent(error.to_string()))?;
                    let signed = agent.sign_request(identity, hash, text).await;
                    signed.map_err(|error| NotSigned::Agent(format!("the agent did not sign: {error}")))
                };
                let late =
                    |_| Err(NotSigned::Agent(format!("the agent did not sign within {} s", self.limit.as_secs())));
                tokio::time::timeout(self.limit, signing).await.unwrap_or_else(late)
            }
        }
    }
}

fn sign(key: &PrivateKey, hash: Option<HashAlg>, mut text: Vec<u8>) -> Result<Vec<u8>, NotSigned> {
    let failed = |error: &dyn std::fmt::Display| NotSigned::Key(error.to_string());
    let signature: Signature = match key.key_data() {
        KeypairData::Rsa(rsa) => (rsa, hash).try_sign(&text),
        other => other.try_sign(&text),
    }
    .map_err(|error| failed(&error))?;
    signature.encode_prefixed(&mut text).map_err(|error| failed(&error))?;
    Ok(text)
}
