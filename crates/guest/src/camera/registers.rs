//! The camera's registers (BAR 0) and descriptors; `examples/c/camera.c` tells what they mean.

/// PCI vendor id.
pub const VENDOR_ID: u16 = 0x4f48;
/// PCI device id.
pub const DEVICE_ID: u16 = 0x0102;
/// PCI class code: multimedia, other.
pub const CLASS_CODE: u32 = 0x0004_8000;
/// Size of BAR 0 in bytes.
pub const BAR0_SIZE: u64 = 4096;

/// Reads [`IDENTIFICATION_VALUE`].
pub const IDENTIFICATION: u64 = 0x000;
/// "CAMR" in ASCII, first letter in the lowest byte.
pub const IDENTIFICATION_VALUE: u32 = u32::from_le_bytes(*b"CAMR");
/// Reads [`VERSION_VALUE`].
pub const VERSION: u64 = 0x004;
/// The version of this register map.
pub const VERSION_VALUE: u32 = 1;
/// Frames are taken while [`CONTROL_ENABLE`] is set.
pub const CONTROL: u64 = 0x008;
/// `STATUS_*` bits, write one to clear.
pub const STATUS: u64 = 0x00c;
/// One of `ERROR_*`.
pub const ERROR: u64 = 0x010;
/// Microseconds between frames.
pub const PERIOD: u64 = 0x014;
/// Width in pixels.
pub const WIDTH: u64 = 0x018;
/// Height in pixels.
pub const HEIGHT: u64 = 0x01c;
/// Bytes from one line to the next.
pub const STRIDE: u64 = 0x020;
/// Reads [`FORMAT_VALUE`].
pub const FORMAT: u64 = 0x024;
/// "XR24": pixels are 0x00RRGGBB.
pub const FORMAT_VALUE: u32 = u32::from_le_bytes(*b"XR24");
/// Bytes of a frame.
pub const FRAME_SIZE: u64 = 0x028;
/// Descriptors in the ring.
pub const RING_SIZE: u64 = 0x02c;
/// DMA address of the ring, 8 bytes.
pub const RING_ADDRESS: u64 = 0x030;
/// Free-running count of buffers offered.
pub const POSTED: u64 = 0x038;
/// Free-running count of buffers filled.
pub const COMPLETED: u64 = 0x03c;
/// Number of the next frame.
pub const SEQUENCE: u64 = 0x040;
/// Frames for which there was no buffer.
pub const DROPPED: u64 = 0x044;

/// Frames are taken.
pub const CONTROL_ENABLE: u32 = 1 << 0;
/// A frame was delivered.
pub const STATUS_FRAME: u32 = 1 << 0;
/// A frame was dropped.
pub const STATUS_DROPPED: u32 = 1 << 1;
/// Something was refused; [`ERROR`] says what.
pub const STATUS_ERROR: u32 = 1 << 2;

/// [`PERIOD`] out of range.
pub const ERROR_PERIOD: u32 = 1;
/// [`RING_SIZE`] no power of two in range.
pub const ERROR_RING_SIZE: u32 = 2;
/// [`RING_ADDRESS`] misaligned.
pub const ERROR_RING_ADDRESS: u32 = 3;
/// The ring is not in guest memory.
pub const ERROR_RING_MEMORY: u32 = 4;
/// A buffer is not in guest memory.
pub const ERROR_BUFFER_MEMORY: u32 = 5;
/// The ring was written to while in use.
pub const ERROR_RING_IN_USE: u32 = 6;

/// Shortest period in microseconds.
pub const PERIOD_MIN: u32 = 1000;
/// Bytes of a descriptor.
pub const DESCRIPTOR_BYTES: u64 = 32;
/// In a descriptor: address of the buffer, 8 bytes.
pub const DESCRIPTOR_BUFFER: u64 = 0x00;
/// In a descriptor: time of the frame in nanoseconds, 8 bytes.
pub const DESCRIPTOR_TIME: u64 = 0x08;
/// In a descriptor: number of the frame.
pub const DESCRIPTOR_NUMBER: u64 = 0x10;
/// In a descriptor: bytes written.
pub const DESCRIPTOR_BYTES_WRITTEN: u64 = 0x14;
/// In a descriptor: checksum of these bytes.
pub const DESCRIPTOR_CHECKSUM: u64 = 0x18;

/// The vector of a frame.
pub const VECTOR_FRAME: u16 = 0;
/// Number of MSI-X vectors.
pub const VECTORS: u16 = 1;
