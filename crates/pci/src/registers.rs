//! The registers of a config space: for every 32-bit word its value and what may change it.
//!
//! Knows bits, not what they mean.

use crate::spec::CONFIG_SPACE_SIZE;

/// A register or a part of one: its value after reset and how its bits behave.
///
/// Bits are read-only unless said otherwise. At most the low 32 bits of the width it is
/// defined with count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    reset: u32,
    write: u32,
    clear: u32,
    sticky: u32,
    preserved: u32,
    kept: u32,
}

impl Field {
    /// A field that software cannot change, with this value.
    #[must_use]
    pub const fn read_only(value: u32) -> Self {
        Self {
            reset: value,
            write: 0,
            clear: 0,
            sticky: 0,
            preserved: 0,
            kept: 0,
        }
    }

    /// The bits of `mask` take what software writes (RW).
    #[must_use]
    pub const fn writable(self, mask: u32) -> Self {
        Self {
            write: self.write | mask,
            ..self
        }
    }

    /// The bits of `mask` are cleared by writing ones to them (RW1C).
    #[must_use]
    pub const fn write_one_to_clear(self, mask: u32) -> Self {
        Self {
            clear: self.clear | mask,
            ..self
        }
    }

    /// The bits of `mask` survive every reset while there is power (RWS, RW1CS, ROS).
    #[must_use]
    pub const fn sticky(self, mask: u32) -> Self {
        Self {
            sticky: self.sticky | mask,
            ..self
        }
    }

    /// The bits of `mask` are no state of the function's and survive everything.
    pub(crate) const fn kept(self, mask: u32) -> Self {
        Self {
            kept: self.kept | mask,
            ..self
        }
    }

    /// The bits of `mask` survive a function level reset, but no conventional reset (6.6.2).
    #[must_use]
    pub const fn preserved(self, mask: u32) -> Self {
        Self {
            preserved: self.preserved | mask,
            ..self
        }
    }
}

/// What resets a function.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reset {
    /// Power came.
    PowerOn,
    /// A hot reset or one of its kind.
    Conventional,
    /// Software asked for it, for this function alone.
    FunctionLevel,
}

/// One aligned 32-bit word.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    value: u32,
    rules: Field,
}

/// The words of a config space up to the last one that is implemented; the rest reads 0.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    words: Box<[Word]>,
}

impl Registers {
    /// Registers up to `end`, in bytes, all reading 0 and read-only.
    pub(crate) fn new(end: u16) -> Self {
        Self {
            words: vec![Word::default(); usize::from(end).div_ceil(4)].into_boxed_slice(),
        }
    }

    /// Defines `width` bytes at `offset`, any alignment, and gives them their reset value.
    pub(crate) fn define(&mut self, offset: u16, width: u16, field: Field) {
        for byte in 0..width {
            let at = usize::from(offset + byte);
            let lane = 8 * (offset + byte) % 32;
            let part = |bits: u32| (bits >> (8 * byte) & 0xff) << lane;
            let keep = !(0xff << lane);
            let word = &mut self.words[at / 4];
            let rules = &mut word.rules;
            rules.reset = rules.reset & keep | part(field.reset);
            rules.write = rules.write & keep | part(field.write);
            rules.clear = rules.clear & keep | part(field.clear);
            rules.sticky = rules.sticky & keep | part(field.sticky);
            rules.preserved = rules.preserved & keep | part(field.preserved);
            rules.kept = rules.kept & keep | part(field.kept);
            word.value = word.value & keep | part(field.reset);
        }
    }

    /// The aligned word that holds `offset`.
    pub(crate) fn load(&self, offset: u16) -> u32 {
        self.words
            .get(usize::from(offset) / 4)
            .map_or(0, |word| word.value)
    }

    /// Sets the bits of `mask` in the aligned word that holds `offset`, whatever its rules.
    pub(crate) fn store(&mut self, offset: u16, mask: u32, value: u32) {
        if let Some(word) = self.words.get_mut(usize::from(offset) / 4) {
            word.value = word.value & !mask | value & mask;
        }
    }

    /// The bits that software can write in the aligned word that holds `offset`.
    pub(crate) fn write_mask(&self, offset: u16) -> u32 {
        self.words
            .get(usize::from(offset) / 4)
            .map_or(0, |word| word.rules.write)
    }

    /// Software writes the bytes that `enable` covers with ones; returns the word before and after.
    pub(crate) fn write(&mut self, offset: u16, enable: u32, data: u32) -> (u32, u32) {
        let Some(word) = self.words.get_mut(usize::from(offset) / 4) else {
            return (0, 0);
        };
        let before = word.value;
        let write = word.rules.write & enable;
        let clear = word.rules.clear & enable & data;
        word.value = (before & !write | data & write) & !clear;
        (before, word.value)
    }

    /// Fills `data` from `offset`; all ones from the end of config space on.
    pub(crate) fn read(&self, offset: u16, data: &mut [u8]) {
        let mut at = usize::from(offset);
        let mut rest = data;
        while !rest.is_empty() {
            let lane = at % 4;
            let length = rest.len().min(4 - lane);
            let word = if at >= usize::from(CONFIG_SPACE_SIZE) {
                u32::MAX
            } else {
                self.words.get(at / 4).map_or(0, |word| word.value)
            };
            let (chunk, tail) = rest.split_at_mut(length);
            chunk.copy_from_slice(&word.to_le_bytes()[lane..lane + length]);
            at += length;
            rest = tail;
        }
    }

    /// Every bit gets its reset value, but for those that survive this kind of reset.
    pub(crate) fn reset(&mut self, kind: Reset) {
        for word in &mut self.words {
            let rules = word.rules;
            let keep = match kind {
                Reset::PowerOn => rules.kept,
                Reset::Conventional => rules.kept | rules.sticky,
                Reset::FunctionLevel => rules.kept | rules.sticky | rules.preserved,
            };
            word.value = word.value & keep | word.rules.reset & !keep;
        }
    }
}

/// The low and the high half of a word.
pub(crate) fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}
