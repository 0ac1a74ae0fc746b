//! Reading known_hosts files, and appending to our own.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{HostKeyError, MAX_FILE_BYTES};

/// How long the lock of our own file is waited for. Whoever has it writes one line.
pub(super) const LOCK_LIMIT: Duration = Duration::from_secs(3);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Takes the lock within `limit`: a process that hangs while it has it must not hold this one up, connect for connect.
pub(super) fn lock(file: &File, limit: Duration) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if begun.elapsed() < limit => thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process holds its lock")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// The bytes of a file; none where there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, HostKeyError> {
    let unreadable = |why: String| HostKeyError::Unreadable { file: path.into(), why };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
        // Opening a FIFO would wait for ever.
        Ok(metadata) if !metadata.is_file() => return Err(unreadable("it is no regular file".into())),
        Ok(_) => {}
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unreadable(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(Some(bytes))
}

/// Opens our own file for appending; it and its folder are made private where they are missing.
pub(super) fn open_own(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        create_private_folder(folder)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Appends one line in one write, after mending a last line that was cut off.
///
/// Appended under the lock and not written anew and renamed: a second process that waits for the
/// lock holds the same file, and would write into one that is gone. What a reader may see of a write
/// cut short is a malformed line, which is skipped.
pub(super) fn append(file: &mut File, line: &str) -> io::Result<()> {
    let mut text = String::new();
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            text.push('\n');
        }
    }
    text.push_str(line);
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_another_holds_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_hosts");
        let (holder, other) = (File::create(&path).unwrap(), File::create(&path).unwrap());
        lock(&holder, Duration::ZERO).unwrap();
        assert!(lock(&other, Duration::from_millis(50)).is_err());
        drop(holder);
        lock(&other, LOCK_LIMIT).unwrap();
    }
}
