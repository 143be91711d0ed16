//! A sensor in memory for tests of the checks: time passes when it is looked at, writes are
//! posted and arrive late, and it can be told to break one promise.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hdv_devices::sensor::registers::*;

use crate::platform::addresses::DmaAddresses;
use crate::platform::memory::Memory;
use crate::platform::{BarAccess, DmaBuffer, Identity, Platform, Result, Width, pci};

/// Nanoseconds on the model's clock when it begins.
const BEGIN: u64 = 1_000;

/// The promise that a model breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None.
    None,
    /// Another class code in config space.
    WrongClass,
    /// A BAR 0 of 8 KiB.
    WrongBarSize,
    /// A write of one byte writes four.
    WideWrites,
    /// The version register can be written.
    WritableVersion,
    /// A status bit is cleared by any write.
    ClearedByZero,
    /// A status bit is never cleared.
    NeverCleared,
    /// The sequence number of an 8-byte read is the next one's.
    IncoherentRead,
    /// The sample with this number is not written to the ring.
    Lose(u32),
    /// The sample with this number is written to the ring twice.
    Repeat(u32),
    /// The sample with this number has the value of another.
    Tear(u32),
    /// The sample with this number has a time before the one before it.
    TimeBack(u32),
    /// The head is advanced before the sample with this number is written.
    HeadFirst(u32),
    /// A vector never fires.
    Silent(u16),
    /// Thresholds are crossed without being set.
    CrossedUnset,
    /// Both status bits are set by one threshold.
    BothThresholds,
    /// Overflows are not counted.
    NotCounted,
    /// Overflows are counted twice.
    CountedTwice,
    /// The oldest sample is overwritten in a full ring.
    Overwrites,
    /// The overflow bit is not set.
    OverflowUnseen,
    /// A ring outside memory is accepted.
    AnyAddress,
    /// A ring that begins in memory and ends outside is accepted.
    AnyEnd,
    /// Any size of a ring is accepted.
    AnySize,
    /// A misaligned ring is accepted.
    AnyAlignment,
    /// A period of 0 is accepted.
    AnyPeriod,
    /// A refused setting is stored all the same.
    RefusedAndStored,
    /// Every refusal has the same reason.
    OneReason,
    /// The size of a ring in use can be written.
    NeverBusy,
    /// A reset does not stop sampling.
    ResetGoesOn,
    /// A reset leaves a threshold.
    ResetForgets,
    /// No vector fires after a reset.
    ResetDeaf,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    control: u32,
    status: u32,
    error: u32,
    version: u32,
    period: u32,
    coalesce: u32,
    overflows: u32,
    value: i32,
    sequence: u32,
    next: u32,
    timestamp: u64,
    clock: u64,
    ring_address: u64,
    ring_size: u32,
    head: u32,
    low: i32,
    high: i32,
    scratch: u64,
    fresh: u32,
    deaf: bool,
    fired: [u64; VECTORS as usize],
    memory: Vec<(u64, Arc<Memory>)>,
    /// Writes under way: offset, width, value.
    posted: Vec<(u64, Width, u64)>,
}

impl State {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            control: 0,
            status: 0,
            error: ERROR_NONE,
            version: VERSION_VALUE,
            period: PERIOD_RESET,
            coalesce: COALESCE_RESET,
            overflows: 0,
            value: 0,
            sequence: 0,
            next: 0,
            timestamp: 0,
            clock: BEGIN,
            ring_address: 0,
            ring_size: RING_SIZE_RESET,
            head: 0,
            low: i32::MIN,
            high: i32::MAX,
            scratch: 0,
            fresh: 0,
            deaf: false,
            fired: [0; VECTORS as usize],
            memory: Vec::new(),
            posted: Vec::new(),
        }
    }

    fn fire(&mut self, vector: u16) {
        if self.fault != Fault::Silent(vector) && !self.deaf {
            self.fired[usize::from(vector)] += 1;
        }
    }

    /// Writes under way arrive, each after a sample was taken meanwhile.
    fn arrive(&mut self) {
        for (offset, width, value) in std::mem::take(&mut self.posted) {
            self.sample();
            let base = offset & !7;
            let shift = 8 * (offset & 7);
            let old = u64::from(self.read(base)) | u64::from(self.read(base + 4)) << 32;
            let written = (value & width.mask()) << shift;
            let mask = width.mask() << shift;
            self.write(offset, old & !mask | written, written, mask);
        }
    }

    /// Takes one sample.
    fn sample(&mut self) {
        if self.control & CONTROL_ENABLE == 0 {
            return;
        }
        self.clock += u64::from(self.period) * 1000;
        self.timestamp = self.clock;
        self.sequence = self.next;
        self.next += 1;
        let before = self.value;
        self.value = sine_value(self.sequence);
        let mut crossed = 0;
        if self.value > self.high && (before <= self.high || self.sequence == 0) {
            crossed |= STATUS_HIGH;
        }
        if self.value < self.low && (before >= self.low || self.sequence == 0) {
            crossed |= STATUS_LOW;
        }
        if crossed != 0 && self.fault == Fault::BothThresholds || self.fault == Fault::CrossedUnset
        {
            crossed = STATUS_HIGH | STATUS_LOW;
        }
        if crossed != 0 {
            self.status |= crossed;
            self.fire(VECTOR_THRESHOLD);
        }
        let added = self.control & CONTROL_RING == 0 || self.put();
        if added {
            self.fresh += 1;
            if self.fresh >= self.coalesce {
                self.fresh = 0;
                self.status |= STATUS_SAMPLES;
                self.fire(VECTOR_SAMPLES);
            }
        }
    }

    /// Writes the sample to the ring; false when it is full.
    fn put(&mut self) -> bool {
        let Some(ring) = self.find(self.ring_address, 1) else {
            return false;
        };
        let (base, memory) = ring;
        let at = self.ring_address - base;
        let tail = memory.load_acquire(at + RING_HEADER_TAIL).unwrap();
        if self.head.wrapping_sub(tail) >= self.ring_size && self.fault != Fault::Overwrites {
            if self.fault != Fault::NotCounted {
                self.overflows += 1 + u32::from(self.fault == Fault::CountedTwice);
            }
            if self.fault != Fault::OverflowUnseen {
                let first = self.status & STATUS_OVERFLOW == 0;
                self.status |= STATUS_OVERFLOW;
                if first {
                    self.fire(VECTOR_OVERFLOW);
                }
            }
            return false;
        }
        let mut copies = 1;
        let (mut value, mut time) = (self.value, self.timestamp);
        match self.fault {
            Fault::Lose(number) if number == self.sequence => copies = 0,
            Fault::Repeat(number) if number == self.sequence => copies = 2,
            Fault::Tear(number) if number == self.sequence => value += 1,
            Fault::TimeBack(number) if number == self.sequence => time = 1,
            Fault::HeadFirst(number) if number == self.sequence => {
                self.head += 1;
                copies = 0;
            }
            _ => {}
        }
        for _ in 0..copies {
            let slot =
                at + RING_HEADER_BYTES + u64::from(self.head % self.ring_size) * SAMPLE_BYTES;
            memory
                .write(slot + SAMPLE_TIMESTAMP, Width::Qword, time)
                .unwrap();
            memory
                .write(
                    slot + SAMPLE_VALUE,
                    Width::Dword,
                    u64::from(value.cast_unsigned()),
                )
                .unwrap();
            memory
                .write(
                    slot + SAMPLE_SEQUENCE,
                    Width::Dword,
                    u64::from(self.sequence),
                )
                .unwrap();
            self.head = self.head.wrapping_add(1);
        }
        memory
            .store_release(at + RING_HEADER_HEAD, self.head)
            .unwrap();
        true
    }

    fn find(&self, address: u64, length: u64) -> Option<(u64, Arc<Memory>)> {
        self.memory
            .iter()
            .find(|(base, memory)| {
                address
                    .checked_sub(*base)
                    .and_then(|at| at.checked_add(length))
                    .is_some_and(|end| end <= memory.length())
            })
            .map(|(base, memory)| (*base, Arc::clone(memory)))
    }

    fn refuse(&mut self, error: u32) {
        self.status |= STATUS_ERROR;
        self.error = if self.fault == Fault::OneReason {
            ERROR_PERIOD
        } else {
            error
        };
    }

    fn set_control(&mut self, value: u32) {
        let value = value & (CONTROL_ENABLE | CONTROL_RING);
        let started = value & !self.control;
        if started & CONTROL_RING != 0 {
            let length = RING_HEADER_BYTES + u64::from(self.ring_size) * SAMPLE_BYTES;
            let whole = self.find(self.ring_address, length).is_some();
            let begins = self.find(self.ring_address, RING_ALIGNMENT).is_some();
            match self.fault {
                Fault::AnyAddress => {}
                Fault::AnyEnd if begins => {}
                _ if whole => {}
                _ => {
                    if self.fault == Fault::RefusedAndStored {
                        self.control = value;
                    }
                    return self.refuse(ERROR_RING_MEMORY);
                }
            }
            if let Some((base, memory)) = self.find(self.ring_address, RING_ALIGNMENT * 2) {
                let at = self.ring_address - base;
                memory.store_release(at + RING_HEADER_HEAD, 0).unwrap();
                memory.store_release(at + RING_HEADER_TAIL, 0).unwrap();
            }
            self.head = 0;
        }
        if started & CONTROL_ENABLE != 0 {
            self.next = 0;
            self.overflows = 0;
            self.head = 0;
            self.fresh = 0;
        }
        self.control = value;
    }

    fn read(&self, offset: u64) -> u32 {
        let half = |value: u64, high: bool| {
            let bytes = value.to_le_bytes();
            let at = if high { 4 } else { 0 };
            u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
        };
        match offset {
            IDENTIFICATION => IDENTIFICATION_VALUE,
            VERSION => self.version,
            CONTROL => self.control,
            STATUS => self.status,
            ERROR => self.error,
            PERIOD => self.period,
            COALESCE => self.coalesce,
            OVERFLOWS => self.overflows,
            VALUE => self.value.cast_unsigned(),
            SEQUENCE => self.sequence,
            TIMESTAMP => half(self.timestamp, false),
            0x2c => half(self.timestamp, true),
            RING_ADDRESS => half(self.ring_address, false),
            0x34 => half(self.ring_address, true),
            RING_SIZE => self.ring_size,
            RING_HEAD => self.head,
            THRESHOLD_LOW => self.low.cast_unsigned(),
            THRESHOLD_HIGH => self.high.cast_unsigned(),
            SCRATCH => half(self.scratch, false),
            0x4c => half(self.scratch, true),
            _ => 0,
        }
    }

    /// `value` is merged with what is there, `written` has zeroes in place of the rest, `mask`
    /// ones for the bits written.
    fn write(&mut self, offset: u64, value: u64, written: u64, mask: u64) {
        let names_low = mask & u64::from(u32::MAX) != 0;
        let names_high = mask >> 32 != 0;
        let low = u32::try_from(value & u64::from(u32::MAX)).unwrap();
        let high = u32::try_from(value >> 32).unwrap();
        let stored_anyhow = self.fault == Fault::RefusedAndStored;
        let in_use = self.control & CONTROL_RING != 0 && self.fault != Fault::NeverBusy;
        match offset & !7 {
            IDENTIFICATION if self.fault == Fault::WritableVersion => self.version = high,
            // Control and status.
            CONTROL => {
                if names_low {
                    self.set_control(low);
                }
                let mut ones = u32::try_from(written >> 32).unwrap();
                match self.fault {
                    Fault::ClearedByZero if offset >= STATUS => ones = u32::MAX,
                    Fault::NeverCleared => ones = 0,
                    _ => {}
                }
                self.status &= !ones;
            }
            // Error and period.
            ERROR if names_high => {
                if high == 0 && self.fault != Fault::AnyPeriod {
                    self.refuse(ERROR_PERIOD);
                    if !stored_anyhow {
                        return;
                    }
                }
                self.period = high;
            }
            // Coalescing count and overflows.
            COALESCE if names_low => {
                if low == 0 {
                    return self.refuse(ERROR_COALESCE);
                }
                self.coalesce = low;
            }
            RING_ADDRESS => {
                if in_use {
                    return self.refuse(ERROR_RING_BUSY);
                }
                if !value.is_multiple_of(RING_ALIGNMENT) && self.fault != Fault::AnyAlignment {
                    return self.refuse(ERROR_RING_ALIGNMENT);
                }
                self.ring_address = value;
            }
            // Size and head of the ring.
            RING_SIZE if names_low => {
                if in_use {
                    return self.refuse(ERROR_RING_BUSY);
                }
                let good = low.is_power_of_two() && (2..=RING_SIZE_MAX).contains(&low);
                if !good && self.fault != Fault::AnySize {
                    return self.refuse(ERROR_RING_SIZE);
                }
                self.ring_size = low;
            }
            THRESHOLD_LOW => {
                self.low = low.cast_signed();
                self.high = high.cast_signed();
            }
            SCRATCH => self.scratch = value,
            _ => {}
        }
    }

    fn reset(&mut self) {
        let mut fresh = Self::new(self.fault);
        fresh.memory = std::mem::take(&mut self.memory);
        fresh.fired = self.fired;
        match self.fault {
            Fault::ResetGoesOn => {
                fresh.control = self.control;
                fresh.ring_address = self.ring_address;
                fresh.ring_size = self.ring_size;
                fresh.head = self.head;
            }
            Fault::ResetForgets => fresh.high = self.high,
            Fault::ResetDeaf => fresh.deaf = true,
            _ => {}
        }
        *self = fresh;
    }
}

/// A sensor in memory.
#[derive(Debug)]
pub(crate) struct Model {
    state: Arc<Mutex<State>>,
    addresses: Arc<DmaAddresses>,
    fault: Fault,
}

impl Model {
    /// A sensor that breaks one promise.
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new(fault))),
            addresses: Arc::default(),
            fault,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl BarAccess for Model {
    fn name(&self) -> &str {
        "model"
    }

    fn transport(&self) -> &'static str {
        "memory"
    }

    fn identity(&self) -> Result<Identity> {
        pci::identity(self)
    }

    fn bar_size(&self, bar: u8) -> Result<u64> {
        Ok(match (bar, self.fault) {
            (0, Fault::WrongBarSize) => 2 * BAR0_SIZE,
            (0, _) => BAR0_SIZE,
            _ => 0,
        })
    }

    fn read(&self, bar: u8, offset: u64, width: Width) -> Result<u64> {
        width.check("BAR 0", offset, if bar == 0 { BAR0_SIZE } else { 0 })?;
        let mut state = self.state();
        state.arrive();
        state.sample();
        let base = offset & !7;
        let mut both = u64::from(state.read(base)) | u64::from(state.read(base + 4)) << 32;
        if self.fault == Fault::IncoherentRead && width == Width::Qword && base == VALUE {
            both += 1 << 32;
        }
        Ok(both >> (8 * (offset & 7)) & width.mask())
    }

    fn write(&self, bar: u8, offset: u64, width: Width, value: u64) -> Result<()> {
        width.check("BAR 0", offset, if bar == 0 { BAR0_SIZE } else { 0 })?;
        let (mut offset, mut width) = (offset, width);
        if self.fault == Fault::WideWrites && width == Width::Byte {
            (offset, width) = (offset & !3, Width::Dword);
        }
        self.state().posted.push((offset, width, value));
        Ok(())
    }

    fn config_read(&self, offset: u16, _: Width) -> Result<u32> {
        Ok(match offset {
            pci::VENDOR => VENDOR_ID.into(),
            pci::DEVICE => DEVICE_ID.into(),
            pci::REVISION_AND_CLASS if self.fault == Fault::WrongClass => 0x0200_0000,
            pci::REVISION_AND_CLASS => CLASS_CODE << 8,
            _ => 0,
        })
    }

    fn config_write(&self, _: u16, _: Width, _: u32) -> Result<()> {
        Ok(())
    }
}

impl Platform for Model {
    fn dma_buffer(&self, bytes: u64) -> Result<DmaBuffer> {
        let length = DmaBuffer::whole_pages(bytes)?;
        let memory = Arc::new(Memory::anonymous(length).unwrap());
        let address = self.addresses.take(length)?;
        self.state().memory.push((address, Arc::clone(&memory)));
        let (state, addresses) = (Arc::clone(&self.state), Arc::clone(&self.addresses));
        Ok(DmaBuffer::new(memory, address, move || {
            state
                .lock()
                .unwrap()
                .memory
                .retain(|(base, _)| *base != address);
            addresses.give_back(address);
        }))
    }

    fn enable_vectors(&self, count: u16) -> Result<()> {
        assert!(count <= VECTORS);
        self.state().fired = [0; VECTORS as usize];
        Ok(())
    }

    /// Time passes at once: as many samples as fit into `limit`.
    fn wait(&self, vector: u16, limit: Duration) -> Result<u64> {
        let mut state = self.state();
        state.arrive();
        let mut left = limit.as_micros() / u128::from(state.period.max(1));
        while state.fired[usize::from(vector)] == 0 && left > 0 {
            left -= 1;
            state.sample();
        }
        Ok(std::mem::take(&mut state.fired[usize::from(vector)]))
    }

    fn reset(&self) -> Result<()> {
        let mut state = self.state();
        state.arrive();
        state.reset();
        Ok(())
    }
}
