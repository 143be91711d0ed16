//! Every test there is, by the names that the table cites: `capi/memory::reads` for the test
//! `reads` of the module or file `memory` of `crates/capi`, `guest:lab-doorbells` for a check of the guest
//! program, `c/memory::reads` for the check `reads` of
//! `crates/capi/tests/c/memory.c`, `boot:...` for what is seen from outside a guest, `compute:examples/c/vm.c` for a program that
//! makes its own guest.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use hdv_guest::families;

use crate::c;
use crate::cargo::cargo;
use crate::test::Failure;
use crate::test::devices::BOOT_CHECKS;

/// Programs that make a guest of their own, and that the step of compute systems runs.
const WITH_GUESTS: [&str; 2] = ["examples/c/vm.c", "crates/compute/examples/vm.rs"];

/// Builds the tests and asks them for their names.
pub(super) fn tests() -> Result<BTreeSet<String>, Failure> {
    let mut command = cargo([
        "test",
        "--locked",
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the tests do not build: {}", output.status).into());
    }
    let mut known: BTreeSet<String> = families::check_names()
        .map(|check| format!("guest:{check}"))
        .chain(BOOT_CHECKS.iter().map(|check| format!("boot:{check}")))
        .chain(
            WITH_GUESTS
                .iter()
                .map(|program| format!("compute:{program}")),
        )
        .collect();
    for message in serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter::<serde_json::Value>()
        .flatten()
    {
        if message["profile"]["test"] != true {
            continue;
        }
        let (Some(program), Some(manifest)) = (
            message["executable"].as_str(),
            message["manifest_path"].as_str(),
        ) else {
            continue;
        };
        let directory = Path::new(manifest).parent().and_then(Path::file_name);
        let package = directory.unwrap_or_default().to_string_lossy();
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let file = message["target"]["kind"][0] == "test";
        for test in list(program)? {
            known.insert(if file {
                format!("{package}/{target}::{test}")
            } else {
                format!("{package}/{test}")
            });
        }
    }
    // A check of a C source is run by the Rust test that is named for the source.
    for source in c::tests()? {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        if known.contains(&format!("capi/c_programs::{stem}")) {
            let checks = c::checks(&source)?;
            known.extend(checks.iter().map(|check| format!("c/{stem}::{check}")));
        }
    }
    Ok(known)
}

/// What a test program has.
fn list(program: &str) -> Result<Vec<String>, Failure> {
    let output = Command::new(program)
        .args(["--list", "--format=terse"])
        .output()?;
    if !output.status.success() {
        return Err(format!("{program} does not list its tests: {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}
