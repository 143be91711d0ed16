//! A function driven without a kernel driver of its own and without an IOMMU: registers through sysfs, DMA to physical
//! addresses, resets by the kernel, and interrupts that are what MSI-X makes of them, writes of messages.
//!
//! A function on a bus of the machine is given an address in memory of this process for every message, in place of an interrupt
//! controller's, which is waited for by looking there. That is what the standard says a message is (PCI Express Base Specification
//! 6.0, section 6.1.4), and software emulation does it; under KVM an interrupt controller takes the message whatever its address
//! is, so there this cannot be used.
//!
//! A function of a domain behind an endpoint is given the messages that the endpoint's driver has such functions write: they
//! are interrupts of the endpoint, which that driver takes, and are waited for by what the kernel counts. That works
//! everywhere.
//!
//! Nothing keeps the device from other memory: only for guests that exist to check devices.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::memory::Memory;
use super::messages::Messages;
use super::pci::{
    self, COMMAND_BUS_MASTER, COMMAND_MEMORY, MSIX_CONTROL, MSIX_ENABLE, MSIX_ENTRY_BYTES,
    MSIX_ENTRY_CONTROL, MSIX_MASK_ALL, MSIX_TABLE,
};
use super::sysfs::{DEVICES, Sysfs};
use super::vectors::VECTORS_MAX;
use super::{BarAccess, DmaBuffer, Error, Identity, Platform, Result, Width, physical};

/// Pause between two looks for a message.
const LOOK: Duration = Duration::from_micros(50);

/// A function in a guest without an IOMMU.
#[derive(Debug)]
pub struct Direct {
    function: Sysfs,
    /// Where the messages go.
    messages: Messages,
    transport: &'static str,
    /// How many vectors are enabled.
    enabled: Mutex<u16>,
}

impl Direct {
    /// Takes the function at `address` (`0000:00:03.0`), lets it decode memory and master the bus.
    ///
    /// # Errors
    /// When sysfs refuses, or the kernel sets no huge pages aside.
    pub fn open(address: &str) -> Result<Self> {
        physical::set_pages_aside()?;
        Self::with(address, Messages::in_memory()?, "direct")
    }

    /// The same of the function at `address` (`10000:01:00.0`) behind an endpoint. Of the endpoint's vectors that are free, the
    /// first `skip` are left to others.
    ///
    /// # Errors
    /// As [`Direct::open`], and when it is behind none.
    pub fn behind_endpoint(address: &str, skip: u16) -> Result<Self> {
        physical::set_pages_aside()?;
        let messages = Messages::of_endpoint(address, skip)?;
        Self::with(address, messages, "endpoint")
    }

    fn with(address: &str, messages: Messages, transport: &'static str) -> Result<Self> {
        let function = Sysfs::open(address)?;
        pci::set_command(&function, COMMAND_MEMORY | COMMAND_BUS_MASTER)?;
        Ok(Self {
            function,
            messages,
            transport,
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
            let (address, data) = self.messages.arm(vector)?;
            for (at, value) in [
                (0, address & u64::from(u32::MAX)),
                (4, address >> 32),
                (8, u64::from(data)),
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
        self.transport
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
        physical::dma_buffer(bytes)
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
        let deadline = Instant::now() + limit;
        loop {
            let fired = self.messages.fired(vector)?;
            if fired != 0 {
                return Ok(fired);
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
    physical::set_pages_aside()?;
    let page = physical::huge_page()?;
    let address = physical::physical_address(&page)?;
    Ok((page, address))
}
