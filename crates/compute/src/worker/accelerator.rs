//! What a VM of a document runs on: which QEMU, with which accelerator, with which firmware.

use std::path::Path;

use hdv_qemu::accelerator::Accelerator;
use hdv_qemu::cache::Cache;
use hdv_qemu::firmware;
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

/// Finds a QEMU, the accelerator that boots a kernel on it, which is tried once per boot of this machine, and firmware, whose
/// variables are put into the worker's directory.
pub(super) fn choose(document: &ComputeSystemDocument, directory: &Path) -> Result<Chosen> {
    let cache = Cache::user().map_err(|error| of_qemu(&error))?;
    let qemu = locate::locate(&cache).map_err(|error| of_qemu(&error))?;
    let chipset = &document.virtual_machine.chipset;
    let kernel = chipset.linux_kernel_direct.as_ref();
    let kernel = kernel.map(|direct| direct.kernel_file_path.as_path());
    let choice = trial::choose_for(&cache, &qemu, kernel);
    for rejected in &choice.rejected {
        let reason = rejected.reason.as_deref().unwrap_or_default();
        tracing::info!("not {}: {reason}", rejected.accelerator);
    }
    let firmware = match chipset.uefi {
        None => None,
        Some(_) => Some(firmware::prepare(&cache, directory).map_err(|error| of_qemu(&error))?),
    };
    Ok(Chosen {
        qemu,
        accelerator: choice.accelerator,
        firmware,
    })
}
