//! What the lines have said so far: the first value of each keyword, and where it stands.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use secrecy::SecretString;

use super::{
    algorithms::AlgorithmEdit,
    error::Problem,
    forward::LocalForward,
    jump::Jump,
    value::{AddressFamily, CanonicalizeHostname, Choice, PubkeyAuthentication, RequestTty, StrictHostKeyChecking},
};

/// How many `IdentityFile` and `CertificateFile` lines count, as in OpenSSH (`ssh.h`).
pub(super) const MAX_KEY_FILES: usize = 100;

/// How many known_hosts files and canonical domains a line may name, as in OpenSSH (`readconf.h`).
pub(super) const MAX_LIST: usize = 32;

/// How many environment names and forwards a configuration may gather. OpenSSH has no bound.
pub(super) const MAX_GATHERED: usize = 1024;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No line says anything: what `ssh` does by itself.
    Default,
    /// The caller said it, as on the command line of `ssh`.
    Given,
    /// A line of a file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Given => f.write_str("given"),
            Origin::File { path, line } => write!(f, "{} line {line}", path.display()),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Who said so.
    pub origin: Origin,
}

impl<T> Setting<T> {
    pub(super) fn default(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }

    /// Another value of the same origin.
    pub(super) fn with<U>(&self, value: U) -> Setting<U> {
        Setting { value, origin: self.origin.clone() }
    }
}

pub(super) type Slot<T> = Option<Setting<T>>;

/// A path of `IdentityFile` or `CertificateFile`, as written, and whether a user's file says so: `ssh` drops a
/// repetition only within the user's files and within the system's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyFile {
    pub(super) text: String,
    pub(super) user_file: bool,
}

/// Everything that was said, unexpanded.
#[derive(Default)]
pub(super) struct Options {
    pub(super) host_name: Slot<String>,
    pub(super) port: Slot<u16>,
    pub(super) user: Slot<String>,
    pub(super) identity_files: Vec<Setting<KeyFile>>,
    pub(super) certificate_files: Vec<Setting<KeyFile>>,
    pub(super) identities_only: Slot<bool>,
    pub(super) identity_agent: Slot<String>,
    pub(super) proxy_command: Slot<String>,
    pub(super) proxy_jump: Slot<Jump>,
    pub(super) host_key_alias: Slot<String>,
    pub(super) strict_host_key_checking: Slot<StrictHostKeyChecking>,
    pub(super) user_known_hosts: Slot<Vec<String>>,
    pub(super) global_known_hosts: Slot<Vec<String>>,
    pub(super) revoked_host_keys: Slot<String>,
    pub(super) hash_known_hosts: Slot<bool>,
    pub(super) check_host_ip: Slot<bool>,
    pub(super) preferred_authentications: Slot<String>,
    pub(super) pubkey_authentication: Slot<PubkeyAuthentication>,
    pub(super) password_authentication: Slot<bool>,
    pub(super) kbd_interactive_authentication: Slot<bool>,
    pub(super) number_of_password_prompts: Slot<u32>,
    pub(super) batch_mode: Slot<bool>,
    pub(super) connect_timeout: Slot<u64>,
    pub(super) connection_attempts: Slot<u32>,
    pub(super) server_alive_interval: Slot<u64>,
    pub(super) server_alive_count_max: Slot<u32>,
    pub(super) tcp_keep_alive: Slot<bool>,
    pub(super) compression: Slot<bool>,
    pub(super) ciphers: Slot<AlgorithmEdit>,
    pub(super) macs: Slot<AlgorithmEdit>,
    pub(super) kex_algorithms: Slot<AlgorithmEdit>,
    pub(super) host_key_algorithms: Slot<AlgorithmEdit>,
    pub(super) pubkey_accepted_algorithms: Slot<AlgorithmEdit>,
    pub(super) rekey_bytes: Slot<u64>,
    pub(super) rekey_secs: Slot<u64>,
    pub(super) bind_address: Slot<String>,
    pub(super) address_family: Slot<AddressFamily>,
    pub(super) send_env: Vec<Setting<String>>,
    pub(super) set_env: Vec<Setting<(String, SecretString)>>,
    pub(super) request_tty: Slot<RequestTty>,
    pub(super) forward_agent: Slot<bool>,
    pub(super) forward_agent_socket: Slot<String>,
    pub(super) local_forwards: Vec<Setting<LocalForward>>,
    pub(super) clear_all_forwardings: Slot<bool>,
    pub(super) canonicalize_hostname: Slot<CanonicalizeHostname>,
    pub(super) canonical_domains: Slot<Vec<String>>,
    pub(super) canonicalize_max_dots: Slot<u32>,
    pub(super) canonicalize_fallback_local: Slot<bool>,
    pub(super) ignore_unknown: Slot<String>,
    /// Keywords that are understood and not followed, by name.
    pub(super) unused: BTreeMap<&'static str, Setting<String>>,
}

/// One line that is being applied: its values, and whether they count for this host.
pub(super) struct Statement<'a> {
    pub(super) keyword: &'static str,
    pub(super) active: bool,
    pub(super) user_file: bool,
    pub(super) origin: Origin,
    /// The text behind the keyword, for those that take it raw.
    pub(super) rest: &'a str,
    pub(super) words: &'a [String],
    pub(super) variables: &'a BTreeMap<String, String>,
}

impl<'a> Statement<'a> {
    /// The next value, which may be empty.
    pub(super) fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    /// The next value; there must be one.
    pub(super) fn word(&mut self) -> Result<&'a str, Problem> {
        self.next().filter(|word| !word.is_empty()).ok_or(Problem::Missing)
    }

    /// The whole text behind the keyword.
    pub(super) fn raw(&mut self) -> &'a str {
        self.words = &[];
        self.rest.trim_start_matches([' ', '\t', '\r', '\n', '='])
    }

    pub(super) fn choice<T: Choice>(&mut self, slot: &mut Slot<T>) -> Result<(), Problem> {
        let value = T::parse(self.word()?)?;
        self.fill(slot, value);
        Ok(())
    }

    /// The first value wins.
    pub(super) fn fill<T>(&self, slot: &mut Slot<T>, value: T) {
        if self.active && slot.is_none() {
            *slot = Some(self.setting(value));
        }
    }

    pub(super) fn push<T>(&self, list: &mut Vec<Setting<T>>, value: T, limit: usize) -> Result<(), Problem> {
        if list.len() >= limit {
            return Err(Problem::TooMany { limit });
        }
        list.push(self.setting(value));
        Ok(())
    }

    pub(super) fn setting<T>(&self, value: T) -> Setting<T> {
        Setting { value, origin: self.origin.clone() }
    }

    /// All the values; `none` must stand alone.
    pub(super) fn list(&mut self) -> Result<Vec<String>, Problem> {
        let words = std::mem::take(&mut self.words);
        if words.iter().any(String::is_empty) {
            return Err(Problem::Missing);
        }
        if words.len() > 1 && words.iter().any(|word| word.eq_ignore_ascii_case("none")) {
            return Err(Problem::bad("none", "none alone, or a list without it"));
        }
        Ok(words.to_vec())
    }
}
