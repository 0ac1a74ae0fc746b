//! From what the files say to what holds: defaults, tokens, and what is refused.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    Given, Local, Probe,
    canonical::canonicalize,
    error::{Problem, SshConfigError, shorten},
    files::ConfigFile,
    forward::{Endpoint, LocalForward},
    jump::{Hop, Jump},
    keywords::{self, Report},
    options::{KeyFile, Options, Origin, Setting, Slot},
    pass::Pass,
    resolved::{IdentityAgent, KeyPath, Notice, NoticeKind, Proxy, Resolved},
    tokens::{Peer, Tokens, expand_tilde},
    value::{self, AddressFamily, CanonicalizeHostname, PubkeyAuthentication, RequestTty, StrictHostKeyChecking},
};

/// The longest host name (`NI_MAXHOST`).
const MAX_NAME: usize = 1024;

const DEFAULT_PORT: u16 = 22;
const DEFAULT_IDENTITIES: [&str; 7] = [
    "~/.ssh/id_rsa",
    "~/.ssh/id_ecdsa",
    "~/.ssh/id_ecdsa_sk",
    "~/.ssh/id_ed25519",
    "~/.ssh/id_ed25519_sk",
    "~/.ssh/id_xmss",
    "~/.ssh/id_dsa",
];
const USER_KNOWN_HOSTS: [&str; 2] = ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"];
const GLOBAL_KNOWN_HOSTS: [&str; 2] = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];

/// Resolves one host against files that were just read.
pub(super) fn resolve(
    files: &[ConfigFile],
    alias: &str,
    given: &Given,
    local: &Local,
    probe: &dyn Probe,
) -> Result<Resolved, SshConfigError> {
    let options = given_options(alias, given)?;
    let mut pass = Pass::new(alias, options, local, probe);
    pass.run(files)?;
    let host_origin = final_pass(&mut pass, files)?;
    let host = Setting { value: pass.host, origin: host_origin };
    Finish { alias, host, options: pass.options, local, notices: pass.notices }.finish()
}

fn given_options(alias: &str, given: &Given) -> Result<Options, SshConfigError> {
    let refused = |what, name: &str| SshConfigError::Name { what, name: shorten(name).into() };
    if alias.len() > MAX_NAME || !value::is_host_name(alias) {
        return Err(refused("host name", alias));
    }
    if let Some(user) = given.user.as_deref().filter(|user| !value::is_user_name(user)) {
        return Err(refused("user name", user));
    }
    let set = |value| Setting { value, origin: Origin::Given };
    let mut options = Options {
        user: given.user.clone().map(|value| Setting { value, origin: Origin::Given }),
        port: given.port.map(|value| Setting { value, origin: Origin::Given }),
        ..Options::default()
    };
    if let Some(text) = &given.jump {
        let jump = Jump::parse(text, true).map_err(|problem| problem.at(Origin::Given, "proxyjump"))?;
        if matches!(jump, Jump::Through(_)) {
            options.proxy_command = Some(set("none".to_owned()));
        }
        options.proxy_jump = Some(Setting { value: jump, origin: Origin::Given });
    }
    Ok(options)
}

/// Takes the host name into use, and reads the files again where they ask for it. Gives the host's origin.
fn final_pass(pass: &mut Pass<'_>, files: &[ConfigFile]) -> Result<Origin, SshConfigError> {
    let mut origin = Origin::Given;
    if let Some(name) = &mut pass.options.host_name {
        let expanded = Tokens::host(&pass.host).expand(&name.value, None);
        name.value = expanded.map_err(|problem| problem.at(name.origin.clone(), "hostname"))?;
        pass.host.clone_from(&name.value);
        origin = name.origin.clone();
    }
    // As ssh does before it looks at the name: the final pass comes too late for these three.
    pass.options.canonicalize_hostname.get_or_insert(Setting::default(CanonicalizeHostname::No));
    pass.options.canonicalize_max_dots.get_or_insert(Setting::default(1));
    pass.options.canonicalize_fallback_local.get_or_insert(Setting::default(true));
    let canonical = canonicalize(&pass.host, &pass.options, pass.probe)?;
    let wanted = pass.options.canonicalize_hostname.clone().filter(|choice| choice.value != CanonicalizeHostname::No);
    if let Some(choice) = wanted.as_ref().filter(|_| canonical.skipped) {
        let keyword = "canonicalizehostname".to_owned();
        pass.notices.push(Notice {
            kind: NoticeKind::NotEvaluated,
            keyword,
            value: None,
            origin: choice.origin.clone(),
        });
    }
    pass.host = canonical.host;
    if wanted.is_some() || pass.wants_final {
        pass.is_final = true;
        pass.options.host_name = Some(Setting { value: pass.host.clone(), origin: origin.clone() });
        pass.run(files)?;
    }
    Ok(origin)
}

/// What is known when all lines were read.
struct Finish<'a> {
    alias: &'a str,
    host: Setting<String>,
    options: Options,
    local: &'a Local,
    notices: Vec<Notice>,
}

fn or<T>(slot: Slot<T>, default: T) -> Setting<T> {
    slot.unwrap_or(Setting::default(default))
}

fn seconds(slot: Slot<u64>) -> Slot<Duration> {
    slot.map(|setting| setting.with(Duration::from_secs(setting.value)))
}

fn is_none(text: &str) -> bool {
    text.eq_ignore_ascii_case("none")
}

impl Finish<'_> {
    fn finish(mut self) -> Result<Resolved, SshConfigError> {
        let port = or(self.options.port.take(), DEFAULT_PORT);
        let user = or(self.options.user.take(), self.local.user.clone());
        let host_key_alias =
            self.options.host_key_alias.take().map(|alias| alias.with(alias.value.to_ascii_lowercase()));
        let jump = self.options.proxy_jump.take();
        let hops = match jump.as_ref().map(|jump| &jump.value) {
            Some(Jump::Through(hops)) => hops.as_slice(),
            _ => &[],
        };
        self.refuse_loop(hops, port.value, &user.value)?;
        let peer = Peer {
            alias: self.alias,
            host: &self.host.value,
            key_alias: host_key_alias.as_ref().map_or(self.alias, |alias| &alias.value),
            port: port.value,
            user: &user.value,
            jump: hops.last().map_or("", |hop| &hop.host),
        };
        let tokens = Tokens::all(&peer, self.local);
        let paths = Paths { tokens: &tokens, local: self.local };
        let given = (user.origin == Origin::Given).then_some(user.value.as_str());
        let proxy = proxy(self.options.proxy_command.take(), jump.as_ref(), &Tokens::proxy(&peer), given)?;
        let options = self.options;
        let mut notices = self.notices;
        notices.extend(unused(&options.unused));
        Ok(Resolved {
            alias: self.alias.to_owned(),
            proxy,
            identity_files: paths.identities(options.identity_files)?,
            certificate_files: paths.key_files(options.certificate_files, "certificatefile")?,
            identities_only: or(options.identities_only, false),
            identity_agent: paths.agent(options.identity_agent)?,
            strict_host_key_checking: or(options.strict_host_key_checking, StrictHostKeyChecking::Ask),
            user_known_hosts_files: paths.user_known_hosts(options.user_known_hosts)?,
            global_known_hosts_files: global_known_hosts(options.global_known_hosts),
            revoked_host_keys: paths.revoked(options.revoked_host_keys)?,
            hash_known_hosts: or(options.hash_known_hosts, false),
            check_host_ip: or(options.check_host_ip, false),
            preferred_authentications: options
                .preferred_authentications
                .map(|list| list.with(list.value.split(',').map(str::to_owned).collect())),
            pubkey_authentication: or(options.pubkey_authentication, PubkeyAuthentication::Yes),
            password_authentication: or(options.password_authentication, true),
            kbd_interactive_authentication: or(options.kbd_interactive_authentication, true),
            number_of_password_prompts: or(options.number_of_password_prompts, 3),
            batch_mode: or(options.batch_mode, false),
            connect_timeout: seconds(options.connect_timeout),
            connection_attempts: or(options.connection_attempts, 1),
            server_alive_interval: or(seconds(options.server_alive_interval), Duration::ZERO),
            server_alive_count_max: or(options.server_alive_count_max, 3),
            tcp_keep_alive: or(options.tcp_keep_alive, true),
            compression: or(options.compression, false),
            ciphers: options.ciphers,
            macs: options.macs,
            kex_algorithms: options.kex_algorithms,
            host_key_algorithms: options.host_key_algorithms,
            pubkey_accepted_algorithms: options.pubkey_accepted_algorithms,
            rekey_bytes: or(options.rekey_bytes, 0),
            rekey_interval: or(seconds(options.rekey_secs), Duration::ZERO),
            bind_address: options.bind_address,
            address_family: or(options.address_family, AddressFamily::Any),
            send_env: options.send_env,
            set_env: options.set_env,
            request_tty: or(options.request_tty, RequestTty::Auto),
            forward_agent: or(options.forward_agent, false),
            forward_agent_socket: paths.forwarded_agent(options.forward_agent_socket)?,
            local_forwards: match options.clear_all_forwardings {
                Some(Setting { value: true, .. }) => Vec::new(),
                _ => paths.forwards(options.local_forwards)?,
            },
            canonicalize_hostname: or(options.canonicalize_hostname, CanonicalizeHostname::No),
            canonical_domains: options.canonical_domains,
            canonicalize_max_dots: or(options.canonicalize_max_dots, 1),
            canonicalize_fallback_local: or(options.canonicalize_fallback_local, true),
            host: self.host,
            port,
            user,
            host_key_alias,
            notices,
        })
    }

    fn refuse_loop(&self, hops: &[Hop], port: u16, user: &str) -> Result<(), SshConfigError> {
        let Some(last) = hops.last() else { return Ok(()) };
        let same_port = last.port.unwrap_or(DEFAULT_PORT) == port;
        let same_user = last.user.as_deref().is_none_or(|own| own == user);
        if last.host == self.host.value && same_port && same_user {
            return Err(SshConfigError::JumpLoop { host: self.host.value.clone() });
        }
        Ok(())
    }
}

fn proxy(
    command: Slot<String>,
    jump: Option<&Setting<Jump>>,
    tokens: &Tokens,
    given_user: Option<&str>,
) -> Result<Setting<Proxy>, SshConfigError> {
    if let Some(jump) = jump
        && let Jump::Through(hops) = &jump.value
    {
        return Ok(jump.with(Proxy::Jump(hops.clone())));
    }
    let Some(written) = command.filter(|command| !is_none(&command.value)) else {
        let origin = jump.map_or(Origin::Default, |jump| jump.origin.clone());
        return Ok(Setting { value: Proxy::Direct, origin });
    };
    let command = tokens.expand_line(&written.value, given_user);
    let command = command.map_err(|problem| problem.at(written.origin.clone(), "proxycommand"))?;
    Ok(Setting { value: Proxy::Command { written: written.value, command }, origin: written.origin })
}

fn global_known_hosts(slot: Slot<Vec<String>>) -> Setting<Vec<PathBuf>> {
    let files = or(slot, GLOBAL_KNOWN_HOSTS.map(str::to_owned).to_vec());
    let named = files.value.iter().filter(|file| !is_none(file)).map(PathBuf::from).collect();
    files.with(named)
}

fn unused(unused: &BTreeMap<&'static str, Setting<String>>) -> Vec<Notice> {
    let notice = |(keyword, setting): (&&'static str, &Setting<String>)| {
        let kind = match keywords::report(keyword) {
            Report::Never => return None,
            Report::Ignored => NoticeKind::Ignored,
            Report::Refused => NoticeKind::Refused,
        };
        let off = matches!(setting.value.to_ascii_lowercase().as_str(), "no" | "false" | "none" | "default");
        let value = (!keywords::is_command(keyword)).then(|| shorten(&setting.value).to_owned());
        (!off).then(|| Notice { kind, keyword: (*keyword).into(), value, origin: setting.origin.clone() })
    };
    unused.iter().filter_map(notice).collect()
}

/// Expands paths.
struct Paths<'a> {
    tokens: &'a Tokens,
    local: &'a Local,
}

impl Paths<'_> {
    fn expand(&self, text: &str) -> Result<String, Problem> {
        self.tokens.expand(&expand_tilde(text, self.local)?, Some(&self.local.variables))
    }

    fn at<T>(&self, setting: &Setting<T>, keyword: &str, text: &str) -> Result<String, SshConfigError> {
        self.expand(text).map_err(|problem| problem.at(setting.origin.clone(), keyword))
    }

    fn key_files(&self, files: Vec<Setting<KeyFile>>, keyword: &str) -> Result<Vec<Setting<KeyPath>>, SshConfigError> {
        let named = files.into_iter().filter(|file| !is_none(&file.value.text));
        let path = |file: Setting<KeyFile>| {
            let path = self.at(&file, keyword, &file.value.text)?.into();
            Ok(file.with(KeyPath { written: file.value.text.clone(), path }))
        };
        named.map(path).collect()
    }

    fn identities(&self, files: Vec<Setting<KeyFile>>) -> Result<Vec<Setting<KeyPath>>, SshConfigError> {
        if !files.is_empty() {
            return self.key_files(files, "identityfile");
        }
        let defaults = DEFAULT_IDENTITIES.map(|text| KeyFile { text: text.into(), user_file: false });
        self.key_files(defaults.map(Setting::default).into(), "identityfile")
    }

    fn agent(&self, slot: Slot<String>) -> Result<Slot<IdentityAgent>, SshConfigError> {
        let Some(agent) = slot else { return Ok(None) };
        let text = self.at(&agent, "identityagent", &agent.value)?;
        let value = match text.strip_prefix('$') {
            _ if text == "none" => IdentityAgent::Off,
            _ if text == "SSH_AUTH_SOCK" => IdentityAgent::Variable(text),
            Some(name) => IdentityAgent::Variable(name.into()),
            None => IdentityAgent::Socket(text.into()),
        };
        Ok(Some(Setting { value, origin: agent.origin }))
    }

    fn forwarded_agent(&self, slot: Slot<String>) -> Result<Slot<String>, SshConfigError> {
        let Some(agent) = slot else { return Ok(None) };
        let text = self.at(&agent, "forwardagent", &agent.value)?;
        Ok(Some(agent.with(text)))
    }

    fn user_known_hosts(&self, slot: Slot<Vec<String>>) -> Result<Setting<Vec<PathBuf>>, SshConfigError> {
        let files = or(slot, USER_KNOWN_HOSTS.map(str::to_owned).to_vec());
        let named = files.value.iter().filter(|file| !is_none(file));
        let paths: Result<Vec<PathBuf>, SshConfigError> =
            named.map(|file| self.at(&files, "userknownhostsfile", file).map(PathBuf::from)).collect();
        Ok(files.with(paths?))
    }

    fn revoked(&self, slot: Slot<String>) -> Result<Slot<PathBuf>, SshConfigError> {
        let Some(list) = slot.filter(|list| !is_none(&list.value)) else { return Ok(None) };
        let path = self.at(&list, "revokedhostkeys", &list.value)?.into();
        Ok(Some(list.with(path)))
    }

    /// Tokens stand in the paths of sockets only.
    fn forwards(&self, forwards: Vec<Setting<LocalForward>>) -> Result<Vec<Setting<LocalForward>>, SshConfigError> {
        let expand = |forward: Setting<LocalForward>| {
            let end = |end: &Endpoint| match end {
                Endpoint::Socket(path) => self.tokens.expand(path, None).map(Endpoint::Socket),
                port @ Endpoint::Port { .. } => Ok(port.clone()),
            };
            let fail = |problem: Problem| problem.at(forward.origin.clone(), "localforward");
            let listen = end(&forward.value.listen).map_err(fail)?;
            let connect = end(&forward.value.connect).map_err(fail)?;
            Ok(forward.with(LocalForward { listen, connect }))
        };
        forwards.into_iter().map(expand).collect()
    }
}
