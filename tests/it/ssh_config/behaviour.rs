//! What the comparison with `ssh -G` does not show: origins, aliases, what is asked of the outside.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ssh_mcp::ssh::ssh_config::{
    AlgorithmMode, Exec, Given, Hop, IdentityAgent, Local, NoProbe, NoticeKind, Origin, Places, Probe, Proxy, Resolved,
    ShellProbe, SshConfig, SshConfigError,
};

use super::{faults::Folder, oracle};

fn local() -> Local {
    Local {
        home: PathBuf::from("/home/me"),
        user: "me".into(),
        uid: 1000,
        host_name: "desk.example.com".into(),
        variables: BTreeMap::from([("KEYS".into(), "/keys".into())]),
    }
}

fn config(text: &str) -> SshConfig {
    SshConfig::from_text(text, local()).unwrap()
}

fn resolve(text: &str, host: &str) -> Resolved {
    config(text).resolve(host, &Given::default(), &NoProbe).unwrap()
}

fn line(origin: &Origin) -> Option<usize> {
    if let Origin::File { line, .. } = origin { Some(*line) } else { None }
}

#[test]
fn a_first_value_wins_and_says_where_it_stands() {
    let resolved = resolve("Host a\n Port 1\nHost *\n Port 2\n User you\n", "a");
    assert_eq!((resolved.port.value, line(&resolved.port.origin)), (1, Some(2)));
    assert_eq!((resolved.user.value.as_str(), line(&resolved.user.origin)), ("you", Some(5)));
    assert_eq!((resolved.host.value.as_str(), &resolved.host.origin), ("a", &Origin::Given));
    assert_eq!(resolved.tcp_keep_alive.origin, Origin::Default);
    let entries = resolved.entries();
    let port = entries.iter().find(|entry| entry.keyword == "port").unwrap();
    assert_eq!((port.value.as_str(), port.origin.to_string().as_str()), ("1", "- line 2"));
}

#[test]
fn what_the_caller_gives_comes_before_every_file() {
    let text = "Host a\n Port 1\n User you\n ProxyJump gw\nMatch user root\n Compression yes\n";
    let given = Given { user: Some("root".into()), port: Some(9), jump: Some("one,me@two:22".into()) };
    let resolved = config(text).resolve("a", &given, &NoProbe).unwrap();
    assert_eq!((resolved.port.value, resolved.port.origin), (9, Origin::Given));
    assert_eq!((resolved.user.value.as_str(), resolved.compression.value), ("root", true));
    let hop = |user: Option<&str>, host: &str, port| Hop { user: user.map(Into::into), host: host.into(), port };
    assert_eq!(resolved.proxy.value, Proxy::Jump(vec![hop(None, "one", None), hop(Some("me"), "two", Some(22))]));
    let given = Given { jump: Some("none".into()), ..Given::default() };
    assert_eq!(config(text).resolve("a", &given, &NoProbe).unwrap().proxy.value, Proxy::Direct);
}

#[test]
fn paths_and_commands_are_expanded_for_use() {
    let text = "Host a\n HostName real\n User you\n Port 2222\n IdentityFile ${KEYS}/%r@%h\n IdentityFile ~/k-%n-%p\n \
                CertificateFile %d/%u-%i-%L-%l\n ProxyCommand nc %h %p %% %r\n IdentityAgent ~/agent\n";
    let resolved = resolve(text, "a");
    let paths: Vec<_> = resolved.identity_files.iter().map(|file| file.value.path.as_path()).collect();
    assert_eq!(paths, [Path::new("/keys/you@real"), Path::new("/home/me/k-a-2222")]);
    assert_eq!(resolved.certificate_files[0].value.path, Path::new("/home/me/me-1000-desk-desk.example.com"));
    let Proxy::Command { command, .. } = resolved.proxy.value else { panic!() };
    assert_eq!(command, "nc real 2222 % you");
    assert_eq!(resolved.identity_agent.unwrap().value, IdentityAgent::Socket("/home/me/agent".into()));
}

#[test]
fn without_a_file_everything_is_what_ssh_does_by_itself() {
    let folder = Folder::new();
    let places = Places { system_file: None, ..Places::standard(&folder.path("home")) };
    let resolved = SshConfig::load(&places, local()).unwrap().resolve("h", &Given::default(), &NoProbe).unwrap();
    assert!(resolved.entries().iter().all(|entry| entry.origin == Origin::Default || entry.keyword == "hostname"));
    assert_eq!(resolved.identity_files[3].value.path, Path::new("/home/me/.ssh/id_ed25519"));
    assert_eq!((resolved.user.value.as_str(), resolved.port.value), ("me", 22));
    assert!(resolve("IdentityFile none\n", "h").identity_files.is_empty());
}

#[test]
fn an_edit_counts_at_the_next_use() {
    let folder = Folder::new();
    let path = folder.file("config", "Port 1\n");
    let port = || oracle::resolve_file(&path, "a", &Given::default()).unwrap().port.value;
    assert_eq!(port(), 1);
    fs::write(&path, "Port 2\n").unwrap();
    assert_eq!(port(), 2);
}

#[test]
fn the_system_file_comes_after_the_users_and_its_includes_are_relative_to_its_folder() {
    let folder = Folder::new();
    folder.file(".ssh/config", "Include mine\nHost a\n Port 1\n");
    folder.file(".ssh/mine", "User mine\n");
    folder.file("etc/ssh_config", "Include conf.d/*.conf\nPort 2\nUser system\nCompression yes\n");
    folder.file("etc/conf.d/1.conf", "ConnectTimeout 3\n");
    let places = Places {
        system_file: Some(folder.path("etc/ssh_config")),
        system_dir: folder.path("etc"),
        ..Places::standard(&folder.path(""))
    };
    let load = || SshConfig::load(&places, oracle::local());
    let resolved = load().unwrap().resolve("a", &Given::default(), &NoProbe).unwrap();
    assert_eq!((resolved.port.value, resolved.user.value.as_str()), (1, "mine"));
    assert!(resolved.compression.value && resolved.connect_timeout.is_some());
    folder.file("etc/ssh_config", "Include ~/x\n");
    assert!(load().unwrap().resolve("a", &Given::default(), &NoProbe).is_err());
}

/// Answers from a list, and remembers what it was asked.
#[derive(Default)]
struct Script {
    asked: RefCell<Vec<String>>,
    names: Vec<&'static str>,
}

impl Probe for Script {
    fn allows_exec(&self) -> bool {
        true
    }

    fn exec(&self, command: &str) -> Exec {
        self.asked.borrow_mut().push(command.to_owned());
        Exec::Ended { success: command.starts_with("yes") }
    }

    fn exists(&self, name: &str) -> Option<bool> {
        self.asked.borrow_mut().push(name.to_owned());
        Some(self.names.contains(&name))
    }
}

#[test]
fn a_command_of_match_is_run_only_where_it_is_allowed_and_can_matter() {
    let text = "Match host b exec \"yes b\"\n Port 1\nMatch host a exec \"yes %h %p %r\"\n Port 2\n\
                Match !exec no\n User you\nHost c\nMatch exec \"never\"\n User never\n";
    let script = Script::default();
    let resolved = config(text).resolve("a", &Given::default(), &script).unwrap();
    assert_eq!((resolved.port.value, resolved.user.value.as_str()), (2, "you"));
    assert_eq!(*script.asked.borrow(), ["yes a 22 me", "no", "never"]);

    let resolved = resolve(text, "a");
    assert_eq!((resolved.port.value, resolved.user.value.as_str()), (22, "me"));
    let said: Vec<_> = resolved.notices.iter().map(|notice| (notice.kind, line(&notice.origin))).collect();
    assert_eq!(said, [3, 5, 8].map(|at| (NoticeKind::NotEvaluated, Some(at))));
}

#[test]
fn a_command_of_match_ends_at_its_deadline() {
    let environment = std::env::vars().collect();
    let probe = ShellProbe { shell: "/bin/sh".into(), deadline: Duration::from_millis(200), environment };
    let begin = Instant::now();
    // What the shell has started ends with it.
    let mark = format!("61.{:09}", std::process::id());
    let error =
        config(&format!("Match exec \"sleep {mark}; :\"\n")).resolve("a", &Given::default(), &probe).unwrap_err();
    assert!(error.to_string().contains("did not end within 0.2 s"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(30));
    let gone = || crate::support::process::with_argument(&mark).is_empty();
    while !gone() && begin.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(gone(), "{:?}", crate::support::process::with_argument(&mark));
    let missing = ShellProbe { shell: "/no/shell".into(), ..probe };
    assert!(config("Match exec true\n").resolve("a", &Given::default(), &missing).is_err());
}

#[test]
fn criteria_of_a_later_openssh_match_nothing_and_are_said() {
    let resolved = resolve("Match tagged x\n Port 1\nMatch !localnetwork 10.0.0.0/8\n Port 2\n", "a");
    assert_eq!(resolved.port.value, 22);
    let said: Vec<_> = resolved.notices.iter().map(|notice| notice.keyword.as_str()).collect();
    assert_eq!(said, ["match tagged", "match localnetwork"]);
}

#[test]
fn a_short_name_gets_the_first_domain_that_knows_it() {
    let text = "CanonicalizeHostname yes\nCanonicalDomains one.test two.test\nHost *.two.test\n User two\n";
    let script = Script { names: vec!["www.two.test."], ..Script::default() };
    let resolved = config(text).resolve("WWW", &Given::default(), &script).unwrap();
    assert_eq!((resolved.host.value.as_str(), resolved.user.value.as_str()), ("www.two.test", "two"));
    assert_eq!(*script.asked.borrow(), ["www.one.test.", "www.two.test."]);
    // Enough dots, a proxy, or nobody to ask: the name stays.
    let script = Script::default();
    for (text, host) in [(text.to_owned(), "a.b.c"), (format!("ProxyJump gw\n{text}"), "www")] {
        let resolved = config(&text).resolve(host, &Given::default(), &script).unwrap();
        assert_eq!(resolved.host.value, host);
    }
    assert!(script.asked.borrow().is_empty());
    let resolved = resolve(text, "www");
    assert_eq!((resolved.host.value.as_str(), resolved.notices[0].kind), ("www", NoticeKind::NotEvaluated));
    let strict = format!("CanonicalizeFallbackLocal no\n{text}");
    let error = config(&strict).resolve("www", &Given::default(), &script).unwrap_err();
    assert_eq!(error, SshConfigError::NotCanonical { host: "www".into() });
}

#[test]
fn aliases_are_the_names_that_a_person_could_connect_to() {
    let folder = Folder::new();
    folder.file("conf.d/b", "Host inner web1\nMatch host x\nHost \"last one\" last\n");
    let path = folder.file("config", "Host web1 web2 *.x !no w?\nInclude @/conf.d/*\nHost=after\nHost $(bad)\n");
    let config = SshConfig::load(&Places::only(&path, &folder.path("")), oracle::local()).unwrap();
    assert_eq!(config.aliases(), ["web1", "web2", "inner", "last", "after"]);
}

#[test]
fn a_name_near_to_an_alias_gets_candidates_and_an_alias_gets_none() {
    let config = config("Host prod-db prod-db2 staging ab gw.example.com\n");
    assert_eq!(config.near("prod-bd"), ["prod-db", "prod-db2"]);
    assert_eq!(config.near("PROD-DB"), ["prod-db", "prod-db2"]);
    assert_eq!(config.near("stag"), ["staging"]);
    assert_eq!(config.near("gw"), [""; 0]);
    assert_eq!(config.near("gw.example.co"), ["gw.example.com"]);
    for name in ["prod-db", "x", "cd", "", "unrelated"] {
        assert!(config.near(name).is_empty(), "{name}");
    }
}

#[test]
fn a_list_of_algorithms_is_kept_as_an_edit() {
    let resolved = resolve("Ciphers +a,b*\nMACs -x\nKexAlgorithms ^k\nHostKeyAlgorithms h\n", "a");
    let edit = resolved.ciphers.unwrap().value;
    assert_eq!(
        (edit.mode, edit.apply(&["d"], &["b1", "a", "d", "b2"])),
        (AlgorithmMode::Append, vec!["d".to_owned(), "a".into(), "b1".into(), "b2".into()])
    );
    assert_eq!(resolved.macs.unwrap().value.apply(&["x", "y"], &[]), ["y"]);
    assert_eq!(resolved.kex_algorithms.unwrap().value.apply(&["d"], &["d", "k"]), ["k", "d"]);
    assert_eq!(resolved.host_key_algorithms.unwrap().value.apply(&["d"], &["d", "h"]), ["h"]);
}

/// `ssh` without `-F`, with these files in the places of the real ones; needs root.
#[test]
#[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
fn the_files_in_their_usual_places_mean_what_they_mean_to_ssh() {
    let (folder, local) = (Folder::new(), oracle::local());
    folder
        .file("home/.ssh/config", "Host a\n User mine\n IdentityFile ~/k\nInclude extra\nMatch final all\n Port 77\n");
    folder.file("home/.ssh/extra", "Host *\n ServerAliveInterval 9\n");
    folder.file("etc/ssh_config", "Include more.d/*.conf\nHost *\n User system\n Port 78\n IdentityFile ~/k\n");
    folder.file("etc/more.d/x.conf", "SendEnv LANG\n");
    let script = "mount --bind \"$1/home\" \"$2\" && mount --bind \"$1/etc\" /etc/ssh && shift 2 && exec ssh \"$@\"";
    let mut command = oracle::ssh("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(folder.path("")).arg(&local.home);
    let probed = command.args(["-V"]).output().is_ok_and(|output| output.status.success());
    if local.uid != 0 || !probed {
        eprintln!("skipped, this needs root and mount namespaces");
        return;
    }
    let mut command = oracle::ssh("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(folder.path("")).arg(&local.home).arg("-G");
    let theirs = oracle::ask(command, "a", &Given::default());
    let places = Places {
        system_file: Some(folder.path("etc/ssh_config")),
        system_dir: folder.path("etc"),
        ..Places::standard(&folder.path("home"))
    };
    let ours = SshConfig::load(&places, local).unwrap().resolve("a", &Given::default(), &oracle::probe());
    assert_eq!(ours.as_ref().unwrap().identity_files.len(), 2, "once for the user, once for the system");
    let differences = oracle::differences(&ours, theirs);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
