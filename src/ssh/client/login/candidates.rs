//! What can be offered to a server, in ssh's order.

use russh::keys::{Algorithm, Certificate, PublicKey, agent::AgentIdentity, ssh_key::public::KeyData};

use super::{
    keys::{FileKey, Loaded, Private, describe},
    signer::By,
};

/// Keys and certificates that are offered in one login, over all its connections.
pub(super) const MAX_CANDIDATES: usize = 20;

/// A key or a certificate, and who can sign for it.
pub(super) struct Candidate {
    pub(super) offer: Offer,
    pub(super) by: By,
}

#[derive(Clone)]
pub(super) enum Offer {
    Key(PublicKey),
    Certificate(Box<Certificate>),
}

impl Candidate {
    /// What stands for it, to the letter.
    pub(super) fn blob(&self) -> Vec<u8> {
        match &self.offer {
            Offer::Key(key) => key.to_bytes(),
            Offer::Certificate(certificate) => certificate.to_bytes(),
        }
        .unwrap_or_default()
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match &self.offer {
            Offer::Key(key) => key.algorithm(),
            Offer::Certificate(certificate) => certificate.algorithm(),
        }
    }

    pub(super) fn describe(&self) -> String {
        match &self.offer {
            Offer::Key(key) => describe(key),
            Offer::Certificate(certificate) => format!("certificate {}", certificate.algorithm()),
        }
    }

    pub(super) fn certificate(&self) -> Option<&Certificate> {
        match &self.offer {
            Offer::Key(_) => None,
            Offer::Certificate(certificate) => Some(certificate),
        }
    }
}

/// First what the agent holds of the named files, in their order; then the rest of the agent, unless only named keys
/// count; then the files that the agent does not hold; last certificates. Each certificate comes after its key.
pub(super) fn in_order(agent: Vec<AgentIdentity>, loaded: &Loaded, identities_only: bool) -> Vec<Candidate> {
    let mut order = Vec::new();
    let held = |key: &KeyData| agent.iter().find(|identity| plain(identity).is_some_and(|held| held == key));
    for file in &loaded.keys {
        if let Some(identity) = held(file.public.key_data()) {
            order.push(of_agent(identity));
            certificates(&mut order, loaded, &file.public, &By::Agent(identity.clone().into()));
        }
    }
    for identity in &agent {
        let named = loaded.keys.iter().any(|file| file.public.key_data() == subject(identity))
            || loaded.certificates.iter().any(|named| Some(named) == certified(identity));
        if named || !identities_only {
            order.push(of_agent(identity));
        }
    }
    for file in &loaded.keys {
        if let Some(by) = signer_of(file) {
            order.push(Candidate { offer: Offer::Key(file.public.clone()), by: by.clone() });
            certificates(&mut order, loaded, &file.public, &by);
        }
    }
    // A certificate whose key the agent has, though no file names that key.
    for identity in agent.iter().filter(|identity| plain(identity).is_some()) {
        certificates(
            &mut order,
            loaded,
            &PublicKey::from(subject(identity).clone()),
            &By::Agent(identity.clone().into()),
        );
    }
    let mut seen = std::collections::HashSet::new();
    order.retain(|candidate| seen.insert(candidate.blob()));
    order.truncate(MAX_CANDIDATES);
    order
}

fn signer_of(file: &FileKey) -> Option<By> {
    match &file.private {
        Private::Here(key) => Some(By::File(key.clone())),
        Private::Locked(path) => Some(By::Locked(path.clone())),
        Private::Elsewhere => None,
    }
}

fn certificates(order: &mut Vec<Candidate>, loaded: &Loaded, key: &PublicKey, by: &By) {
    let of_key = loaded.certificates.iter().filter(|certificate| certificate.public_key() == key.key_data());
    order.extend(
        of_key.map(|certificate| Candidate { offer: Offer::Certificate(certificate.clone().into()), by: by.clone() }),
    );
}

fn of_agent(identity: &AgentIdentity) -> Candidate {
    let offer = match identity {
        AgentIdentity::PublicKey { key, .. } => Offer::Key(key.clone()),
        AgentIdentity::Certificate { certificate, .. } => Offer::Certificate(certificate.clone().into()),
    };
    Candidate { offer, by: By::Agent(identity.clone().into()) }
}

fn plain(identity: &AgentIdentity) -> Option<&KeyData> {
    match identity {
        AgentIdentity::PublicKey { key, .. } => Some(key.key_data()),
        AgentIdentity::Certificate { .. } => None,
    }
}

fn certified(identity: &AgentIdentity) -> Option<&Certificate> {
    match identity {
        AgentIdentity::PublicKey { .. } => None,
        AgentIdentity::Certificate { certificate, .. } => Some(certificate),
    }
}

fn subject(identity: &AgentIdentity) -> &KeyData {
    match identity {
        AgentIdentity::PublicKey { key, .. } => key.key_data(),
        AgentIdentity::Certificate { certificate, .. } => certificate.public_key(),
    }
}
