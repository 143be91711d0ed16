//! Which base address register: an index that is always one.

use std::fmt;

use crate::spec::header;

/// Number of base address registers of a type 0 function.
pub(crate) const BAR_COUNT: usize = header::BAR_COUNT as usize;

/// The index of a base address register, 0 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BarIndex(u8);

/// An index that no base address register has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("BAR index {0} is not 0 to 5")]
pub struct BarIndexError(pub u64);

impl BarIndex {
    /// BAR 0.
    pub const BAR0: Self = Self(0);
    /// BAR 1.
    pub const BAR1: Self = Self(1);
    /// BAR 2.
    pub const BAR2: Self = Self(2);
    /// BAR 3.
    pub const BAR3: Self = Self(3);
    /// BAR 4.
    pub const BAR4: Self = Self(4);
    /// BAR 5.
    pub const BAR5: Self = Self(5);
    /// All of them, in order.
    pub const ALL: [Self; BAR_COUNT] = [
        Self::BAR0,
        Self::BAR1,
        Self::BAR2,
        Self::BAR3,
        Self::BAR4,
        Self::BAR5,
    ];

    /// The index, 0 to 5.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// The index of the next register, the upper half of a 64-bit BAR.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        if self.0 + 1 < header::BAR_COUNT {
            Some(Self(self.0 + 1))
        } else {
            None
        }
    }

    /// Offset of the register in config space, in bytes.
    #[must_use]
    pub const fn offset(self) -> u16 {
        header::BAR0 + 4 * self.0 as u16
    }
}

impl fmt::Display for BarIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl TryFrom<u8> for BarIndex {
    type Error = BarIndexError;

    fn try_from(index: u8) -> Result<Self, Self::Error> {
        if index < header::BAR_COUNT {
            Ok(Self(index))
        } else {
            Err(BarIndexError(index.into()))
        }
    }
}

impl TryFrom<u32> for BarIndex {
    type Error = BarIndexError;

    fn try_from(index: u32) -> Result<Self, Self::Error> {
        let narrow = u8::try_from(index).map_err(|_| BarIndexError(index.into()))?;
        Self::try_from(narrow)
    }
}

impl TryFrom<usize> for BarIndex {
    type Error = BarIndexError;

    fn try_from(index: usize) -> Result<Self, Self::Error> {
        let narrow = u8::try_from(index).map_err(|_| BarIndexError(index as u64))?;
        Self::try_from(narrow)
    }
}

impl From<BarIndex> for u8 {
    fn from(index: BarIndex) -> Self {
        index.0
    }
}

impl From<BarIndex> for u32 {
    fn from(index: BarIndex) -> Self {
        index.0.into()
    }
}

impl From<BarIndex> for usize {
    fn from(index: BarIndex) -> Self {
        index.get()
    }
}
