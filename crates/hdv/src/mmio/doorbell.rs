//! Doorbells: which writes ring them.

use hdv_pci::BarIndex;

/// How wide an access is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessSize {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
    /// 8 bytes.
    Qword,
}

/// Which writes ring: those that begin at `offset` and match size and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Doorbell {
    /// Which BAR.
    pub bar: BarIndex,
    /// Offset in the BAR, in bytes.
    pub offset: u64,
    /// How wide the write must be; `None` for any width.
    pub size: Option<AccessSize>,
    /// The value written, zero-extended; `None` for any value. With a `size`, bits beyond it do not count.
    pub value: Option<u64>,
}
