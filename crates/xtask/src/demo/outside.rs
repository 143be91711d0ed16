//! The demo on a machine that has no guest: the same driver and checks, over our own client end.

use hdv::{DeviceHost, HostOptions};
use hdv_devices::sensor::{Sensor, SourceName};
use hdv_guest::checks::{self, Check, Settings};
use hdv_guest::platform::vfio_user::VfioUser;

use super::Arguments;
use super::report::Report;
use crate::ui::Ui;

const PART: &str = "in process";

pub(super) fn run(arguments: &Arguments, ui: &Ui) -> Report {
    let mut report = Report::default();
    if let Err(error) = check(arguments, ui, &mut report) {
        report.add(ui, format!("{PART}: set-up"), false, error.to_string());
    }
    report
}

fn check(
    arguments: &Arguments,
    ui: &Ui,
    report: &mut Report,
) -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let host = DeviceHost::new(HostOptions::new())?;
    let mut devices = Vec::new();
    for name in ["sine-1", "sine-2"] {
        let socket = directory.path().join(format!("{name}.sock"));
        host.serve(&socket, name, Sensor::new(&SourceName::Sine)?)?;
        devices.push(VfioUser::connect(&socket)?);
    }
    let settings = Settings {
        samples: arguments.samples,
        ..Settings::default()
    };
    ui.doing("checking two sensors");
    checks::run(&Check::ALL, devices, &settings, &mut |outcome| {
        report.add_outcome(ui, PART, outcome);
    });
    Ok(())
}
