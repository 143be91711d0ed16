//! Memory that a device reaches without an IOMMU: huge pages, each contiguous in physical memory and not moved, and where they are.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::memory::{HUGE_PAGE_BYTES, Memory, PAGE_BYTES};
use super::{DmaBuffer, Error, Result, Width};

/// Where the kernel is told how many huge pages to set aside.
const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";
/// How many a driver may need: rings, and the page of the messages.
const HUGE_PAGES_WANTED: u32 = 8;
/// Which physical page a virtual page is.
const PAGE_MAP: &str = "/proc/self/pagemap";
/// In an entry of [`PAGE_MAP`]: the page is in memory.
const PAGE_PRESENT: u64 = 1 << 63;
/// In an entry of [`PAGE_MAP`]: the number of the physical page.
const PAGE_NUMBER: u64 = (1 << 55) - 1;

/// A buffer for a device. The memory around it is the guest's, which the device reaches too.
///
/// # Errors
/// When it is larger than a huge page, or there is none left.
pub(super) fn dma_buffer(bytes: u64) -> Result<DmaBuffer> {
    if DmaBuffer::whole_pages(bytes)? > HUGE_PAGE_BYTES {
        return Err(Error::Missing(format!(
            "{bytes} bytes are more than the {HUGE_PAGE_BYTES} of a huge page, and more than one need not lie together"
        )));
    }
    let memory = huge_page()?;
    let address = physical_address(&memory)?;
    Ok(DmaBuffer::new(Arc::new(memory), address, || {}))
}

/// Has the kernel set huge pages aside.
pub(super) fn set_pages_aside() -> Result<()> {
    let text =
        fs::read_to_string(HUGE_PAGES).map_err(|error| Error::file(HUGE_PAGES, "read", error))?;
    let there: u32 = text.trim().parse().map_err(|_| Error::Content {
        path: HUGE_PAGES.into(),
        text,
        expected: "a number of pages",
    })?;
    if there < HUGE_PAGES_WANTED {
        fs::write(HUGE_PAGES, HUGE_PAGES_WANTED.to_string())
            .map_err(|error| Error::file(HUGE_PAGES, "write", error))?;
    }
    Ok(())
}

pub(super) fn huge_page() -> Result<Memory> {
    let memory =
        Memory::huge().map_err(|errno| Error::call("mmap of a huge page for a device", errno))?;
    // Touched, so that it is there.
    memory.write(0, Width::Qword, 0)?;
    Ok(memory)
}

/// Where the first byte is in physical memory.
pub(super) fn physical_address(memory: &Memory) -> Result<u64> {
    let at = memory.process_address() / PAGE_BYTES * 8;
    let mut entry = [0; 8];
    File::open(PAGE_MAP)
        .and_then(|file| file.read_exact_at(&mut entry, at))
        .map_err(|error| Error::file(PAGE_MAP, "read", error))?;
    let entry = u64::from_ne_bytes(entry);
    match entry & PAGE_NUMBER {
        number if number != 0 && entry & PAGE_PRESENT != 0 => Ok(number * PAGE_BYTES),
        _ => Err(Error::file(
            PAGE_MAP,
            "find physical memory in",
            ErrorKind::PermissionDenied,
        )),
    }
}
