use std::fs;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

fn only(own: &Path, policy: HostKeyPolicy) -> KnownHosts {
    KnownHosts { own: Some(own.to_owned()), others: Vec::new(), revoked: None, hashes: false, policy }
}

fn check(known_hosts: &KnownHosts, host: &str, port: u16, approved: Option<&str>) -> Result<Trusted, HostKeyError> {
    let key = PublicKey::from_openssh(KEY).unwrap().into();
    known_hosts.check_or_record(&Offer { host, port, key: &key, approved })
}

#[test]
fn a_key_that_is_revoked_without_a_port_is_revoked_at_every_port() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("known_hosts");
    fs::write(&own, format!("@revoked h {KEY}\n")).unwrap();
    for port in [22, 2222] {
        let refused = check(&only(&own, HostKeyPolicy::AcceptNew), "h", port, None);
        assert!(matches!(refused, Err(HostKeyError::Revoked(_))), "{port}: {refused:?}");
    }
    assert_eq!(fs::read_to_string(&own).unwrap().lines().count(), 1, "nothing was recorded");
}

#[test]
fn a_name_that_would_mean_something_else_in_the_file_is_never_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("known_hosts");
    let offered = fingerprint(&PublicKey::from_openssh(KEY).unwrap());
    let newlines = ["\n", "\r\n", "\r", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}", "\0"];
    let injected = newlines.map(|newline| format!("h{newline}bank {KEY}"));
    let others =
        ["", "*", "h*", "h?", "!h", "a,b", "h h", "h\tb", "#h", "@revoked", "@cert-authority *", "|1|a|b", "[h]"];
    for host in injected.iter().map(String::as_str).chain(others) {
        for (policy, approved) in [(HostKeyPolicy::AcceptNew, None), (HostKeyPolicy::Ask, Some(offered.as_str()))] {
            for port in [22, 2222] {
                let refused = check(&only(&own, policy), host, port, approved);
                assert!(matches!(refused, Err(HostKeyError::CannotRecord { .. })), "{host:?}: {refused:?}");
            }
        }
    }
    assert!(!own.exists(), "nothing was written");
}

#[test]
fn approval_is_for_one_key_only() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("known_hosts");
    let known_hosts = only(&own, HostKeyPolicy::Ask);
    let refused = check(&known_hosts, "h", 22, Some("SHA256:another"));
    assert!(matches!(refused, Err(HostKeyError::NotApproved { .. })), "{refused:?}");
    assert!(!own.exists(), "nothing was written");
    // Nor does it make good what a file speaks against.
    let offered = fingerprint(&PublicKey::from_openssh(KEY).unwrap());
    let other = KEY.replace("JdD7y3a", "KdD7y3a");
    for (line, code) in
        [(format!("h {other}\n"), "host_key_changed"), (format!("@revoked * {KEY}\n"), "host_key_revoked")]
    {
        fs::write(&own, &line).unwrap();
        let refused = check(&known_hosts, "h", 22, Some(&offered)).unwrap_err();
        assert_eq!(crate::error::Explain::code(&refused).as_str(), code);
        assert_eq!(fs::read_to_string(&own).unwrap(), line);
    }
}

#[test]
fn a_key_of_the_list_of_revoked_ones_is_refused_and_a_list_that_cannot_be_read_refuses_all() {
    let folder = tempfile::tempdir().unwrap();
    let (own, list) = (folder.path().join("known_hosts"), folder.path().join("revoked"));
    fs::write(&own, format!("h {KEY}\n")).unwrap();
    let with_list =
        only(&own, HostKeyPolicy::AcceptNew).for_host(Vec::new(), HostKeyPolicy::AcceptNew, Some(list.clone()));
    let other = KEY.replace("JdD7y3a", "KdD7y3a");
    for (text, code) in [
        (format!("# lost\n\n{KEY} of the old machine\n"), "host_key_revoked"),
        ("SSHKRL\n\0".into(), "host_key_unknown"),
        ("nonsense\n".into(), "host_key_unknown"),
    ] {
        fs::write(&list, &text).unwrap();
        let refused = check(&with_list, "h", 22, None).unwrap_err();
        if code == "host_key_revoked" {
            assert_eq!(crate::error::Explain::code(&refused).as_str(), code, "{text:?}");
        } else {
            assert!(matches!(refused, HostKeyError::Unreadable { .. }), "{text:?}: {refused:?}");
        }
    }
    fs::remove_file(&list).unwrap();
    assert!(matches!(check(&with_list, "h", 22, None), Err(HostKeyError::Unreadable { .. })));
    fs::write(&list, format!("{other}\n")).unwrap();
    assert!(check(&with_list, "h", 22, None).is_ok());
}

#[test]
fn a_host_is_never_checked_less_strictly_than_the_server_wants() {
    let own = Path::new("/nonexistent/known_hosts");
    for (server, host, expected) in [
        (HostKeyPolicy::Strict, HostKeyPolicy::AcceptNew, HostKeyPolicy::Strict),
        (HostKeyPolicy::Ask, HostKeyPolicy::AcceptNew, HostKeyPolicy::Ask),
        (HostKeyPolicy::AcceptNew, HostKeyPolicy::Ask, HostKeyPolicy::Ask),
        (HostKeyPolicy::AcceptNew, HostKeyPolicy::Strict, HostKeyPolicy::Strict),
    ] {
        assert_eq!(only(own, server).for_host(Vec::new(), host, None).policy(), expected);
    }
}
