//! A function bound to `vfio-pci`, behind an IOMMU: everything a driver needs, from user space.
//!
//! Uses VFIO's container and group files, which every distribution's kernel has. How a function
//! is bound to the driver is not told here (see [`crate::init`]).

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdv_vfio_user::vfio::{region, region_info};
use rustix::io::{Errno, pread, pwrite};

use super::addresses::DmaAddresses;
use super::dma::Mapping;
use super::memory::Memory;
use super::pci::{self, COMMAND_BUS_MASTER, COMMAND_MEMORY};
use super::sysfs::{self, BARS};
use super::vectors::Vectors;
use super::{BarAccess, DmaBuffer, Error, Identity, Platform, Result, Width, ioctls};

/// The container file, one open of which is one DMA address space.
const CONTAINER: &str = "/dev/vfio/vfio";
/// Where the group files are.
const GROUPS: &str = "/dev/vfio";

/// How long a reset is tried again while the kernel holds the device for something else.
const RESET_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two tries.
const RESET_PAUSE: Duration = Duration::from_millis(10);

/// A function reached through `vfio-pci`.
#[derive(Debug)]
pub struct VfioPci {
    // In the order in which they are closed.
    bars: [Bar; BARS],
    vectors: Vectors,
    device: OwnedFd,
    _group: File,
    space: Arc<Space>,
    config_offset: u64,
    address: String,
}

/// A BAR: mapped where the kernel allows it, else read and written through the device's file.
#[derive(Debug, Default)]
struct Bar {
    size: u64,
    offset: u64,
    mapping: Option<Memory>,
}

/// One DMA address space.
#[derive(Debug)]
struct Space {
    container: File,
    addresses: DmaAddresses,
}

/// Where a buffer's memory is mapped.
#[derive(Debug)]
struct Mapped {
    space: Arc<Space>,
    memory: Arc<Memory>,
    address: u64,
}

impl Mapping for Mapped {
    fn map(&self) -> Result<()> {
        ioctls::map_dma(self.space.container.as_fd(), &self.memory, self.address)
            .map_err(|errno| Error::call("VFIO_IOMMU_MAP_DMA", errno))
    }

    fn unmap(&self) -> Result<()> {
        let container = self.space.container.as_fd();
        ioctls::unmap_dma(container, self.address, self.memory.length())
            .map_err(|errno| Error::call("VFIO_IOMMU_UNMAP_DMA", errno))
    }
}

impl VfioPci {
    /// Opens the function at `address` (`0000:00:03.0`), which is bound to `vfio-pci`, and lets
    /// it decode memory and master the bus.
    ///
    /// # Errors
    /// When it has no IOMMU group (there is no IOMMU), is not bound, or a call fails.
    pub fn open(address: &str) -> Result<Self> {
        let link = Path::new(sysfs::DEVICES).join(address).join("iommu_group");
        let group = fs::read_link(&link).map_err(|_| {
            Error::Missing(format!(
                "{address} has no IOMMU group; vfio-pci needs an IOMMU: give the machine an \
                 intel-iommu device and the kernel intel_iommu=on"
            ))
        })?;
        let path = Path::new(GROUPS).join(group.file_name().unwrap_or_default());
        let group = open(&path)?;

        let container = open(Path::new(CONTAINER))?;
        let call = |what: &str| {
            let call = format!("{what} of {address}");
            move |errno| Error::Call { call, errno }
        };
        let version =
            ioctls::api_version(container.as_fd()).map_err(call("VFIO_GET_API_VERSION"))?;
        if version != ioctls::API_VERSION {
            return Err(Error::Missing(format!(
                "the kernel's VFIO has version {version}, expected {}",
                ioctls::API_VERSION
            )));
        }
        if !ioctls::has_extension(container.as_fd(), ioctls::TYPE1_V2_IOMMU)
            .map_err(call("VFIO_CHECK_EXTENSION"))?
        {
            return Err(Error::Missing(
                "the kernel's VFIO has no type 1 v2 IOMMU; load vfio_iommu_type1".to_owned(),
            ));
        }
        let status = ioctls::group_status(group.as_fd()).map_err(call("VFIO_GROUP_GET_STATUS"))?;
        if status & ioctls::GROUP_VIABLE == 0 {
            return Err(Error::Missing(format!(
                "{}: another device of the group is bound to another driver than vfio-pci",
                path.display()
            )));
        }
        ioctls::set_container(group.as_fd(), container.as_fd())
            .map_err(call("VFIO_GROUP_SET_CONTAINER"))?;
        ioctls::set_iommu(container.as_fd(), ioctls::TYPE1_V2_IOMMU)
            .map_err(call("VFIO_SET_IOMMU"))?;

        let name = CString::new(address).map_err(|_| {
            Error::Missing(format!(
                "{address:?} is not a PCI address: it has a zero byte"
            ))
        })?;
        let device =
            ioctls::device(group.as_fd(), &name).map_err(call("VFIO_GROUP_GET_DEVICE_FD"))?;
        let mut bars: [Bar; BARS] = Default::default();
        for (bar, index) in bars.iter_mut().zip(0..) {
            let info = ioctls::region_info(device.as_fd(), index)
                .map_err(call("VFIO_DEVICE_GET_REGION_INFO"))?;
            bar.size = info.size;
            bar.offset = info.offset;
            if info.size != 0 && info.flags & region_info::MMAP != 0 {
                // A region with an MSI-X table may refuse; then its file is used.
                bar.mapping = Memory::shared(device.as_fd(), info.offset, info.size).ok();
            }
        }
        let config_offset = ioctls::region_info(device.as_fd(), region::CONFIG)
            .map_err(call("VFIO_DEVICE_GET_REGION_INFO"))?
            .offset;
        let platform = Self {
            bars,
            vectors: Vectors::default(),
            device,
            _group: group,
            space: Arc::new(Space {
                container,
                addresses: DmaAddresses::default(),
            }),
            config_offset,
            address: address.to_owned(),
        };
        pci::set_command(&platform, COMMAND_MEMORY | COMMAND_BUS_MASTER)?;
        Ok(platform)
    }

    fn call(&self, what: &str) -> impl Fn(Errno) -> Error {
        let call = format!("{what} of {}", self.address);
        move |errno| Error::Call {
            call: call.clone(),
            errno,
        }
    }

    fn bar(&self, bar: u8, offset: u64, width: Width) -> Result<&Bar> {
        let found = self
            .bars
            .get(usize::from(bar))
            .ok_or_else(|| Error::Missing(format!("{}: there is no BAR {bar}", self.address)))?;
        width.check("the BAR", offset, found.size)?;
        Ok(found)
    }

    fn read_bytes(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        match pread(&self.device, &mut *bytes, offset) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) => Err(self.call("a read")(Errno::IO)),
            Err(errno) => Err(self.call("a read")(errno)),
        }
    }

    fn write_bytes(&self, bytes: &[u8], offset: u64) -> Result<()> {
        match pwrite(&self.device, bytes, offset) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) => Err(self.call("a write")(Errno::IO)),
            Err(errno) => Err(self.call("a write")(errno)),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| Error::file(path, "open", error))
}

impl BarAccess for VfioPci {
    fn name(&self) -> &str {
        &self.address
    }

    fn transport(&self) -> &'static str {
        "vfio-pci"
    }

    fn identity(&self) -> Result<Identity> {
        sysfs::identity(&self.address)
    }

    fn bar_size(&self, bar: u8) -> Result<u64> {
        Ok(sysfs::bar_sizes(&self.address)?
            .get(usize::from(bar))
            .copied()
            .unwrap_or(0))
    }

    fn read(&self, bar: u8, offset: u64, width: Width) -> Result<u64> {
        let bar = self.bar(bar, offset, width)?;
        if let Some(mapping) = &bar.mapping {
            return mapping.read(offset, width);
        }
        let mut bytes = [0; 8];
        let count = usize::try_from(width.bytes()).unwrap_or(bytes.len());
        self.read_bytes(&mut bytes[..count], bar.offset + offset)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&self, bar: u8, offset: u64, width: Width, value: u64) -> Result<()> {
        let bar = self.bar(bar, offset, width)?;
        if let Some(mapping) = &bar.mapping {
            return mapping.write(offset, width, value);
        }
        let count = usize::try_from(width.bytes()).unwrap_or(8);
        self.write_bytes(&value.to_le_bytes()[..count], bar.offset + offset)
    }

    fn config_read(&self, offset: u16, width: Width) -> Result<u32> {
        sysfs::config_read(offset, width, |bytes| {
            self.read_bytes(bytes, self.config_offset + u64::from(offset))
        })
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Result<()> {
        sysfs::config_write(offset, width, value, |bytes| {
            self.write_bytes(bytes, self.config_offset + u64::from(offset))
        })
    }
}

impl Platform for VfioPci {
    fn dma_buffer(&self, bytes: u64) -> Result<DmaBuffer> {
        let length = DmaBuffer::whole_pages(bytes)?;
        let memory = Arc::new(
            Memory::anonymous(length).map_err(|errno| Error::call("mmap of memory", errno))?,
        );
        let address = self.space.addresses.take(length)?;
        if let Err(errno) = ioctls::map_dma(self.space.container.as_fd(), &memory, address) {
            self.space.addresses.give_back(address);
            return Err(self.call("VFIO_IOMMU_MAP_DMA")(errno));
        }
        let space = Arc::clone(&self.space);
        let mapping = Mapped {
            space: Arc::clone(&self.space),
            memory: Arc::clone(&memory),
            address,
        };
        let buffer = DmaBuffer::new(memory, address, move || {
            // A range that stays mapped must not be given out again.
            if ioctls::unmap_dma(space.container.as_fd(), address, length).is_ok() {
                space.addresses.give_back(address);
            }
        });
        Ok(buffer.with_mapping(mapping))
    }

    fn enable_vectors(&self, count: u16) -> Result<()> {
        let events = Vectors::make(count)?;
        // The kernel refuses to disable what is not enabled.
        if self.vectors.in_use() {
            ioctls::disable_msix(self.device.as_fd())
                .map_err(self.call("VFIO_DEVICE_SET_IRQS (disable)"))?;
        }
        ioctls::set_msix_events(self.device.as_fd(), &events)
            .map_err(self.call("VFIO_DEVICE_SET_IRQS (eventfds)"))?;
        self.vectors.replace(events);
        Ok(())
    }

    fn wait(&self, vector: u16, limit: Duration) -> Result<u64> {
        self.vectors.wait(vector, limit)
    }

    fn reset(&self) -> Result<()> {
        let deadline = Instant::now() + RESET_LIMIT;
        loop {
            match ioctls::reset(self.device.as_fd()) {
                Err(Errno::AGAIN) if Instant::now() < deadline => {
                    std::thread::sleep(RESET_PAUSE);
                }
                outcome => return outcome.map_err(self.call("VFIO_DEVICE_RESET")),
            }
        }
    }
}
