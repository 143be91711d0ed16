//! What a function is: its ids and class.

/// The registers of a type 0 header that say what the function is (PCI Express Base
/// Specification 7.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Vendor id; not 0xffff, which says that nothing is there.
    pub vendor_id: u16,
    /// Device id, the vendor's choice.
    pub device_id: u16,
    /// Revision id, the vendor's choice.
    pub revision_id: u8,
    /// Class code.
    pub class: ClassCode,
    /// Subsystem vendor id; 0 for none.
    pub subsystem_vendor_id: u16,
    /// Subsystem id, the subsystem vendor's choice.
    pub subsystem_id: u16,
}

/// A class code (PCI Code and ID Assignment Specification, section 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClassCode {
    /// Base class.
    pub base: u8,
    /// Subclass.
    pub subclass: u8,
    /// Programming interface.
    pub interface: u8,
}

impl ClassCode {
    /// From base class in bits 23:16, subclass in 15:8, interface in 7:0. Bits 31:24 are ignored.
    #[must_use]
    pub const fn from_u24(code: u32) -> Self {
        let [interface, subclass, base, _] = code.to_le_bytes();
        Self {
            base,
            subclass,
            interface,
        }
    }

    /// Base class in bits 23:16, subclass in 15:8, interface in 7:0.
    #[must_use]
    pub const fn to_u24(self) -> u32 {
        u32::from_le_bytes([self.interface, self.subclass, self.base, 0])
    }
}
