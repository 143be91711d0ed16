//! A domain in a real guest: the VMD driver of a stock kernel enumerates it, and the kernel brings VFs of the PF inside.

use std::time::Duration;

use hdv::domain::{Domain, DomainOptions, Position};
use hdv::pci::Port;
use hdv::pci::capability::Slot;
use hdv::{DeviceHost, Function, HostOptions, pci_function};
use hdv_devices::{Created, DeviceKind, catalog};
use hdv_qemu::bundle::Bundle;
use hdv_qemu::guest::Scratch;
use hdv_sriov::{EmulatedPf, Placement};

use super::Failure;
use crate::demo::Report;
use crate::lab::{Boot, Contents, Lab};
use crate::ui::Ui;

/// What a check's name begins with.
const PART: &str = "domain";
/// Modules of the guest: the endpoint's driver, and one under which VFs can be enabled.
const MODULES: [&str; 2] = ["vmd", "pci-pf-stub"];
/// Has native hot plug and error reporting be the guest's, also in a domain.
const NATIVE: &str = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off";
/// The longest a boot may say nothing.
const SILENCE: Duration = Duration::from_secs(300);
/// The sensors inside.
const SENSORS: usize = 4;

pub(super) fn run(ui: &Ui) -> Result<(), Failure> {
    let contents = Contents {
        kernel: Bundle::KERNEL_FULL,
        modules: MODULES.to_vec(),
        programs: Vec::new(),
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
        parameters: format!("openhdv.mode=domain,sysfs openhdv.sensors={SENSORS}"),
        ..Boot::default()
    };
    ui.doing("booting a guest with a domain");
    report.add_boot(ui, PART, lab.boot(&boot)?, SILENCE);
    ui.finish();
    report.print(false);
    if report.ok() {
        Ok(())
    } else {
        Err("the checks of a domain failed".into())
    }
}

/// Two functions in a slot, a switch with one in a slot and one without, a PF.
fn fill(domain: &Domain) -> Result<(), Failure> {
    let slot = domain.add_root_port(1, 0, Some(Slot::hot_plug(1)))?;
    let switch = domain.add_root_port(2, 0, None)?;
    let below = domain.add_switch(switch, &[None, Some(Slot::hot_plug(2))])?;
    let positions: [Position; SENSORS] = [
        Position::below(slot),
        Position::below(slot).function(1),
        Position::below(below[0]),
        Position::below(below[1]),
    ];
    for (position, number) in positions.into_iter().zip(1..) {
        domain.attach(position, &format!("sensor {number}"), sensor()?, &[])?;
    }
    let port = domain.add_root_port(3, 0, None)?;
    let Created::PhysicalFunction {
        pf, mut options, ..
    } = create("sriov-sensor")?
    else {
        return Err("the SR-IOV sensor is no PF".into());
    };
    options.guest_controls_sriov = true;
    // The guest numbers the buses; what counts is that the port forwards ARI.
    options.placement = Placement::new(0, Port::new(1, 1)?.ari_forwarding(true), 0, 0)?;
    EmulatedPf::inside(domain, Position::below(port), "pf", pf, options)?;
    Ok(())
}

fn sensor() -> Result<Box<dyn Function>, Failure> {
    match create("sensor")? {
        Created::Device(device) => Ok(pci_function(device)?),
        Created::PhysicalFunction { .. } => Err("the sensor is a PF".into()),
    }
}

fn create(name: &str) -> Result<Created, Failure> {
    let is_it = |kind: &&DeviceKind| kind.name == name;
    let kind = catalog().iter().find(is_it);
    let kind = kind.ok_or_else(|| format!("there is no device {name}"))?;
    let settings = [("source".to_owned(), "sine".to_owned())].into();
    Ok(kind.create(&settings)?)
}
