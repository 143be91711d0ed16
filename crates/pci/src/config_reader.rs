//! Config space as its reader knows it: bytes by offset, and capabilities found by walking the
//! lists, with a bound.

use crate::spec::express;
use crate::spec::header::{self, Status};
use crate::spec::{
    CAPABILITY_ID, CAPABILITY_NEXT, COMPATIBLE_SIZE, CONFIG_SPACE_SIZE, capability_id, extended,
};

/// Most capabilities the first 256 bytes have room for.
const CAPABILITIES_MAX: usize = ((COMPATIBLE_SIZE - header::END) / 4) as usize;
/// Most extended capabilities there is room for.
const EXTENDED_MAX: usize =
    ((CONFIG_SPACE_SIZE - extended::FIRST) / extended::HEADER_SIZE) as usize;

/// Reads of one function's config space. What is read may be anything.
pub(crate) struct ConfigReader<R>(R);

impl<R: FnMut(u16, &mut [u8])> ConfigReader<R> {
    /// `read` fills a slice with the bytes from an offset on.
    pub(crate) fn new(read: R) -> Self {
        Self(read)
    }

    pub(crate) fn u8(&mut self, offset: u16) -> u8 {
        let mut bytes = [0xff];
        (self.0)(offset, &mut bytes);
        bytes[0]
    }

    pub(crate) fn u16(&mut self, offset: u16) -> u16 {
        let mut bytes = [0xff; 2];
        (self.0)(offset, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    pub(crate) fn u32(&mut self, offset: u16) -> u32 {
        let mut bytes = [0xff; 4];
        (self.0)(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Offset of the first capability with that identifier.
    pub(crate) fn capability(&mut self, id: u8) -> Option<u16> {
        let status = Status::from_bits_retain(self.u16(header::STATUS));
        if !status.contains(Status::CAPABILITIES_LIST) {
            return None;
        }
        let mut at = u16::from(self.u8(header::CAPABILITIES_POINTER) & !3);
        for _ in 0..CAPABILITIES_MAX {
            if at < header::END {
                return None;
            }
            if self.u8(at + CAPABILITY_ID) == id {
                return Some(at);
            }
            at = u16::from(self.u8(at + CAPABILITY_NEXT) & !3);
        }
        None
    }

    /// Offset of the PCI Express capability, if there is room for all of it.
    pub(crate) fn express(&mut self) -> Option<u16> {
        self.capability(capability_id::PCI_EXPRESS)
            .filter(|base| base + express::LENGTH <= COMPATIBLE_SIZE)
    }

    /// Offset of the first extended capability with that identifier and `length` bytes.
    pub(crate) fn extended_capability(&mut self, id: u16, length: u16) -> Option<u16> {
        let mut at = extended::FIRST;
        for _ in 0..EXTENDED_MAX {
            let value = self.u32(at);
            if value == 0 || value == u32::MAX {
                return None;
            }
            let [low, high, ..] = value.to_le_bytes();
            if u16::from_le_bytes([low, high]) == id {
                return (at + length <= CONFIG_SPACE_SIZE).then_some(at);
            }
            at = u16::try_from(value >> extended::NEXT_SHIFT).ok()? & !3;
            if at < extended::FIRST {
                return None;
            }
        }
        None
    }
}
