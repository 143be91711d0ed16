//! QEMU's command line for a guest that uses vfio-user devices.
//!
//! Values in, arguments out: no file is touched, nothing is started, no state of a VM is kept.

//!
//! | file | what it has |
//! | --- | --- |
//! | `render` | the arguments of the machine itself |
//! | `serial`, `disk`, `network`, `vfio_user`, `root_port`, `firmware` | those of its parts |
//! | `arguments` | how arguments are written |

mod arguments;
mod disk;
mod firmware;
mod network;
mod render;
mod root_port;
mod serial;
#[cfg(test)]
mod tests;
mod vfio_user;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Result;
use crate::accelerator::Accelerator;
use crate::locate::Qemu;

pub use arguments::SOCKET_PATH_LIMIT;
pub use disk::{Disk, DiskFormat, ScsiController};
pub use firmware::Firmware;
pub use network::UserNetwork;
pub use root_port::ROOT_PORTS_MAXIMUM;
pub use serial::Serial;
pub use vfio_user::VfioUserDevice;

/// What a guest's kernel is told if nothing else is asked for: its messages go to the first serial port, and a panic ends the VM.
///
/// The check of the timer is left out, as Linux leaves it out under KVM: where processors are emulated on a busy machine it finds
/// interrupts too few, and the kernel panics.
pub const KERNEL_PARAMETERS: &str = "console=ttyS0 panic=-1 no_timer_check";

/// The description of a guest's machine: q35, with guest memory that devices can map.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    accelerator: Accelerator,
    memory_mib: u32,
    processors: u16,
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    append: String,
    iommu: bool,
    root_ports: Vec<String>,
    devices: Vec<Device>,
    scsi: Vec<ScsiController>,
    networks: Vec<UserNetwork>,
    serials: BTreeMap<u8, Serial>,
    firmware: Option<Firmware>,
    preallocate: bool,
    qmp: Option<PathBuf>,
    reboot: bool,
    paused: bool,
    extra: Vec<OsString>,
}

#[derive(Clone, Debug, PartialEq)]
enum Device {
    VfioUser(VfioUserDevice),
    Other(Value),
}

impl Machine {
    /// A machine with 512 MiB of memory, one processor, its serial port on standard output, no
    /// devices, that ends when the guest reboots.
    #[must_use]
    pub fn new(accelerator: Accelerator) -> Self {
        Self {
            accelerator,
            memory_mib: 512,
            processors: 1,
            kernel: None,
            initrd: None,
            append: KERNEL_PARAMETERS.to_owned(),
            iommu: false,
            root_ports: Vec::new(),
            devices: Vec::new(),
            scsi: Vec::new(),
            networks: Vec::new(),
            serials: BTreeMap::from([(0, Serial::Stdio)]),
            firmware: None,
            preallocate: false,
            qmp: None,
            reboot: false,
            paused: false,
            extra: Vec::new(),
        }
    }

    /// Guest memory in MiB, at least 1.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// The number of processors, at least 1.
    #[must_use]
    pub fn processors(mut self, processors: u16) -> Self {
        self.processors = processors;
        self
    }

    /// The kernel image to boot.
    #[must_use]
    pub fn kernel(mut self, vmlinuz: impl Into<PathBuf>) -> Self {
        self.kernel = Some(vmlinuz.into());
        self
    }

    /// The initramfs to boot with.
    #[must_use]
    pub fn initrd(mut self, path: impl Into<PathBuf>) -> Self {
        self.initrd = Some(path.into());
        self
    }

    /// The kernel's command line, in place of [`KERNEL_PARAMETERS`].
    #[must_use]
    pub fn append(mut self, append: impl Into<String>) -> Self {
        self.append = append.into();
        self
    }

    /// A virtual IOMMU (intel-iommu with interrupt remapping), which a guest's vfio-pci needs.
    /// The kernel's command line gets `intel_iommu=on` with it.
    #[must_use]
    pub fn iommu(mut self, iommu: bool) -> Self {
        self.iommu = iommu;
        self
    }

    /// Adds a PCI Express root port, a bus of that name that a device can be plugged into while
    /// the guest runs. At most [`ROOT_PORTS_MAXIMUM`].
    #[must_use]
    pub fn root_port(mut self, id: impl Into<String>) -> Self {
        self.root_ports.push(id.into());
        self
    }

    /// Adds a vfio-user device.
    #[must_use]
    pub fn device(mut self, device: VfioUserDevice) -> Self {
        self.devices.push(Device::VfioUser(device));
        self
    }

    /// Adds a device of any other kind, in the JSON form of `-device`.
    #[must_use]
    pub fn other_device(mut self, device: Value) -> Self {
        self.devices.push(Device::Other(device));
        self
    }

    /// Adds a SCSI controller with its disks.
    #[must_use]
    pub fn scsi(mut self, controller: ScsiController) -> Self {
        self.scsi.push(controller);
        self
    }

    /// Adds a network adapter.
    #[must_use]
    pub fn network(mut self, adapter: UserNetwork) -> Self {
        self.networks.push(adapter);
        self
    }

    /// Where the first serial port goes.
    #[must_use]
    pub fn serial(self, serial: Serial) -> Self {
        self.serial_port(0, serial)
    }

    /// Where serial port `index` (0 to 3) goes; there are none but the first unless they are given here.
    #[must_use]
    pub fn serial_port(mut self, index: u8, serial: Serial) -> Self {
        self.serials.insert(index, serial);
        self
    }

    /// UEFI firmware, in place of a BIOS. With a [`Machine::kernel`] the firmware starts that.
    #[must_use]
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = Some(firmware);
        self
    }

    /// Whether guest memory is all taken from the host before the guest starts; otherwise page by page, as it is touched.
    #[must_use]
    pub fn preallocate(mut self, preallocate: bool) -> Self {
        self.preallocate = preallocate;
        self
    }

    /// The Unix socket on which QEMU listens for QMP.
    #[must_use]
    pub fn qmp(mut self, socket: impl Into<PathBuf>) -> Self {
        self.qmp = Some(socket.into());
        self
    }

    /// Where QEMU listens for QMP, if anywhere.
    #[must_use]
    pub fn qmp_socket(&self) -> Option<&Path> {
        self.qmp.as_deref()
    }

    /// Whether a guest that reboots does so; otherwise its reboot ends QEMU.
    #[must_use]
    pub fn reboot(mut self, reboot: bool) -> Self {
        self.reboot = reboot;
        self
    }

    /// Whether the processors wait for QMP's `cont`.
    #[must_use]
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// An argument that this type does not know, as it is, after all others.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.extra.push(argument.into());
        self
    }

    /// Whether QEMU's standard input and output are the guest's first serial port.
    pub(crate) fn uses_stdio(&self) -> bool {
        self.serials.get(&0) == Some(&Serial::Stdio)
    }

    /// The command that runs this machine on a QEMU.
    ///
    /// # Errors
    ///
    /// As [`Machine::arguments`].
    pub fn command(&self, qemu: &Qemu) -> Result<Command> {
        let mut command = qemu.command();
        command.args(self.arguments()?);
        Ok(command)
    }
}
