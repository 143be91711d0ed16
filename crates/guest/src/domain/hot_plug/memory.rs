//! The memory that sensors in use write samples to: a place for each in one page, which outlives them all. A device that is
//! gone and writes on is found out.

use hdv_devices::sensor::registers::{
    RING_ALIGNMENT, RING_HEADER_BYTES, RING_HEADER_HEAD, SAMPLE_BYTES,
};

use crate::checks::{Failure, ensure};
use crate::platform::Width;
use crate::platform::direct::page_for_devices;
use crate::platform::memory::{HUGE_PAGE_BYTES, Memory};

/// Bytes of a place.
const PLACE_BYTES: u64 = RING_HEADER_BYTES + Place::SAMPLES as u64 * SAMPLE_BYTES;
const _: () = assert!(PLACE_BYTES.is_multiple_of(RING_ALIGNMENT));

/// The page.
#[derive(Debug)]
pub(super) struct Places {
    memory: Memory,
    physical: u64,
}

/// A sensor's place in it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    offset: u64,
}

impl Places {
    /// # Errors
    /// The kernel sets no page aside.
    pub(super) fn new() -> Result<Self, Failure> {
        let (memory, physical) = page_for_devices()?;
        Ok(Self { memory, physical })
    }

    /// # Errors
    /// There is no room for so many.
    pub(super) fn place(&self, index: usize) -> Result<Place<'_>, Failure> {
        let offset = index as u64 * PLACE_BYTES;
        ensure(offset + PLACE_BYTES <= HUGE_PAGE_BYTES, || {
            format!("there is no memory for {index} sensors")
        })?;
        Ok(Place {
            places: self,
            offset,
        })
    }
}

impl Place<'_> {
    /// Samples that it has room for: enough for seconds.
    pub(super) const SAMPLES: u32 = 1024;

    /// Its address for devices.
    pub(super) fn address(&self) -> u64 {
        self.places.physical + self.offset
    }

    /// # Errors
    /// None.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        let header = self.offset + RING_HEADER_HEAD;
        Ok(self.places.memory.write(header, Width::Dword, 0)?)
    }

    /// How many samples have been written.
    ///
    /// # Errors
    /// None.
    pub(super) fn head(&self) -> Result<u32, Failure> {
        let header = self.offset + RING_HEADER_HEAD;
        Ok(self.places.memory.load_acquire(header)?)
    }
}
