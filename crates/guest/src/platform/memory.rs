//! Mapped memory and accesses to it: buffers for DMA and registers.
//!
//! The `unsafe` of memory mapping lives here and nowhere else in the crate. Every access
//! is checked against the mapping, volatile, and of exactly the width asked for.

use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::{Result, Width};

/// The granularity of mappings in bytes.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of a huge page.
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// A readable and writable mapping, shared with a device or another process.
#[derive(Debug)]
pub struct Memory {
    base: NonNull<c_void>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone and is accessed only by volatile and atomic
// operations, which other threads and the device may make at the same time.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `length` bytes of zeroes.
    ///
    /// # Errors
    /// What mmap reports; `EINVAL` for a length that is 0 or does not fit.
    pub fn anonymous(length: u64) -> std::result::Result<Self, Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::INVAL)?;
        // SAFETY: the kernel chooses the address, so no other mapping is replaced.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        }?;
        Self::own(base, length)
    }

    /// Maps one huge page of zeroes: contiguous in physical memory, and it stays where it is.
    ///
    /// # Errors
    /// What mmap reports; `ENOMEM` when the kernel has no huge page set aside.
    pub fn huge() -> std::result::Result<Self, Errno> {
        let length = usize::try_from(HUGE_PAGE_BYTES).map_err(|_| Errno::INVAL)?;
        // SAFETY: the kernel chooses the address, so no other mapping is replaced.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB | MapFlags::POPULATE,
            )
        }?;
        Self::own(base, length)
    }

    /// Maps `length` bytes of `file` from `offset`.
    ///
    /// # Errors
    /// What mmap reports; `EINVAL` for a length that is 0 or does not fit.
    pub fn shared(
        file: BorrowedFd<'_>,
        offset: u64,
        length: u64,
    ) -> std::result::Result<Self, Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::INVAL)?;
        // SAFETY: the kernel chooses the address, so no other mapping is replaced.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                offset,
            )
        }?;
        Self::own(base, length)
    }

    fn own(base: *mut c_void, length: usize) -> std::result::Result<Self, Errno> {
        let base = NonNull::new(base).ok_or(Errno::FAULT)?;
        Ok(Self { base, length })
    }

    /// Length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length as u64
    }

    /// Where the mapping is in this process.
    #[must_use]
    pub fn process_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Reads with one access.
    ///
    /// # Errors
    /// [`super::Error::Outside`] when the access is not aligned and within the mapping.
    pub fn read(&self, offset: u64, width: Width) -> Result<u64> {
        let at = self.at(offset, width)?;
        // SAFETY: `at` checked bounds and alignment; the mapping is readable while `self` lives.
        Ok(unsafe {
            match width {
                Width::Byte => u64::from(at.cast::<u8>().read_volatile()),
                Width::Word => u64::from(u16::from_le(at.cast::<u16>().read_volatile())),
                Width::Dword => u64::from(u32::from_le(at.cast::<u32>().read_volatile())),
                Width::Qword => u64::from_le(at.cast::<u64>().read_volatile()),
            }
        })
    }

    /// Writes the low bytes of `value` with one access.
    ///
    /// # Errors
    /// As [`Memory::read`].
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low bytes are what is written"
    )]
    pub fn write(&self, offset: u64, width: Width, value: u64) -> Result<()> {
        let at = self.at(offset, width)?;
        // SAFETY: `at` checked bounds and alignment; the mapping is writable while `self` lives.
        unsafe {
            match width {
                Width::Byte => at.cast::<u8>().write_volatile(value as u8),
                Width::Word => at.cast::<u16>().write_volatile((value as u16).to_le()),
                Width::Dword => at.cast::<u32>().write_volatile((value as u32).to_le()),
                Width::Qword => at.cast::<u64>().write_volatile(value.to_le()),
            }
        }
        Ok(())
    }

    /// Loads an index that the other side stores: what it wrote before is visible after.
    ///
    /// # Errors
    /// As [`Memory::read`].
    pub fn load_acquire(&self, offset: u64) -> Result<u32> {
        Ok(u32::from_le(self.atomic(offset)?.load(Ordering::Acquire)))
    }

    /// Stores an index that the other side loads: what was read and written before is done.
    ///
    /// # Errors
    /// As [`Memory::read`].
    pub fn store_release(&self, offset: u64, value: u32) -> Result<()> {
        self.atomic(offset)?.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    fn atomic(&self, offset: u64) -> Result<&AtomicU32> {
        let at = self.at(offset, Width::Dword)?;
        // SAFETY: `at` checked bounds and alignment, and the mapping lives as long as `self`.
        Ok(unsafe { AtomicU32::from_ptr(at.cast()) })
    }

    fn at(&self, offset: u64, width: Width) -> Result<*mut c_void> {
        width.check("mapped memory", offset, self.length())?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "below the length, which is a usize"
        )]
        let offset = offset as usize;
        Ok(self.base.as_ptr().wrapping_byte_add(offset))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: base and length are those of a mapping made here, and no reference into it
        // outlives `self`. A failure would leave the mapping, which is safe.
        let _ = unsafe { munmap(self.base.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_of_every_width_are_little_endian_and_bounded() {
        let memory = Memory::anonymous(PAGE_BYTES).unwrap();
        memory
            .write(8, Width::Qword, 0x8877_6655_4433_2211)
            .unwrap();
        assert_eq!(memory.read(8, Width::Byte).unwrap(), 0x11);
        assert_eq!(memory.read(10, Width::Word).unwrap(), 0x4433);
        assert_eq!(memory.read(12, Width::Dword).unwrap(), 0x8877_6655);
        memory.write(9, Width::Byte, 0xfff).unwrap();
        assert_eq!(memory.read(8, Width::Qword).unwrap(), 0x8877_6655_4433_ff11);
        assert_eq!(memory.load_acquire(8).unwrap(), 0x4433_ff11);

        for width in Width::ALL {
            assert!(memory.read(PAGE_BYTES, width).is_err());
            assert!(memory.read(PAGE_BYTES - width.bytes(), width).is_ok());
            assert!(
                memory
                    .write(u64::MAX - width.bytes() + 1, width, 0)
                    .is_err()
            );
        }
        assert!(memory.read(2, Width::Dword).is_err());
        assert!(memory.load_acquire(PAGE_BYTES - 2).is_err());
    }

    #[test]
    fn nothing_is_no_mapping() {
        assert_eq!(Memory::anonymous(0).unwrap_err(), Errno::INVAL);
    }
}
