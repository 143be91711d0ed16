//! What a VM of a document runs on: which QEMU, with which accelerator.

use hdv_qemu::accelerator::Accelerator;
use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;
use hdv_qemu::kernel::Kernel;
use hdv_qemu::locate::{self, Qemu};
use hdv_qemu::machine::Firmware;
use hdv_qemu::trial;

use super::refusal::{Result, of_qemu};
use crate::document::ComputeSystemDocument;

/// What a VM runs on.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) qemu: Qemu,
    pub(super) accelerator: Accelerator,
    pub(super) firmware: Option<Firmware>,
}

/// Finds a QEMU, and the accelerator that boots a kernel on it, which is tried once per boot of this machine. Without a kernel
/// to try it is TCG, which needs nothing of the machine.
pub(super) fn choose(_document: &ComputeSystemDocument) -> Result<Chosen> {
    let cache = Cache::user().map_err(|error| of_qemu(&error))?;
    let qemu = locate::locate(&cache).map_err(|error| of_qemu(&error))?;
    let kernel = Kernel::cached(&cache, &Bundle::KERNEL_CLOUD);
    let accelerator = match kernel.and_then(|kernel| trial::choose(&cache, &qemu, &kernel)) {
        Ok(choice) => choice.accelerator,
        Err(error) => {
            tracing::info!("no accelerator can be tried, so it is tcg: {error}");
            Accelerator::Tcg
        }
    };
    Ok(Chosen {
        qemu,
        accelerator,
        firmware: None,
    })
}
