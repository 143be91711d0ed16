//! A device on a vfio-user socket, driven through our client end: no VM, no kernel.
//!
//! The device's DMA memory is a memfd per buffer, given to the server by DMA_MAP. What the
//! server offers of a BAR is mapped, as a VMM does, and accesses there make no message.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdv_vfio_user::backend::{DmaFlags, IrqAction, SparseArea};
use hdv_vfio_user::client::{Client, ClientOptions, ClientRegion};
use hdv_vfio_user::vfio::{irq, region};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;

use super::addresses::DmaAddresses;
use super::dma::Mapping;
use super::memory::Memory;
use super::pci::{self, COMMAND, COMMAND_BUS_MASTER, COMMAND_MEMORY};
use super::sysfs::{self, BARS};
use super::vectors::Vectors;
use super::{BarAccess, DmaBuffer, Error, Identity, Platform, Result, Width};

/// How long a function has for its reset: PCI Express Base Specification 6.0, section 6.6.2.
const FUNCTION_RESET_TIME: Duration = Duration::from_millis(100);

/// How long to wait for an answer. Far beyond what a device takes, also one under memcheck on a busy
/// machine: what is slow is not wrong.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// A device reached over vfio-user.
#[derive(Debug)]
pub struct VfioUser {
    client: Arc<Mutex<Client>>,
    addresses: Arc<DmaAddresses>,
    vectors: Vectors,
    sizes: [u64; BARS],
    mapped: [Vec<Area>; BARS],
    name: String,
}

/// A mapped part of a BAR.
#[derive(Debug)]
struct Area {
    offset: u64,
    memory: Memory,
}

impl VfioUser {
    /// Connects to the server on `socket` and lets the function decode memory and master the
    /// bus.
    ///
    /// # Errors
    /// When nobody answers or a message is refused.
    pub fn connect(socket: &Path) -> Result<Self> {
        let options = ClientOptions::default().with_reply_timeout(Some(REPLY_LIMIT));
        let mut client = Client::connect(socket, options)
            .map_err(|error| Error::Client(format!("{}: {error}", socket.display())))?;
        let mut sizes = [0; BARS];
        let mut mapped: [Vec<Area>; BARS] = Default::default();
        for ((size, areas), index) in sizes.iter_mut().zip(&mut mapped).zip(0..) {
            let region = client.region_info(index).map_err(client_error)?;
            *areas = map_areas(&region)?;
            *size = region.size;
        }
        let platform = Self {
            client: Arc::new(Mutex::new(client)),
            addresses: Arc::default(),
            vectors: Vectors::default(),
            sizes,
            mapped,
            name: socket.display().to_string(),
        };
        pci::set_command(&platform, COMMAND_MEMORY | COMMAND_BUS_MASTER)?;
        Ok(platform)
    }

    fn client(&self) -> MutexGuard<'_, Client> {
        lock(&self.client)
    }

    fn check(&self, bar: u8, offset: u64, width: Width) -> Result<usize> {
        width.check("the BAR", offset, self.bar_size(bar)?)?;
        Ok(usize::try_from(width.bytes()).unwrap_or(8))
    }

    /// The mapped memory that holds all of an access, and where in it.
    fn mapping(&self, bar: u8, offset: u64, width: Width) -> Option<(&Memory, u64)> {
        self.mapped.get(usize::from(bar))?.iter().find_map(|area| {
            let at = offset.checked_sub(area.offset)?;
            width
                .fits(at, area.memory.length())
                .then_some((&area.memory, at))
        })
    }
}

/// Maps every area of a region that the server offers.
fn map_areas(region: &ClientRegion) -> Result<Vec<Area>> {
    let Some(file) = region.file.as_ref().filter(|_| region.mappable) else {
        return Ok(Vec::new());
    };
    let whole = [SparseArea {
        offset: 0,
        size: region.size,
    }];
    let areas = if region.areas.is_empty() {
        &whole
    } else {
        region.areas.as_slice()
    };
    areas
        .iter()
        .map(|area| {
            let in_file = region.offset.checked_add(area.offset);
            let memory = in_file
                .ok_or(Errno::OVERFLOW)
                .and_then(|offset| Memory::shared(file.as_fd(), offset, area.size))
                .map_err(|errno| Error::call("mmap of a region", errno))?;
            Ok(Area {
                offset: area.offset,
                memory,
            })
        })
        .collect()
}

fn lock(client: &Mutex<Client>) -> MutexGuard<'_, Client> {
    client.lock().unwrap_or_else(PoisonError::into_inner)
}

fn map(client: &Mutex<Client>, address: u64, length: u64, file: &OwnedFd) -> Result<()> {
    let access = DmaFlags::READ | DmaFlags::WRITE;
    lock(client)
        .dma_map(address, length, access, Some((file.as_fd(), 0)))
        .map_err(client_error)
}

/// Where a buffer's memory is mapped.
struct Mapped {
    client: Arc<Mutex<Client>>,
    file: OwnedFd,
    address: u64,
    length: u64,
}

impl Mapping for Mapped {
    fn map(&self) -> Result<()> {
        map(&self.client, self.address, self.length, &self.file)
    }

    fn unmap(&self) -> Result<()> {
        lock(&self.client)
            .dma_unmap(self.address, self.length)
            .map_err(client_error)
    }
}

fn client_error(error: impl std::fmt::Display) -> Error {
    Error::Client(error.to_string())
}

impl BarAccess for VfioUser {
    fn name(&self) -> &str {
        &self.name
    }

    fn transport(&self) -> &'static str {
        "vfio-user"
    }

    fn identity(&self) -> Result<Identity> {
        pci::identity(self)
    }

    fn bar_size(&self, bar: u8) -> Result<u64> {
        Ok(self.sizes.get(usize::from(bar)).copied().unwrap_or(0))
    }

    fn read(&self, bar: u8, offset: u64, width: Width) -> Result<u64> {
        let count = self.check(bar, offset, width)?;
        if let Some((memory, at)) = self.mapping(bar, offset, width) {
            return memory.read(at, width);
        }
        let mut bytes = [0; 8];
        self.client()
            .region_read(u32::from(bar), offset, &mut bytes[..count])
            .map_err(client_error)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&self, bar: u8, offset: u64, width: Width, value: u64) -> Result<()> {
        let count = self.check(bar, offset, width)?;
        if let Some((memory, at)) = self.mapping(bar, offset, width) {
            return memory.write(at, width, value);
        }
        self.client()
            .region_write(u32::from(bar), offset, &value.to_le_bytes()[..count])
            .map_err(client_error)
    }

    fn config_read(&self, offset: u16, width: Width) -> Result<u32> {
        sysfs::config_read(offset, width, |bytes| {
            self.client()
                .region_read(region::CONFIG, u64::from(offset), bytes)
                .map_err(client_error)
        })
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Result<()> {
        sysfs::config_write(offset, width, value, |bytes| {
            self.client()
                .region_write(region::CONFIG, u64::from(offset), bytes)
                .map_err(client_error)
        })
    }
}

impl Platform for VfioUser {
    fn dma_buffer(&self, bytes: u64) -> Result<DmaBuffer> {
        let length = DmaBuffer::whole_pages(bytes)?;
        let file = memory_file(length)?;
        let memory = Memory::shared(file.as_fd(), 0, length)
            .map_err(|errno| Error::call("mmap of a memfd", errno))?;
        let address = self.addresses.take(length)?;
        let mapped = map(&self.client, address, length, &file);
        if let Err(error) = mapped {
            self.addresses.give_back(address);
            return Err(error);
        }
        let (client, addresses) = (Arc::clone(&self.client), Arc::clone(&self.addresses));
        let buffer = DmaBuffer::new(Arc::new(memory), address, move || {
            // A range that stays mapped must not be given out again.
            if lock(&client).dma_unmap(address, length).is_ok() {
                addresses.give_back(address);
            }
        });
        Ok(buffer.with_mapping(Mapped {
            client: Arc::clone(&self.client),
            file,
            address,
            length,
        }))
    }

    fn enable_vectors(&self, count: u16) -> Result<()> {
        let events = Vectors::make(count)?;
        let control = pci::msix_control(self)?;
        {
            let mut client = self.client();
            let offered = client.irq_info(irq::MSIX).map_err(client_error)?.count;
            if u32::from(count) > offered {
                return Err(Error::Missing(format!(
                    "{}: {count} MSI-X vectors wanted, the device has {offered}",
                    self.name
                )));
            }
            client.disable_irqs(irq::MSIX).map_err(client_error)?;
            let borrowed: Vec<_> = events.iter().map(AsFd::as_fd).collect();
            client
                .set_irq_event_fds(irq::MSIX, 0, &borrowed)
                .map_err(client_error)?;
        }
        let value = pci::read_word(self, control)? & !pci::MSIX_MASK_ALL | pci::MSIX_ENABLE;
        self.config_write(control, Width::Word, u32::from(value))?;
        self.vectors.replace(events);
        Ok(())
    }

    fn wait(&self, vector: u16, limit: Duration) -> Result<u64> {
        self.vectors.wait(vector, limit)
    }

    /// Masks as a VMM does, which keeps the table to itself.
    fn mask(&self, vector: u16, masked: bool) -> Result<()> {
        let action = if masked {
            IrqAction::Mask
        } else {
            IrqAction::Unmask
        };
        self.client()
            .act_on_irqs(irq::MSIX, vector.into(), 1, action)
            .map_err(client_error)
    }

    /// Resets as a kernel does: saves what a reset clears, resets through config space, waits,
    /// restores. No SET_IRQS follows, as none does when the kernel of a guest resets a function.
    fn reset(&self) -> Result<()> {
        let control = pci::function_reset_control(self)?;
        let msix = pci::msix_control(self)?;
        let saved_msix = pci::read_word(self, msix)?;
        let saved_command = pci::read_word(self, COMMAND)?;
        let value = pci::read_word(self, control)? | pci::EXPRESS_FUNCTION_RESET;
        self.config_write(control, Width::Word, u32::from(value))?;
        std::thread::sleep(FUNCTION_RESET_TIME);
        self.config_write(COMMAND, Width::Word, u32::from(saved_command))?;
        self.config_write(msix, Width::Word, u32::from(saved_msix))
    }
}

fn memory_file(length: u64) -> Result<OwnedFd> {
    let file = memfd_create("openhdv-dma", MemfdFlags::CLOEXEC)
        .map_err(|errno| Error::call("memfd_create", errno))?;
    ftruncate(&file, length).map_err(|errno| Error::call("ftruncate of a memfd", errno))?;
    Ok(file)
}
