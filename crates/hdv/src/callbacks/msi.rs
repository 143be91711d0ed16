//! The MSI capability of a device, as the guest wrote it through the host (PCI Express Base
//! Specification, 7.7.1): its message and its mask bits.

use hdv_pci::spec::msi::{
    ADDRESS, ADDRESS_HIGH, ADDRESS_MASK, CONTROL, DATA_32, DATA_64, MASK_32, MASK_64,
    MULTIPLE_MESSAGE_CAPABLE_SHIFT, MULTIPLE_MESSAGE_ENABLE_SHIFT, MsiControl, PENDING_32,
    PENDING_64,
};

use super::capabilities::Read;
use super::dword::{Write, bits, half};
use crate::interrupts::MsiMessage;

/// Message control: message data may have 32 bits.
const EXTENDED_DATA_CAPABLE: u16 = 1 << 9;
/// Message control: message data has 32 bits.
const EXTENDED_DATA_ENABLE: u16 = 1 << 10;
/// Logarithm of the most vectors that a function can have.
const VECTORS_LOG_MAX: u32 = 5;
/// Dwords of the largest shape.
const DWORDS: usize = (PENDING_64 as usize + 4) / 4;

/// Bytes of a capability with this message control.
pub(super) fn length(control: u16) -> u16 {
    let control = MsiControl::from_bits_retain(control);
    let wide = control.contains(MsiControl::ADDRESS_64);
    match (control.contains(MsiControl::PER_VECTOR_MASKING), wide) {
        (true, true) => PENDING_64 + 4,
        (true, false) => PENDING_32 + 4,
        (false, true) => DATA_64 + 2,
        (false, false) => DATA_32 + 2,
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct MsiRegisters {
    base: u16,
    /// What the device says of itself, which no write changes.
    shape: MsiControl,
    extended_data: bool,
    /// As written.
    dwords: [u32; DWORDS],
}

impl MsiRegisters {
    /// A capability at `base` whose first dword reads `head`, in its state after reset.
    pub(super) fn new(base: u16, head: u32) -> Self {
        let control = half(head, 16);
        Self {
            base,
            shape: MsiControl::from_bits_retain(control),
            extended_data: control & EXTENDED_DATA_CAPABLE != 0,
            dwords: [0; DWORDS],
        }
    }

    /// The capability at `base` as it reads now.
    pub(crate) fn read(base: u16, read: &mut Read<'_>) -> Self {
        let mut registers = Self::new(base, read(base));
        for (dword, offset) in registers.dwords.iter_mut().zip((base..).step_by(4)) {
            *dword = read(offset);
        }
        registers
    }

    fn vectors_log(&self) -> u32 {
        let capable = self
            .shape
            .intersection(MsiControl::MULTIPLE_MESSAGE_CAPABLE);
        (u32::from(capable.bits()) >> MULTIPLE_MESSAGE_CAPABLE_SHIFT).min(VECTORS_LOG_MAX)
    }

    /// Vectors that the device has, 1 to 32.
    pub(super) fn vectors(&self) -> u16 {
        1 << self.vectors_log()
    }

    fn wide(&self) -> bool {
        self.shape.contains(MsiControl::ADDRESS_64)
    }

    fn maskable(&self) -> bool {
        self.shape.contains(MsiControl::PER_VECTOR_MASKING)
    }

    fn dword(&self, at: u16) -> u32 {
        self.dwords
            .get(usize::from(at / 4))
            .copied()
            .unwrap_or_default()
    }

    /// Follows a write; whether it was to this capability.
    pub(super) fn write(&mut self, write: Write) -> bool {
        let Some(at) = write.offset.checked_sub(self.base) else {
            return false;
        };
        if at >= length(self.shape.bits()) {
            return false;
        }
        let Some(dword) = self.dwords.get_mut(usize::from(at / 4)) else {
            return false;
        };
        *dword = write.over(*dword);
        true
    }

    /// Back to the state after reset.
    pub(super) fn reset(&mut self) {
        self.dwords = [0; DWORDS];
    }

    /// The dword that holds message control.
    pub(super) fn control_offset(&self) -> u16 {
        self.base + CONTROL - 2
    }

    /// Offset in config space of the pending bits.
    pub(super) fn pending_offset(&self) -> Option<u16> {
        let pending = if self.wide() { PENDING_64 } else { PENDING_32 };
        self.maskable().then_some(self.base + pending)
    }

    /// A one for each masked vector.
    pub(super) fn mask(&self) -> u32 {
        if !self.maskable() {
            return 0;
        }
        self.dword(if self.wide() { MASK_64 } else { MASK_32 })
    }

    /// The message; `None` while MSI is disabled.
    pub(crate) fn message(&self) -> Option<MsiMessage> {
        let head = self.dword(0);
        let control = half(head, 16);
        if !MsiControl::from_bits_retain(control).contains(MsiControl::ENABLE) {
            return None;
        }
        let high = if self.wide() {
            self.dword(ADDRESS_HIGH)
        } else {
            0
        };
        let data = self.dword(if self.wide() { DATA_64 } else { DATA_32 });
        let extended = self.extended_data && control & EXTENDED_DATA_ENABLE != 0;
        let enabled = bits(head, 16 + MULTIPLE_MESSAGE_ENABLE_SHIFT, 3).min(self.vectors_log());
        Some(MsiMessage {
            address: u64::from(high) << 32 | u64::from(self.dword(ADDRESS) & ADDRESS_MASK),
            data: if extended { data } else { half(data, 0).into() },
            vectors: 1 << enabled,
        })
    }
}

/// In the dword of message control: what a reset clears.
pub(super) const ENABLES: u32 = (MsiControl::ENABLE.bits() as u32
    | MsiControl::MULTIPLE_MESSAGE_ENABLE.bits() as u32
    | EXTENDED_DATA_ENABLE as u32)
    << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn full(offset: u16, value: u32) -> Write {
        Write {
            offset,
            value,
            enable: u32::MAX,
        }
    }

    /// 64-bit address, mask bits, 8 vectors.
    const HEAD: u32 = 0x0186_0005;

    #[test]
    fn each_shape_has_its_length() {
        assert_eq!(length(0), 10);
        assert_eq!(length(0x80), 14);
        assert_eq!(length(0x100), 20);
        assert_eq!(length(0x180), 24);
    }

    #[test]
    fn the_message_is_what_was_written() {
        let mut msi = MsiRegisters::new(0x50, HEAD);
        assert_eq!((msi.vectors(), msi.message()), (8, None));
        assert!(!msi.write(full(0x4c, 1)));
        assert!(!msi.write(full(0x68, 1)));
        assert!(msi.write(full(0x54, 0xfee0_1003)));
        assert!(msi.write(full(0x58, 1)));
        assert!(msi.write(full(0x5c, 0xabcd_4020)));
        assert!(msi.write(full(0x60, 0b10)));
        assert_eq!(msi.message(), None);
        // Only the byte with the enable bits: four vectors.
        assert!(msi.write(Write {
            offset: 0x50,
            value: 0x0021_0000,
            enable: 0x00ff_0000
        }));
        let message = MsiMessage {
            address: 0x1_fee0_1000,
            data: 0x4020,
            vectors: 4,
        };
        assert_eq!(msi.message(), Some(message));
        assert_eq!(msi.mask(), 0b10);
        assert_eq!(msi.pending_offset(), Some(0x64));
        // More vectors than the device has.
        msi.write(full(0x50, 0x0071_0000));
        assert_eq!(msi.message().map(|message| message.vectors), Some(8));
        msi.reset();
        assert_eq!((msi.message(), msi.mask()), (None, 0));
    }

    #[test]
    fn a_narrow_one_has_no_upper_address_and_no_mask() {
        let mut msi = MsiRegisters::new(0x40, 0x0000_0005);
        msi.write(full(0x44, 0xfee0_0000));
        msi.write(full(0x48, 0x31));
        msi.write(full(0x40, 0x0001_0000));
        assert!(!msi.write(full(0x4c, 0xff)));
        let message = MsiMessage {
            address: 0xfee0_0000,
            data: 0x31,
            vectors: 1,
        };
        assert_eq!(msi.message(), Some(message));
        assert_eq!((msi.mask(), msi.pending_offset()), (0, None));
    }

    #[test]
    fn data_of_32_bits_counts_when_the_device_has_it() {
        for (head, data) in [(0x0200_0005, 0xabcd_0031), (0x0000_0005, 0x31)] {
            let mut msi = MsiRegisters::new(0x40, head);
            msi.write(full(0x48, 0xabcd_0031));
            msi.write(full(0x40, 0x0401_0000));
            assert_eq!(msi.message().map(|message| message.data), Some(data));
        }
    }

    #[test]
    fn reserved_numbers_of_vectors_are_the_most_there_are() {
        assert_eq!(MsiRegisters::new(0x40, 0x000e_0005).vectors(), 32);
    }
}
