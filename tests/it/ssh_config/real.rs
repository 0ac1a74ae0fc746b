//! Configurations as people write them, under `real/`. The first line of each names the hosts that are asked for.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use ssh_mcp::ssh::ssh_config::{Given, NoticeKind};

use super::oracle;

/// Copies a folder, so that the files have the owner and the mode that `ssh` wants.
fn copy(from: &Path, to: &Path, root: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target, root);
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        fs::write(&target, text.replace("@DIR@", root.to_str().unwrap())).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/ssh_config/real"), folder.path(), folder.path());
    folder
}

#[test]
fn thirty_configurations_as_people_write_them_mean_what_they_mean_to_ssh() {
    let folder = folder();
    let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "config"));
    files.sort();
    assert_eq!(files.len(), 30);
    let mut found = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let hosts = text.lines().next().and_then(|line| line.strip_prefix("# ask: ")).expect("hosts").to_owned();
        for host in hosts.split_whitespace() {
            let ours = oracle::resolve_file(file, host, &Given::default());
            assert!(ours.is_ok(), "{} {host}: {ours:?}", file.display());
            let differences = oracle::differences(&ours, oracle::ask_file(file, host, &Given::default()));
            found.extend(differences.iter().map(|line| format!("{} {host}: {line}", file.display())));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_is_not_followed_is_said_and_never_dropped_in_silence() {
    let folder = folder();
    let said = |file: &str, host: &str| {
        let resolved = oracle::resolve_file(&folder.path().join(file), host, &Given::default()).unwrap();
        let said = resolved.notices.iter().map(|notice| (notice.kind, notice.keyword.clone(), notice.value.clone()));
        said.collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(said("29-refused.config", "tmux"), [(NoticeKind::Refused, "remotecommand".into(), None)]);
    assert_eq!(
        said("29-refused.config", "jumpy"),
        [
            (NoticeKind::Refused, "knownhostscommand".into(), None),
            (NoticeKind::Ignored, "localcommand".into(), None),
            (NoticeKind::Ignored, "securitykeyprovider".into(), some("internal")),
        ]
    );
    assert_eq!(said("02-github.config", "github.com"), [(NoticeKind::Ignored, "addkeystoagent".into(), some("yes"))]);
    assert_eq!(said("02-github.config", "github-work"), []);
    assert_eq!(
        said("19-forwards.config", "tunnel"),
        [
            (NoticeKind::Ignored, "dynamicforward".into(), some("1080")),
            (NoticeKind::Ignored, "remoteforward".into(), some("9000 localhost:9000")),
        ]
    );
}
