//! The worker of compute systems, of the sources that this test was built of.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The program; built, if it was not with the tests.
pub(crate) fn worker() -> PathBuf {
    static WORKER: OnceLock<PathBuf> = OnceLock::new();
    WORKER.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let executable = std::env::current_exe().expect("a path");
    // <target directory>/<profile>/deps/<this test>
    let profile = executable
        .ancestors()
        .nth(2)
        .expect("a profile's directory");
    let target = profile.parent().expect("a target directory");
    let name = profile.file_name().expect("a profile").to_string_lossy();
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "openhdv-compute"])
        .args(["--bin", "openhdv-worker", "--profile"])
        .arg(if name == "debug" { "dev" } else { &*name })
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the worker does not build: {status}");
    profile.join("openhdv-worker")
}
