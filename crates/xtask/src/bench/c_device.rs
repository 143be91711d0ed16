//! The intercept of a device in C, behind the library with its C interface, against that of a device in
//! Rust; both do the same, and each is a process of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::contest::{Contest, Effort, time};
use super::cpus::{Pinned, Placement};
use super::ends::{OurClient, Polling};
use super::error::{BenchError, During};
use super::peer::Role;
use super::report::{Section, Unit};
use crate::c::{Library, Served, Variant};
use crate::cargo::workspace;
use crate::ui::Ui;

/// Accesses in one batch.
const BATCH: u32 = 1000;
/// How much slower a device in C may be, beyond what one in Rust differs from itself.
const TARGET: f64 = 1.05;
/// How long the program may take to serve.
const PATIENCE: Duration = Duration::from_secs(30);

const RUST: &str = "device in Rust";
const RUST_AGAIN: &str = "device in Rust, again";
const C: &str = "device in C";
const C_AGAIN: &str = "device in C, again";

/// Measures reads and writes in one placement.
pub(super) fn measure(placement: Placement, effort: Effort) -> Result<Section, BenchError> {
    let ui = Ui::new();
    let library = Library::prepare(&ui).during("building the C library")?;
    let source = workspace().join("crates/xtask/src/bench/programs/scratch.c");
    let program = library
        .program("scratch", &source, Variant::PLAIN)
        .during("building the device in C")?;
    ui.finish();
    let _pinned = Pinned::to(placement.near)?;
    let directory = tempfile::Builder::new()
        .prefix("openhdv-bench-")
        .tempdir()
        .during("making a directory for the sockets")?;
    let batch = effort.batch(BATCH);
    let mut contest = Contest::new();
    let rust = || OurClient::connect(placement, Polling::Neither, Role::OpenHdv);
    let c = |number| device(&program, directory.path(), number, placement);
    for (name, mut client) in [
        (RUST, rust()?),
        (C, c(1)?),
        (RUST_AGAIN, rust()?),
        (C_AGAIN, c(2)?),
    ] {
        contest.add(name, move || {
            time(batch, || {
                client.read()?;
                client.write()
            })
        });
    }
    let results = contest.run(effort)?;
    // What the same thing differs from itself is noise; the target is beyond it.
    let spread = results.ratio(RUST_AGAIN, RUST).high.max(1.0);
    let mut section = Section::new(
        format!("4-byte read and write of a device, {}", placement.name()),
        Unit::Nanoseconds,
    );
    section
        .row(&results, RUST)
        .compare(&results, RUST_AGAIN, &[(RUST, None)])
        .compare(&results, C, &[(RUST, Some(TARGET * spread))])
        .compare(&results, C_AGAIN, &[(C, None)]);
    Ok(section)
}

/// A client of the device in C.
fn device(
    program: &Path,
    directory: &Path,
    number: u8,
    placement: Placement,
) -> Result<OurClient, BenchError> {
    let mut command = Command::new(program);
    command
        .arg(directory)
        .arg(format!("5f3c6d1e-0000-4000-8000-0000000000{number:02x}"))
        .arg(placement.far.to_string());
    let served = Served::start(command, PATIENCE).during("serving the device in C")?;
    OurClient::of_program(served)
}
