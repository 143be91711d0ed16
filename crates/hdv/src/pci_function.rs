//! A [`PciDevice`] as a [`Function`]: config space, MSI-X table and pending-bit array are
//! emulated here, everything else goes to the device.

use hdv_pci::spec::msix::{ENTRY_SIZE, pending_size, table_size};
use hdv_pci::{BarIndex, ConfigSpace, DetectedError, Effects, Identity, MsixTable};

use crate::access::{self, BarAccess, BarPart};
use crate::device::{DeviceContext, DeviceError, PciDevice};
use crate::error::HostError;
use crate::function::{ConfigWrite, ErrorRecord, Function, ResetScope};
use crate::interrupts::{InterruptKind, Interrupts};
use crate::memory::GuestMemory;
use crate::mmio::Mmio;
use crate::slot::caught;

/// Bytes of a pending-bit array element, 64 vectors (PCI Express Base Specification, 7.7.2.5).
const MSIX_PENDING_BYTES: u64 = 8;

/// The MSI-X structures and where they lie.
struct Msix {
    table: MsixTable,
    table_place: BarPart,
    pending_place: BarPart,
}

/// A function made of a [`PciDevice`], for [`DeviceHost::create_device`](crate::DeviceHost::create_device).
///
/// # Errors
/// A wrong declaration, or a device that panicked; it has been torn down then.
pub fn pci_function(device: Box<dyn PciDevice>) -> Result<Box<dyn Function>, HostError> {
    Ok(Box::new(PciFunction::new(device)?))
}

/// See the module's documentation.
pub(crate) struct PciFunction {
    device: Box<dyn PciDevice>,
    config: ConfigSpace,
    msix: Option<Msix>,
    memory: GuestMemory,
    interrupts: Interrupts,
    mmio: Mmio,
}

impl PciFunction {
    /// # Errors
    /// A wrong declaration, or a device that panicked; it has been torn down then.
    pub(crate) fn new(mut device: Box<dyn PciDevice>) -> Result<Self, HostError> {
        let declared = caught(|| device.config_space())
            .ok_or_else(|| DeviceError::new("the device panicked in config_space").into())
            .and_then(|config| config.map_err(HostError::from));
        let config = match declared {
            Ok(config) => config,
            Err(error) => {
                if caught(|| device.teardown()).is_none() || caught(|| drop(device)).is_none() {
                    tracing::error!("a device without a config space panicked in teardown");
                }
                return Err(error);
            }
        };
        let msi_vectors = config.msi().map_or(0, |view| view.vectors_capable.into());
        let msix_vectors = config.msix().map_or(0, |view| view.vectors);
        let msix = config.msix().map(|view| Msix {
            table: MsixTable::new(view.vectors),
            table_place: BarPart::new(view.table, table_size(view.vectors)),
            pending_place: BarPart::new(view.pba, pending_size(view.vectors)),
        });
        let mmio = Mmio::new();
        let tables = msix.iter().flat_map(|msix| {
            [&msix.table_place, &msix.pending_place].map(|place| (place.bar, place.bytes.clone()))
        });
        mmio.set_layout(
            BarIndex::ALL.map(|bar| config.bar(bar).map_or(0, |bar| bar.size)),
            tables.collect(),
        );
        Ok(Self {
            device,
            config,
            mmio,
            msix,
            memory: GuestMemory::new(),
            interrupts: Interrupts::new(msi_vectors, msix_vectors),
        })
    }

    fn read_part(&mut self, access: BarAccess, data: &mut [u8]) {
        if let Some(msix) = &mut self.msix
            && msix.read(access, data, &self.interrupts)
        {
            return;
        }
        let value = self.device.read(access);
        data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
    }

    fn write_part(&mut self, access: BarAccess, data: &[u8]) {
        if let Some(msix) = &mut self.msix
            && msix.write(access, data, &self.interrupts)
        {
            return;
        }
        self.device.write(access, access::value_of(data));
    }

    /// Lets the MSI capability show what is pending.
    fn show_pending(&mut self) {
        if self.config.msi().is_some() {
            let pending = self.interrupts.pending(InterruptKind::Msi, 0);
            // At most 32 vectors, so the upper half is empty.
            self.config
                .set_msi_pending(u32::try_from(pending).unwrap_or(u32::MAX));
        }
    }

    fn act_on(&mut self, effects: Effects) -> ConfigWrite {
        if effects.contains(Effects::FUNCTION_LEVEL_RESET) {
            self.reset_registers(ConfigSpace::function_level_reset);
            self.reset_device();
            return ConfigWrite::Reset;
        }
        if effects.contains(Effects::MSI) {
            self.follow_msi();
        }
        if effects.contains(Effects::MSIX)
            && let Some(msix) = self.config.msix()
        {
            self.interrupts.mask_function(msix.function_masked);
        }
        ConfigWrite::Registers
    }

    fn follow_msi(&self) {
        if let Some(msi) = self.config.msi() {
            for vector in 0..self.interrupts.vectors(InterruptKind::Msi) {
                let masked = msi.mask >> vector & 1 != 0;
                self.interrupts
                    .mask_by_register(InterruptKind::Msi, vector, masked);
            }
        }
    }

    fn reset_registers(&mut self, reset_config: fn(&mut ConfigSpace)) {
        reset_config(&mut self.config);
        if let Some(msix) = &mut self.msix {
            msix.table.reset();
        }
        self.interrupts.reset();
    }

    fn reset_device(&mut self) {
        self.device.reset();
        // What the device signalled until it was told belongs to before the reset.
        self.interrupts.reset();
    }
}

impl Msix {
    /// Answers a read of the table or the pending-bit array; false for any other.
    fn read(&mut self, access: BarAccess, data: &mut [u8], interrupts: &Interrupts) -> bool {
        if let Some(offset) = self.table_place.offset_of(access) {
            self.follow_mask(interrupts, offset);
            self.table.read(offset, data);
        } else if let Some(offset) = self.pending_place.offset_of(access) {
            let (element, byte) = (offset / MSIX_PENDING_BYTES, offset % MSIX_PENDING_BYTES);
            let bits = interrupts.pending(InterruptKind::MsiX, element);
            data.copy_from_slice(&(bits >> (8 * byte)).to_le_bytes()[..data.len()]);
        } else {
            return false;
        }
        true
    }

    /// Carries out a write to the table and drops one to the pending-bit array, which is
    /// read-only; false for any other.
    fn write(&mut self, access: BarAccess, data: &[u8], interrupts: &Interrupts) -> bool {
        if let Some(offset) = self.table_place.offset_of(access) {
            self.follow_mask(interrupts, offset);
            for vector in self.table.write(offset, data) {
                if let Some(entry) = self.table.entry(vector) {
                    interrupts.mask_by_register(InterruptKind::MsiX, vector, entry.masked);
                }
            }
            return true;
        }
        self.pending_place.offset_of(access).is_some()
    }

    /// Lets the table show the mask bit of the vector at `offset` as it is: a client that connects
    /// a vector unmasks it without a write to the table.
    fn follow_mask(&mut self, interrupts: &Interrupts, offset: u64) {
        let Ok(vector) = u16::try_from(offset / ENTRY_SIZE) else {
            return;
        };
        if let Some(mut entry) = self.table.entry(vector) {
            entry.masked = interrupts.masked_by_register(InterruptKind::MsiX, vector);
            self.table.set_entry(vector, entry);
        }
    }
}

impl Function for PciFunction {
    fn identity(&self) -> Identity {
        self.config.identity()
    }

    fn bar_size(&self, bar: BarIndex) -> u64 {
        self.config.bar(bar).map_or(0, |bar| bar.size)
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
        self.device.initialize(DeviceContext {
            memory: self.memory.clone(),
            interrupts: self.interrupts.clone(),
            mmio: self.mmio.clone(),
        })?;
        self.device.set_configuration(configuration)
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.device.start()
    }

    fn stop(&mut self) {
        self.device.stop();
    }

    fn teardown(&mut self) {
        self.device.teardown();
    }

    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.show_pending();
        self.config.read(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        let effects = self.config.write(offset, data);
        self.act_on(effects)
    }

    fn config_read_as_vf(&mut self, offset: u16, data: &mut [u8]) {
        self.show_pending();
        self.config.read_as_vf(offset, data);
    }

    fn config_write_as_vf(&mut self, offset: u16, data: &[u8]) -> ConfigWrite {
        let effects = self.config.write_as_vf(offset, data);
        self.act_on(effects)
    }

    fn record_error(&mut self, error: DetectedError) -> ErrorRecord {
        match self.config.record_error(error, None) {
            Some(message) => ErrorRecord::Sent(message),
            None => ErrorRecord::Kept,
        }
    }

    fn bar_read(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        access::split(offset, data.len(), |offset, range| {
            let access = BarAccess::new(bar, offset, range.len());
            self.read_part(access, &mut data[range]);
        });
    }

    fn bar_write(&mut self, bar: BarIndex, offset: u64, data: &[u8]) {
        access::split(offset, data.len(), |offset, range| {
            let access = BarAccess::new(bar, offset, range.len());
            self.write_part(access, &data[range]);
        });
    }

    fn reset(&mut self, scope: ResetScope) {
        self.reset_registers(ConfigSpace::reset);
        if scope == ResetScope::Function {
            self.reset_device();
        }
    }
}
