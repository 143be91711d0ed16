//! Patterns and checksums, as the devices compute them (`lab_pattern` and `lab_sum`), and a range of a BAR
//! as memory.

use super::{Failure, Lab, MATTER};
use crate::checks::ensure;
use crate::platform::Width;

/// Word `index` of the pattern of `seed`.
pub(super) const fn pattern(seed: u32, index: u32) -> u32 {
    seed.wrapping_add(1).wrapping_mul(0x0100_0193) ^ index.wrapping_add(1).wrapping_mul(0x9e37_79b1)
}

/// The checksum of `words`.
pub(super) fn sum(words: impl IntoIterator<Item = u32>) -> u64 {
    u64::from(words.into_iter().fold(0_u32, |sum, word| {
        (sum.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b1)
    }))
}

/// The first `count` words of the pattern of `seed`.
pub(super) fn patterns(seed: u32, count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(move |index| pattern(seed, index))
}

/// What a device answers where its reads are a pattern of the offset: 8 bytes, of which a
/// narrower read takes the low ones.
#[expect(
    clippy::cast_possible_truncation,
    reason = "an offset in a BAR of a few pages"
)]
pub(super) fn answer(bar: u8, offset: u64, width: Width) -> u64 {
    let (bar, offset) = (u32::from(bar), offset as u32);
    let both = u64::from(pattern(bar, offset)) << 32 | u64::from(pattern(bar, offset + 1));
    both & width.mask()
}

/// Words of BAR 2.
pub(super) struct Range {
    /// Where they begin, in bytes.
    pub(super) offset: u64,
    /// How many there are.
    pub(super) words: u32,
}

impl Range {
    /// Writes the pattern of `seed`.
    pub(super) fn fill(&self, lab: &Lab<'_>, seed: u32) -> Result<(), Failure> {
        for (word, at) in patterns(seed, self.words).zip((self.offset..).step_by(4)) {
            lab.device
                .write(MATTER, at, Width::Dword, u64::from(word))?;
        }
        Ok(())
    }

    /// Fails unless it reads as the pattern of `seed`, word by word.
    pub(super) fn expect(&self, lab: &Lab<'_>, what: &str, seed: u32) -> Result<(), Failure> {
        for (word, at) in patterns(seed, self.words).zip((self.offset..).step_by(4)) {
            let read = lab.device.read(MATTER, at, Width::Dword)?;
            ensure(read == u64::from(word), || {
                format!("{what}: BAR 2 reads {read:#x} at {at:#x}, expected {word:#x}")
            })?;
        }
        Ok(())
    }

    /// Fails unless accesses of every width see the same memory, little end first.
    pub(super) fn widths(&self, lab: &Lab<'_>, what: &str) -> Result<(), Failure> {
        let at = self.offset + 4 * u64::from(self.words) - 8;
        let before = lab.device.read(MATTER, at, Width::Qword)?;
        let value = 0xf0e1_d2c3_b4a5_9687_u64;
        for width in Width::ALL {
            lab.device.write(MATTER, at, Width::Qword, 0)?;
            for part in (0..8).step_by(usize::try_from(width.bytes()).unwrap_or(8)) {
                lab.device
                    .write(MATTER, at + part, width, value >> (8 * part))?;
            }
            for reading in Width::ALL {
                let last = 8 - reading.bytes();
                let read = lab.device.read(MATTER, at + last, reading)?;
                let expected = value >> (8 * last) & reading.mask();
                ensure(read == expected, || {
                    format!(
                        "{what}: written by {} bytes, read by {}: {read:#x}, expected {expected:#x}",
                        width.bytes(),
                        reading.bytes()
                    )
                })?;
            }
        }
        Ok(lab.device.write(MATTER, at, Width::Qword, before)?)
    }
}
