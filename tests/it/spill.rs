//! Output of any size: bounded memory, every range readable, a disk that is full is told and not fatal.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{
    embedded_host::EmbeddedHost,
    home::with,
    openssh::{Sshd, is_root},
    process::kill,
    session::{Session, text},
    wait::eventually,
};

/// Bytes in memory from the start of a stream, and at most from its end.
const HEAD: usize = 64 << 10;
const TAIL: usize = 448 << 10;
/// Pieces that go to the file.
const PIECE: usize = 256 << 10;

fn lines(count: usize) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))).unwrap()
}

/// The exact bytes of stdout that one answer has from `offset` on.
async fn range(session: &Session, id: &str, offset: usize) -> Vec<u8> {
    let arguments = json!({"stdout_offset": offset, "max_bytes": 40_000, "encoding": "base64"});
    let view = session.output(id, arguments).await;
    assert_eq!((number(&view["stdout_offset"]), &view["encoding"]), (offset, &json!("base64")), "{view}");
    let bytes = BASE64.decode(text(&view["stdout"]).as_bytes()).unwrap();
    assert_eq!(number(&view["next_stdout_offset"]), offset + bytes.len());
    bytes
}

fn notices(view: &Value) -> String {
    view["notices"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join("\n")
}

/// A directory for spill files, not there yet.
fn place() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("spill").display().to_string();
    (directory, place)
}

/// Open files of the processes of this test below a directory.
fn open_below(directory: &str, pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let target = |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
    entries.filter_map(target).filter(|target| target.starts_with(directory)).count()
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn every_range_of_long_output_comes_back_to_the_byte() {
    let Some(sshd) = Sshd::start().await else { return };
    let (_directory, place) = place();
    let session = Session::on_sshd(&sshd, &[("SSH_SPILL_DIR", &place)]).await;
    let whole = lines(2_000_000);
    let ran = session.run("seq 1 2000000").await;
    assert_eq!((number(&ran["stdout_bytes"]), notices(&ran).as_str()), (whole.len(), ""));
    let id = text(&ran["command_id"]);
    let seams = [0, HEAD, HEAD + PIECE, HEAD + 2 * PIECE, whole.len() - TAIL, whole.len() - TAIL + PIECE, whole.len()];
    let offsets = seams.iter().flat_map(|seam| [seam.saturating_sub(15_000), *seam]).chain([1_234_567, 9_876_543]);
    for offset in offsets {
        let bytes = range(&session, &id, offset).await;
        assert!(bytes == whole.as_bytes()[offset..whole.len().min(offset + 30_000)], "from {offset}");
    }
    let middle = session.output(&id, json!({"stdout_offset": 5_000_000})).await;
    assert_eq!(text(&middle["stdout"]), whole[5_000_000..5_016_000]);
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "the file has no name");
}

#[tokio::test]
async fn memory_is_bounded_while_output_floods_and_cancel_is_prompt() {
    let host = EmbeddedHost::start().await.unwrap();
    let (_directory, place) = place();
    let session = Session::on_host(&host, &[("SSH_SPILL_DIR", &place)]).await;
    let pid = session.client.pid();
    let before = resident(pid);
    let id = session.start("yes 0123456789abcdef").await;
    let mut peak = 0;
    eventually("64 MiB of output", async || {
        peak = peak.max(resident(pid));
        number(&session.output(&id, json!({})).await["stdout_bytes"]) > 64 << 20
    })
    .await;
    assert_eq!(range(&session, &id, 34_000_000).await, b"0123456789abcdef\n".repeat(1_765)[..30_000]);
    assert_eq!(open_below(&place, pid), 1);
    let begin = Instant::now();
    let ended = session.cancel(&id).await;
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!((&ended["status"], notices(&ended).as_str()), (&json!("cancelled"), ""));
    let grown = peak.saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
}

#[tokio::test]
async fn nothing_is_left_of_a_server_that_was_killed() {
    let host = EmbeddedHost::start().await.unwrap();
    let (_directory, place) = place();
    let session = Session::on_host(&host, &[("SSH_SPILL_DIR", &place)]).await;
    session.run("seq 1 500000").await;
    let pid = session.client.pid();
    assert_eq!(open_below(&place, pid), 1);
    kill(&[pid], "KILL");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}

#[tokio::test]
async fn limits_are_told_and_totals_stay_exact() {
    let host = EmbeddedHost::start().await.unwrap();
    let (_directory, place) = place();
    let session = Session::on_host(&host, &[("SSH_SPILL_DIR", &place), ("SSH_SPILL_LIMIT", "1")]).await;
    let whole = lines(1_000_000);
    let ran = session.run("seq 1 1000000; echo done >&2; exit 3").await;
    assert_eq!((&ran["exit_code"], number(&ran["stdout_bytes"])), (&json!(3), whole.len()), "{ran}");
    let (from, to) = (HEAD + (1 << 20), whole.len() - TAIL);
    let told = format!("{} bytes of stdout, from offset {from} to {to}, are not kept", to - from);
    assert!(notices(&ran).contains(&told) && notices(&ran).contains("limit"), "{}", notices(&ran));
    let id = text(&ran["command_id"]);
    for offset in [0, HEAD - 10, from - 30_000, to, whole.len() - 30_000] {
        assert!(range(&session, &id, offset).await == whole.as_bytes()[offset..offset + 30_000], "from {offset}");
    }
    let gone = session.output(&id, json!({"stdout_offset": from + 7})).await;
    assert_eq!((number(&gone["stdout_omitted_from"]), number(&gone["stdout_offset"])), (from + 7, to));
    assert!(text(&gone["stdout"]).contains("are not kept"), "{gone}");
}

#[tokio::test]
async fn spilling_can_be_turned_off() {
    let host = EmbeddedHost::start().await.unwrap();
    let (_directory, place) = place();
    let session = Session::on_host(&host, &[("SSH_SPILL_DIR", &place), ("SSH_SPILL_LIMIT", "0")]).await;
    let ran = session.run("seq 1 500000").await;
    assert!(notices(&ran).contains("turned off"), "{}", notices(&ran));
    assert!(!Path::new(&place).exists());
}

#[tokio::test]
async fn a_directory_that_others_can_enter_is_not_used() {
    let host = EmbeddedHost::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let session = Session::on_host(&host, &[("SSH_SPILL_DIR", directory.path().to_str().unwrap())]).await;
    let ran = session.run("seq 1 500000").await;
    assert!(notices(&ran).contains("0700"), "{}", notices(&ran));
    assert_eq!(number(&ran["stdout_bytes"]), lines(500_000).len());
}

#[tokio::test]
async fn a_disk_that_is_full_is_told_and_the_command_goes_on() {
    let Some(disk) = TinyDisk::mount() else { return };
    let host = EmbeddedHost::start().await.unwrap();
    let session = Session::on_host(&host, &[("SSH_SPILL_DIR", disk.path())]).await;
    let whole = lines(1_000_000);
    let ran = session.run("seq 1 1000000; echo after; exit 5").await;
    assert_eq!((&ran["status"], &ran["exit_code"]), (&json!("completed"), &json!(5)), "{ran}");
    assert_eq!(number(&ran["stdout_bytes"]), whole.len() + 6);
    assert!(text(&ran["stdout"]).starts_with("1\n2\n") && text(&ran["stdout"]).ends_with("1000000\nafter\n"));
    assert!(notices(&ran).contains("No space left on device"), "{}", notices(&ran));
    let id = text(&ran["command_id"]);
    for offset in [0, HEAD - 10, HEAD + PIECE - 10, whole.len() - TAIL + 6] {
        assert!(range(&session, &id, offset).await == whole.as_bytes()[offset..offset + 30_000], "from {offset}");
    }
}

/// While the pump waits for the disk nothing is read, and so nothing heard: that is no silence of the server.
#[tokio::test]
async fn a_disk_that_stands_still_costs_no_connection() {
    let Some(disk) = FrozenDisk::mount() else { return };
    let Some(sshd) = Sshd::start().await else { return };
    let session = Session::on_sshd(&sshd, &[("SSH_SPILL_DIR", &disk.path())]).await;
    let id = session.start("head -c 20000000 /dev/zero; sleep 300").await;
    let read = async || number(&session.output(&id, json!({"max_bytes": 10})).await["stdout_bytes"]);
    eventually("the memory is full", async || read().await >= HEAD + TAIL).await;
    let again = with(session.login().clone(), json!({"session_id": session.id}));
    let again = session.client.call("ssh_connect", again).await.success();
    assert_eq!((&again["reused"], again.get("reconnected")), (&json!(true), None), "{again}");
    disk.thaw();
    eventually("all of it has come", async || read().await == 20_000_000).await;
    let ended = session.cancel(&id).await;
    assert_eq!((&ended["status"], &ended["remote_ended"]), (&json!("cancelled"), &json!(true)), "{ended}");
    assert_eq!(sshd.logged("Accepted publickey for"), 1);
}

/// A file system of 64 MiB that takes no writes until it is thawed; unmounted when dropped.
struct FrozenDisk(TempDir);

impl FrozenDisk {
    #[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (image, at) = (directory.path().join("image"), directory.path().join("at"));
        fs::create_dir(&at).unwrap();
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let run = |program: &str, words: &[&str], path: &Path, more: &[&Path]| {
            let ran = Command::new(program).args(words).arg(path).args(more).stdout(Stdio::null()).status();
            ran.is_ok_and(|status| status.success())
        };
        if is_root() && run("mkfs.ext4", &["-q", "-F"], &image, &[]) && run("mount", &["-o", "loop"], &image, &[&at]) {
            let disk = Self(directory);
            fs::create_dir(disk.path()).unwrap();
            fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o700)).unwrap();
            if run("fsfreeze", &["-f"], &at, &[]) {
                return Some(disk);
            }
        }
        eprintln!("skipped, this needs the right to mount a file system and to freeze it");
        None
    }

    fn path(&self) -> String {
        self.0.path().join("at/spill").to_str().unwrap().to_owned()
    }

    fn thaw(&self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(self.0.path().join("at")).stderr(Stdio::null()).status();
    }
}

impl Drop for FrozenDisk {
    fn drop(&mut self) {
        self.thaw();
        let _ = Command::new("umount").arg("-l").arg(self.0.path().join("at")).status();
    }
}

/// A file system of 1 MiB, unmounted when dropped.
struct TinyDisk(TempDir);

impl TinyDisk {
    #[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"]).arg(directory.path());
        if is_root() && mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(directory));
        }
        eprintln!("skipped, this needs the right to mount a file system");
        None
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        // Lazily: a server that is just being killed may still hold a file there.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
