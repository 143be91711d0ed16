//! A buffer that a device reaches.

use std::fmt;
use std::sync::Arc;

use super::memory::{Memory, PAGE_BYTES};
use super::{Error, Result, Width};

/// Largest buffer in bytes: room for the largest ring and more.
pub const BUFFER_BYTES_MAX: u64 = 64 << 20;

/// Memory that a device sees at [`DmaBuffer::address`]; dropping it takes it from the device.
pub struct DmaBuffer {
    memory: Arc<Memory>,
    address: u64,
    release: Option<Box<dyn FnOnce() + Send + Sync>>,
    mapping: Option<Box<dyn Mapping>>,
}

/// How a buffer's memory is taken from its device and given back, at the same address.
pub trait Mapping: Send + Sync {
    /// The device sees the memory again.
    ///
    /// # Errors
    /// What the way to the device reports.
    fn map(&self) -> Result<()>;

    /// The device sees the memory no more.
    ///
    /// # Errors
    /// As [`Mapping::map`].
    fn unmap(&self) -> Result<()>;
}

impl DmaBuffer {
    /// A buffer over `memory`, which the device sees at `address` until `release` was called.
    #[must_use]
    pub fn new(
        memory: Arc<Memory>,
        address: u64,
        release: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self {
            memory,
            address,
            release: Some(Box::new(release)),
            mapping: None,
        }
    }

    /// The same buffer, which can be withdrawn and restored through `mapping`.
    #[must_use]
    pub fn with_mapping(mut self, mapping: impl Mapping + 'static) -> Self {
        self.mapping = Some(Box::new(mapping));
        self
    }

    /// Takes the memory from the device; the process keeps it, with what it holds.
    ///
    /// # Errors
    /// When there is no way to, or what the way to the device reports.
    pub fn withdraw(&self) -> Result<()> {
        self.mapping()?.unmap()
    }

    /// Gives the memory back to the device at the same address.
    ///
    /// # Errors
    /// As [`DmaBuffer::withdraw`].
    pub fn restore(&self) -> Result<()> {
        self.mapping()?.map()
    }

    fn mapping(&self) -> Result<&dyn Mapping> {
        self.mapping.as_deref().ok_or_else(|| {
            Error::Missing("a DMA buffer of this platform stays where it is".to_owned())
        })
    }

    /// `bytes` rounded up to whole pages.
    ///
    /// # Errors
    /// When it is 0 or more than [`BUFFER_BYTES_MAX`].
    pub fn whole_pages(bytes: u64) -> Result<u64> {
        if bytes == 0 || bytes > BUFFER_BYTES_MAX {
            return Err(Error::Missing(format!(
                "a DMA buffer of {bytes} bytes cannot be had; it must have 1 to {BUFFER_BYTES_MAX}"
            )));
        }
        Ok(bytes.next_multiple_of(PAGE_BYTES))
    }

    /// The DMA address of the first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Length in bytes, whole pages.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.memory.length()
    }

    /// Reads with one access.
    ///
    /// # Errors
    /// [`Error::Outside`] when the access is not aligned and within the buffer.
    pub fn read(&self, offset: u64, width: Width) -> Result<u64> {
        self.memory.read(offset, width)
    }

    /// Writes the low bytes of `value` with one access.
    ///
    /// # Errors
    /// As [`DmaBuffer::read`].
    pub fn write(&self, offset: u64, width: Width, value: u64) -> Result<()> {
        self.memory.write(offset, width, value)
    }

    /// Loads an index that the device stores: what it wrote before is visible after.
    ///
    /// # Errors
    /// As [`DmaBuffer::read`].
    pub fn load_acquire(&self, offset: u64) -> Result<u32> {
        self.memory.load_acquire(offset)
    }

    /// Stores an index that the device loads: what was read and written before is done.
    ///
    /// # Errors
    /// As [`DmaBuffer::read`].
    pub fn store_release(&self, offset: u64, value: u32) -> Result<()> {
        self.memory.store_release(offset, value)
    }
}

impl Drop for DmaBuffer {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

impl fmt::Debug for DmaBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DmaBuffer")
            .field("address", &self.address)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}
