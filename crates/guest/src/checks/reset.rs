//! Function level reset: everything as after power on, and interrupts work.

use std::time::Instant;

use hdv_devices::sensor::registers::{
    COALESCE, COALESCE_RESET, CONTROL, ERROR, ERROR_NONE, OVERFLOWS, PERIOD, PERIOD_RESET,
    RING_ADDRESS, RING_HEAD, RING_SIZE, RING_SIZE_RESET, SCRATCH, SEQUENCE, STATUS, THRESHOLD_HIGH,
    THRESHOLD_LOW, TIMESTAMP, VALUE, VECTOR_SAMPLES,
};

use super::interrupts::silent;
use super::samples;
use super::{Failure, Settings, Verdict, ensure};
use crate::platform::{Platform, Width};
use crate::sensor::Sensor;
use crate::sensor::ring::Ring;

/// Samples of the ring.
const RING: u32 = 256;
/// Microseconds between samples.
const SAMPLE_PERIOD: u32 = 100;
/// Register reads during which a stopped sensor must not go on.
const READS_STOPPED: u32 = 500;
/// Samples taken after the reset.
const SAMPLES_AFTER: u32 = 1000;

pub(super) fn check<P: Platform>(sensor: &Sensor<P>, settings: &Settings) -> Verdict {
    sensor.platform().reset()?;
    as_after_power_on(sensor)?;

    let mut ring = Ring::new(sensor, RING)?;
    sensor.write(SCRATCH, Width::Qword, u64::MAX)?;
    sensor.set_signed(THRESHOLD_HIGH, i32::MIN)?;
    sensor.set_signed(THRESHOLD_LOW, i32::MIN + 1)?;
    sensor.set_register(PERIOD, 0)?;
    ring.start(SAMPLE_PERIOD, RING / 2)?;
    if sensor.platform().wait(VECTOR_SAMPLES, settings.patience)? == 0 {
        return Err(silent(sensor, settings, VECTOR_SAMPLES));
    }

    sensor.platform().reset()?;
    as_after_power_on(sensor)?;
    stopped(sensor, &ring)?;
    // What was signalled before the reset is not to be taken for what comes after it.
    while sensor
        .platform()
        .wait(VECTOR_SAMPLES, std::time::Duration::ZERO)?
        != 0
    {}
    drop(ring);

    let begin = Instant::now();
    let after = samples::check(sensor, settings, SAMPLES_AFTER)?;
    Ok(format!(
        "registers as after power on, nothing written any more; interrupts work with the vectors \
         enabled before: {after}, within {} ms",
        begin.elapsed().as_millis()
    ))
}

fn as_after_power_on<P: Platform>(sensor: &Sensor<P>) -> Result<(), Failure> {
    let never_high = u64::from(i32::MAX.cast_unsigned());
    let never_low = u64::from(i32::MIN.cast_unsigned());
    for (name, register, width, expected) in [
        ("control", CONTROL, Width::Dword, 0),
        ("status", STATUS, Width::Dword, 0),
        ("error", ERROR, Width::Dword, u64::from(ERROR_NONE)),
        ("period", PERIOD, Width::Dword, u64::from(PERIOD_RESET)),
        (
            "coalesce",
            COALESCE,
            Width::Dword,
            u64::from(COALESCE_RESET),
        ),
        ("overflows", OVERFLOWS, Width::Dword, 0),
        ("value", VALUE, Width::Dword, 0),
        ("sequence", SEQUENCE, Width::Dword, 0),
        ("timestamp", TIMESTAMP, Width::Qword, 0),
        ("ring address", RING_ADDRESS, Width::Qword, 0),
        (
            "ring size",
            RING_SIZE,
            Width::Dword,
            u64::from(RING_SIZE_RESET),
        ),
        ("ring head", RING_HEAD, Width::Dword, 0),
        ("low threshold", THRESHOLD_LOW, Width::Dword, never_low),
        ("high threshold", THRESHOLD_HIGH, Width::Dword, never_high),
        ("scratch", SCRATCH, Width::Qword, 0),
    ] {
        let value = sensor.read(register, width)?;
        ensure(value == expected, || {
            format!("after a reset {name} reads {value:#x}, expected {expected:#x}")
        })?;
    }
    Ok(())
}

fn stopped<P: Platform>(sensor: &Sensor<P>, ring: &Ring<'_, P>) -> Result<(), Failure> {
    let head = ring.head()?;
    for _ in 0..READS_STOPPED {
        let (sequence, now) = (sensor.register(SEQUENCE)?, ring.head()?);
        ensure(sequence == 0 && now == head, || {
            format!(
                "the sensor goes on after a reset: sequence {sequence}, head of the ring from \
                 {head} to {now}"
            )
        })?;
    }
    Ok(())
}
