//! Runs the fuzz targets, with a cargo-fuzz of this project's own.

use std::path::PathBuf;
use std::process::Command;

use hdv_qemu::cache::Cache;
use hdv_qemu::guest::Scratch;

use super::Failure;
use super::steps::succeed;
use crate::cargo::{cargo, workspace};

/// The version that was tried; a newer one may want a nightly compiler.
const VERSION: &str = "0.13.2";
/// The targets allocate little: what needs more than this leaks or lets a peer choose a size.
const MEMORY_LIMIT_MIB: u32 = 512;

pub(super) fn run(seconds: u32) -> Result<(), Failure> {
    let program = installed()?;
    // libFuzzer ends a process without its destructors: what they would remove goes with this.
    let scratch = Scratch::new()?;
    for target in targets()? {
        let mut command = Command::new(&program);
        command
            .current_dir(workspace())
            // The sanitizers are unstable options; the stable compiler has them all the same.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("TMPDIR", scratch.path())
            .args(["fuzz", "run", "--fuzz-dir", "fuzz", &target, "--"])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MIB}"));
        succeed(&mut command).map_err(|error| format!("fuzz target {target}: {error}"))?;
    }
    Ok(())
}

/// The names of the targets, from their files.
fn targets() -> Result<Vec<String>, Failure> {
    let directory = workspace().join("fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem()
        {
            targets.push(name.to_string_lossy().into_owned());
        }
    }
    targets.sort();
    if targets.is_empty() {
        return Err("there are no fuzz targets in fuzz/fuzz_targets".into());
    }
    Ok(targets)
}

/// cargo-fuzz in the user's cache; built there if need be, so that nothing is installed.
fn installed() -> Result<PathBuf, Failure> {
    let root = Cache::user()?
        .directory()
        .join(format!("cargo-fuzz-{VERSION}"));
    let program = root.join("bin/cargo-fuzz");
    if !program.exists() {
        succeed(
            cargo(["install", "--locked", "--version", VERSION, "cargo-fuzz"])
                .arg("--root")
                .arg(&root),
        )?;
    }
    Ok(program)
}
