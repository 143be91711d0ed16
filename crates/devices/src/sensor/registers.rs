//! The sensor's registers (BAR0), its ring in guest memory and its interrupt vectors.
//!
//! This is the contract between the device and its drivers and holds nothing else. All
//! values are little-endian. Registers may be read with 1, 2, 4 or 8 bytes at natural
//! alignment; a narrow write changes only the bytes it names.
//!
//! | offset | bytes | access | register |
//! | --- | --- | --- | --- |
//! | 0x000 | 4 | RO | [`IDENTIFICATION`]: [`IDENTIFICATION_VALUE`] |
//! | 0x004 | 4 | RO | [`VERSION`]: [`VERSION_VALUE`] |
//! | 0x008 | 4 | RW | [`CONTROL`]: [`CONTROL_ENABLE`], [`CONTROL_RING`] |
//! | 0x00c | 4 | RW1C | [`STATUS`]: `STATUS_*` |
//! | 0x010 | 4 | RO | [`ERROR`]: why the last setting was refused, `ERROR_*` |
//! | 0x014 | 4 | RW | [`PERIOD`]: microseconds between samples, 1 to 2^32 - 1 |
//! | 0x018 | 4 | RW | [`COALESCE`]: samples per vector 0 interrupt, 1 to 2^32 - 1 |
//! | 0x01c | 4 | RO | [`OVERFLOWS`]: samples lost because the ring was full |
//! | 0x020 | 4 | RO | [`VALUE`]: the latest value, signed, in thousandths |
//! | 0x024 | 4 | RO | [`SEQUENCE`]: its sequence number |
//! | 0x028 | 8 | RO | [`TIMESTAMP`]: its time, nanoseconds on the device's monotonic clock |
//! | 0x030 | 8 | RW | [`RING_ADDRESS`]: DMA address, a multiple of [`RING_ALIGNMENT`] |
//! | 0x038 | 4 | RW | [`RING_SIZE`]: samples it holds, a power of two, 2 to [`RING_SIZE_MAX`] |
//! | 0x03c | 4 | RO | [`RING_HEAD`]: the next index the device writes |
//! | 0x040 | 4 | RW | [`THRESHOLD_LOW`]: signed, in thousandths |
//! | 0x044 | 4 | RW | [`THRESHOLD_HIGH`]: signed, in thousandths |
//! | 0x048 | 8 | RW | [`SCRATCH`]: keeps what is written, for drivers to try accesses on |
//! | 0x800 | 48 | RW | MSI-X table ([`VECTORS`] entries) |
//! | 0xc00 | 8 | RO | MSI-X pending-bit array |
//!
//! Everything else reads as zero and ignores writes.
//!
//! # Sampling
//! While [`CONTROL_ENABLE`] is set a sample is taken every [`PERIOD`]; it sets [`VALUE`],
//! [`SEQUENCE`] and [`TIMESTAMP`] together (an 8-byte read of [`VALUE`] is never torn).
//! Sequence numbers start at 0 when the bit goes from 0 to 1, so do [`RING_HEAD`] and
//! [`OVERFLOWS`].
//!
//! # The ring
//! [`RING_ADDRESS`] names a header of [`RING_HEADER_BYTES`] followed by [`RING_SIZE`] samples of
//! [`SAMPLE_BYTES`]. While [`CONTROL_RING`] is set every sample is written to slot
//! `head % RING_SIZE`, then the header's head, a free-running 32-bit index, is advanced. The
//! driver advances the header's tail, likewise free-running, once it has read a sample. The
//! device never writes more than `RING_SIZE` samples beyond the tail: one that finds the ring
//! full is dropped, counted in [`OVERFLOWS`], and sets [`STATUS_OVERFLOW`]. A driver
//! sees the gap in the sequence numbers. Setting [`CONTROL_RING`] writes 0 to the head and tail
//! of the header.
//!
//! # Refused settings
//! A write that would leave a bad setting changes nothing, sets [`STATUS_ERROR`] and the reason
//! in [`ERROR`]. Address and size of the ring are checked together against guest memory
//! when [`CONTROL_RING`] is set, and cannot be written while it is. A ring whose memory goes away
//! while in use clears [`CONTROL_RING`] and reports [`ERROR_RING_MEMORY`].

/// PCI vendor id.
pub const VENDOR_ID: u16 = 0x4f48;
/// PCI device id.
pub const DEVICE_ID: u16 = 0x0001;
/// PCI class code: base class 0x11 (signal processing), subclass 0x80 (other), interface 0.
pub const CLASS_CODE: u32 = 0x0011_8000;

/// Size of BAR0 in bytes.
pub const BAR0_SIZE: u64 = 4096;

/// Reads [`IDENTIFICATION_VALUE`].
pub const IDENTIFICATION: u64 = 0x000;
/// "SNSR" in ASCII, first letter in the lowest byte.
pub const IDENTIFICATION_VALUE: u32 = u32::from_le_bytes(*b"SNSR");
/// Reads [`VERSION_VALUE`].
pub const VERSION: u64 = 0x004;
/// The version of this register map.
pub const VERSION_VALUE: u32 = 1;
/// `CONTROL_*` bits.
pub const CONTROL: u64 = 0x008;
/// `STATUS_*` bits, write one to clear.
pub const STATUS: u64 = 0x00c;
/// One of `ERROR_*`.
pub const ERROR: u64 = 0x010;
/// Microseconds between samples.
pub const PERIOD: u64 = 0x014;
/// Samples per vector 0 interrupt.
pub const COALESCE: u64 = 0x018;
/// Samples lost because the ring was full; stays at its maximum.
pub const OVERFLOWS: u64 = 0x01c;
/// The latest value in thousandths.
pub const VALUE: u64 = 0x020;
/// The latest value's sequence number.
pub const SEQUENCE: u64 = 0x024;
/// The latest value's time in nanoseconds.
pub const TIMESTAMP: u64 = 0x028;
/// DMA address of the ring's header.
pub const RING_ADDRESS: u64 = 0x030;
/// Samples the ring holds.
pub const RING_SIZE: u64 = 0x038;
/// The next index the device writes.
pub const RING_HEAD: u64 = 0x03c;
/// A value that falls below it sets [`STATUS_LOW`]; `i32::MIN` after reset: never.
pub const THRESHOLD_LOW: u64 = 0x040;
/// A value that rises above it sets [`STATUS_HIGH`]; `i32::MAX` after reset: never.
pub const THRESHOLD_HIGH: u64 = 0x044;
/// Eight bytes without effect.
pub const SCRATCH: u64 = 0x048;
/// Offset of the MSI-X table in BAR0.
pub const MSIX_TABLE: u32 = 0x800;
/// Offset of the MSI-X pending-bit array in BAR0.
pub const MSIX_PENDING: u32 = 0xc00;

/// Samples are taken while this bit of [`CONTROL`] is set.
pub const CONTROL_ENABLE: u32 = 1 << 0;
/// Samples are written to the ring while this bit of [`CONTROL`] is set.
pub const CONTROL_RING: u32 = 1 << 1;

/// [`COALESCE`] samples were added to the ring (or taken, without a ring): vector 0.
pub const STATUS_SAMPLES: u32 = 1 << 0;
/// The value rose above [`THRESHOLD_HIGH`]: vector 1.
pub const STATUS_HIGH: u32 = 1 << 1;
/// The value fell below [`THRESHOLD_LOW`]: vector 1.
pub const STATUS_LOW: u32 = 1 << 2;
/// A sample was lost because the ring was full: vector 2, once until the bit is cleared.
pub const STATUS_OVERFLOW: u32 = 1 << 3;
/// A setting was refused; [`ERROR`] says why. No interrupt.
pub const STATUS_ERROR: u32 = 1 << 4;

/// Nothing was refused since reset.
pub const ERROR_NONE: u32 = 0;
/// [`PERIOD`] 0.
pub const ERROR_PERIOD: u32 = 1;
/// [`COALESCE`] 0.
pub const ERROR_COALESCE: u32 = 2;
/// [`RING_SIZE`] not a power of two between 2 and [`RING_SIZE_MAX`].
pub const ERROR_RING_SIZE: u32 = 3;
/// [`RING_ADDRESS`] misaligned.
pub const ERROR_RING_ALIGNMENT: u32 = 4;
/// The ring is not wholly in writable guest memory.
pub const ERROR_RING_MEMORY: u32 = 5;
/// [`RING_ADDRESS`] or [`RING_SIZE`] written while [`CONTROL_RING`] is set.
pub const ERROR_RING_BUSY: u32 = 6;
/// The source failed to give a value.
pub const ERROR_SOURCE: u32 = 7;

/// [`RING_ADDRESS`] is a multiple of this many bytes.
pub const RING_ALIGNMENT: u64 = 64;
/// Most samples a ring holds.
pub const RING_SIZE_MAX: u32 = 1 << 20;
/// Bytes before the first sample.
pub const RING_HEADER_BYTES: u64 = 128;
/// Offset of the 32-bit head in the header; the device writes it.
pub const RING_HEADER_HEAD: u64 = 0;
/// Offset of the 32-bit tail in the header, in another cache line; the driver writes it.
pub const RING_HEADER_TAIL: u64 = 64;
/// Bytes of a sample: a 64-bit time in nanoseconds, a signed 32-bit value in thousandths, a 32-bit
/// sequence number.
pub const SAMPLE_BYTES: u64 = 16;
/// Offset of the time in a sample.
pub const SAMPLE_TIMESTAMP: u64 = 0;
/// Offset of the value in a sample.
pub const SAMPLE_VALUE: u64 = 8;
/// Offset of the sequence number in a sample.
pub const SAMPLE_SEQUENCE: u64 = 12;

/// Number of MSI-X vectors.
pub const VECTORS: u16 = 3;
/// Vector of [`STATUS_SAMPLES`].
pub const VECTOR_SAMPLES: u16 = 0;
/// Vector of [`STATUS_HIGH`] and [`STATUS_LOW`].
pub const VECTOR_THRESHOLD: u16 = 1;
/// Vector of [`STATUS_OVERFLOW`].
pub const VECTOR_OVERFLOW: u16 = 2;

/// Reset value of [`PERIOD`].
pub const PERIOD_RESET: u32 = 1_000_000;
/// Reset value of [`RING_SIZE`].
pub const RING_SIZE_RESET: u32 = 256;
/// Reset value of [`COALESCE`].
pub const COALESCE_RESET: u32 = 1;

/// Period of the `sine` source in samples.
pub const SINE_SAMPLES: u32 = 1000;
/// Amplitude of the `sine` source in thousandths.
pub const SINE_AMPLITUDE: i32 = 100_000;

/// The `sine` source's value for a sequence number, in thousandths. Drivers recompute
/// it to see that a sample is whole.
///
/// Integers only (Bhaskara's approximation, within 0.2% of a sine): a floating point sine
/// may differ in its last bit between the device's machine and the guest's.
#[must_use]
pub const fn sine_value(sequence: u32) -> i32 {
    const HALF: i64 = SINE_SAMPLES as i64 / 2;
    let phase = (sequence % SINE_SAMPLES) as i64;
    let x = phase % HALF;
    let product = x * (HALF - x);
    let magnitude = 16 * SINE_AMPLITUDE as i64 * product / (5 * HALF * HALF - 4 * product);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the amplitude bounds the value"
    )]
    let magnitude = magnitude as i32;
    if phase < HALF { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_is_near_a_real_one() {
        for sequence in 0..2 * SINE_SAMPLES {
            let phase = f64::from(sequence) / f64::from(SINE_SAMPLES) * std::f64::consts::TAU;
            let real = f64::from(SINE_AMPLITUDE) * phase.sin();
            let off = (f64::from(sine_value(sequence)) - real).abs();
            assert!(
                off < f64::from(SINE_AMPLITUDE) * 0.002,
                "{sequence}: off by {off}"
            );
        }
    }
}
