//! The guest lab: a QEMU, a guest kernel and an initramfs with our program in it, brought
//! from wherever they can be had. Boots are described here, what they check is not.

mod boot;
mod folder;
mod initramfs;
mod program;

use std::path::{Path, PathBuf};

use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;
use hdv_qemu::fetch::{self, Progress};
use hdv_qemu::guest::Scratch;
use hdv_qemu::kernel::Kernel;
use hdv_qemu::locate::{self, Qemu};
use hdv_qemu::trial::{self, Choice};

pub(crate) use boot::{Boot, Emulated, Guest};
pub(crate) use folder::run as run_folder;
use program::GUEST;
pub(crate) use program::{COMMAND, ProgramError, build as build_program};

use crate::ui::Ui;

/// Why there is no lab.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LabError {
    #[error(transparent)]
    Qemu(#[from] hdv_qemu::Error),
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// What a guest is made of beside the guest program.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    /// The bundle with its kernel.
    pub(crate) kernel: Bundle,
    /// The kernel modules that are loaded, with all they need.
    pub(crate) modules: Vec<&'static str>,
    /// Programs that the guest program runs, by their names, and what they need beside, by their paths, which begin with
    /// `/`.
    pub(crate) programs: Vec<(String, Vec<u8>)>,
}

impl Default for Contents {
    /// What a program needs to drive a PCI device from user space.
    fn default() -> Self {
        Self {
            kernel: Bundle::KERNEL_CLOUD,
            modules: vec!["vfio_iommu_type1", "vfio-pci"],
            programs: Vec::new(),
        }
    }
}

/// Everything a guest needs, ready.
#[derive(Debug)]
pub(crate) struct Lab {
    qemu: Qemu,
    kernel: Kernel,
    accelerator: Choice,
    initramfs: PathBuf,
    /// Holds the initramfs; removed with the lab.
    _scratch: Scratch,
}

impl Lab {
    /// Finds, fetches and builds what a guest needs.
    pub(crate) fn prepare(ui: &Ui) -> Result<Self, LabError> {
        Self::with(&Contents::default(), ui)
    }

    /// The same for a guest of other contents.
    pub(crate) fn with(contents: &Contents, ui: &Ui) -> Result<Self, LabError> {
        let cache = Cache::user()?;
        let qemu = match locate::locate(&cache) {
            Ok(qemu) => qemu,
            Err(hdv_qemu::Error::NoQemu { .. }) => {
                bring(&cache, Bundle::QEMU, ui)?;
                locate::locate(&cache)?
            }
            Err(error) => return Err(error.into()),
        };
        ui.line(&format!(
            "QEMU {} at {}",
            qemu.version(),
            qemu.path().display()
        ));
        bring(&cache, contents.kernel, ui)?;
        let kernel = Kernel::cached(&cache, &contents.kernel)?;
        ui.line(&format!("guest kernel {}", kernel.release()));
        ui.doing("building the program for the guest");
        let program = program::build(GUEST)?;
        // What is shown or tested here can then be had by hand too.
        folder::make(&cache, &program, ui)?;
        ui.doing("trying accelerators");
        let accelerator = trial::choose(&cache, &qemu, &kernel)?;
        for rejected in &accelerator.rejected {
            let reason = rejected.reason.as_deref().unwrap_or("unknown");
            ui.line(&format!("not {}: {reason}", rejected.accelerator));
        }
        ui.line(&format!("accelerator {}", accelerator.accelerator));
        let scratch = Scratch::new()?;
        let initramfs =
            scratch.file("initramfs", &initramfs::build(&kernel, &program, contents)?)?;
        Ok(Self {
            qemu,
            kernel,
            accelerator,
            initramfs,
            _scratch: scratch,
        })
    }

    /// The guest kernel's image.
    pub(crate) fn vmlinuz(&self) -> &Path {
        self.kernel.vmlinuz()
    }

    /// The initramfs with the guest program.
    pub(crate) fn initramfs(&self) -> &Path {
        &self.initramfs
    }

    /// The guest kernel's release.
    pub(crate) fn kernel_release(&self) -> &str {
        self.kernel.release()
    }

    /// QEMU's version.
    pub(crate) fn qemu_version(&self) -> String {
        self.qemu.version().to_string()
    }
}

/// Fetches a bundle unless the cache has it.
pub(crate) fn bring(cache: &Cache, bundle: Bundle, ui: &Ui) -> hdv_qemu::Result<()> {
    fetch::fetch(cache, &[bundle], &mut |progress| match progress {
        Progress::Waiting { bundle } => {
            ui.doing(&format!(
                "waiting for another fetch of {}",
                bundle.description
            ));
        }
        Progress::Step {
            bundle,
            stage,
            done,
            total,
        } => {
            let percent = done.saturating_mul(100) / total.max(1);
            let what = format!("{}: {stage}, {percent}%", bundle.description);
            if done == 0 {
                ui.doing(&what);
            } else {
                ui.progress(what);
            }
        }
        Progress::Fetched { bundle, unpacked } => {
            let root = unpacked.root().display();
            ui.line(&format!("fetched {} into {root}", bundle.description));
        }
        _ => {}
    })?;
    Ok(())
}
