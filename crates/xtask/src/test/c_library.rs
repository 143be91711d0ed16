//! The C library as its users get it: installed under a prefix, found by pkg-config, linked under
//! either name, and the examples built in every way and run.

use std::process::Command;
use std::time::Duration;

use super::Failure;
use super::steps::succeed;
use crate::c::{Library, Served, Variant, check, examples};
use crate::ui::Ui;

/// How long an example may take to serve, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The instance id that examples are given.
const INSTANCE: &str = "5f3c6d1e-0000-4000-8000-000000000001";

/// What a static program needs beside the library is pkg-config's; these need only the C library.
const NAMES: [&str; 2] = ["computecore", "vmdevicehost"];

pub(super) fn run(ui: &Ui) -> Result<(), Failure> {
    let library = Library::prepare(ui)?;
    linking(&library)?;
    for name in examples()? {
        for variant in Variant::all(&name) {
            let program = library.example(&name, variant)?;
            let file = program
                .file_name()
                .unwrap_or_default()
                .display()
                .to_string();
            ui.doing(&file);
            let directory = tempfile::tempdir()?;
            let mut command = Command::new(&program);
            command.arg(directory.path()).arg(INSTANCE);
            let served = Served::start(command, PATIENCE)?;
            let mut passed = 0;
            for device in served.devices() {
                for outcome in check(device)? {
                    if !outcome.ok {
                        return Err(format!("{file}: {}: {}", outcome.name, outcome.detail).into());
                    }
                    passed += 1;
                }
            }
            if passed == 0 {
                return Err(format!("{file} served nothing").into());
            }
            served.end(PATIENCE)?;
            println!("{file}: {passed} checks");
        }
    }
    Ok(())
}

/// Programs linked with one name, with the other, and with neither.
fn linking(library: &Library) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    for name in NAMES {
        let mut command =
            library.trial("link.c", &format!("link-{name}"), &[&format!("-l{name}")])?;
        succeed(command.arg(directory.path()))?;
    }
    let mut load = library.trial("load.c", "load", &["-ldl"])?;
    for (first, second) in [(NAMES[0], NAMES[1]), (NAMES[1], NAMES[0])] {
        let mut command = Command::new(load.get_program());
        command
            .arg(directory.path())
            .args([first, second].map(|name| format!("lib{name}.so")));
        succeed(&mut command)?;
    }
    // A wrong name is noticed.
    let wrong = load
        .arg(directory.path())
        .args(["libcomputecore.so", "libnothing.so"])
        .output()?;
    if wrong.status.success() {
        return Err("a library that is not there was loaded".into());
    }
    Ok(())
}
