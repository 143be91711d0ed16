//! A domain in a real guest: the VMD driver of a stock kernel enumerates it, and the kernel brings VFs of the PF inside.

mod doer;
mod fill;
mod hot_plug;
mod hot_plug_life;
mod programs;
mod two;

use std::time::Duration;

use hdv::domain::{Domain, DomainOptions};
use hdv::{DeviceHost, HostOptions};
use hdv_qemu::bundle::Bundle;
use hdv_qemu::guest::Scratch;

use self::fill::fill;
use super::Failure;
use crate::demo::Report;
use crate::lab::{Boot, Contents, Lab};
use crate::ui::Ui;

/// What a check's name begins with.
const PART: &str = "domain";
/// Modules of the guest: the endpoint's driver, one under which VFs can be enabled, and one that handles errors.
const MODULES: [&str; 4] = ["vmd", "pci-pf-stub", "vfio_iommu_type1", "vfio-pci"];
/// Has native hot plug and error reporting be the guest's, also in a domain.
const NATIVE: &str = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off";
/// Samples that each sensor inside is to bring through its ring.
const SAMPLES: u32 = 20_000;
/// The longest a boot may say nothing.
const SILENCE: Duration = Duration::from_secs(300);

pub(super) fn run(hot_plugs: u32, ui: &Ui) -> Result<(), Failure> {
    let contents = Contents {
        kernel: Bundle::KERNEL_FULL,
        modules: MODULES.to_vec(),
        programs: programs::lspci(ui)?,
    };
    let lab = Lab::with(&contents, ui)?;
    let mut report = Report::in_guest(lab.kernel_release(), lab.qemu_version());
    let scratch = Scratch::new()?;
    let socket = scratch.path().join("domain.sock");
    let host = DeviceHost::new(HostOptions::new().control(false))?;
    let (domain, endpoint) = Domain::new(DomainOptions::new())?;
    fill(&domain)?;
    host.serve(&socket, "domain", endpoint)?;
    let boot = Boot {
        sockets: vec![socket],
        arguments: ["-global", NATIVE].map(str::to_owned).to_vec(),
        // Drivers of sensors need an IOMMU to be there, which is to leave physical addresses as they are.
        iommu: true,
        parameters: format!(
            "iommu=pt openhdv.mode=domain openhdv.domain=functions,sensors,listing,resets,errors \
             openhdv.samples={SAMPLES} openhdv.samples-of-two={SAMPLES}"
        ),
        ..Boot::default()
    };
    ui.doing("booting a guest with a domain");
    let doing = domain.clone();
    let guest = lab.boot(&boot)?;
    let guest = guest.with_doer(move |words| doer::act(&doing, words));
    report.add_boot(ui, PART, guest, SILENCE);
    if let Err(failure) = two::run(&lab, hot_plugs, ui, &mut report) {
        report.add(
            ui,
            format!("{}: course", two::PART),
            false,
            failure.to_string(),
        );
    }
    ui.finish();
    report.print(false);
    if report.ok() {
        Ok(())
    } else {
        Err("the checks of a domain failed".into())
    }
}
