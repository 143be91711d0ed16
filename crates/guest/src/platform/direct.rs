//! A function driven without a kernel driver and without an IOMMU: registers through sysfs, DMA to physical
//! addresses, and interrupts that are what MSI-X makes of them, writes to memory.
//!
//! Every message is given an address in memory of this process in place of an interrupt controller's, and is
//! waited for by looking there. That is what the standard says a message is (PCI Express Base Specification 6.0,
//! section 6.1.4), and software emulation does it; under KVM an interrupt controller takes the message whatever
//! its address is, so there this cannot be used.
//!
//! Nothing keeps the device from other memory: only for guests that exist to check devices.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::memory::{HUGE_PAGE_BYTES, Memory, PAGE_BYTES};
use super::pci::{
    self, COMMAND_BUS_MASTER, COMMAND_MEMORY, MSIX_CONTROL, MSIX_ENABLE, MSIX_ENTRY_BYTES,
    MSIX_ENTRY_CONTROL, MSIX_MASK_ALL, MSIX_TABLE,
};
use super::sysfs::{DEVICES, Sysfs};
use super::vectors::VECTORS_MAX;
use super::{BarAccess, DmaBuffer, Error, Identity, Platform, Result, Width};

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
/// Bytes from one message's place to the next: a cache line.
const MESSAGE_BYTES: u64 = 64;
/// What a message writes.
const FIRED: u32 = 0x0f1e_ed00;
/// Pause between two looks for a message.
const LOOK: Duration = Duration::from_micros(50);

/// A function in a guest without an IOMMU.
#[derive(Debug)]
pub struct Direct {
    function: Sysfs,
    /// Where the messages go, each to a place of its own.
    messages: Memory,
    /// The physical address of it.
    messages_at: u64,
    /// How many vectors are enabled.
    enabled: Mutex<u16>,
}

impl Direct {
    /// Takes the function at `address` (`0000:00:03.0`), lets it decode memory and master the bus.
    ///
    /// # Errors
    /// When sysfs refuses, or the kernel sets no huge pages aside.
    pub fn open(address: &str) -> Result<Self> {
        set_pages_aside()?;
        let function = Sysfs::open(address)?;
        pci::set_command(&function, COMMAND_MEMORY | COMMAND_BUS_MASTER)?;
        let messages = huge_page()?;
        let messages_at = physical_address(&messages)?;
        Ok(Self {
            function,
            messages,
            messages_at,
            enabled: Mutex::new(0),
        })
    }

    fn enabled(&self) -> MutexGuard<'_, u16> {
        self.enabled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Programs the first `count` vectors, from what the table and control hold to what they are to hold.
    fn program(&self, count: u16) -> Result<()> {
        let control_at = pci::msix_control(&self.function)?;
        let table = self
            .function
            .config_read(control_at - MSIX_CONTROL + MSIX_TABLE, Width::Dword)?;
        let [bar, ..] = (table & 7).to_le_bytes();
        let table = u64::from(table & !7);
        let control = |value: u16| {
            self.function
                .config_write(control_at, Width::Word, u32::from(value))
        };
        let vectors = pci::msix_vectors(&self.function)?;
        if count > vectors.min(VECTORS_MAX) {
            return Err(Error::Missing(format!(
                "{} has {vectors} vectors, {count} are wanted and {VECTORS_MAX} may be enabled",
                self.function.name()
            )));
        }
        control(0)?;
        control(MSIX_ENABLE | MSIX_MASK_ALL)?;
        for vector in 0..count {
            let entry = table + MSIX_ENTRY_BYTES * u64::from(vector);
            let place = MESSAGE_BYTES * u64::from(vector);
            self.messages.store_release(place, 0)?;
            let address = self.messages_at + place;
            for (at, value) in [
                (0, address & u64::from(u32::MAX)),
                (4, address >> 32),
                (8, u64::from(FIRED)),
                (MSIX_ENTRY_CONTROL, 0),
            ] {
                self.function.write(bar, entry + at, Width::Dword, value)?;
            }
        }
        control(MSIX_ENABLE)
    }
}

impl BarAccess for Direct {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn transport(&self) -> &'static str {
        "direct"
    }

    fn identity(&self) -> Result<Identity> {
        self.function.identity()
    }

    fn bar_size(&self, bar: u8) -> Result<u64> {
        self.function.bar_size(bar)
    }

    fn read(&self, bar: u8, offset: u64, width: Width) -> Result<u64> {
        self.function.read(bar, offset, width)
    }

    fn write(&self, bar: u8, offset: u64, width: Width, value: u64) -> Result<()> {
        self.function.write(bar, offset, width, value)
    }

    fn config_read(&self, offset: u16, width: Width) -> Result<u32> {
        self.function.config_read(offset, width)
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Result<()> {
        self.function.config_write(offset, width, value)
    }
}

impl Platform for Direct {
    /// The memory around it is the guest's, which the device reaches too: there is no IOMMU.
    fn dma_buffer(&self, bytes: u64) -> Result<DmaBuffer> {
        if DmaBuffer::whole_pages(bytes)? > HUGE_PAGE_BYTES {
            return Err(Error::Missing(format!(
                "{bytes} bytes are more than the {HUGE_PAGE_BYTES} of a huge page, and more than one need not lie together"
            )));
        }
        let memory = huge_page()?;
        let address = physical_address(&memory)?;
        Ok(DmaBuffer::new(Arc::new(memory), address, || {}))
    }

    fn enable_vectors(&self, count: u16) -> Result<()> {
        let mut enabled = self.enabled();
        self.program(count)?;
        *enabled = count;
        Ok(())
    }

    fn wait(&self, vector: u16, limit: Duration) -> Result<u64> {
        if vector >= *self.enabled() {
            return Err(Error::Missing(format!(
                "vector {vector} is not enabled, so it cannot fire"
            )));
        }
        let place = MESSAGE_BYTES * u64::from(vector);
        let deadline = Instant::now() + limit;
        loop {
            match self.messages.load_acquire(place)? {
                0 => {}
                FIRED => {
                    // A message that comes in between is for what is seen of the device after this.
                    self.messages.store_release(place, 0)?;
                    return Ok(1);
                }
                other => {
                    return Err(Error::Missing(format!(
                        "{}: vector {vector} wrote {other:#x}, its data is {FIRED:#x}",
                        self.name()
                    )));
                }
            }
            if Instant::now() >= deadline {
                return Ok(0);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn reset(&self) -> Result<()> {
        let enabled = self.enabled();
        let reset = Path::new(DEVICES).join(self.name()).join("reset");
        fs::write(&reset, "1").map_err(|error| Error::file(&reset, "write 1", error))?;
        pci::set_command(&self.function, COMMAND_MEMORY | COMMAND_BUS_MASTER)?;
        self.program(*enabled)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // It must not write to memory that is given back. When even this fails the function is gone.
        let _ = self
            .function
            .config_write(pci::COMMAND, Width::Word, COMMAND_MEMORY.into());
    }
}

/// Memory that any device reaches, and its physical address: for those that are driven without this.
pub(crate) fn page_for_devices() -> Result<(Memory, u64)> {
    set_pages_aside()?;
    let page = huge_page()?;
    let address = physical_address(&page)?;
    Ok((page, address))
}

/// Has the kernel set huge pages aside.
fn set_pages_aside() -> Result<()> {
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

fn huge_page() -> Result<Memory> {
    let memory =
        Memory::huge().map_err(|errno| Error::call("mmap of a huge page for a device", errno))?;
    // Touched, so that it is there.
    memory.write(0, Width::Qword, 0)?;
    Ok(memory)
}

/// Where the first byte is in physical memory.
fn physical_address(memory: &Memory) -> Result<u64> {
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
