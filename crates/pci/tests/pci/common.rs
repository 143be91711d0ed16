//! What the tests share: identities, widths of accesses, a walk over the capability lists.

use hdv_pci::{ClassCode, ConfigSpace, Identity};

/// A function's identity with a different value in every field.
pub(crate) const IDENTITY: Identity = Identity {
    vendor_id: 0x4f48,
    device_id: 0x1234,
    revision_id: 0x56,
    class: ClassCode {
        base: 0x11,
        subclass: 0x80,
        interface: 0x07,
    },
    subsystem_vendor_id: 0x789a,
    subsystem_id: 0xbcde,
};

/// Reads 8 bits.
#[must_use]
pub(crate) fn read_u8(config: &ConfigSpace, offset: u16) -> u8 {
    let mut bytes = [0];
    config.read(offset, &mut bytes);
    bytes[0]
}

/// Reads 16 bits.
#[must_use]
pub(crate) fn read_u16(config: &ConfigSpace, offset: u16) -> u16 {
    let mut bytes = [0; 2];
    config.read(offset, &mut bytes);
    u16::from_le_bytes(bytes)
}

/// Reads 32 bits.
#[must_use]
pub(crate) fn read_u32(config: &ConfigSpace, offset: u16) -> u32 {
    let mut bytes = [0; 4];
    config.read(offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

/// Everything.
#[must_use]
pub(crate) fn dump(config: &ConfigSpace) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    config.read(0, &mut bytes);
    bytes
}

/// The first byte that differs: offset, left, right.
#[must_use]
pub(crate) fn difference(left: &[u8], right: &[u8]) -> Option<(usize, u8, u8)> {
    assert_eq!(left.len(), right.len());
    let at = left
        .iter()
        .zip(right)
        .position(|(left, right)| left != right)?;
    Some((at, left[at], right[at]))
}

/// Walks the capability list as a driver does; offsets and identifiers.
#[must_use]
pub(crate) fn capabilities(config: &ConfigSpace) -> Vec<(u16, u8)> {
    let mut list = Vec::new();
    if read_u16(config, 0x06) & 0x10 == 0 {
        assert_eq!(read_u8(config, 0x34), 0, "a pointer without a list");
        return list;
    }
    let mut at = u16::from(read_u8(config, 0x34));
    while at != 0 {
        assert!(at >= 0x40 && at.is_multiple_of(4), "capability at {at:#x}");
        assert!(list.len() < 48, "the list is a loop: {list:x?}");
        list.push((at, read_u8(config, at)));
        at = read_u8(config, at + 1).into();
    }
    list
}

/// Walks the extended capability list as a driver does; offsets, identifiers and versions.
#[must_use]
pub(crate) fn extended_capabilities(config: &ConfigSpace) -> Vec<(u16, u16, u8)> {
    let mut list = Vec::new();
    let mut at = 0x100_u16;
    if read_u32(config, at) == 0 {
        return list;
    }
    while at != 0 {
        assert!(
            at >= 0x100 && at.is_multiple_of(4),
            "extended capability at {at:#x}"
        );
        assert!(list.len() < 960, "the list is a loop: {list:x?}");
        let header = read_u32(config, at);
        let [low, high, ..] = header.to_le_bytes();
        list.push((
            at,
            u16::from_le_bytes([low, high]),
            (header >> 16 & 0xf) as u8,
        ));
        at = (header >> 20) as u16;
    }
    list
}
