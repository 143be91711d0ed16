//! SR-IOV in real guests: `sysfs` has a guest with real PFs, `three` three guests with VFs of an emulated one.

mod sysfs;
mod three;

use super::Failure;
use crate::c::Library;
use crate::demo::Report;
use crate::interrupt;
use crate::lab::Lab;
use crate::ui::Ui;

pub(super) fn run(ui: &Ui) -> Result<(), Failure> {
    let library = Library::prepare(ui)?;
    let lab = Lab::prepare(ui)?;
    let mut report = Report::in_guest(lab.kernel_release(), lab.qemu_version());
    let hdv = library.prefix().join("bin/hdv");
    if let Err(failure) = three::run(&hdv, &lab, ui, &mut report) {
        report.add(ui, "PF: course".to_owned(), false, failure.to_string());
    }
    if !interrupt::requested()
        && let Err(failure) = sysfs::run(&library, ui, &mut report)
    {
        report.add(ui, "SysfsPf: course".to_owned(), false, failure.to_string());
    }
    ui.finish();
    report.print(false);
    if report.ok() {
        Ok(())
    } else {
        Err("the checks of SR-IOV failed".into())
    }
}
