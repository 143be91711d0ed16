//! The steps that are little more than a cargo command.

use std::ffi::OsStr;
use std::process::Command;

use super::Failure;
use crate::demo;
use crate::lab::workspace;
use crate::ui::Ui;

/// The fuzz targets are a workspace of their own, since they are built with other flags.
const FUZZ_MANIFEST: &str = "fuzz/Cargo.toml";

/// A cargo command in the workspace.
pub(super) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(workspace()).args(arguments);
    command
}

/// Runs a command to its end; an error unless it succeeds.
pub(super) fn succeed(command: &mut Command) -> Result<(), Failure> {
    println!("$ {command:?}");
    let status = command
        .status()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{}: {status}", command.get_program().display()).into())
    }
}

pub(super) fn format() -> Result<(), Failure> {
    succeed(&mut cargo(["fmt", "--all", "--", "--check"]))?;
    succeed(&mut cargo([
        "fmt",
        "--manifest-path",
        FUZZ_MANIFEST,
        "--",
        "--check",
    ]))
}

pub(super) fn clippy() -> Result<(), Failure> {
    succeed(&mut cargo([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

pub(super) fn docs() -> Result<(), Failure> {
    succeed(
        cargo(["doc", "--locked", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
    )
}

pub(super) fn tests() -> Result<(), Failure> {
    succeed(&mut cargo(["test", "--locked", "--workspace"]))
}

pub(super) fn bench() -> Result<(), Failure> {
    succeed(&mut cargo([
        "run",
        "--locked",
        "--release",
        "--package",
        "xtask",
        "--",
        "bench",
        "--quick",
    ]))
}

pub(super) fn guest(samples: u32, ui: &Ui) -> Result<(), Failure> {
    let arguments = demo::Arguments {
        json: false,
        live: 2,
        samples,
    };
    let report = demo::check(&arguments, ui);
    ui.finish();
    report.print(false);
    if report.ok() {
        Ok(())
    } else {
        Err("the guest's checks failed".into())
    }
}
