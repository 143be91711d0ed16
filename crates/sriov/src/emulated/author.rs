//! What the author of a PF writes.

use hdv::pci::spec::sriov::PAGE_SIZES_REQUIRED;
use hdv::{Bar, BarIndex, DeviceError, DeviceInstance, Function, PciDevice};

use super::VirtualFunctions;

/// What the VFs of a PF look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualFunctionLayout {
    /// TotalVFs: the most there can be, 1 to 65535 (9.3.3.6).
    pub total_vfs: u16,
    /// Their device id; the vendor id is the PF's (9.3.3.11).
    pub device_id: u16,
    /// BARs of each; a 64-bit one takes the next register too. Each VF declares the same ones.
    pub bars: Vec<(BarIndex, Bar)>,
    /// Supported Page Sizes, bit n for 2^(n + 12) bytes (9.3.3.12); contains
    /// [`PAGE_SIZES_REQUIRED`].
    pub page_sizes: u32,
}

impl VirtualFunctionLayout {
    /// VFs without BARs, with the page sizes that the standard requires.
    #[must_use]
    pub const fn new(total_vfs: u16, device_id: u16) -> Self {
        Self {
            total_vfs,
            device_id,
            bars: Vec::new(),
            page_sizes: PAGE_SIZES_REQUIRED,
        }
    }

    /// Adds a BAR of every VF.
    #[must_use]
    pub fn bar(mut self, index: BarIndex, bar: Bar) -> Self {
        self.bars.push((index, bar));
        self
    }

    /// Sets the supported page sizes.
    #[must_use]
    pub fn page_sizes(self, page_sizes: u32) -> Self {
        Self { page_sizes, ..self }
    }
}

/// A PF, as its author writes it: a [`PciDevice`] with VFs. It declares neither the SR-IOV nor the ARI
/// capability; both are added to its config space, ARI where the port above forwards it: at 0x100, or, if the
/// device has extended capabilities or registers there, at the end of config space, where its list leads then. PF and VFs
/// need a [`PciExpress`](hdv::PciExpress) capability: in devices without one operating systems do not look for SR-IOV.
///
/// What PF and VFs share is the author's choice: an `Arc` that both keep, most often. VFs are devices
/// of their own, called on threads of their own; what locks they take of each other is the author's to see to.
pub trait PhysicalFunction: PciDevice {
    /// What its VFs look like; asked once, before anything else.
    fn virtual_functions(&self) -> VirtualFunctionLayout;

    /// Gives the VFs, as they come and go, for the device to keep if it wants to see them. Called once, before
    /// [`initialize`](PciDevice::initialize).
    fn attach_virtual_functions(&mut self, virtual_functions: VirtualFunctions) {
        let _ = virtual_functions;
    }

    /// Makes VF `vf`, counted from 0, when VFs are enabled. It is powered on at its first use, and torn
    /// down when VFs are disabled; the next time it is another one.
    ///
    /// Its config space says the PF's vendor id, the VF device id and the declared BARs; with anything else
    /// no VF is enabled.
    ///
    /// # Errors
    /// It cannot be made; no VF is enabled then.
    fn create_virtual_function(&mut self, vf: u16) -> Result<Box<dyn PciDevice>, DeviceError>;
}

/// Where the VFs of a PF come from whose device is no [`PciDevice`], as one behind
/// [`DeviceCallbacks`](hdv::DeviceCallbacks).
pub trait VirtualFunctionSource: Send + 'static {
    /// As [`PhysicalFunction::create_virtual_function`]. Called as the PF is.
    ///
    /// # Errors
    /// As there.
    fn create(&mut self, vf: u16) -> Result<Box<dyn Function>, DeviceError>;

    /// Whether what a VF shows is known as soon as it is made, so that it is checked then. Otherwise it is
    /// checked when it is powered on: one that is not what the PF declares refuses its clients, and the log
    /// says why.
    fn known_when_made(&self) -> bool {
        false
    }

    /// VF `vf` is carried now, by what others use it through; not powered on yet.
    fn created(&mut self, vf: u16, instance: &DeviceInstance) {
        let _ = (vf, instance);
    }
}
