//! Devices in C in real guests: the examples and the lab's eight devices, all of them behind one QEMU,
//! from first boot to a reboot after one of them is gone, with a QEMU that was killed before.
//!
//! What the guest sees is checked by the guest program; here is what it cannot see: that mapped memory is not
//! intercepted, that QEMU has nothing to complain about, that hosts outlive their clients and end cleanly.

mod fleet;
mod plan;

use super::Failure;
use crate::demo::Report;
use crate::lab::Lab;
use crate::ui::Ui;
use fleet::Fleet;

pub(crate) use plan::BOOT_CHECKS;

pub(super) fn run(samples: u32, ui: &Ui) -> Result<(), Failure> {
    let fleet = Fleet::start(ui)?;
    let lab = Lab::prepare(ui)?;
    let mut report = Report::in_guest(lab.kernel_release(), lab.qemu_version());
    plan::run(&lab, fleet, samples, ui, &mut report);
    ui.finish();
    report.print(false);
    if report.ok() {
        Ok(())
    } else {
        Err("the checks of devices in C failed".into())
    }
}
