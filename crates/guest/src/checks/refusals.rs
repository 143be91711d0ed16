//! Bad settings: refused with the right reason, and nothing changes.

use hdv_devices::sensor::registers::{
    COALESCE, CONTROL, CONTROL_ENABLE, CONTROL_RING, ERROR, ERROR_COALESCE, ERROR_PERIOD,
    ERROR_RING_ALIGNMENT, ERROR_RING_BUSY, ERROR_RING_MEMORY, ERROR_RING_SIZE, PERIOD,
    RING_ADDRESS, RING_ALIGNMENT, RING_SIZE, RING_SIZE_MAX, STATUS, STATUS_ERROR,
};

use super::samples;
use super::{Failure, Settings, Verdict, ensure};
use crate::platform::{Platform, Width};
use crate::sensor::Sensor;
use crate::sensor::ring::{self, Ring};

/// Samples of the ring.
const RING: u32 = 64;
/// Microseconds between samples.
const SAMPLE_PERIOD: u32 = 100;
/// Samples taken in the end, to see that the sensor still works.
const SAMPLES_AFTER: u32 = 1000;

pub(super) fn check<P: Platform>(sensor: &Sensor<P>, settings: &Settings) -> Verdict {
    let mut refused = 0;
    let mut refuse = |what: &str, register, width, value, error| -> Result<(), Failure> {
        refused += 1;
        one(sensor, what, register, width, value, error)
    };

    sensor.set_register(PERIOD, SAMPLE_PERIOD)?;
    sensor.set_register(COALESCE, RING)?;
    refuse("a period of 0", PERIOD, Width::Dword, 0, ERROR_PERIOD)?;
    refuse(
        "a coalescing count of 0",
        COALESCE,
        Width::Dword,
        0,
        ERROR_COALESCE,
    )?;

    let buffer = sensor.platform().dma_buffer(ring::bytes(RING))?;
    sensor.write(RING_ADDRESS, Width::Qword, buffer.address())?;
    sensor.set_register(RING_SIZE, RING)?;
    for size in [0, 1, 3, RING + 1, RING_SIZE_MAX * 2, u32::MAX] {
        let what = format!("a ring of {size} samples");
        refuse(
            &what,
            RING_SIZE,
            Width::Dword,
            u64::from(size),
            ERROR_RING_SIZE,
        )?;
    }
    for off in [1, 8, RING_ALIGNMENT / 2] {
        let address = buffer.address() + off;
        let what = format!("a ring at {address:#x}");
        refuse(
            &what,
            RING_ADDRESS,
            Width::Qword,
            address,
            ERROR_RING_ALIGNMENT,
        )?;
    }

    let end = buffer.address() + buffer.length();
    for (place, address) in [
        ("where no memory is", end + (1 << 40)),
        ("that ends beyond its memory", end - RING_ALIGNMENT),
        (
            "that begins before its memory",
            buffer.address() - RING_ALIGNMENT,
        ),
        ("right behind its memory", end),
        (
            "at the end of the address space",
            u64::MAX - RING_ALIGNMENT + 1,
        ),
    ] {
        sensor.write(RING_ADDRESS, Width::Qword, address)?;
        for control in [CONTROL_RING, CONTROL_RING | CONTROL_ENABLE] {
            let what = format!("a ring {place}, at {address:#x}");
            refuse(
                &what,
                CONTROL,
                Width::Dword,
                u64::from(control),
                ERROR_RING_MEMORY,
            )?;
        }
    }
    drop(buffer);

    let ring = Ring::new(sensor, RING)?;
    sensor.set_register(CONTROL, CONTROL_RING)?;
    refuse(
        "another size of a ring in use",
        RING_SIZE,
        Width::Dword,
        u64::from(RING / 2),
        ERROR_RING_BUSY,
    )?;
    refuse(
        "another address of a ring in use",
        RING_ADDRESS,
        Width::Qword,
        ring.address() + RING_ALIGNMENT,
        ERROR_RING_BUSY,
    )?;
    drop(ring);

    let after = samples::check(sensor, settings, SAMPLES_AFTER)?;
    Ok(format!(
        "{refused} bad settings refused, nothing changed; then {after}"
    ))
}

/// A write that must change nothing but the status and the reason.
fn one<P: Platform>(
    sensor: &Sensor<P>,
    what: &str,
    register: u64,
    width: Width,
    value: u64,
    error: u32,
) -> Result<(), Failure> {
    sensor.set_register(STATUS, STATUS_ERROR)?;
    let before = sensor.read(register, width)?;
    sensor.write(register, width, value)?;
    let (status, reason) = (sensor.register(STATUS)?, sensor.register(ERROR)?);
    let after = sensor.read(register, width)?;
    ensure(status & STATUS_ERROR != 0, || {
        format!("{what} was accepted: status {status:#x}, the register reads {after:#x}")
    })?;
    ensure(reason == error, || {
        format!("{what} was refused with error {reason}, expected {error}")
    })?;
    ensure(after == before, || {
        format!("{what} was refused and changed the register from {before:#x} to {after:#x}")
    })?;
    Ok(sensor.set_register(STATUS, STATUS_ERROR)?)
}
