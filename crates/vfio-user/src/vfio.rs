//! The numbers that VFIO (`<linux/vfio.h>`) and the vfio-user specification fix and that a
//! device or a client needs to name: region indexes, interrupt indexes, flags. No types.

/// Region indexes of a PCI device (`VFIO_PCI_*_REGION_INDEX`).
pub mod region {
    /// Base address register 0; 1 to 5 follow.
    pub const BAR0: u32 = 0;
    /// Base address register 1.
    pub const BAR1: u32 = 1;
    /// Base address register 2.
    pub const BAR2: u32 = 2;
    /// Base address register 3.
    pub const BAR3: u32 = 3;
    /// Base address register 4.
    pub const BAR4: u32 = 4;
    /// Base address register 5.
    pub const BAR5: u32 = 5;
    /// Expansion ROM.
    pub const ROM: u32 = 6;
    /// Configuration space.
    pub const CONFIG: u32 = 7;
    /// Legacy VGA ranges.
    pub const VGA: u32 = 8;
    /// Number of regions of a PCI device.
    pub const COUNT: u32 = 9;
}

/// Interrupt indexes of a PCI device (`VFIO_PCI_*_IRQ_INDEX`).
pub mod irq {
    /// The interrupt pin.
    pub const INTX: u32 = 0;
    /// Message signalled interrupts.
    pub const MSI: u32 = 1;
    /// MSI-X.
    pub const MSIX: u32 = 2;
    /// Errors (AER).
    pub const ERR: u32 = 3;
    /// Requests that the client release the device.
    pub const REQ: u32 = 4;
    /// Number of interrupt indexes of a PCI device.
    pub const COUNT: u32 = 5;
}

/// `VFIO_REGION_INFO_FLAG_*` beyond the access rights.
pub mod region_info {
    /// The region is readable.
    pub const READ: u32 = 1 << 0;
    /// The region is writable.
    pub const WRITE: u32 = 1 << 1;
    /// A descriptor comes with the reply and can be mapped.
    pub const MMAP: u32 = 1 << 2;
    /// Capabilities follow the structure.
    pub const CAPS: u32 = 1 << 3;
    /// Capability id of the sparse mmap areas (`VFIO_REGION_INFO_CAP_SPARSE_MMAP`).
    pub const CAP_SPARSE_MMAP: u16 = 1;
    /// Version of the sparse mmap capability.
    pub const CAP_SPARSE_MMAP_VERSION: u16 = 1;
}

/// `VFIO_IRQ_SET_*`.
pub mod irq_set {
    /// No data.
    pub const DATA_NONE: u32 = 1 << 0;
    /// One byte per sub-index.
    pub const DATA_BOOL: u32 = 1 << 1;
    /// One eventfd per sub-index.
    pub const DATA_EVENTFD: u32 = 1 << 2;
    /// Mask.
    pub const ACTION_MASK: u32 = 1 << 3;
    /// Unmask.
    pub const ACTION_UNMASK: u32 = 1 << 4;
    /// Trigger.
    pub const ACTION_TRIGGER: u32 = 1 << 5;
    /// All data bits.
    pub const DATA_MASK: u32 = DATA_NONE | DATA_BOOL | DATA_EVENTFD;
    /// All action bits.
    pub const ACTION_ALL: u32 = ACTION_MASK | ACTION_UNMASK | ACTION_TRIGGER;
}

/// Kinds and flags of DEVICE_GET_REGION_IO_FDS.
pub mod io_fd {
    /// The descriptor is an ioeventfd (`VFIO_USER_IO_FD_TYPE_IOEVENTFD`).
    pub const TYPE_IOEVENTFD: u32 = 0;
    /// Only the given value signals (`KVM_IOEVENTFD_FLAG_DATAMATCH`).
    pub const FLAG_DATAMATCH: u32 = 1 << 0;
}

/// Flags of DMA_UNMAP.
pub mod dma_unmap {
    /// Everything that is mapped goes (`VFIO_DMA_UNMAP_FLAG_ALL`); address and size are 0. The
    /// specification has no flags here, but QEMU sends this one when a vIOMMU's address space
    /// goes.
    pub const ALL: u32 = 1 << 1;
}
