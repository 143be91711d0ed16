//! A PF whose VFs have plain memory, copy a page of guest memory when told, and interrupt.

use std::path::Path;

use hdv::pci::Port;
use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, DeviceContext,
    DeviceError, DeviceHost, GuestAddress, Identity, Msix, PciDevice, PciExpress,
};
use hdv_sriov::{EmulatedPf, PfOptions, PhysicalFunction, Placement, VirtualFunctionLayout};

use crate::bench::device::Scratch;
use crate::bench::error::{BenchError, During};

/// The most VFs.
pub(super) const TOTAL_VFS: u16 = 256;
/// Bytes of BAR0; the MSI-X structures are in its upper half.
const BAR_BYTES: u64 = 4096;
/// The register that takes the address of a page of guest memory, and copies it to the page behind it.
pub(super) const COPY: u64 = 0x700;
/// Bytes that are copied.
pub(super) const PAGE: usize = 4096;

const VENDOR: u16 = 0x4f48;
const VF_DEVICE: u16 = 0x7ffd;

fn identity(device_id: u16) -> Identity {
    Identity {
        vendor_id: VENDOR,
        device_id,
        revision_id: 0,
        class: ClassCode::from_u24(0xff_0000),
        subsystem_vendor_id: 0,
        subsystem_id: 0,
    }
}

/// The PF: it has VFs, and does nothing itself.
#[derive(Debug)]
struct Pf;

impl PciDevice for Pf {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        ConfigSpace::builder(identity(0x7ffc))
            .bar(BarIndex::BAR0, Bar::memory64(BAR_BYTES))
            .capability(PciExpress::endpoint())
            .build()
    }

    fn read(&mut self, _: BarAccess) -> u64 {
        0
    }

    fn write(&mut self, _: BarAccess, _: u64) {}

    fn reset(&mut self) {}
}

impl PhysicalFunction for Pf {
    fn virtual_functions(&self) -> VirtualFunctionLayout {
        VirtualFunctionLayout::new(TOTAL_VFS, VF_DEVICE)
            .bar(BarIndex::BAR0, Bar::memory64(BAR_BYTES))
    }

    fn create_virtual_function(&mut self, _: u16) -> Result<Box<dyn PciDevice>, DeviceError> {
        Ok(Box::new(Vf {
            memory: Scratch::new(),
            context: None,
        }))
    }
}

/// A VF.
#[derive(Debug)]
struct Vf {
    memory: Scratch,
    context: Option<DeviceContext>,
}

impl Vf {
    /// Apart, so that other accesses do not take its stack.
    #[inline(never)]
    fn copy(&self, from: u64) -> Option<()> {
        let context = self.context.as_ref()?;
        let to = from.checked_add(PAGE as u64)?;
        let mut page = [0; PAGE];
        context.memory.read(GuestAddress(from), &mut page).ok()?;
        context.memory.write(GuestAddress(to), &page).ok()?;
        context.interrupts.signal(0);
        Some(())
    }
}

impl PciDevice for Vf {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        ConfigSpace::builder(identity(VF_DEVICE))
            .bar(BarIndex::BAR0, Bar::memory64(BAR_BYTES))
            .capability(PciExpress::endpoint())
            .capability(Msix::new(1, place(0x800), place(0xc00)))
            .build()
    }

    fn initialize(&mut self, context: DeviceContext) -> Result<(), DeviceError> {
        self.context = Some(context);
        Ok(())
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        self.memory.read(access)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        if access.offset == COPY {
            // Without the interrupt the near side says that something failed.
            let _ = self.copy(value);
        } else {
            self.memory.write(access, value);
        }
    }

    fn reset(&mut self) {
        self.memory.reset();
    }
}

/// Serves the PF on `socket`; no VF is enabled yet.
pub(in crate::bench) fn serve(host: &DeviceHost, socket: &Path) -> Result<EmulatedPf, BenchError> {
    let port = Port::new(1, 2).during("placing a PF")?.ari_forwarding(true);
    let placement = Placement::new(0, port, 0, 0).during("placing a PF")?;
    EmulatedPf::serve(host, socket, "pf", Box::new(Pf), PfOptions::new(placement))
        .during("serving a PF")
}
