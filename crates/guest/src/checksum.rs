//! The checksum of the example devices: FNV-1a of 32 bits over bytes.

/// A checksum that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum(u32);

impl Default for Checksum {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Checksum {
    /// Adds the four bytes of a pixel, lowest first.
    pub fn add(&mut self, pixel: u32) {
        for byte in pixel.to_le_bytes() {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }

    /// The checksum of what was added.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fnv_1a() {
        let mut checksum = Checksum::default();
        checksum.add(u32::from_le_bytes(*b"foob"));
        // Of the list of test vectors of the hash's authors.
        assert_eq!(checksum.value(), 0x3f50_76ef);
    }
}
