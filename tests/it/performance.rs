//! docs/PERFORMANCE.md says what was measured.

use std::{path::Path, process::Command};

#[test]
#[expect(clippy::print_stderr, reason = "a test that proves nothing must say so")]
fn performance_page_fits_its_results() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/run");
    if Command::new("python3").arg("--version").output().is_err() {
        return eprintln!("skipped, this needs Python 3");
    }
    let checked = Command::new(script).arg("--check").output().expect("the script starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
