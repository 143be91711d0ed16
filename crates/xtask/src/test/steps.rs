//! The steps that are little more than a cargo command.

use std::process::Command;

use super::Failure;
use crate::cargo::{cargo, target_directory};
use crate::demo;
use crate::ui::Ui;

/// The fuzz targets are a workspace of their own, since they are built with other flags.
const FUZZ_MANIFEST: &str = "fuzz/Cargo.toml";

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

pub(super) fn loom() -> Result<(), Failure> {
    // Everything is built anew with the flag, which must not spoil the other builds.
    let mut command = cargo([
        "test",
        "--locked",
        "--release",
        "--package",
        "openhdv",
        "--lib",
    ]);
    command
        .arg("--target-dir")
        .arg(target_directory()?.join("loom"))
        .arg("loom")
        .env("RUSTFLAGS", "--cfg loom");
    succeed(&mut command)
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
