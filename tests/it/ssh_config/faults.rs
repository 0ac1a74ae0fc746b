//! What `ssh` refuses is refused, with file, line and keyword; what is too much is refused too.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use ssh_mcp::{
    error::{Code, Explain},
    ssh::ssh_config::{
        Given, MAX_DEPTH, MAX_FILE_BYTES, MAX_FILES, NoProbe, Origin, Places, Problem, Resolved, SshConfig,
        SshConfigError,
    },
};
use tempfile::TempDir;

use super::oracle;

pub(super) struct Folder(TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file; `@` stands for the folder.
    pub(super) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace('@', self.0.path().to_str().unwrap())).unwrap();
        mode(&path, 0o600);
        path
    }

    pub(super) fn resolve(&self, text: &str, host: &str) -> Result<Resolved, SshConfigError> {
        oracle::resolve_file(&self.file("config", text), host, &Given::default())
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Line, keyword and problem of each fault; `ssh` must refuse the file too.
fn faults(text: &str) -> Vec<(usize, String, Problem)> {
    let folder = Folder::new();
    let error = folder.resolve(text, "web1").expect_err(text);
    let theirs = oracle::ask_file(&folder.path("config"), "web1", &Given::default());
    assert!(theirs.is_err(), "ssh takes {text:?}");
    let SshConfigError::Faults(faults) = error else { panic!("{error}") };
    let at = |origin: &Origin| match origin {
        Origin::File { path, line } if **path == folder.path("config") => *line,
        other => panic!("{other}"),
    };
    faults.into_iter().map(|fault| (at(&fault.origin), fault.keyword, fault.problem)).collect()
}

#[test]
fn a_fault_names_its_file_line_and_keyword_and_what_is_allowed() {
    let folder = Folder::new();
    let error = folder.resolve("Host other\n\n  IdentitiesOnly perhaps\n", "web1").unwrap_err();
    let file = folder.path("config");
    assert_eq!(
        error.to_string(),
        format!("{} line 3: identitiesonly: has the value \"perhaps\"; allowed: yes no true false", file.display())
    );
    assert_eq!((error.code(), error.retryable()), (Code::SshConfigInvalid, false));
    assert!(error.hint().is_some());
    let details = format!("{:?}", error.details());
    assert!(details.contains("Number(3)") && details.contains("identitiesonly"), "{details}");
}

#[test]
fn every_fault_of_the_files_is_told_at_once() {
    let text =
        "Port 0\nFooBar 1\nHost\n Host a\nUser\nMatch\nUser a b\nUser 'x\nMatch host\nMatch foo x\nMatch all host a\n";
    let found = faults(text);
    let lines: Vec<_> = found.iter().map(|(line, keyword, _)| (*line, keyword.as_str())).collect();
    let expected = [
        (1, "port"),
        (2, "foobar"),
        (3, "host"),
        (5, "user"),
        (6, "match"),
        (7, "user"),
        (8, "user"),
        (9, "match"),
        (10, "match"),
        (11, "match"),
    ];
    assert_eq!(lines, expected);
    assert_eq!(found[1].2, Problem::UnknownKeyword);
    assert_eq!(found[2].2, Problem::Missing);
    assert_eq!(found[5].2, Problem::Extra);
    assert_eq!(found[6].2, Problem::Quotes);
    assert_eq!(found[8].2, Problem::UnknownCriterion { name: "foo".into() });
    assert_eq!(found[9].2, Problem::AllWithOthers);
}

#[test]
fn a_bad_token_or_variable_is_a_fault_of_its_line() {
    assert_eq!(faults("HostName %q\n"), [(1, "hostname".into(), Problem::UnknownToken { token: 'q' })]);
    assert_eq!(faults("\nHostName x%\n"), [(2, "hostname".into(), Problem::LonePercent)]);
    let unset = Problem::NoVariable { name: "NOT_SET".into() };
    assert_eq!(faults("UserKnownHostsFile ${NOT_SET}/x\n"), [(1, "userknownhostsfile".into(), unset.clone())]);
    assert_eq!(faults("Host no\nIdentityAgent ${NOT_SET}\n"), [(2, "identityagent".into(), unset)]);
    assert_eq!(faults("UserKnownHostsFile ${\n"), [(1, "userknownhostsfile".into(), Problem::BrokenVariable)]);
    let nobody = Problem::NoSuchUser { name: "no-such-user".into() };
    assert_eq!(faults("UserKnownHostsFile ~no-such-user/x\n"), [(1, "userknownhostsfile".into(), nobody)]);
}

/// `ssh -G` ends before it expands these; `ssh` itself then refuses.
#[test]
fn a_bad_token_in_a_path_of_a_key_or_in_a_proxy_command_is_a_fault_too() {
    for (text, keyword) in [
        ("IdentityFile /x/%q\n", "identityfile"),
        ("CertificateFile /x/%q\n", "certificatefile"),
        ("ProxyCommand nc %q\n", "proxycommand"),
    ] {
        let error = Folder::new().resolve(text, "web1").unwrap_err().to_string();
        assert!(error.contains(&format!("line 1: {keyword}: %q")), "{error}");
    }
}

#[test]
fn an_unknown_keyword_is_taken_only_where_ignore_unknown_says_so_before_it() {
    assert!(Folder::new().resolve("IgnoreUnknown Foo*\nFooBar 1\n", "web1").is_ok());
    assert_eq!(faults("FooBar 1\nIgnoreUnknown Foo*\n").len(), 1);
    assert_eq!(faults("Host other\nIgnoreUnknown Foo*\nHost *\nFooBar 1\n").len(), 1);
}

#[test]
fn a_name_that_a_shell_would_act_on_is_refused() {
    let folder = Folder::new();
    for host in ["-oProxyCommand=x", "a;b", "a b", "$(x)", "a`b", "", "a,b"] {
        let error = folder.resolve("", host).unwrap_err();
        assert_eq!(error.code(), Code::InvalidAddress, "{host}");
    }
    let given = Given { user: Some("-x".into()), ..Given::default() };
    let error = oracle::resolve_file(&folder.file("config", ""), "web1", &given).unwrap_err();
    assert_eq!(error.code(), Code::InvalidUsername);
    let given = Given { jump: Some("$(x)".into()), ..Given::default() };
    let error = oracle::resolve_file(&folder.path("config"), "web1", &given).unwrap_err();
    assert!(error.to_string().starts_with("given: proxyjump"), "{error}");
}

#[test]
fn a_host_is_not_its_own_jump_host() {
    let folder = Folder::new();
    let error = folder.resolve("Host *\n  ProxyJump gw\n", "gw").unwrap_err();
    assert_eq!(error, SshConfigError::JumpLoop { host: "gw".into() });
    assert!(oracle::ask_file(&folder.path("config"), "gw", &Given::default()).is_err());
    assert!(folder.resolve("Host *\n  ProxyJump gw:2222\n", "gw").is_ok());
}

fn standard(folder: &Folder) -> Result<SshConfig, SshConfigError> {
    let places = Places { system_file: None, ..Places::standard(&folder.path("")) };
    SshConfig::load(&places, oracle::local())
}

#[test]
fn a_file_that_others_may_write_to_is_refused() {
    let folder = Folder::new();
    let path = folder.file(".ssh/config", "Include @/extra\nHost a\n");
    assert!(standard(&folder).is_ok());
    mode(&path, 0o606);
    assert_eq!(standard(&folder).unwrap_err(), SshConfigError::Permissions { path: path.clone() });
    // As with -F: the caller named it.
    assert!(SshConfig::load(&Places::only(&path, &folder.path("")), oracle::local()).is_ok());
    mode(&path, 0o644);
    let extra = folder.file("extra", "");
    mode(&extra, 0o602);
    assert_eq!(standard(&folder).unwrap_err(), SshConfigError::Permissions { path: extra.clone() });
    assert!(oracle::ask_file(&path, "a", &Given::default()).is_err());
    fs::remove_file(&extra).unwrap();
    assert!(standard(&folder).is_ok());
}

/// Debian's default umask makes files that the group may write to, and each user has a group alone.
#[test]
fn a_file_that_a_group_may_write_to_is_taken_where_ssh_takes_it() {
    let folder = Folder::new();
    let extra = folder.file("extra", "Port 7\n");
    let path = folder.file("config", "Include @/extra\n");
    mode(&extra, 0o660);
    let same = |what: &str| {
        let ours = oracle::resolve_file(&path, "a", &Given::default());
        let theirs = oracle::ask_file(&path, "a", &Given::default());
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{what}: {ours:?} {theirs:?}");
    };
    same("the own group");
    // Only root may give a file to any group.
    for group in [0, 1, 4, 27, 100, 12_345] {
        if std::os::unix::fs::chown(&extra, None, Some(group)).is_ok() {
            same(&format!("group {group}"));
        }
    }
}

#[test]
fn a_file_of_somebody_else_is_refused() {
    let folder = Folder::new();
    let path = folder.file(".ssh/config", "");
    let mut local = oracle::local();
    if local.uid == 0 {
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
    } else {
        local.uid += 1;
    }
    let places = Places { system_file: None, ..Places::standard(&folder.path("")) };
    assert_eq!(SshConfig::load(&places, local).unwrap_err(), SshConfigError::Permissions { path });
}

#[test]
fn files_that_include_themselves_end_at_a_bound() {
    let folder = Folder::new();
    let path = folder.file("config", "Include @/config\n");
    let error = oracle::resolve_file(&path, "a", &Given::default()).unwrap_err();
    assert!(matches!(error, SshConfigError::TooMuch { limit: MAX_DEPTH, .. }), "{error}");
    assert!(oracle::ask_file(&path, "a", &Given::default()).is_err());
    // Twice in each file would be 2^16 files.
    folder.file("many/1", "Include @/none\n");
    let path = folder.file("config", &"Include @/many/*\n".repeat(MAX_FILES + 1));
    let error = oracle::resolve_file(&path, "a", &Given::default()).unwrap_err();
    assert!(matches!(error, SshConfigError::TooMuch { limit: MAX_FILES, .. }), "{error}");
    let path = folder.file("config", &"#".repeat(MAX_FILE_BYTES + 1));
    let error = oracle::resolve_file(&path, "a", &Given::default()).unwrap_err();
    assert!(matches!(error, SshConfigError::TooMuch { limit: MAX_FILE_BYTES, .. }), "{error}");
}

#[test]
fn sixteen_files_deep_is_as_deep_as_ssh_goes() {
    let folder = Folder::new();
    for depth in 0..=MAX_DEPTH {
        folder.file(&format!("f{depth}"), &format!("Include @/f{}\n", depth + 1));
    }
    let first = folder.path("f0");
    // The seventeenth does not exist, so that nothing is too deep.
    let ours = oracle::resolve_file(&first, "a", &Given::default());
    assert_eq!((ours.is_ok(), oracle::ask_file(&first, "a", &Given::default()).is_ok()), (true, true));
    folder.file(&format!("f{}", MAX_DEPTH + 1), "");
    let ours = oracle::resolve_file(&first, "a", &Given::default());
    assert_eq!((ours.is_ok(), oracle::ask_file(&first, "a", &Given::default()).is_ok()), (false, false));
}

#[test]
fn what_is_no_ordinary_file_never_blocks() {
    let folder = Folder::new();
    symlink("/dev/zero", folder.path("zero")).unwrap();
    let error = folder.resolve("Include @/zero\n", "a").unwrap_err();
    assert!(matches!(error, SshConfigError::Unreadable { .. }), "{error}");
    // A folder and a link to nowhere are empty, as for ssh.
    symlink("/nowhere", folder.path("dangling")).unwrap();
    fs::create_dir(folder.path("folder")).unwrap();
    assert!(folder.resolve("Include @/dangling @/folder /dev/null\n", "a").is_ok());
    let missing = Places::only(&folder.path("missing"), &folder.path(""));
    assert!(SshConfig::load(&missing, oracle::local()).is_err());
}

#[test]
fn no_secret_of_a_file_stands_in_an_error_or_in_debug() {
    let folder = Folder::new();
    let resolved = folder.resolve("SetEnv TOKEN=hunter2\nRemoteCommand x hunter2\n", "a").unwrap();
    assert!(!format!("{resolved:?}").contains("hunter2"));
    assert!(!resolved.notices.iter().any(|notice| notice.to_string().contains("hunter2")));
    let error = folder.resolve("SetEnv A=1 hunter2\n", "a").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    let local = ssh_mcp::ssh::ssh_config::Local {
        variables: [("TOKEN".to_owned(), "hunter2".to_owned())].into(),
        ..oracle::local()
    };
    assert!(!format!("{local:?}").contains("hunter2"));
    let config = SshConfig::from_text("SetEnv TOKEN=hunter2\n", local).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(config.resolve("a", &Given::default(), &NoProbe).is_ok());
}
