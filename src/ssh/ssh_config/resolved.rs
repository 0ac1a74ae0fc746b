//! What the configuration says about one host, typed, with where each value comes from.

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{
    algorithms::AlgorithmEdit,
    forward::LocalForward,
    jump::Hop,
    options::{Origin, Setting},
    pattern::matches,
    value::{AddressFamily, CanonicalizeHostname, Choice, PubkeyAuthentication, RequestTty, StrictHostKeyChecking},
};

/// How the host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// By an own TCP connection.
    Direct,
    /// Through other hosts, the nearest first.
    Jump(Vec<Hop>),
    /// Through a process.
    Command {
        /// As written.
        written: String,
        /// With its tokens expanded: for a shell.
        command: String,
    },
}

/// A path, as written and expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPath {
    /// As it stands in the file.
    pub written: String,
    /// Without `~`, tokens and variables.
    pub path: PathBuf,
}

/// `IdentityAgent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityAgent {
    /// `none`: no agent is asked.
    Off,
    /// The socket that a variable of the environment names.
    Variable(String),
    /// This socket.
    Socket(PathBuf),
}

/// What a notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Asked for, not supported.
    Ignored,
    /// Asked for, not done on purpose.
    Refused,
    /// A condition that was not looked at, so that its block does not count.
    NotEvaluated,
}

/// Something that `ssh` would do and that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Why.
    pub kind: NoticeKind,
    /// The keyword, in lower case.
    pub keyword: String,
    /// Its value; left out where it could hold a secret.
    pub value: Option<String>,
    /// Where it stands.
    pub origin: Origin,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.keyword)?;
        if let Some(value) = &self.value {
            write!(f, " {}", super::error::shorten(value))?;
        }
        f.write_str(match self.kind {
            NoticeKind::Ignored => " is not supported and was ignored",
            NoticeKind::Refused => " is refused and was ignored",
            NoticeKind::NotEvaluated => " was not evaluated: its block was passed over",
        })?;
        write!(f, " ({})", self.origin)
    }
}

/// Everything that `ssh` would know about a host.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is the keyword of its name; see ssh_config(5)")]
pub struct Resolved {
    /// The name that was asked for.
    pub alias: String,
    /// What is connected to.
    pub host: Setting<String>,
    pub port: Setting<u16>,
    pub user: Setting<String>,
    pub proxy: Setting<Proxy>,
    /// In order. `none` is left out; the default files when nothing is said.
    pub identity_files: Vec<Setting<KeyPath>>,
    pub certificate_files: Vec<Setting<KeyPath>>,
    pub identities_only: Setting<bool>,
    pub identity_agent: Option<Setting<IdentityAgent>>,
    pub host_key_alias: Option<Setting<String>>,
    pub strict_host_key_checking: Setting<StrictHostKeyChecking>,
    pub user_known_hosts_files: Setting<Vec<PathBuf>>,
    pub global_known_hosts_files: Setting<Vec<PathBuf>>,
    pub revoked_host_keys: Option<Setting<PathBuf>>,
    pub hash_known_hosts: Setting<bool>,
    pub check_host_ip: Setting<bool>,
    pub preferred_authentications: Option<Setting<Vec<String>>>,
    pub pubkey_authentication: Setting<PubkeyAuthentication>,
    pub password_authentication: Setting<bool>,
    pub kbd_interactive_authentication: Setting<bool>,
    pub number_of_password_prompts: Setting<u32>,
    pub batch_mode: Setting<bool>,
    pub connect_timeout: Option<Setting<Duration>>,
    pub connection_attempts: Setting<u32>,
    /// Zero: none are sent.
    pub server_alive_interval: Setting<Duration>,
    pub server_alive_count_max: Setting<u32>,
    pub tcp_keep_alive: Setting<bool>,
    pub compression: Setting<bool>,
    pub ciphers: Option<Setting<AlgorithmEdit>>,
    pub macs: Option<Setting<AlgorithmEdit>>,
    pub kex_algorithms: Option<Setting<AlgorithmEdit>>,
    pub host_key_algorithms: Option<Setting<AlgorithmEdit>>,
    pub pubkey_accepted_algorithms: Option<Setting<AlgorithmEdit>>,
    /// Zero: as the cipher needs it.
    pub rekey_bytes: Setting<u64>,
    /// Zero: not by time.
    pub rekey_interval: Setting<Duration>,
    pub bind_address: Option<Setting<String>>,
    pub address_family: Setting<AddressFamily>,
    /// Names and patterns.
    pub send_env: Vec<Setting<String>>,
    pub set_env: Vec<Setting<(String, SecretString)>>,
    pub request_tty: Setting<RequestTty>,
    pub forward_agent: Setting<bool>,
    /// A path, or `$NAME`; meant only while `forward_agent` is on.
    pub forward_agent_socket: Option<Setting<String>>,
    pub local_forwards: Vec<Setting<LocalForward>>,
    pub canonicalize_hostname: Setting<CanonicalizeHostname>,
    pub canonical_domains: Option<Setting<Vec<String>>>,
    pub canonicalize_max_dots: Setting<u32>,
    pub canonicalize_fallback_local: Setting<bool>,
    /// What `ssh` would do beyond all this.
    pub notices: Vec<Notice>,
}

/// A value as `ssh -G` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In lower case.
    pub keyword: &'static str,
    /// The value in one line.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Gathers entries.
struct Entries(Vec<Entry>);

impl Entries {
    fn add<T>(&mut self, keyword: &'static str, setting: &Setting<T>, text: impl FnOnce(&T) -> String) {
        self.0.push(Entry { keyword, value: text(&setting.value), origin: setting.origin.clone() });
    }

    fn each<'a, T: 'a>(
        &mut self,
        keyword: &'static str,
        settings: impl IntoIterator<Item = &'a Setting<T>>,
        text: impl Fn(&T) -> String,
    ) {
        for setting in settings {
            self.add(keyword, setting, &text);
        }
    }
}

impl Resolved {
    /// Whether `SendEnv` names this variable.
    #[must_use]
    pub fn sends(&self, variable: &str) -> bool {
        self.send_env.iter().any(|pattern| matches(variable, &pattern.value))
    }

    /// Every value in the words of `ssh -G`, but for `SetEnv`, whose values may be secret; lists of algorithms as
    /// written.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut all = Entries(Vec::new());
        self.target_entries(&mut all);
        self.trust_entries(&mut all);
        self.connection_entries(&mut all);
        all.0
    }

    fn target_entries(&self, all: &mut Entries) {
        all.add("hostname", &self.host, String::clone);
        all.add("port", &self.port, u16::to_string);
        all.add("user", &self.user, String::clone);
        match &self.proxy.value {
            Proxy::Direct => {}
            Proxy::Jump(hops) => {
                let hops: Vec<_> = hops.iter().map(Hop::text).collect();
                all.add("proxyjump", &self.proxy, |_| hops.join(","));
            }
            Proxy::Command { written, .. } => all.add("proxycommand", &self.proxy, |_| written.clone()),
        }
        all.each("identityfile", &self.identity_files, |file| file.written.clone());
        all.each("certificatefile", &self.certificate_files, |file| file.written.clone());
        all.add("identitiesonly", &self.identities_only, flag);
        all.each("identityagent", &self.identity_agent, IdentityAgent::text);
        all.add("canonicalizehostname", &self.canonicalize_hostname, |choice| choice.text().into());
        all.each("canonicaldomains", &self.canonical_domains, |domains| domains.join(" "));
        all.add("canonicalizemaxdots", &self.canonicalize_max_dots, u32::to_string);
        all.add("canonicalizefallbacklocal", &self.canonicalize_fallback_local, flag);
    }

    fn trust_entries(&self, all: &mut Entries) {
        all.each("hostkeyalias", &self.host_key_alias, String::clone);
        all.add("stricthostkeychecking", &self.strict_host_key_checking, |choice| choice.text().into());
        all.add("userknownhostsfile", &self.user_known_hosts_files, |files| paths(files));
        all.add("globalknownhostsfile", &self.global_known_hosts_files, |files| paths(files));
        all.add("hashknownhosts", &self.hash_known_hosts, flag);
        all.add("checkhostip", &self.check_host_ip, flag);
        all.each("preferredauthentications", &self.preferred_authentications, |methods| methods.join(","));
        all.add("pubkeyauthentication", &self.pubkey_authentication, |choice| choice.text().into());
        all.add("passwordauthentication", &self.password_authentication, flag);
        all.add("kbdinteractiveauthentication", &self.kbd_interactive_authentication, flag);
        all.add("numberofpasswordprompts", &self.number_of_password_prompts, u32::to_string);
        all.add("batchmode", &self.batch_mode, flag);
        all.each("ciphers", &self.ciphers, AlgorithmEdit::text);
        all.each("macs", &self.macs, AlgorithmEdit::text);
        all.each("kexalgorithms", &self.kex_algorithms, AlgorithmEdit::text);
        all.each("hostkeyalgorithms", &self.host_key_algorithms, AlgorithmEdit::text);
        all.each("pubkeyacceptedalgorithms", &self.pubkey_accepted_algorithms, AlgorithmEdit::text);
    }

    fn connection_entries(&self, all: &mut Entries) {
        match &self.connect_timeout {
            Some(timeout) => all.add("connecttimeout", timeout, secs),
            None => all.add("connecttimeout", &Setting::default(()), |()| "none".into()),
        }
        all.add("connectionattempts", &self.connection_attempts, u32::to_string);
        all.add("serveraliveinterval", &self.server_alive_interval, secs);
        all.add("serveralivecountmax", &self.server_alive_count_max, u32::to_string);
        all.add("tcpkeepalive", &self.tcp_keep_alive, flag);
        all.add("compression", &self.compression, flag);
        all.add("rekeylimit", &self.rekey_bytes, |bytes| format!("{bytes} {}", secs(&self.rekey_interval.value)));
        all.each("bindaddress", &self.bind_address, String::clone);
        all.add("addressfamily", &self.address_family, |choice| choice.text().into());
        all.each("sendenv", &self.send_env, String::clone);
        all.add("requesttty", &self.request_tty, |choice| choice.text().into());
        match &self.forward_agent_socket {
            Some(socket) => all.add("forwardagent", socket, String::clone),
            None => all.add("forwardagent", &self.forward_agent, flag),
        }
        all.each("localforward", &self.local_forwards, LocalForward::to_string);
    }
}

impl IdentityAgent {
    fn text(&self) -> String {
        match self {
            IdentityAgent::Off => "none".into(),
            IdentityAgent::Variable(name) => format!("${name}"),
            IdentityAgent::Socket(path) => path.display().to_string(),
        }
    }
}

fn flag(value: &bool) -> String {
    value.text().into()
}

fn secs(value: &Duration) -> String {
    value.as_secs().to_string()
}

fn paths(files: &[PathBuf]) -> String {
    if files.is_empty() {
        return "none".into();
    }
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" ")
}
