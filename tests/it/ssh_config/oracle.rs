//! `ssh -G`, and the comparison with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use secrecy::ExposeSecret;
use ssh_mcp::ssh::ssh_config::{AlgorithmEdit, Given, Local, Places, Resolved, ShellProbe, SshConfig, SshConfigError};

/// Every value of each keyword, as printed.
pub(super) type Values = BTreeMap<String, Vec<String>>;

const ALGORITHMS: [(&str, &str); 5] = [
    ("ciphers", "cipher"),
    ("macs", "mac"),
    ("kexalgorithms", "kex"),
    ("hostkeyalgorithms", "key-sig"),
    ("pubkeyacceptedalgorithms", "key-sig"),
];

/// The variables that a configuration of these tests may name.
pub(super) const VARIABLES: [(&str, &str); 3] =
    [("LC_TEST_DIR", "/tmp/from variable"), ("AGENT_SOCK", "/run/agent.sock"), ("PORT_HERE", "8022")];

/// Who runs these tests, as the password database and the kernel have it.
pub(super) fn local() -> Local {
    let status = fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("Uid");
    let uid = uid.split_whitespace().nth(1).expect("the effective one").to_owned();
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let own = |line: &&str| line.split(':').nth(2) == Some(uid.as_str());
    let own: Vec<_> = passwd.lines().find(own).expect("an account").split(':').collect();
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name");
    Local {
        home: PathBuf::from(own[5]),
        user: own[0].into(),
        uid: uid.parse().expect("a number"),
        host_name: host_name.trim().into(),
        variables: VARIABLES.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    }
}

/// `ssh` in an environment that does not depend on who runs the tests.
pub(super) fn ssh(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", local().home).env("SHELL", "/bin/sh");
    command.envs(VARIABLES).stdin(Stdio::null());
    command
}

fn arguments(command: &mut Command, host: &str, given: &Given) {
    if let Some(user) = &given.user {
        command.args(["-l", user]);
    }
    if let Some(port) = given.port {
        command.args(["-p", &port.to_string()]);
    }
    if let Some(jump) = &given.jump {
        command.args(["-J", jump]);
    }
    command.args(["--", host]);
}

/// What `ssh -G` says, or what it complains about.
pub(super) fn ask(mut command: Command, host: &str, given: &Given) -> Result<Values, String> {
    arguments(&mut command, host, given);
    let output = command.output().expect("ssh runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut values = Values::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        values.entry(keyword.to_lowercase()).or_default().push(value.to_owned());
    }
    Ok(values)
}

pub(super) fn ask_file(file: &Path, host: &str, given: &Given) -> Result<Values, String> {
    let mut command = ssh("ssh");
    command.arg("-G").arg("-F").arg(file);
    ask(command, host, given)
}

/// What we say about the same.
pub(super) fn resolve_file(file: &Path, host: &str, given: &Given) -> Result<Resolved, SshConfigError> {
    let local = local();
    let config = SshConfig::load(&Places::only(file, &local.home), local)?;
    config.resolve(host, given, &probe())
}

pub(super) fn probe() -> ShellProbe {
    ShellProbe { shell: "/bin/sh".into(), deadline: Duration::from_secs(20), environment: std::env::vars().collect() }
}

struct Lists {
    default: Values,
    all: BTreeMap<&'static str, Vec<String>>,
}

/// What this `ssh` tries by default, and what it has.
fn lists() -> &'static Lists {
    static LISTS: OnceLock<Lists> = OnceLock::new();
    LISTS.get_or_init(|| {
        let default = ask_file(Path::new("/dev/null"), "host", &Given::default()).expect("defaults");
        let query = |what: &str| {
            let output = ssh("ssh").args(["-Q", what]).output().expect("ssh -Q");
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        };
        Lists { default, all: ALGORITHMS.iter().map(|(keyword, what)| (*keyword, query(what))).collect() }
    })
}

fn algorithms(keyword: &str, edit: Option<&AlgorithmEdit>) -> String {
    let lists = lists();
    let default = &lists.default[keyword][0];
    let Some(edit) = edit else { return default.clone() };
    let all: Vec<_> = lists.all[keyword].iter().map(String::as_str).collect();
    edit.apply(&default.split(',').collect::<Vec<_>>(), &all).join(",")
}

/// Our values in the form of `ssh -G`.
pub(super) fn values(resolved: &Resolved) -> Values {
    let mut values = Values::new();
    for entry in resolved.entries() {
        values.entry(entry.keyword.to_owned()).or_default().push(entry.value);
    }
    let edits = [
        &resolved.ciphers,
        &resolved.macs,
        &resolved.kex_algorithms,
        &resolved.host_key_algorithms,
        &resolved.pubkey_accepted_algorithms,
    ];
    for ((keyword, _), edit) in ALGORITHMS.iter().zip(edits) {
        let list = algorithms(keyword, edit.as_ref().map(|edit| &edit.value));
        values.insert((*keyword).to_owned(), vec![list]);
    }
    let set = |setting: &ssh_mcp::ssh::ssh_config::Setting<(String, secrecy::SecretString)>| {
        format!("{}={}", setting.value.0, setting.value.1.expose_secret())
    };
    if !resolved.set_env.is_empty() {
        values.insert("setenv".into(), resolved.set_env.iter().map(set).collect());
    }
    values
}

/// What differs only in how it is printed, and what is known to differ: see the notes of each line.
fn level(mut theirs: Values, ours: &Values) -> Values {
    // A value of ours for each keyword that is compared.
    const SOMETIMES: [&str; 12] = [
        "proxyjump",
        "proxycommand",
        "identityfile",
        "certificatefile",
        "identityagent",
        "canonicaldomains",
        "hostkeyalias",
        "preferredauthentications",
        "bindaddress",
        "sendenv",
        "setenv",
        "localforward",
    ];
    let compared: BTreeSet<_> = ours.keys().map(String::as_str).chain(SOMETIMES).collect();
    theirs.retain(|keyword, _| compared.contains(keyword.as_str()));
    // ssh -G prints a list that is empty as none.
    if theirs.get("canonicaldomains").is_some_and(|list| list[0] == "none") && !ours.contains_key("canonicaldomains") {
        theirs.remove("canonicaldomains");
    }
    // `none` names no key: ssh leaves it out when it loads the keys, after -G.
    if let Some(files) = theirs.get_mut("identityfile") {
        files.retain(|file| !file.eq_ignore_ascii_case("none"));
    }
    if let Some(files) = theirs.get_mut("certificatefile") {
        files.retain(|file| !file.eq_ignore_ascii_case("none"));
    }
    // The two passes name a variable twice.
    if let Some(names) = theirs.get_mut("sendenv") {
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
    }
    if let Some(agent) = theirs.get_mut("identityagent") {
        agent.iter_mut().filter(|agent| *agent == "SSH_AUTH_SOCK").for_each(|agent| agent.insert(0, '$'));
    }
    // Debian's own default for BatchMode; upstream has none.
    if theirs["batchmode"][0] == "yes" && ours["serveraliveinterval"][0] == "0" {
        theirs.insert("serveraliveinterval".into(), vec!["0".into()]);
    }
    theirs.retain(|_, values| !values.is_empty());
    theirs
}

/// ssh prints all hops but the last as written.
fn level_jumps(values: &mut Values) {
    let plain = |hop: &str| hop.trim_start_matches("ssh://").trim_end_matches('/').replace(['[', ']'], "");
    for list in values.get_mut("proxyjump").into_iter().flatten() {
        *list = list.split(',').map(plain).collect::<Vec<_>>().join(",");
    }
}

/// Every difference, in words; nothing when both say the same or both refuse.
pub(super) fn differences(ours: &Result<Resolved, SshConfigError>, theirs: Result<Values, String>) -> Vec<String> {
    match (ours, theirs) {
        (Err(_), Err(_)) => Vec::new(),
        (Err(error), Ok(_)) => vec![format!("we refuse, ssh does not: {error}")],
        (Ok(_), Err(error)) => vec![format!("ssh refuses, we do not: {error}")],
        (Ok(resolved), Ok(theirs)) => {
            let mut ours = values(resolved);
            let mut theirs = level(theirs, &ours);
            level_jumps(&mut ours);
            level_jumps(&mut theirs);
            let keywords: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
            let differ = |keyword: &&&String| ours.get(**keyword) != theirs.get(**keyword);
            let words =
                |keyword: &String| format!("{keyword}: ours {:?}, ssh's {:?}", ours.get(keyword), theirs.get(keyword));
            keywords.iter().filter(differ).map(|keyword| words(keyword)).collect()
        }
    }
}
