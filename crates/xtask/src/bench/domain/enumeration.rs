//! How long the kernel of a guest takes to find functions that it had removed: those of a domain, and as many of QEMU's own
//! simplest PCI device behind a bridge of QEMU's. Each number is a boot of each kind; their guests measure one after another.

use std::time::Duration;

use hdv::{DeviceHost, HostOptions};
use hdv_guest::report::Line;
use hdv_guest::rescan::Looks;
use hdv_qemu::bundle::Bundle;
use hdv_qemu::guest::Scratch;
use serde_json::json;

use super::fill;
use crate::bench::contest::Effort;
use crate::bench::error::{BenchError, During};
use crate::bench::report::{Section, Unit};
use crate::bench::statistics::median;
use crate::lab::{Boot, Contents, Emulated, Lab};
use crate::ui::Ui;

/// How many functions there are.
const COUNTS: [u16; 3] = [1, 16, 256];
/// Looks of one boot.
const LOOKS: u32 = 15;
/// The longest a guest may say nothing.
const SILENCE: Duration = Duration::from_secs(300);
/// The scratch device.
const INSIDE: (u16, u16) = (0x4f48, 0x7ffe);
/// QEMU's `edu`: one BAR of memory and MSI. Those of `pci-testdev` need more I/O ports than firmware has for 256.
const EDU: (u16, u16) = (0x1234, 0x11e8);
/// Functions of a device.
const FUNCTIONS: u16 = 8;

/// What a guest found: nanoseconds of the looks that found functions, and of those that found nothing.
struct Found {
    found: Vec<f64>,
    nothing: Vec<f64>,
}

/// Measures every number.
pub(in crate::bench) fn measure(effort: Effort) -> Result<Vec<Section>, BenchError> {
    let ui = Ui::new();
    let contents = Contents {
        kernel: Bundle::KERNEL_FULL,
        modules: vec!["vmd"],
        programs: Vec::new(),
    };
    let lab = Lab::with(&contents, &ui).during("bringing a guest")?;
    ui.finish();
    let looks = effort.rounds.min(LOOKS);
    let mut section = Section::new(
        "a guest's kernel finds functions that it had removed",
        Unit::Nanoseconds,
    );
    for count in COUNTS {
        let own = of_qemu(&lab, count, looks)?;
        let inside = of_domain(&lab, count, looks)?;
        for (what, times) in [("of QEMU's own", own), ("inside a domain", inside)] {
            let functions = if count == 1 { "function" } else { "functions" };
            section
                .value(
                    format!("{count} {functions} {what}"),
                    median(&times.found),
                    None,
                )
                .value(
                    format!("{count} {functions} {what}, nothing to find"),
                    median(&times.nothing),
                    None,
                );
        }
    }
    Ok(vec![section])
}

fn of_domain(lab: &Lab, count: u16, looks: u32) -> Result<Found, BenchError> {
    let scratch = Scratch::new().during("making a directory for a socket")?;
    let socket = scratch.path().join("domain.sock");
    let host = DeviceHost::new(HostOptions::new().control(false)).during("making a device host")?;
    fill::serve(&host, &socket, count)?;
    let boot = Boot {
        sockets: vec![socket],
        parameters: parameters(INSIDE, looks),
        ..Boot::default()
    };
    found(lab, &boot, count)
}

fn of_qemu(lab: &Lab, count: u16, looks: u32) -> Result<Found, BenchError> {
    let bridge = json!({
        "driver": "pci-bridge",
        "id": "bridge",
        "bus": "pcie.0",
        "chassis_nr": 1,
        // It would take the bridge's first device number.
        "shpc": false,
    });
    // Function 0 of each device comes last: then all of it is there.
    let functions = (0..count).rev().map(|index| {
        let (device, function) = (index / FUNCTIONS, index % FUNCTIONS);
        json!({
            "driver": "edu",
            "bus": "bridge",
            "addr": format!("{device:#x}.{function}"),
            "multifunction": true,
        })
    });
    let devices = std::iter::once(bridge).chain(functions);
    let boot = Boot {
        emulated: devices.map(Emulated::Plain).collect(),
        parameters: parameters(EDU, looks),
        ..Boot::default()
    };
    found(lab, &boot, count)
}

fn parameters((vendor, device): (u16, u16), count: u32) -> String {
    let looks = Looks {
        vendor,
        device,
        count,
    };
    format!("openhdv.mode=rescan openhdv.rescan={looks}")
}

fn found(lab: &Lab, boot: &Boot, count: u16) -> Result<Found, BenchError> {
    const DOING: &str = "having a guest look for functions";
    let mut guest = lab.boot(boot).during("booting a guest")?;
    let mut times = Found {
        found: Vec::new(),
        nothing: Vec::new(),
    };
    let mut wrong = Vec::new();
    let (_, followed) = guest.follow(1, SILENCE, &mut |line| match line {
        Line::Rescanned {
            functions,
            found_ns,
            nothing_ns,
        } if functions == usize::from(count) => {
            times.found.push(found_ns as f64);
            times.nothing.push(nothing_ns as f64);
        }
        Line::Rescanned { functions, .. } => {
            wrong.push(format!("it has {functions} functions in place of {count}"));
        }
        Line::Check(outcome) if !outcome.ok => {
            wrong.push(format!("{}: {}", outcome.name, outcome.detail));
        }
        _ => {}
    });
    followed.during(DOING)?;
    guest.end_in_silence(SILENCE).during(DOING)?;
    if wrong.is_empty() && !times.found.is_empty() {
        Ok(times)
    } else {
        Err(BenchError::new(DOING, wrong.join("; ")))
    }
}
