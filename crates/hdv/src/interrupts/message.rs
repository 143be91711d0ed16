//! Messages, as devices send them that know addresses and data but no vectors: which vector a message
//! means. Where messages are written to is not known here.

/// Messages of MSI-X vectors. They are the host's own: VMMs keep the guest's to themselves.
pub(crate) struct MsixMessage;

impl MsixMessage {
    /// The address that all of them have, one of the kind that devices expect.
    pub(crate) const ADDRESS: u64 = 0xfee0_0000;

    /// The data of a vector's message.
    pub(crate) const fn data(vector: u16) -> u32 {
        vector as u32
    }

    /// The vector whose message it is.
    pub(super) fn vector(address: u64, data: u32) -> Option<u16> {
        if address != Self::ADDRESS {
            return None;
        }
        u16::try_from(data).ok()
    }
}

/// The message of MSI vector 0, and how many vectors there are: the vector takes the place of
/// the data's low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MsiMessage {
    pub(crate) address: u64,
    pub(crate) data: u32,
    /// A power of two, 1 to 32.
    pub(crate) vectors: u8,
}

impl MsiMessage {
    /// The data of a vector's message.
    pub(crate) fn data_of(self, vector: u8) -> u32 {
        let low = u32::from(self.vectors) - 1;
        self.data & !low | u32::from(vector) & low
    }

    /// The vector whose message it is.
    pub(super) fn vector(self, address: u64, data: u32) -> Option<u16> {
        let low = u32::from(self.vectors) - 1;
        if address != self.address || (data ^ self.data) & !low != 0 {
            return None;
        }
        u16::try_from(data & low).ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn msix_data_is_the_vector() {
        for vector in [0, 1, 2047] {
            let data = MsixMessage::data(vector);
            assert_eq!(
                MsixMessage::vector(MsixMessage::ADDRESS, data),
                Some(vector)
            );
            assert_eq!(MsixMessage::vector(MsixMessage::ADDRESS + 4, data), None);
        }
        assert_eq!(MsixMessage::vector(MsixMessage::ADDRESS, 0x1_0000), None);
    }

    #[test]
    fn msi_vectors_take_the_low_bits_of_the_data() {
        let message = MsiMessage {
            address: 0xfee0_1000,
            data: 0x4023,
            vectors: 4,
        };
        for vector in 0..4 {
            let data = 0x4020 | u32::from(vector);
            assert_eq!(message.vector(0xfee0_1000, data), Some(vector));
            let vector = u8::try_from(vector).unwrap();
            assert_eq!(message.data_of(vector), data);
        }
        assert_eq!(message.vector(0xfee0_1000, 0x4024), None);
        assert_eq!(message.vector(0xfee0_1000, 0x1_4020), None);
        assert_eq!(message.vector(0x1_fee0_1000, 0x4020), None);
        let one = MsiMessage {
            vectors: 1,
            ..message
        };
        assert_eq!(one.vector(0xfee0_1000, 0x4023), Some(0));
        assert_eq!(one.vector(0xfee0_1000, 0x4022), None);
    }
}
