//! What compute systems cost: their start beside that of the same QEMU by hand, a device that is added until the guest has it, a
//! worker's memory, and accesses of a device however it is hosted.

mod hosting;
mod plugging;
mod starting;

use hdv_qemu::bundle::Bundle;

use super::error::{BenchError, During};
use crate::c::Library;
use crate::lab::{Contents, Lab};
use crate::test::Facts;
use crate::ui::Ui;

pub(super) use hosting::measure as hosting;
pub(super) use plugging::measure as plugging;
pub(super) use starting::measure as starting;

/// What VMs are made of.
struct Parts {
    facts: Facts,
    /// Holds the initramfs.
    _lab: Lab,
}

/// Builds the worker, which is found beside this program, and brings QEMU and a guest.
fn prepare() -> Result<Parts, BenchError> {
    let ui = Ui::new();
    let library = Library::prepare(&ui).during("building the worker")?;
    let contents = Contents {
        kernel: Bundle::KERNEL_CLOUD,
        modules: Vec::new(),
        programs: Vec::new(),
    };
    let lab = Lab::with(&contents, &ui).during("bringing a guest")?;
    ui.finish();
    Ok(Parts {
        facts: Facts {
            kernel: lab.vmlinuz().to_owned(),
            initramfs: lab.initramfs().to_owned(),
            prefix: library.prefix().to_owned(),
            kernel_release: lab.kernel_release().to_owned(),
            qemu_version: lab.qemu_version(),
            programs: Vec::new(),
            lifetimes: 0,
        },
        _lab: lab,
    })
}

/// An id that no other run has.
fn id(what: &str) -> String {
    format!("bench-{what}-{}", std::process::id())
}
