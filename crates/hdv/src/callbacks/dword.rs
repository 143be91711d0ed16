//! Parts of the dwords that config space is made of.

/// 16 bits of a dword from bit `shift` on.
pub(super) fn half(dword: u32, shift: u32) -> u16 {
    let [low, high, ..] = (dword >> shift).to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// `width` bits of a dword, less than 32, from bit `shift` on.
pub(super) const fn bits(dword: u32, shift: u32, width: u32) -> u32 {
    dword >> shift & ((1 << width) - 1)
}

/// One dword of a write: where, the bits written in their places, ones where bits are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// Offset in config space, in bytes, a multiple of 4.
    pub(super) offset: u16,
    /// Zero in bits that are not written.
    pub(super) value: u32,
    /// Ones in the bits that are written: whole bytes, but for a VF's own config space.
    pub(super) enable: u32,
}

impl Write {
    /// `old` after this write, where all bits can be written.
    pub(super) const fn over(self, old: u32) -> u32 {
        old & !self.enable | self.value
    }
}

/// Splits an access of any length and alignment into dwords, in ascending order: calls `each` with the
/// offset of every dword, the first byte's place in it, and where it lies in the data.
pub(super) fn split(
    offset: u16,
    length: usize,
    mut each: impl FnMut(u16, usize, std::ops::Range<usize>),
) {
    let mut done = 0;
    let mut at = usize::from(offset);
    while done < length {
        let lane = at % 4;
        let count = (4 - lane).min(length - done);
        let Ok(dword) = u16::try_from(at - lane) else {
            return;
        };
        each(dword, lane, done..done + count);
        done += count;
        at += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_complete_and_in_order() {
        let parts = |offset, length| {
            let mut parts = Vec::new();
            split(offset, length, |at, lane, range| {
                parts.push((at, lane, range));
            });
            parts
        };
        assert_eq!(parts(8, 0), []);
        assert_eq!(parts(9, 2), [(8, 1, 0..2)]);
        assert_eq!(parts(3, 6), [(0, 3, 0..1), (4, 0, 1..5), (8, 0, 5..6)]);
        assert_eq!(parts(0xfffe, 4), [(0xfffc, 2, 0..2)]);
    }

    #[test]
    fn fields_are_found() {
        assert_eq!(half(0x1234_5678, 16), 0x1234);
        assert_eq!(half(0x1234_5678, 8), 0x3456);
        assert_eq!(bits(0xabc1_0019, 20, 12), 0xabc);
    }
}
