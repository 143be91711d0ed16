//! The steps that are little more than a cargo command.

use std::process::{Command, Stdio};

use super::Failure;
use crate::cargo::cargo;
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
    // With the flag for this one library, not for everything that it is built of: that is what the tests have built.
    let mut command = cargo([
        "rustc",
        "--locked",
        "--package",
        "openhdv",
        "--lib",
        "--profile",
        "test",
        "--message-format=json-render-diagnostics",
        "--",
        "--cfg",
        "loom",
        // Models are run through by the ten thousand.
        "-C",
        "opt-level=2",
    ]);
    println!("$ {command:?}");
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the models do not build: {}", output.status).into());
    }
    let program = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter::<serde_json::Value>()
        .flatten()
        .find_map(|message| Some(message["executable"].as_str()?.to_owned()))
        .ok_or("cargo tells no program of the models")?;
    succeed(Command::new(program).arg("loom"))
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
