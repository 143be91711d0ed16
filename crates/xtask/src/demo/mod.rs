//! `cargo xtask demo`: a Linux guest in QEMU uses sensors that live in this process.
//!
//! The guest lab brings the guest; what is served and what is checked is here. `cargo xtask test` runs
//! the same checks.

mod outside;
mod plan;
mod report;

use std::time::Duration;

use crate::interrupt;
use crate::lab::{Lab, LabError};
use crate::ui::Ui;

pub(crate) use report::Report;

/// What the user asks for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// End with one line of JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// How long to show what the guest reads.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) live: u32,
    /// Samples of the ring check.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    pub(crate) samples: u32,
}

/// The longest a boot may say nothing: a million samples take their time in software emulation.
const SILENCE: Duration = Duration::from_secs(600);

/// Runs the demo and prints its report; true if everything was as it should be.
pub(crate) fn run(arguments: &Arguments) -> bool {
    let ui = Ui::new();
    if let Err(error) = interrupt::watch() {
        ui.line(&format!(
            "Ctrl-C will leave temporary files behind: {error}"
        ));
    }
    let report = match Lab::prepare(&ui) {
        Ok(lab) => plan::run(&lab, arguments, &ui),
        Err(LabError::Qemu(error)) if is_missing(&error) => {
            ui.line(&format!("no guest: {error}"));
            ui.line("running the same driver against the device in this process instead");
            outside::run(arguments, &ui)
        }
        Err(error) => Report::failed("lab", error.to_string()),
    };
    ui.finish();
    report.print(arguments.json);
    report.ok()
}

/// Whether a guest is out of reach on this machine, as opposed to something being wrong.
fn is_missing(error: &hdv_qemu::Error) -> bool {
    use hdv_qemu::Error;
    matches!(
        error,
        Error::NoApt { .. }
            | Error::NoDebianArchive { .. }
            | Error::NoKeyring { .. }
            | Error::Architecture { .. }
            | Error::Network { .. }
            | Error::NoQemu { .. }
    )
}

/// Runs the guest checks for the test command, where a missing guest is a failure.
pub(crate) fn check(arguments: &Arguments, ui: &Ui) -> Report {
    match Lab::prepare(ui) {
        Ok(lab) => plan::run(&lab, arguments, ui),
        Err(error) => Report::failed("lab", error.to_string()),
    }
}
