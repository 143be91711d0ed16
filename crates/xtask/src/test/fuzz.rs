//! Runs the fuzz targets, as many at once as there are processors, with a cargo-fuzz of this project's own.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

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
    // One build of all of them, before their time runs.
    succeed(&mut fuzz(&program, "build"))?;
    // libFuzzer ends a process without its destructors: what they would remove goes with this.
    let scratch = Scratch::new()?;
    let targets = targets()?;
    let next = AtomicUsize::new(0);
    let at_once = std::thread::available_parallelism().map_or(1, NonZero::get);
    let outcomes = std::thread::scope(|scope| {
        let runners: Vec<_> = (0..at_once.min(targets.len()))
            .map(|_| {
                scope.spawn(|| {
                    let mut outcomes = Vec::new();
                    while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                        outcomes.push(one(&program, target, seconds, scratch.path()));
                    }
                    outcomes
                })
            })
            .collect();
        let outcomes = runners.into_iter().map(ScopedJoinHandle::join);
        outcomes.collect::<Result<Vec<_>, _>>()
    });
    let failures: Vec<_> = outcomes
        .map_err(|_| "a thread that runs fuzz targets panicked")?
        .into_iter()
        .flatten()
        .filter_map(Result::err)
        .collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n").into())
    }
}

/// cargo-fuzz in this project.
fn fuzz(program: &Path, what: &str) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(workspace())
        // The sanitizers are unstable options; the stable compiler has them all the same.
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["fuzz", what, "--fuzz-dir", "fuzz"]);
    command
}

/// Runs a target; what it printed when it failed.
fn one(program: &Path, target: &str, seconds: u32, scratch: &Path) -> Result<(), String> {
    let mut command = fuzz(program, "run");
    command
        .env("TMPDIR", scratch)
        .args([target, "--"])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MIB}"));
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("fuzz target {target}: {}\n{said}", output.status));
    }
    let done = said.lines().rfind(|line| line.starts_with("Done "));
    println!(
        "{target}: {}",
        done.unwrap_or("it did not say how often it ran")
    );
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
