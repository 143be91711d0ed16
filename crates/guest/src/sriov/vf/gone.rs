//! A VF that is used until its PF takes it away: the driver notices by what it reads, and nothing hangs.

use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use hdv_devices::sensor::registers::{
    IDENTIFICATION, IDENTIFICATION_VALUE, SCRATCH, STATUS, STATUS_SAMPLES, VALUE, VECTOR_SAMPLES,
    VECTORS,
};

use crate::checks::{Failure, Verdict, ensure};
use crate::platform::{Platform, Width};
use crate::report::Line;
use crate::sensor::Sensor;
use crate::sensor::ring::Ring;

/// The name in reports.
pub const NAME: &str = "vf-gone";

/// The BAR with the registers.
const BAR: u8 = 0;
/// Samples of the ring.
const RING: u32 = 256;
/// How long a look at the interrupt lasts before the next look at the registers.
const LOOK: Duration = Duration::from_millis(100);
/// Rounds of accesses to what is gone.
const TRIES: u32 = 100;
/// How often memory is mapped for it and unmapped.
const MAPS: u32 = 20;
/// What one access, or a map and an unmap, may take at most. On a busy machine it can take long for reasons of that machine; a VMM
/// that waits for an answer that does not come gives up only after 5 s.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Bytes of the buffers that are mapped for what is gone.
const BUFFER: u64 = 3 * 4096;

/// Reads samples, one every `period` microseconds, until the device is gone, within `limit`; then sees what is left.
///
/// # Errors
/// It is never gone, or what is left does not answer as an absent device does.
pub fn check<P: Platform>(
    device: P,
    period: u32,
    limit: Duration,
    sink: &mut dyn FnMut(Line),
) -> Verdict {
    // It is not closed: Linux would reset it, and wait a minute for a function that reads all ones to come back.
    let sensor = ManuallyDrop::new(Sensor::new(device)?);
    sensor.platform().enable_vectors(VECTORS)?;
    let mut ring = Ring::new(&sensor, RING)?;
    ring.start(period, 1)?;
    let samples = use_until_gone(&sensor, &mut ring, limit, sink)?;

    let device = sensor.platform();
    let head = ring.head()?;
    let mut slowest = Duration::ZERO;
    for _ in 0..TRIES {
        for width in Width::ALL {
            for register in [IDENTIFICATION, VALUE, SCRATCH] {
                let begun = Instant::now();
                device.write(BAR, register, width, 0)?;
                let read = device.read(BAR, register, width)?;
                slowest = slowest.max(begun.elapsed());
                ensure(read == width.mask(), || {
                    format!(
                        "a VF that is gone reads {read:#x} at {register:#x}, by {} bytes",
                        width.bytes()
                    )
                })?;
            }
        }
    }
    ensure(slowest < AT_ONCE, || {
        format!(
            "a write and a read of a VF that is gone took {} ms",
            slowest.as_millis()
        )
    })?;
    let now = ring.head()?;
    ensure(now == head, || {
        format!("the head of the ring went from {head} to {now} after the VF was gone")
    })?;
    let mut slowest_map = Duration::ZERO;
    for _ in 0..MAPS {
        let begun = Instant::now();
        drop(device.dma_buffer(BUFFER)?);
        slowest_map = slowest_map.max(begun.elapsed());
    }
    ensure(slowest_map < AT_ONCE, || {
        format!(
            "memory was mapped and unmapped for a VF that is gone in {} ms",
            slowest_map.as_millis()
        )
    })?;
    Ok(format!(
        "{samples} samples, then gone: all ones, writes dropped, nothing written to memory, memory mapped and \
         unmapped; the slowest write and read took {} us, the slowest map and unmap {} us",
        slowest.as_micros(),
        slowest_map.as_micros()
    ))
}

fn use_until_gone<P: Platform>(
    sensor: &Sensor<P>,
    ring: &mut Ring<'_, P>,
    limit: Duration,
    sink: &mut dyn FnMut(Line),
) -> Result<u32, Failure> {
    let deadline = Instant::now() + limit;
    let mut samples = 0;
    loop {
        let fired = sensor.platform().wait(VECTOR_SAMPLES, LOOK)?;
        // Of the device first, then of memory: what it wrote before it was gone is there by then.
        let identification = sensor.register(IDENTIFICATION)?;
        samples += ring.drain(|sample| {
            sink(Line::Sample {
                device: sensor.platform().name().to_owned(),
                sequence: sample.sequence,
                timestamp_ns: sample.timestamp,
                value: sample.value,
            });
            Ok::<(), Failure>(())
        })?;
        match identification {
            u32::MAX => return Ok(samples),
            IDENTIFICATION_VALUE => {}
            other => {
                let what = format!("the identification register reads {other:#x}");
                return Err(Failure::new(what));
            }
        }
        if fired != 0 {
            sensor.set_register(STATUS, STATUS_SAMPLES)?;
        }
        ensure(Instant::now() < deadline, || {
            format!("the VF is still there after {} s", limit.as_secs())
        })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fault, Model};

    #[test]
    fn a_device_that_stays_is_not_gone() {
        let device = Model::new(Fault::None);
        let mut samples = 0;
        let error = check(device, 1000, Duration::from_millis(50), &mut |_| {
            samples += 1;
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("the VF is still there"), "{error}");
        assert!(samples > 0);
    }
}
