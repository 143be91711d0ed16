//! A ring that is not read in time: reported, counted, visible, and over when it is read.

use hdv_devices::sensor::registers::{
    OVERFLOWS, SEQUENCE, STATUS, STATUS_OVERFLOW, VECTOR_OVERFLOW,
};

use super::interrupts::silent;
use super::samples::Follower;
use super::{Failure, Settings, Verdict, ensure};
use crate::platform::Platform;
use crate::sensor::Sensor;
use crate::sensor::ring::Ring;

/// Samples of the ring.
const RING: u32 = 16;
/// Microseconds between samples.
const SAMPLE_PERIOD: u32 = 500;
/// How often the ring is made to overflow.
const ROUNDS: u32 = 2;

pub(super) fn check<P: Platform>(sensor: &Sensor<P>, settings: &Settings) -> Verdict {
    let mut ring = Ring::new(sensor, RING)?;
    let mut follower = Follower::new(settings.source);
    let (mut received, mut lost) = (0, 0);
    ring.start(SAMPLE_PERIOD, RING)?;
    for round in 1..=ROUNDS {
        sensor
            .wait_for_status(VECTOR_OVERFLOW, STATUS_OVERFLOW, settings.patience)?
            .ok_or_else(|| silent(sensor, settings, VECTOR_OVERFLOW))?;
        let overflows = sensor.register(OVERFLOWS)?;
        ensure(overflows > lost, || {
            format!(
                "vector {VECTOR_OVERFLOW} fired and {overflows} overflows are counted, {lost} before"
            )
        })?;
        let waiting = ring.waiting()?;
        ensure(waiting == RING, || {
            format!("the ring of {RING} overflowed with {waiting} samples in it")
        })?;
        let mut first = None;
        received += ring.drain(|sample| {
            first.get_or_insert(sample.sequence);
            lost += follower.follow(sample)?;
            Ok::<(), Failure>(())
        })?;
        ensure(round > 1 || first == Some(0) && lost == 0, || {
            format!(
                "the ring holds samples from {first:?} with {lost} gaps, expected the oldest {RING}"
            )
        })?;
        // The next sample that fits shows the gap; read it before the ring can be full again
        // or not, either way it is the next one in the ring.
        let gap_before = lost;
        wait_for_sample(sensor, &ring, settings)?;
        received += ring.drain(|sample| {
            lost += follower.follow(sample)?;
            Ok::<(), Failure>(())
        })?;
        ensure(lost > gap_before, || {
            "samples were lost and the sequence numbers show no gap".to_owned()
        })?;
        sensor.set_register(STATUS, STATUS_OVERFLOW)?;
    }
    sensor.halt()?;
    received += ring.drain(|sample| {
        lost += follower.follow(sample)?;
        Ok::<(), Failure>(())
    })?;
    sensor.set_register(STATUS, STATUS_OVERFLOW)?;
    let status = sensor.register(STATUS)?;
    ensure(status & STATUS_OVERFLOW == 0, || {
        format!("the overflow bit was cleared and the status still is {status:#x}")
    })?;
    let taken = sensor.register(SEQUENCE)?.wrapping_add(1);
    let overflows = sensor.register(OVERFLOWS)?;
    // What was lost after the last sample in the ring shows in no gap.
    lost += taken.saturating_sub(follower.next());
    ensure(overflows == lost && received + lost == taken, || {
        format!(
            "of {taken} samples {received} came through the ring and {lost} did not; \
             the device counts {overflows} overflows"
        )
    })?;
    Ok(format!(
        "vector {VECTOR_OVERFLOW} fired in each of {ROUNDS} rounds; {overflows} of {taken} samples \
         counted as lost, as many as the sequence numbers miss"
    ))
}

fn wait_for_sample<P: Platform>(
    sensor: &Sensor<P>,
    ring: &Ring<'_, P>,
    settings: &Settings,
) -> Result<(), Failure> {
    let deadline = std::time::Instant::now() + settings.patience;
    while ring.waiting()? == 0 {
        ensure(std::time::Instant::now() < deadline, || {
            format!(
                "no sample came after the full ring was read: {}",
                sensor.describe()
            )
        })?;
        // Reading a register lets an emulated processor's machine make progress.
        sensor.register(STATUS)?;
    }
    Ok(())
}
