//! The traits every driver is written over, and what crosses them.
//!
//! Implementations: [`vfio_pci`] (inside a guest), [`vfio_user`] (outside one), [`direct`] (inside a guest
//! that has no IOMMU, or in a domain behind an endpoint) and, for BAR access alone, [`sysfs`].

pub mod addresses;
pub mod direct;
pub mod dma;
pub mod memory;
pub mod pci;
pub mod sysfs;
pub mod vectors;
pub mod vfio_pci;
pub mod vfio_user;

mod ioctls;
mod messages;
mod physical;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

pub use dma::DmaBuffer;

/// What a platform reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be used.
    #[error("{path}: {action}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A file holds something else than expected.
    #[error("{path} holds {text:?}, which is not {expected}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        text: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A system call failed.
    #[error("{call}: {errno}")]
    Call {
        /// Which call, with its object.
        call: String,
        /// Why.
        errno: Errno,
    },
    /// An access outside a BAR, config space or buffer, or one not naturally aligned.
    #[error(
        "{what}: {width} bytes at {offset:#x} are not an aligned access within its {size:#x} bytes"
    )]
    Outside {
        /// BAR, config space or buffer.
        what: &'static str,
        /// Offset in bytes.
        offset: u64,
        /// Width in bytes.
        width: u64,
        /// Size of the thing in bytes.
        size: u64,
    },
    /// The device or the system lacks something.
    #[error("{0}")]
    Missing(String),
    /// The vfio-user client reported an error.
    #[error("vfio-user: {0}")]
    Client(String),
}

impl Error {
    pub(crate) fn file(
        path: impl AsRef<Path>,
        action: &'static str,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::File {
            path: path.as_ref().to_owned(),
            action,
            source: source.into(),
        }
    }

    pub(crate) fn call(call: impl Into<String>, errno: Errno) -> Self {
        Self::Call {
            call: call.into(),
            errno,
        }
    }
}

/// The result of a platform's methods.
pub type Result<T> = std::result::Result<T, Error>;

/// The width of one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Dword,
    /// Eight bytes.
    Qword,
}

impl Width {
    /// Every width, narrowest first.
    pub const ALL: [Self; 4] = [Self::Byte, Self::Word, Self::Dword, Self::Qword];

    /// Number of bytes: 1, 2, 4 or 8.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
            Self::Qword => 8,
        }
    }

    /// The largest value of this width.
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }

    /// Whether an access at `offset` is aligned and ends within `size` bytes.
    #[must_use]
    pub const fn fits(self, offset: u64, size: u64) -> bool {
        offset.is_multiple_of(self.bytes())
            && match offset.checked_add(self.bytes()) {
                Some(end) => end <= size,
                None => false,
            }
    }

    pub(crate) fn check(self, what: &'static str, offset: u64, size: u64) -> Result<()> {
        if self.fits(offset, size) {
            Ok(())
        } else {
            Err(Error::Outside {
                what,
                offset,
                width: self.bytes(),
                size,
            })
        }
    }
}

/// Who a PCI function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class code: base class, subclass and interface, 24 bits.
    pub class: u32,
}

/// Registers and config space of one PCI function.
pub trait BarAccess: Send + Sync {
    /// What people call the device: its PCI address or its socket.
    fn name(&self) -> &str;

    /// How the device is reached: `vfio-pci`, `vfio-user` or `sysfs`.
    fn transport(&self) -> &'static str;

    /// The identity as the system tells it, read from config space where there is no other
    /// source.
    ///
    /// # Errors
    /// When the system cannot tell.
    fn identity(&self) -> Result<Identity>;

    /// The size of BAR `bar` (0 to 5) in bytes; 0 for one that does not exist.
    ///
    /// # Errors
    /// When the system cannot tell.
    fn bar_size(&self, bar: u8) -> Result<u64>;

    /// Reads a register with one access of exactly `width`.
    ///
    /// # Errors
    /// [`Error::Outside`] for an access outside the BAR or not naturally aligned, and what the
    /// way to the device reports.
    fn read(&self, bar: u8, offset: u64, width: Width) -> Result<u64>;

    /// Writes the low bytes of `value` to a register with one access of exactly `width`.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    fn write(&self, bar: u8, offset: u64, width: Width, value: u64) -> Result<()>;

    /// Reads config space; `width` is at most 4 bytes.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    fn config_read(&self, offset: u16, width: Width) -> Result<u32>;

    /// Writes config space; `width` is at most 4 bytes.
    ///
    /// # Errors
    /// As [`BarAccess::read`].
    fn config_write(&self, offset: u16, width: Width, value: u32) -> Result<()>;
}

/// Everything a driver needs: registers, memory the device reaches, interrupts, reset.
pub trait Platform: BarAccess {
    /// Allocates zeroed memory that the device may read and write at
    /// [`DmaBuffer::address`]. The memory around it is not mapped for the device.
    ///
    /// # Errors
    /// When there is no memory or it cannot be mapped for the device.
    fn dma_buffer(&self, bytes: u64) -> Result<DmaBuffer>;

    /// Enables the first `count` MSI-X vectors. Vectors enabled before are released.
    ///
    /// # Errors
    /// When the device has fewer or the system refuses.
    fn enable_vectors(&self, count: u16) -> Result<()>;

    /// Waits until `vector` fires or `limit` has passed. Returns how often it fired since the
    /// last call, 0 after `limit`.
    ///
    /// # Errors
    /// When the vector is not enabled.
    fn wait(&self, vector: u16, limit: Duration) -> Result<u64>;

    /// Masks or unmasks an MSI-X vector. What becomes pending meanwhile fires when it is unmasked.
    ///
    /// # Errors
    /// When the function has no such vector or the mask bit does not hold.
    fn mask(&self, vector: u16, masked: bool) -> Result<()> {
        pci::mask_vector(self, vector, masked)
    }

    /// Function level reset. Afterwards the function decodes memory and masters the bus
    /// again, and the vectors enabled before are still enabled.
    ///
    /// # Errors
    /// When the function cannot be reset.
    fn reset(&self) -> Result<()>;
}
