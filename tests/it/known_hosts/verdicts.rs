//! The same servers and the same files before `ssh` and before us: who is trusted?

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use super::exhaustive;
use crate::support::{
    home::{Home, by_key},
    mcp_client::McpClient,
    openssh::{KeyFormat, KeyType, Sshd, public_key, ssh_keygen},
};

/// What ssh-keygen is told of a host's certificate; none has no certificate.
const CERTIFICATES: [(&str, Option<&[&str]>); 12] = [
    ("no certificate", None),
    ("valid", Some(&["-h", "-n", "127.0.0.1,other.example", "-z", "7", "-V", "-1d:+1d"])),
    ("without principals", Some(&["-h"])),
    ("expired", Some(&["-h", "-n", "127.0.0.1", "-V", "20200101:20210101"])),
    ("not valid yet", Some(&["-h", "-n", "127.0.0.1", "-V", "+52w:+104w"])),
    ("for another host", Some(&["-h", "-n", "other.example"])),
    ("for a pattern", Some(&["-h", "-n", "127.0.0.*,*"])),
    ("for name and port", Some(&["-h", "-n", "[127.0.0.1]:22"])),
    ("of a user", Some(&["-n", "127.0.0.1"])),
    ("with a critical option", Some(&["-h", "-n", "127.0.0.1", "-O", "critical:x=y"])),
    ("with an extension", Some(&["-h", "-n", "127.0.0.1", "-O", "extension:x=y"])),
    ("for all time", Some(&["-h", "-n", "127.0.0.1", "-V", "always:forever"])),
];

/// How an authority signs.
const AUTHORITIES: [(KeyType, &[&str]); 4] = [
    (KeyType::Ed25519, &[]),
    (KeyType::Rsa, &["-t", "rsa-sha2-512"]),
    (KeyType::Ecdsa, &[]),
    (KeyType::Rsa, &["-t", "ssh-rsa"]),
];

/// A server with an ECDSA key and another, certified one.
struct Server {
    name: String,
    sshd: Sshd,
    certified: String,
    authority: String,
    others: [String; 2],
    _directory: tempfile::TempDir,
}

/// Type and blob, without the comment.
fn bare(key: &Path) -> String {
    public_key(key).split(' ').take(2).collect::<Vec<_>>().join(" ")
}

impl Server {
    async fn start(name: &str, certificate: Option<&[&str]>, authority: usize, key: KeyType) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let new = |name: &str, kind| ssh_keygen(directory.path(), name, kind, KeyFormat::OpenSsh);
        let (kind, how) = AUTHORITIES[authority];
        let (certified, authority) = (new("certified", key), new("authority", kind));
        let others = [bare(&new("other", key)), bare(&new("other_authority", kind))];
        let mut builder = Sshd::builder().host_key(KeyType::Ecdsa).config(&format!("HostKey {}", certified.display()));
        if let Some(options) = certificate {
            let mut command = Command::new("ssh-keygen");
            command.arg("-q").arg("-s").arg(&authority).args(["-I", "test"]).args(how).args(options);
            let signed = command.arg(format!("{}.pub", certified.display())).output().unwrap();
            assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
            builder = builder.config(&format!("HostCertificate {}-cert.pub", certified.display()));
        }
        let sshd = builder.start().await?;
        let (certified, authority) = (bare(&certified), bare(&authority));
        let name = format!("{name}, {key:?} by {kind:?} {how:?}");
        Some(Self { name, sshd, certified, authority, others, _directory: directory })
    }

    /// Files that say something of this server.
    fn files(&self) -> Vec<String> {
        let port = self.sshd.port();
        let Self { certified: key, authority, others: [other, other_authority], .. } = self;
        let host = format!("[127.0.0.1]:{port}");
        let known = self.sshd.known_hosts();
        let ecdsa: Vec<_> = known.split_whitespace().skip(1).take(2).collect();
        let ecdsa = ecdsa.join(" ");
        let trusted = format!("@cert-authority {host} {authority}\n");
        vec![
            trusted.clone(),
            format!("@cert-authority * {authority}"),
            format!("@cert-authority 127.0.0.1 {authority}"),
            format!("@cert-authority\t127.0.0.*\t{authority}"),
            format!("@cert-authority *,!{host} {authority}"),
            format!("@cert-authority other.example {authority}"),
            format!("@cert-authority * {other_authority}"),
            format!("{trusted}@revoked * {authority}"),
            format!("@revoked * {key}\n{trusted}"),
            format!("{trusted}@revoked * {other_authority}"),
            format!("{host} {authority}"),
            format!("{host} {key}"),
            format!("{host} {other}"),
            format!("{host} {other}\n{host} {key}"),
            format!("{host} {ecdsa}"),
            format!("127.0.0.1 {key}"),
            format!("{host} {other}\n127.0.0.1 {key}"),
            format!("{trusted}{host} {other}"),
            format!("{trusted}{host} {key}"),
            format!("{trusted}{host} {ecdsa}"),
            format!("@revoked * {authority}\n{host} {key}"),
            format!("@revoked * {authority}\n{host} {ecdsa}"),
            format!("@revoked other.example {key}\n{host} {key}"),
            format!("@revoked 127.0.0.1 {key}\n{host} {key}"),
            format!("garbage\n{host} ssh-rsa AAAA\n{trusted}"),
            String::new(),
        ]
    }

    /// Whether ssh logs in.
    async fn trusted_by_ssh(&self, known_hosts: &Path) -> bool {
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
        ssh.args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "UpdateHostKeys=no"]).arg("-o");
        ssh.arg(format!("UserKnownHostsFile={}", known_hosts.display())).arg("-i").arg(self.sshd.client_key());
        ssh.args(["-p", &self.sshd.port().to_string(), "-l", &self.sshd.user().name, "127.0.0.1", "true"]);
        let output = ssh.stdin(Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused = said.contains("Host key verification failed") || said.contains("revoked");
        assert!(output.status.success() || refused, "{said}");
        output.status.success()
    }

    /// Why we refuse; nothing where we log in.
    async fn refused_by_us(&self, client: &McpClient) -> Option<String> {
        let answer = client.call("ssh_connect", by_key(&self.sshd, &self.sshd.user().name, json!({}))).await;
        answer.is_error.then(|| answer.code().to_owned())
    }

    /// Compares both on some of the files; gives the number of cases, and those that differ.
    async fn compare(&self, take: impl Fn(usize) -> bool) -> (usize, Vec<Difference>) {
        let home = Home::new();
        let client = home.client(&[("SSH_HOST_KEY_POLICY", "strict"), ("RUST_LOG", "error")]).await;
        let (mut cases, mut differences) = (0, Vec::new());
        for (_, text) in self.files().into_iter().enumerate().filter(|(index, _)| take(*index)) {
            let path: PathBuf = home.write_known_hosts(&text);
            let (theirs, ours) = (self.trusted_by_ssh(&path).await, self.refused_by_us(&client).await);
            cases += 1;
            if theirs != ours.is_none() {
                differences.push(Difference { server: self.name.clone(), text: text.clone(), theirs, ours });
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "only read");
        }
        assert_eq!(home.recorded(), "", "strict records nothing");
        (cases, differences)
    }
}

#[derive(Debug)]
struct Difference {
    server: String,
    text: String,
    theirs: bool,
    ours: Option<String>,
}

impl Difference {
    /// A key that is revoked for the host without a port is trusted by ssh at another port. Not here.
    fn is_revoked_without_port(&self) -> bool {
        self.theirs && self.ours.as_deref() == Some("host_key_revoked") && self.text.contains("@revoked 127.0.0.1 ")
    }

    /// Another key is known at the port, and this one without it. ssh refuses a plain key then, and takes the same
    /// key in a certificate that nobody vouches for: it looks without the port before it looks at the key.
    fn is_other_key_at_the_port(&self) -> bool {
        let certified = !self.server.starts_with("no certificate");
        let changed = self.theirs && self.ours.as_deref() == Some("host_key_changed");
        changed && certified && self.text.contains("\n127.0.0.1 ")
    }
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the counts are the evidence")]
async fn hosts_are_trusted_as_ssh_trusts_them() {
    // Each certificate once, and the further authorities and key types with a valid one.
    let mut kinds: Vec<_> = CERTIFICATES.iter().map(|(name, options)| (*name, *options, 0, KeyType::Ed25519)).collect();
    let valid = CERTIFICATES[1];
    kinds.extend((1..AUTHORITIES.len()).map(|authority| (valid.0, valid.1, authority, KeyType::Ed25519)));
    kinds.push((valid.0, valid.1, 0, KeyType::Rsa));
    let stride = kinds.len();
    let comparisons = kinds.iter().enumerate().map(|(number, (name, options, authority, key))| async move {
        let server = Server::start(name, *options, *authority, *key).await?;
        // A sample still has the first file, which is the point of most certificates.
        Some(server.compare(|index| exhaustive() || index == 0 || index % stride == number).await)
    });
    let mut cases = 0;
    let mut differences = Vec::new();
    for compared in futures_util::future::join_all(comparisons).await {
        let Some((count, found)) = compared else { return };
        cases += count;
        differences.extend(found);
    }
    let (revoked, others): (Vec<_>, Vec<_>) = differences.into_iter().partition(Difference::is_revoked_without_port);
    let (changed, wrong): (Vec<_>, Vec<_>) = others.into_iter().partition(Difference::is_other_key_at_the_port);
    let (revoked, changed) = (revoked.len(), changed.len());
    println!("{cases} cases; stricter: {revoked} revoked without a port, {changed} other key at the port");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn certificate_vouches_for_a_host_and_one_that_is_wrong_is_not_got_around() {
    let started = |number: usize| Server::start(CERTIFICATES[number].0, CERTIFICATES[number].1, 0, KeyType::Ed25519);
    let Some(valid) = started(1).await else { return };
    let (Some(none), Some(expired)) = (started(0).await, started(3).await) else { return };
    for (server, outcome) in [(&valid, "certified"), (&none, "not_certified"), (&expired, "it has expired")] {
        let home = Home::new();
        home.write_known_hosts(&server.files()[0]);
        let sshd = &server.sshd;
        let client = home.client(&[]).await;
        for login in crate::support::home::logins(sshd) {
            let answer = client.call("ssh_connect", by_key(sshd, login, json!({}))).await;
            if outcome == "certified" {
                assert_eq!(answer.success()["host_key"]["trust"], outcome);
            } else {
                // The policy is accept-new, but an authority is known, and this key is not of it.
                assert_eq!((answer.code(), &answer.structured["why"]), ("host_key_unknown", &json!(outcome)));
                assert_eq!(sshd.logged("userauth-request"), 0, "{}", sshd.log());
            }
        }
        assert_eq!(home.recorded(), "", "{outcome}");
    }
}
