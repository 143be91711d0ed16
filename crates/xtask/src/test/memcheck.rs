//! C programs under valgrind's memcheck: no error, and no definite or indirect leak.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Failure;
use super::steps::succeed;
use crate::c::{Library, Served, Valgrind, Variant, check, examples, tests};
use crate::ui::Ui;

/// How long a program may take to serve, or to end: memcheck makes it some thirty times slower.
const PATIENCE: Duration = Duration::from_secs(300);

/// The instance id that examples are given.
const INSTANCE: &str = "5f3c6d1e-0000-4000-8000-000000000002";

pub(super) fn run(ui: &Ui) -> Result<(), Failure> {
    let library = Library::prepare(ui)?;
    let valgrind = Valgrind::prepare(&library.prefix().join("lib"), ui)?;
    println!("valgrind {}", valgrind.version());
    finds_faults(&library, &valgrind)?;

    let directory = tempfile::tempdir()?;
    let mut programs = vec![library.lab(Variant::PLAIN)?];
    let mut arguments = vec![vec![]];
    for name in examples()? {
        programs.push(library.example(&name, Variant::PLAIN)?);
        arguments.push(vec![INSTANCE]);
    }
    for (program, arguments) in programs.iter().zip(arguments) {
        served(program, &arguments, directory.path(), &valgrind, ui)?;
    }
    for source in tests()? {
        let name = source.file_name().unwrap_or_default().display().to_string();
        ui.doing(&format!("{name} under memcheck"));
        let program = library.test(&source)?;
        succeed(
            Command::new(valgrind.wrapper())
                .arg(program)
                .arg(directory.path())
                .env("XDG_RUNTIME_DIR", directory.path()),
        )
        .map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// A device whose every check is made while memcheck watches its program.
fn served(
    program: &Path,
    arguments: &[&str],
    directory: &Path,
    valgrind: &Valgrind,
    ui: &Ui,
) -> Result<(), Failure> {
    let name = program.file_name().unwrap_or_default().display();
    ui.doing(&format!("{name} under memcheck"));
    let mut command = Command::new(valgrind.wrapper());
    command.arg(program).arg(directory).args(arguments);
    let served = Served::start(command, PATIENCE).map_err(|error| format!("{name}: {error}"))?;
    let mut passed = 0;
    for device in served.devices() {
        for outcome in check(device)? {
            if !outcome.ok {
                return Err(format!("{name}: {}: {}", outcome.name, outcome.detail).into());
            }
            passed += 1;
        }
    }
    let output = served
        .end(PATIENCE)
        .map_err(|error| format!("{name}: {error}"))?;
    // It says nothing of a program that it finds no fault with.
    if let Some(line) = output.lines().find(|line| line.starts_with("==")) {
        return Err(format!("{name}: {line}\n{output}").into());
    }
    println!("{name}: {passed} checks, no error and no leak");
    Ok(())
}

/// A memcheck that finds nothing would be no test.
fn finds_faults(library: &Library, valgrind: &Valgrind) -> Result<(), Failure> {
    let faulty = library.trial("faulty.c", "faulty", &[])?;
    for (fault, expected) in [
        ("none", 0),
        ("leak", crate::c::FOUND),
        ("read", crate::c::FOUND),
    ] {
        let output = Command::new(valgrind.wrapper())
            .arg(faulty.get_program())
            .arg(fault)
            .output()?;
        if output.status.code() != Some(expected) {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("memcheck, {fault}: {}: {said}", output.status).into());
        }
    }
    Ok(())
}
