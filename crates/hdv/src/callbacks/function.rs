//! A device behind callbacks as a [`Function`]: its life and its BARs. Config space is in `config`.

use hdv_pci::{BarIndex, ClassCode, ConfigSpace, Identity};

use super::device::Device;
use super::learned::Learned;
use super::msi::MsiRegisters;
use super::msix::MsixTable;
use super::{DeviceCallbacks, PnpId, bars, invalid};
use crate::access::{self, BarAccess};
use crate::device::DeviceError;
use crate::function::{ConfigWrite, Function, ResetScope};
use crate::interrupts::{InterruptKind, Interrupts};
use crate::memory::GuestMemory;
use crate::mmio::Mmio;

/// Bytes of a pending-bit array element, 64 vectors (PCI Express Base Specification, 7.7.2.5).
const MSIX_PENDING_BYTES: u64 = 8;

/// See the module's documentation.
pub(super) struct CallbackFunction {
    pub(super) device: Device,
    /// The header that the host owns. From power-on it is the declared one.
    pub(super) header: Option<ConfigSpace>,
    /// Known from the first start, or from the first access to config space as a VF.
    pub(super) learned: Option<Learned>,
    memory: GuestMemory,
    pub(super) interrupts: Interrupts,
    mmio: Mmio,
    started: bool,
    /// It refused to start again after a reset: until it starts, the guest reads all ones.
    pub(super) refused: bool,
}

impl CallbackFunction {
    pub(super) fn new(callbacks: Box<dyn DeviceCallbacks>) -> Self {
        Self {
            device: Device::new(callbacks),
            header: None,
            learned: None,
            memory: GuestMemory::new(),
            interrupts: Interrupts::undeclared(),
            mmio: Mmio::new(),
            started: false,
            refused: false,
        }
    }

    fn bar_sizes(&self) -> [u64; BarIndex::ALL.len()] {
        BarIndex::ALL.map(|bar| self.bar_size(bar))
    }

    /// Reads the device's capabilities, once.
    pub(super) fn learn(&mut self) {
        if self.learned.is_some() {
            return;
        }
        let sizes = self.bar_sizes();
        let device = &mut self.device;
        let learned = Learned::new(sizes, &mut |offset| {
            device.read_config(offset).unwrap_or(u32::MAX)
        });
        let msi_vectors = learned.msi.as_ref().map_or(0, MsiRegisters::vectors);
        let msix_vectors = learned.msix.as_ref().map_or(0, MsixTable::vectors);
        self.interrupts.declare(msi_vectors, msix_vectors);
        if let Some(msix) = &learned.msix {
            let tables = [&msix.table, &msix.pending];
            let tables = tables.map(|place| (place.bar, place.bytes.clone()));
            self.mmio.set_layout(sizes, tables.into());
        }
        self.learned = Some(learned);
    }

    /// Writes the MSI-X table where it has to change, or, after the device was reset, everything
    /// in it that is in use.
    fn program(&mut self, restore: bool) {
        let Some(msix) = self
            .learned
            .as_mut()
            .and_then(|learned| learned.msix.as_mut())
        else {
            return;
        };
        let connected = self.interrupts.connected(InterruptKind::MsiX);
        let (device, mmio) = (&mut self.device, &self.mmio);
        let mut write = |access: BarAccess, value| write_table(device, mmio, access, value);
        if restore {
            msix.restore(&connected, &mut write);
        } else {
            msix.follow(&connected, &mut write);
        }
    }

    /// Resets the host's registers, by `how`.
    pub(super) fn reset_registers(&mut self, how: fn(&mut ConfigSpace)) {
        if let Some(header) = &mut self.header {
            how(header);
        }
        if let Some(learned) = &mut self.learned {
            learned.reset();
        }
        self.interrupts.reset();
        self.follow_msi();
    }

    /// Takes the device through a reset, of which its callbacks know nothing: it is stopped, its enables and
    /// addresses are cleared, it is started again.
    pub(super) fn reset_device(&mut self) {
        if self.learned.is_none() {
            // Never started, and not written to as a VF: nothing to take back.
            return;
        }
        let was_started = self.started;
        self.stop();
        self.clear_enables();
        // What the device signalled until it was told belongs to before the reset.
        self.interrupts.reset();
        if was_started && let Err(error) = self.start() {
            self.refused = true;
            let (vendor, device) = self.device.ids;
            tracing::error!(
                device = format_args!("{vendor:04x}:{device:04x}"),
                "Start failed after a reset: {error}; the guest reads all ones until the device is \
                 started again, after a pause or for the next client"
            );
            return;
        }
        self.program(true);
    }

    fn read_part(&mut self, access: BarAccess, data: &mut [u8]) {
        let msix = self
            .learned
            .as_ref()
            .and_then(|learned| learned.msix.as_ref());
        let Some(msix) = msix else {
            return self.device.read(access, data);
        };
        let pending = msix.pending.offset_of(access);
        if pending.is_none() && msix.table.offset_of(access).is_none() {
            return self.device.read(access, data);
        }
        if !self.mmio.read_section(access, data) {
            self.device.read(access, data);
        }
        if let Some(offset) = pending {
            // The device knows nothing of what the host holds back.
            let (element, byte) = (offset / MSIX_PENDING_BYTES, offset % MSIX_PENDING_BYTES);
            let bits = self.interrupts.pending(InterruptKind::MsiX, element) >> (8 * byte);
            for (data, bits) in data.iter_mut().zip(bits.to_le_bytes()) {
                *data |= bits;
            }
        }
    }

    fn write_part(&mut self, access: BarAccess, data: &[u8]) {
        let vector = self
            .learned
            .as_ref()
            .and_then(|learned| learned.msix.as_ref())
            .and_then(|msix| Some((msix, msix.vector_of(access)?)));
        let Some((msix, vector)) = vector else {
            self.device.write(access, data);
            return;
        };
        let (device, mmio) = (&mut self.device, &self.mmio);
        if !mmio.write_section(access, data) {
            device.write(access, data);
        }
        msix.repair(vector, &mut |access, value| {
            write_table(device, mmio, access, value)
        });
    }
}

/// Writes a dword of the MSI-X table, wherever the device keeps it.
fn write_table(device: &mut Device, mmio: &Mmio, access: BarAccess, value: u32) -> bool {
    let data = value.to_le_bytes();
    mmio.write_section(access, &data) || device.write(access, &data)
}

fn identity_of(id: PnpId) -> Identity {
    Identity {
        vendor_id: id.vendor_id,
        device_id: id.device_id,
        revision_id: id.revision_id,
        class: ClassCode {
            base: id.base_class,
            subclass: id.sub_class,
            interface: id.prog_if,
        },
        subsystem_vendor_id: id.sub_vendor_id,
        subsystem_id: id.sub_system_id,
    }
}

impl Function for CallbackFunction {
    fn identity(&self) -> Identity {
        self.header
            .as_ref()
            .map_or_else(|| identity_of(PnpId::default()), ConfigSpace::identity)
    }

    fn bar_size(&self, bar: BarIndex) -> u64 {
        self.header
            .as_ref()
            .and_then(|header| header.bar(bar))
            .map_or(0, |bar| bar.size)
    }

    fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    fn mmio(&self) -> &Mmio {
        &self.mmio
    }

    fn power_on(&mut self, configuration: &[String]) -> Result<(), DeviceError> {
        let callbacks = &mut self.device.callbacks;
        callbacks.initialize()?;
        callbacks.set_configuration(configuration)?;
        let details = callbacks.get_details()?;
        let mut header = ConfigSpace::builder(identity_of(details.pnp_id));
        for (index, bar) in bars::declared(details.probed_bars)? {
            header = header.bar(index, bar);
        }
        self.header = Some(header.build().map_err(|error| invalid(error.to_string()))?);
        self.device.ids = (details.pnp_id.vendor_id, details.pnp_id.device_id);
        self.mmio.set_layout(self.bar_sizes(), Vec::new());
        Ok(())
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.device.callbacks.start()?;
        self.started = true;
        self.learn();
        if std::mem::take(&mut self.refused) {
            // The reset after which it refused has cleared its table, and the client need not have left since.
            self.program(true);
        }
        Ok(())
    }

    fn stop(&mut self) {
        // Not when it refused to start again after a reset.
        if std::mem::take(&mut self.started) {
            self.device.callbacks.stop();
        }
    }

    fn teardown(&mut self) {
        self.device.callbacks.teardown();
    }

    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.read_config(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        self.write_config(offset, data)
    }

    fn config_read_as_vf(&mut self, offset: u16, data: &mut [u8]) {
        self.read_config_as_vf(offset, data);
    }

    fn config_write_as_vf(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        self.write_config_as_vf(offset, data)
    }

    fn bar_read(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        if self.refused {
            return data.fill(0xff);
        }
        access::split(offset, data.len(), |offset, range| {
            let access = BarAccess::new(bar, offset, range.len());
            self.read_part(access, &mut data[range]);
        });
    }

    fn bar_write(&mut self, bar: BarIndex, offset: u64, data: &[u8]) {
        if self.refused {
            return;
        }
        access::split(offset, data.len(), |offset, range| {
            let access = BarAccess::new(bar, offset, range.len());
            self.write_part(access, &data[range]);
        });
    }

    fn interrupts_changed(&mut self) {
        if !self.refused {
            self.program(false);
        }
    }

    fn reset(&mut self, scope: ResetScope) {
        self.reset_registers(ConfigSpace::reset);
        if scope == ResetScope::Function {
            self.reset_device();
        }
    }
}
