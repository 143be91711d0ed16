//! The ioctls of Linux' VFIO (`linux/vfio.h`) that a driver needs, each as a safe function.
//!
//! Nothing here keeps state; the crate's `unsafe` for ioctls is all here.

use std::ffi::{CStr, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use hdv_vfio_user::vfio::{irq, irq_set};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};

use super::memory::Memory;
use super::vectors::VECTORS_MAX;

type Outcome<T> = std::result::Result<T, Errno>;

/// `VFIO_TYPE`, the group of every opcode.
const GROUP: u8 = b';';
/// `VFIO_BASE`, the number of the first.
const BASE: u8 = 100;

const GET_API_VERSION: u8 = 0;
const CHECK_EXTENSION: u8 = 1;
const SET_IOMMU: u8 = 2;
const GROUP_GET_STATUS: u8 = 3;
const GROUP_SET_CONTAINER: u8 = 4;
const GROUP_GET_DEVICE_FD: u8 = 6;
const DEVICE_GET_REGION_INFO: u8 = 8;
const DEVICE_SET_IRQS: u8 = 10;
const DEVICE_RESET: u8 = 11;
const IOMMU_MAP_DMA: u8 = 13;
const IOMMU_UNMAP_DMA: u8 = 14;

/// `VFIO_API_VERSION`.
pub(super) const API_VERSION: c_int = 0;
/// `VFIO_TYPE1v2_IOMMU`.
pub(super) const TYPE1_V2_IOMMU: usize = 3;
/// `VFIO_GROUP_FLAGS_VIABLE`: every device of the group is free for us.
pub(super) const GROUP_VIABLE: u32 = 1 << 0;

/// `VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE`.
const DMA_READ_WRITE: u32 = 3;
/// With a count of 0: disable all.
const IRQS_DISABLE: u32 = irq_set::DATA_NONE | irq_set::ACTION_TRIGGER;
/// Bind to eventfds.
const IRQS_EVENTS: u32 = irq_set::DATA_EVENTFD | irq_set::ACTION_TRIGGER;

/// `vfio_group_status`.
#[repr(C)]
#[derive(Debug, Default)]
struct GroupStatus {
    argsz: u32,
    flags: u32,
}

/// `vfio_region_info` without capabilities.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct RegionInfo {
    argsz: u32,
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub(super) flags: u32,
    index: u32,
    cap_offset: u32,
    /// Size in bytes.
    pub(super) size: u64,
    /// Offset of the region's first byte in the device's file.
    pub(super) offset: u64,
}

/// `vfio_iommu_type1_dma_map`.
#[repr(C)]
#[derive(Debug)]
struct DmaMap {
    argsz: u32,
    flags: u32,
    process_address: u64,
    address: u64,
    size: u64,
}

/// `vfio_iommu_type1_dma_unmap` without its bitmap.
#[repr(C)]
#[derive(Debug)]
struct DmaUnmap {
    argsz: u32,
    flags: u32,
    address: u64,
    size: u64,
}

/// `vfio_irq_set` with room for as many eventfds as a driver may enable.
#[repr(C)]
#[derive(Debug)]
struct IrqSet {
    argsz: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    events: [c_int; VECTORS_MAX as usize],
}

/// Bytes of [`IrqSet`] before its eventfds.
const IRQ_SET_HEADER_BYTES: u32 = 20;

/// An ioctl of VFIO with its argument, a pointer or a number, whose result is a number.
struct Call {
    number: u8,
    argument: *mut c_void,
}

// SAFETY: the opcode is VFIO's; whoever makes a `Call` vouches for the argument, and the output
// is the plain result. Declared mutating because the kernel writes through some arguments.
unsafe impl Ioctl for Call {
    type Output = c_int;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::none(GROUP, BASE + self.number)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<c_int> {
        Ok(output)
    }
}

/// Calls with a number.
fn number(file: BorrowedFd<'_>, number: u8, argument: usize) -> Outcome<c_int> {
    let call = Call {
        number,
        argument: ptr::without_provenance_mut(argument),
    };
    // SAFETY: the ioctls called so (see the callers, all in this file) take a number or
    // nothing and touch no memory of this process.
    unsafe { rustix::ioctl::ioctl(file, call) }
}

/// Calls with a structure that begins with its size.
fn structure<T>(file: BorrowedFd<'_>, number: u8, argument: &mut T) -> Outcome<c_int> {
    let call = Call {
        number,
        argument: ptr::from_mut(argument).cast(),
    };
    // SAFETY: each caller, all in this file, passes the `#[repr(C)]` structure of that ioctl
    // with `argsz` no larger than the structure, so the kernel stays within it.
    unsafe { rustix::ioctl::ioctl(file, call) }
}

fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}

/// `VFIO_GET_API_VERSION`.
pub(super) fn api_version(container: BorrowedFd<'_>) -> Outcome<c_int> {
    number(container, GET_API_VERSION, 0)
}

/// `VFIO_CHECK_EXTENSION`.
pub(super) fn has_extension(container: BorrowedFd<'_>, extension: usize) -> Outcome<bool> {
    Ok(number(container, CHECK_EXTENSION, extension)? > 0)
}

/// `VFIO_SET_IOMMU`.
pub(super) fn set_iommu(container: BorrowedFd<'_>, kind: usize) -> Outcome<()> {
    number(container, SET_IOMMU, kind).map(drop)
}

/// `VFIO_GROUP_GET_STATUS`; returns `VFIO_GROUP_FLAGS_*`.
pub(super) fn group_status(group: BorrowedFd<'_>) -> Outcome<u32> {
    let mut status = GroupStatus {
        argsz: size_of_u32::<GroupStatus>(),
        flags: 0,
    };
    structure(group, GROUP_GET_STATUS, &mut status)?;
    Ok(status.flags)
}

/// `VFIO_GROUP_SET_CONTAINER`.
pub(super) fn set_container(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> Outcome<()> {
    let mut container = container.as_raw_fd();
    structure(group, GROUP_SET_CONTAINER, &mut container).map(drop)
}

/// `VFIO_GROUP_GET_DEVICE_FD`.
pub(super) fn device(group: BorrowedFd<'_>, name: &CStr) -> Outcome<OwnedFd> {
    let call = Call {
        number: GROUP_GET_DEVICE_FD,
        argument: name.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel reads a string up to its end and writes nothing.
    let file = unsafe { rustix::ioctl::ioctl(group, call) }?;
    // SAFETY: a result that is no error is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// `VFIO_DEVICE_GET_REGION_INFO`.
pub(super) fn region_info(device: BorrowedFd<'_>, index: u32) -> Outcome<RegionInfo> {
    let mut info = RegionInfo {
        argsz: size_of_u32::<RegionInfo>(),
        index,
        ..RegionInfo::default()
    };
    structure(device, DEVICE_GET_REGION_INFO, &mut info)?;
    Ok(info)
}

/// `VFIO_DEVICE_SET_IRQS`: binds the first vectors of MSI-X to eventfds.
pub(super) fn set_msix_events<Event: AsFd>(
    device: BorrowedFd<'_>,
    events: &[Event],
) -> Outcome<()> {
    let mut set = IrqSet {
        argsz: 0,
        flags: IRQS_EVENTS,
        index: irq::MSIX,
        start: 0,
        count: u32::try_from(events.len()).map_err(|_| Errno::INVAL)?,
        events: [-1; VECTORS_MAX as usize],
    };
    if events.len() > set.events.len() {
        return Err(Errno::INVAL);
    }
    set.argsz = IRQ_SET_HEADER_BYTES + 4 * set.count;
    for (slot, event) in set.events.iter_mut().zip(events) {
        *slot = event.as_fd().as_raw_fd();
    }
    structure(device, DEVICE_SET_IRQS, &mut set).map(drop)
}

/// `VFIO_DEVICE_SET_IRQS`: disables MSI-X.
pub(super) fn disable_msix(device: BorrowedFd<'_>) -> Outcome<()> {
    let mut set = IrqSet {
        argsz: IRQ_SET_HEADER_BYTES,
        flags: IRQS_DISABLE,
        index: irq::MSIX,
        start: 0,
        count: 0,
        events: [-1; VECTORS_MAX as usize],
    };
    structure(device, DEVICE_SET_IRQS, &mut set).map(drop)
}

/// `VFIO_DEVICE_RESET`.
pub(super) fn reset(device: BorrowedFd<'_>) -> Outcome<()> {
    number(device, DEVICE_RESET, 0).map(drop)
}

/// `VFIO_IOMMU_MAP_DMA`: all of `memory`, readable and writable, at `address`. The kernel
/// holds the pages, so a device that outlasts the mapping in this process does no harm here.
pub(super) fn map_dma(container: BorrowedFd<'_>, memory: &Memory, address: u64) -> Outcome<()> {
    let mut map = DmaMap {
        argsz: size_of_u32::<DmaMap>(),
        flags: DMA_READ_WRITE,
        process_address: memory.process_address(),
        address,
        size: memory.length(),
    };
    structure(container, IOMMU_MAP_DMA, &mut map).map(drop)
}

/// `VFIO_IOMMU_UNMAP_DMA`.
pub(super) fn unmap_dma(container: BorrowedFd<'_>, address: u64, size: u64) -> Outcome<()> {
    let mut unmap = DmaUnmap {
        argsz: size_of_u32::<DmaUnmap>(),
        flags: 0,
        address,
        size,
    };
    structure(container, IOMMU_UNMAP_DMA, &mut unmap).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<GroupStatus>(), 8);
        assert_eq!(size_of::<RegionInfo>(), 32);
        assert_eq!(size_of::<DmaMap>(), 32);
        assert_eq!(size_of::<DmaUnmap>(), 24);
        assert_eq!(
            std::mem::offset_of!(IrqSet, events),
            IRQ_SET_HEADER_BYTES as usize
        );
    }
}
