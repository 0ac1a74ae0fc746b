//! What may be used to log in.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::WorkedKeys;
use crate::{
    secret::Secret,
    ssh::client::{Algorithms, KeyFile},
};

/// A way to prove who one is (RFC 4252).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Keys and certificates, of the agent and of files.
    PublicKey,
    /// Questions of the server: a password, a one-time code.
    KeyboardInteractive,
    /// A password.
    Password,
}

impl Method {
    /// What ssh tries, in its order, of what there is here.
    pub const ORDER: [Method; 3] = [Method::PublicKey, Method::KeyboardInteractive, Method::Password];
    /// The order where a password was given for this very login.
    pub const PASSWORD_FIRST: [Method; 3] = [Method::KeyboardInteractive, Method::Password, Method::PublicKey];

    /// As `PreferredAuthentications` has it; none for a method that there is not.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ORDER.into_iter().find(|method| method.as_str() == name)
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::PublicKey => "publickey",
            Method::KeyboardInteractive => "keyboard-interactive",
            Method::Password => "password",
        }
    }
}

/// Which SSH agent is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentUse {
    /// None.
    Off,
    /// The one of the environment: its socket, where `SSH_AUTH_SOCK` names one. On Windows without it, the pipe of
    /// OpenSSH, then Pageant.
    OfEnvironment(Option<PathBuf>),
    /// This one (`IdentityAgent`): a socket, on Windows a pipe.
    At(PathBuf),
}

/// Who named a key file, and so what it means that it cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The caller: it must load.
    ByCall,
    /// The caller, with a password that goes first.
    Beside,
    /// The configuration. It may be the public half alone, to choose a key of the agent; links are followed, and the
    /// allowed places do not matter: the user chose it.
    ByConfig,
    /// Nobody: it is one of the usual places. Nothing is said where it is missing.
    ByDefault,
}

/// A key file.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Where it is and what it may need.
    pub file: KeyFile,
    /// Who named it.
    pub given: Given,
}

/// What a person can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What the server asks for, in its words, bounded and made harmless.
    Prompt {
        /// The words.
        text: String,
        /// Whether the server would show what is typed.
        echo: bool,
    },
    /// The passphrase of an encrypted key file.
    Passphrase(PathBuf),
}

/// What a person typed.
#[derive(Clone)]
pub struct Answered {
    /// What they were asked.
    pub asked: Asked,
    /// What they typed.
    pub answer: Secret,
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// How to log in. Secrets are wiped when the last copy goes; none is ever shown.
#[derive(Clone)]
pub struct LoginPlan {
    /// What may be tried, in this order ([`Method::ORDER`]), among what the server offers at the time.
    pub methods: Vec<Method>,
    /// Which agent is asked for keys.
    pub agent: AgentUse,
    /// Key files, in order. The usual ones stand here too, where nobody named any ([`LoginPlan::default_identities`]).
    pub identities: Vec<Identity>,
    /// `CertificateFile`; a `-cert.pub` beside an identity is found by itself.
    pub certificates: Vec<PathBuf>,
    /// Of the agent, only keys that stand among the identities are offered.
    pub identities_only: bool,
    /// The password. Sent once.
    pub password: Option<Secret>,
    /// The secret of a one-time code (RFC 6238): base32, or an `otpauth://` URI.
    pub totp: Option<Secret>,
    /// What a person typed for this one login.
    pub answers: Vec<Answered>,
    /// What keys may sign with.
    pub algorithms: Algorithms,
    /// Which key was taken where, so that it is offered first.
    pub worked: Arc<WorkedKeys>,
}

impl LoginPlan {
    /// ssh's order with the agent of the environment, and nothing else yet.
    #[must_use]
    pub fn new(agent: AgentUse) -> Self {
        Self {
            methods: Method::ORDER.to_vec(),
            agent,
            identities: Vec::new(),
            certificates: Vec::new(),
            identities_only: false,
            password: None,
            totp: None,
            answers: Vec::new(),
            algorithms: Algorithms::default(),
            worked: Arc::default(),
        }
    }

    /// Whether both say the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        // Every field is named, so that a new one cannot be forgotten here.
        let Self {
            methods,
            agent,
            identities,
            certificates,
            identities_only,
            password,
            totp,
            answers: _,
            algorithms,
            worked: _,
        } = self;
        let alike = |(a, b): (&Identity, &Identity)| {
            a.given == b.given
                && a.file.path == b.file.path
                && a.file.home == b.file.home
                && a.file.roots == b.file.roots
                && same_secret(&a.file.passphrase, &b.file.passphrase)
        };
        *methods == other.methods
            && *agent == other.agent
            && identities.len() == other.identities.len()
            && identities.iter().zip(&other.identities).all(alike)
            && *certificates == other.certificates
            && *identities_only == other.identities_only
            && same_secret(password, &other.password)
            && same_secret(totp, &other.totp)
            && *algorithms == other.algorithms
    }

    /// The key files that ssh tries where none is named, in its order. A security key in a file needs its library:
    /// those come by the agent alone.
    #[must_use]
    pub fn default_identities(home: Option<&Path>, roots: &[PathBuf]) -> Vec<Identity> {
        let Some(home) = home else { return Vec::new() };
        let file = |name: &str| KeyFile {
            path: home.join(".ssh").join(name).to_string_lossy().into_owned(),
            passphrase: None,
            home: None,
            roots: roots.to_vec(),
        };
        let names = ["id_rsa", "id_ecdsa", "id_ed25519"];
        names.map(|name| Identity { file: file(name), given: Given::ByDefault }).to_vec()
    }
}

fn same_secret(a: &Option<Secret>, b: &Option<Secret>) -> bool {
    a.as_ref().map(Secret::expose) == b.as_ref().map(Secret::expose)
}

impl fmt::Debug for LoginPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.methods.iter().map(|method| method.as_str()).collect();
        f.debug_struct("LoginPlan").field("methods", &names).field("agent", &self.agent).finish_non_exhaustive()
    }
}
