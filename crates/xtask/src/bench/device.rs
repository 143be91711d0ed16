//! The device that is measured: plain memory in a BAR and one interrupt vector, so that the time
//! of an access is the framework's.

use hdv::{
    Bar, BarAccess, BarIndex, BarOffset, ClassCode, ConfigError, ConfigSpace, Identity, Msix,
    PciDevice,
};

/// Bytes of BAR0 that are memory; the MSI-X structures are behind them.
pub(super) const MEMORY_BYTES: usize = 2048;

/// Bytes of BAR0.
pub(super) const BAR_BYTES: u64 = 4096;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Scratch([u8; MEMORY_BYTES]);

impl Scratch {
    pub(super) fn new() -> Self {
        Self([0; MEMORY_BYTES])
    }

    fn bytes(&mut self, access: BarAccess) -> Option<&mut [u8]> {
        let begin = usize::try_from(access.offset).ok()?;
        self.0.get_mut(begin..begin + usize::from(access.size))
    }
}

impl PciDevice for Scratch {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7ffe,
            revision_id: 0,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        let place = |offset| BarOffset::new(BarIndex::BAR0, offset);
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory64(BAR_BYTES))
            .capability(Msix::new(1, place(0x800), place(0xc00)))
            .build()
    }

    fn read(&mut self, access: BarAccess) -> u64 {
        let mut value = [0; 8];
        if let Some(bytes) = self.bytes(access) {
            value[..bytes.len()].copy_from_slice(bytes);
        }
        u64::from_le_bytes(value)
    }

    fn write(&mut self, access: BarAccess, value: u64) {
        if let Some(bytes) = self.bytes(access) {
            bytes.copy_from_slice(&value.to_le_bytes()[..bytes.len()]);
        }
    }

    fn reset(&mut self) {
        self.0.fill(0);
    }
}
