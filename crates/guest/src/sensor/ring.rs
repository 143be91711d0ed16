//! The sensor's ring: its memory, its indexes, the samples in it.

use hdv_devices::sensor::registers::{
    COALESCE, CONTROL, CONTROL_ENABLE, CONTROL_RING, ERROR, PERIOD, RING_ADDRESS,
    RING_HEADER_BYTES, RING_HEADER_HEAD, RING_HEADER_TAIL, RING_SIZE, SAMPLE_BYTES,
    SAMPLE_SEQUENCE, SAMPLE_TIMESTAMP, SAMPLE_VALUE, STATUS, STATUS_ERROR,
};

use super::Sensor;
use crate::platform::{DmaBuffer, Error, Platform, Result, Width};

/// Samples read before the device is told that their slots are free.
const BATCH: u32 = 1024;

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Nanoseconds on the device's monotonic clock.
    pub timestamp: u64,
    /// Thousandths.
    pub value: i32,
    /// The number of the sample since sampling was enabled.
    pub sequence: u32,
}

/// Bytes of memory that a ring of `samples` needs.
#[must_use]
pub fn bytes(samples: u32) -> u64 {
    RING_HEADER_BYTES + u64::from(samples) * SAMPLE_BYTES
}

/// A ring in memory that the sensor writes. Dropping it stops the sensor first.
#[derive(Debug)]
pub struct Ring<'a, P: Platform> {
    sensor: &'a Sensor<P>,
    buffer: DmaBuffer,
    size: u32,
    tail: u32,
}

impl<'a, P: Platform> Ring<'a, P> {
    /// Stops the sensor and gives it a ring of `size` samples, a power of two.
    ///
    /// # Errors
    /// When there is no memory for it or the device refuses it.
    pub fn new(sensor: &'a Sensor<P>, size: u32) -> Result<Self> {
        let buffer = sensor.platform().dma_buffer(bytes(size))?;
        sensor.stop()?;
        sensor.write(RING_ADDRESS, Width::Qword, buffer.address())?;
        sensor.set_register(RING_SIZE, size)?;
        accepted(sensor, "a ring's address and size")?;
        Ok(Self {
            sensor,
            buffer,
            size,
            tail: 0,
        })
    }

    /// Starts sampling into the ring, from sequence number 0: every `period` microseconds, an
    /// interrupt for `coalesce` samples.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn start(&mut self, period: u32, coalesce: u32) -> Result<()> {
        self.sensor.stop()?;
        self.sensor.set_register(PERIOD, period)?;
        self.sensor.set_register(COALESCE, coalesce)?;
        self.tail = 0;
        self.sensor
            .set_register(CONTROL, CONTROL_ENABLE | CONTROL_RING)?;
        accepted(self.sensor, "the start of sampling into a ring")
    }

    /// The DMA address of the ring's header.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.buffer.address()
    }

    /// The device's free-running index of the next sample it writes.
    ///
    /// # Errors
    /// As [`DmaBuffer::read`].
    pub fn head(&self) -> Result<u32> {
        self.buffer.load_acquire(RING_HEADER_HEAD)
    }

    /// How many samples wait to be read.
    ///
    /// # Errors
    /// When the device has written more than the ring holds.
    pub fn waiting(&self) -> Result<u32> {
        let head = self.head()?;
        let waiting = head.wrapping_sub(self.tail);
        if waiting > self.size {
            return Err(Error::Missing(format!(
                "the head of the ring is {head}, more than {} samples beyond its tail {}",
                self.size, self.tail
            )));
        }
        Ok(waiting)
    }

    /// Reads every sample that waits, in order, and frees its slot. Returns how many.
    ///
    /// # Errors
    /// What `take` returns, and as [`Ring::waiting`].
    pub fn drain<E: From<Error>>(
        &mut self,
        mut take: impl FnMut(Sample) -> std::result::Result<(), E>,
    ) -> std::result::Result<u32, E> {
        let waiting = self.waiting()?;
        for done in 1..=waiting {
            take(self.sample(self.tail)?)?;
            self.tail = self.tail.wrapping_add(1);
            if done % BATCH == 0 || done == waiting {
                self.buffer.store_release(RING_HEADER_TAIL, self.tail)?;
            }
        }
        Ok(waiting)
    }

    fn sample(&self, index: u32) -> Result<Sample> {
        let at = bytes(index % self.size);
        let half = |offset| -> Result<u32> {
            #[expect(clippy::cast_possible_truncation, reason = "4 bytes were read")]
            Ok(self.buffer.read(at + offset, Width::Dword)? as u32)
        };
        Ok(Sample {
            timestamp: self.buffer.read(at + SAMPLE_TIMESTAMP, Width::Qword)?,
            value: half(SAMPLE_VALUE)?.cast_signed(),
            sequence: half(SAMPLE_SEQUENCE)?,
        })
    }
}

impl<P: Platform> Drop for Ring<'_, P> {
    fn drop(&mut self) {
        // When even this fails the device loses the memory below all the same.
        let _ = self.sensor.halt();
    }
}

fn accepted<P: Platform>(sensor: &Sensor<P>, what: &str) -> Result<()> {
    if sensor.register(STATUS)? & STATUS_ERROR == 0 {
        return Ok(());
    }
    Err(Error::Missing(format!(
        "{}: the sensor refused {what}, error {}",
        crate::platform::BarAccess::name(sensor.platform()),
        sensor.register(ERROR)?
    )))
}
