//! The sensor's registers and ring: what a write changes, what a sample does. Threads and time
//! are not here.

use hdv::{BarAccess, DeviceContext, GuestAddress, MemoryError};

use super::registers::*;

/// Everything the sensor's two threads share, under one lock.
pub(super) struct State {
    context: Option<DeviceContext>,
    control: u32,
    status: u32,
    error: u32,
    period: u32,
    coalesce: u32,
    overflows: u32,
    value: i32,
    sequence: u32,
    timestamp: u64,
    ring_address: u64,
    ring_size: u32,
    ring_head: u32,
    threshold_low: i32,
    threshold_high: i32,
    scratch: u64,
    /// Sequence number of the next sample.
    next_sequence: u32,
    /// Samples since the last vector 0 interrupt.
    coalesced: u32,
    /// The latest value was above the high, below the low threshold.
    above: bool,
    below: bool,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            context: None,
            control: 0,
            status: 0,
            error: ERROR_NONE,
            period: PERIOD_RESET,
            coalesce: COALESCE_RESET,
            overflows: 0,
            value: 0,
            sequence: 0,
            timestamp: 0,
            ring_address: 0,
            ring_size: RING_SIZE_RESET,
            ring_head: 0,
            threshold_low: i32::MIN,
            threshold_high: i32::MAX,
            scratch: 0,
            next_sequence: 0,
            coalesced: 0,
            above: false,
            below: false,
        }
    }

    pub(super) fn attach(&mut self, context: DeviceContext) {
        self.context = Some(context);
    }

    pub(super) fn reset(&mut self) {
        *self = Self {
            context: self.context.take(),
            ..Self::new()
        };
    }

    pub(super) fn enabled(&self) -> bool {
        self.control & CONTROL_ENABLE != 0
    }

    /// Microseconds between samples, never 0.
    pub(super) fn period(&self) -> u32 {
        self.period
    }

    pub(super) fn next_sequence(&self) -> u32 {
        self.next_sequence
    }

    pub(super) fn read(&self, access: BarAccess) -> u64 {
        access.read_dwords(|offset| match offset {
            IDENTIFICATION => IDENTIFICATION_VALUE,
            VERSION => VERSION_VALUE,
            CONTROL => self.control,
            STATUS => self.status,
            ERROR => self.error,
            PERIOD => self.period,
            COALESCE => self.coalesce,
            OVERFLOWS => self.overflows,
            VALUE => self.value.cast_unsigned(),
            SEQUENCE => self.sequence,
            RING_SIZE => self.ring_size,
            RING_HEAD => self.ring_head,
            THRESHOLD_LOW => self.threshold_low.cast_unsigned(),
            THRESHOLD_HIGH => self.threshold_high.cast_unsigned(),
            _ => half_of(TIMESTAMP, self.timestamp, offset)
                .or(half_of(RING_ADDRESS, self.ring_address, offset))
                .or(half_of(SCRATCH, self.scratch, offset))
                .unwrap_or(0),
        })
    }

    pub(super) fn write(&mut self, access: BarAccess, value: u64) {
        access.write_dwords(value, |offset, value, mask| {
            let merge = |old: u32| old & !mask | value;
            let result = match offset {
                CONTROL => self.set_control(merge(self.control)),
                STATUS => {
                    self.status &= !value;
                    Ok(())
                }
                PERIOD => {
                    positive(merge(self.period), ERROR_PERIOD).map(|period| self.period = period)
                }
                COALESCE => positive(merge(self.coalesce), ERROR_COALESCE)
                    .map(|coalesce| self.coalesce = coalesce),
                RING_SIZE => self.set_ring_size(merge(self.ring_size)),
                THRESHOLD_LOW => {
                    let low = merge(self.threshold_low.cast_unsigned());
                    self.threshold_low = low.cast_signed();
                    Ok(())
                }
                THRESHOLD_HIGH => {
                    let high = merge(self.threshold_high.cast_unsigned());
                    self.threshold_high = high.cast_signed();
                    Ok(())
                }
                _ if offset & !4 == RING_ADDRESS => {
                    self.set_ring_address(merge_half(self.ring_address, offset, value, mask))
                }
                _ if offset & !4 == SCRATCH => {
                    self.scratch = merge_half(self.scratch, offset, value, mask);
                    Ok(())
                }
                _ => Ok(()),
            };
            if let Err(reason) = result {
                self.fail(reason);
            }
        });
    }

    /// Reports a refused setting or a failure.
    pub(super) fn fail(&mut self, reason: u32) {
        self.error = reason;
        self.status |= STATUS_ERROR;
    }

    fn ring_in_use(&self) -> bool {
        self.control & CONTROL_RING != 0
    }

    fn set_ring_size(&mut self, size: u32) -> Result<(), u32> {
        if self.ring_in_use() {
            return Err(ERROR_RING_BUSY);
        }
        if !size.is_power_of_two() || !(2..=RING_SIZE_MAX).contains(&size) {
            return Err(ERROR_RING_SIZE);
        }
        self.ring_size = size;
        Ok(())
    }

    fn set_ring_address(&mut self, address: u64) -> Result<(), u32> {
        if self.ring_in_use() {
            return Err(ERROR_RING_BUSY);
        }
        if !address.is_multiple_of(RING_ALIGNMENT) {
            return Err(ERROR_RING_ALIGNMENT);
        }
        self.ring_address = address;
        Ok(())
    }

    fn set_control(&mut self, control: u32) -> Result<(), u32> {
        let control = control & (CONTROL_ENABLE | CONTROL_RING);
        let set = control & !self.control;
        let starts = set & CONTROL_ENABLE != 0;
        // Before anything is changed: a ring that cannot be used refuses the whole write.
        if control & CONTROL_RING != 0 && (starts || set & CONTROL_RING != 0) {
            self.clear_ring().map_err(|_| ERROR_RING_MEMORY)?;
            self.ring_head = 0;
            self.coalesced = 0;
        }
        if starts {
            self.next_sequence = 0;
            self.ring_head = 0;
            self.overflows = 0;
            self.coalesced = 0;
            self.above = false;
            self.below = false;
        }
        self.control = control;
        Ok(())
    }

    /// Checks that the ring is guest memory and writes 0 to its head and tail.
    fn clear_ring(&self) -> Result<(), RingError> {
        let context = self.context.as_ref().ok_or(RingError)?;
        let bytes = RING_HEADER_BYTES + SAMPLE_BYTES * u64::from(self.ring_size);
        context
            .memory
            .check_writeable(GuestAddress(self.ring_address), bytes)?;
        for index in [RING_HEADER_HEAD, RING_HEADER_TAIL] {
            context.memory.store(self.in_ring(index)?, 0u32)?;
        }
        Ok(())
    }

    /// A guest address in the ring; an address near 2^64 must not wrap.
    fn in_ring(&self, offset: u64) -> Result<GuestAddress, RingError> {
        self.ring_address
            .checked_add(offset)
            .map(GuestAddress)
            .ok_or(RingError)
    }

    /// Takes samples: (time in nanoseconds, value) each. Interrupts come after all of them are
    /// visible.
    pub(super) fn take(&mut self, samples: &[(u64, i32)]) -> Taken {
        let mut taken = Taken::default();
        if !self.enabled() {
            // They were measured before the driver ended sampling and would come after it.
            return taken;
        }
        let mut raised = Raised::default();
        let mut ring = match self.open_ring() {
            Ok(ring) => ring,
            Err(RingError) => {
                self.lose_ring();
                None
            }
        };
        for &(timestamp, value) in samples {
            self.sequence = self.next_sequence;
            self.next_sequence = self.next_sequence.wrapping_add(1);
            self.value = value;
            self.timestamp = timestamp;
            self.compare(value, &mut raised);
            let added = match &mut ring {
                None => true,
                Some(tail) => match self.add_to_ring(tail) {
                    Ok(added) => added,
                    Err(RingError) => {
                        self.lose_ring();
                        ring = None;
                        true
                    }
                },
            };
            if added {
                taken.delivered += 1;
                self.coalesced = self.coalesced.saturating_add(1);
            } else {
                taken.lost += 1;
                self.overflows = self.overflows.saturating_add(1);
                raised.overflow |= self.status & STATUS_OVERFLOW == 0;
                self.status |= STATUS_OVERFLOW;
            }
        }
        if ring.is_some() && self.publish_head().is_err() {
            self.lose_ring();
        }
        if self.coalesced >= self.coalesce {
            self.coalesced = 0;
            self.status |= STATUS_SAMPLES;
            raised.samples = true;
        }
        self.signal(raised);
        taken
    }

    /// The tail as the driver has left it; `None` if no ring is in use.
    fn open_ring(&self) -> Result<Option<u32>, RingError> {
        if !self.ring_in_use() {
            return Ok(None);
        }
        self.tail().map(Some)
    }

    fn tail(&self) -> Result<u32, RingError> {
        let context = self.context.as_ref().ok_or(RingError)?;
        let address = self.in_ring(RING_HEADER_TAIL)?;
        Ok(u32::from_le(context.memory.load(address)?))
    }

    /// Writes the latest sample to the ring; false if it is full.
    fn add_to_ring(&mut self, tail: &mut u32) -> Result<bool, RingError> {
        let full = |head: u32, tail: u32| head.wrapping_sub(tail) >= self.ring_size;
        if full(self.ring_head, *tail) {
            *tail = self.tail()?;
            if full(self.ring_head, *tail) {
                return Ok(false);
            }
        }
        let context = self.context.as_ref().ok_or(RingError)?;
        let slot = self.ring_head & (self.ring_size - 1);
        let address = self.in_ring(RING_HEADER_BYTES + SAMPLE_BYTES * u64::from(slot))?;
        let mut sample = [0; 16];
        sample[..8].copy_from_slice(&self.timestamp.to_le_bytes());
        sample[8..12].copy_from_slice(&self.value.to_le_bytes());
        sample[12..].copy_from_slice(&self.sequence.to_le_bytes());
        context.memory.write(address, &sample)?;
        self.ring_head = self.ring_head.wrapping_add(1);
        Ok(true)
    }

    /// Makes what was written to the ring visible to the driver.
    fn publish_head(&self) -> Result<(), RingError> {
        let context = self.context.as_ref().ok_or(RingError)?;
        let address = self.in_ring(RING_HEADER_HEAD)?;
        Ok(context.memory.store(address, self.ring_head.to_le())?)
    }

    /// The ring's memory is gone.
    fn lose_ring(&mut self) {
        self.control &= !CONTROL_RING;
        self.fail(ERROR_RING_MEMORY);
    }

    fn compare(&mut self, value: i32, raised: &mut Raised) {
        let (above, below) = (value > self.threshold_high, value < self.threshold_low);
        if above && !self.above {
            self.status |= STATUS_HIGH;
            raised.threshold = true;
        }
        if below && !self.below {
            self.status |= STATUS_LOW;
            raised.threshold = true;
        }
        (self.above, self.below) = (above, below);
    }

    fn signal(&self, raised: Raised) {
        let Some(context) = &self.context else {
            return;
        };
        for (raised, vector) in [
            (raised.samples, VECTOR_SAMPLES),
            (raised.threshold, VECTOR_THRESHOLD),
            (raised.overflow, VECTOR_OVERFLOW),
        ] {
            if raised {
                context.interrupts.signal(vector);
            }
        }
    }
}

/// What became of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) delivered: u64,
    /// The ring was full.
    pub(super) lost: u64,
}

/// Which vectors to signal.
#[derive(Clone, Copy, Default)]
struct Raised {
    samples: bool,
    threshold: bool,
    overflow: bool,
}

/// The ring is not, or not any more, in guest memory.
#[derive(Debug)]
struct RingError;

impl From<MemoryError> for RingError {
    fn from(_: MemoryError) -> Self {
        Self
    }
}

fn positive(value: u32, refusal: u32) -> Result<u32, u32> {
    if value == 0 { Err(refusal) } else { Ok(value) }
}

/// The half of a 64-bit register that an offset names.
fn half_of(register: u64, value: u64, offset: u64) -> Option<u32> {
    let [low, high] = [value & u64::from(u32::MAX), value >> 32];
    let half = match offset.checked_sub(register)? {
        0 => low,
        4 => high,
        _ => return None,
    };
    u32::try_from(half).ok()
}

/// A 64-bit register after a write to the half at `offset`.
fn merge_half(old: u64, offset: u64, value: u32, mask: u32) -> u64 {
    let shift = if offset & 4 == 0 { 0 } else { 32 };
    old & !(u64::from(mask) << shift) | u64::from(value) << shift
}
