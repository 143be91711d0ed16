//! Registers read and written with every width.

use std::time::Instant;

use hdv_devices::sensor::registers::{
    CONTROL, CONTROL_ENABLE, ERROR, ERROR_PERIOD, IDENTIFICATION, IDENTIFICATION_VALUE, OVERFLOWS,
    PERIOD, RING_HEAD, SCRATCH, SEQUENCE, STATUS, STATUS_ERROR, TIMESTAMP, VALUE, VERSION,
    VERSION_VALUE, sine_value,
};

use super::{Failure, Settings, Source, Verdict, ensure};
use crate::platform::{BarAccess, Width};
use crate::sensor::Sensor;

/// Every byte differs, from each other and from its complement.
const PATTERN: u64 = 0x8967_4523_01ef_cdab;
/// Offset without a register.
const NOTHING: u64 = 0x400;
/// Microseconds between samples while values are read.
const READ_PERIOD: u32 = 100;
/// How often the value and its sequence number are read together.
const READS: u32 = 200;

pub(super) fn check<B: BarAccess>(sensor: &Sensor<B>, settings: &Settings) -> Verdict {
    sensor.stop()?;
    scratch(sensor)?;
    identification(sensor)?;
    read_only(sensor)?;
    write_one_to_clear(sensor)?;
    let reads = coherent(sensor, settings)?;
    Ok(format!(
        "1, 2, 4 and 8 bytes read and written; value and sequence number whole in {reads} reads"
    ))
}

/// Each width reads and writes the bytes it names and no others.
fn scratch<B: BarAccess>(sensor: &Sensor<B>) -> Result<(), Failure> {
    for width in Width::ALL {
        for step in 0..8 / width.bytes() {
            let offset = step * width.bytes();
            let shift = 8 * offset;
            sensor.write(SCRATCH, Width::Qword, PATTERN)?;
            let read = sensor.read(SCRATCH + offset, width)?;
            let expected = PATTERN >> shift & width.mask();
            ensure(read == expected, || {
                format!(
                    "{} bytes at scratch + {offset} read {read:#x}, expected {expected:#x}",
                    width.bytes()
                )
            })?;
            sensor.write(SCRATCH + offset, width, !PATTERN >> shift & width.mask())?;
            let read = sensor.read(SCRATCH, Width::Qword)?;
            let expected = PATTERN ^ width.mask() << shift;
            ensure(read == expected, || {
                format!(
                    "after a write of {} bytes at scratch + {offset} scratch reads {read:#x}, \
                     expected {expected:#x}",
                    width.bytes()
                )
            })?;
        }
    }
    sensor.write(SCRATCH, Width::Qword, 0)?;
    Ok(())
}

/// Narrow and wide reads of registers that hold constants.
fn identification<B: BarAccess>(sensor: &Sensor<B>) -> Result<(), Failure> {
    let both = u64::from(VERSION_VALUE) << 32 | u64::from(IDENTIFICATION_VALUE);
    for width in Width::ALL {
        for step in 0..8 / width.bytes() {
            let offset = step * width.bytes();
            let read = sensor.read(IDENTIFICATION + offset, width)?;
            let expected = both >> (8 * offset) & width.mask();
            ensure(read == expected, || {
                format!(
                    "{} bytes at identification + {offset} read {read:#x}, expected {expected:#x}",
                    width.bytes()
                )
            })?;
        }
    }
    Ok(())
}

/// Registers that ignore writes; the sensor is stopped, so they hold still.
fn read_only<B: BarAccess>(sensor: &Sensor<B>) -> Result<(), Failure> {
    for (name, register) in [
        ("identification", IDENTIFICATION),
        ("version", VERSION),
        ("error", ERROR),
        ("overflows", OVERFLOWS),
        ("value", VALUE),
        ("sequence", SEQUENCE),
        ("timestamp", TIMESTAMP),
        ("ring head", RING_HEAD),
        ("an offset without a register", NOTHING),
    ] {
        let before = sensor.register(register)?;
        for value in [!before, 0, u32::MAX] {
            sensor.set_register(register, value)?;
            let after = sensor.register(register)?;
            ensure(after == before, || {
                format!(
                    "{name} is read-only and went from {before:#x} to {after:#x} by a write of {value:#x}"
                )
            })?;
        }
    }
    let nothing = sensor.register(NOTHING)?;
    ensure(nothing == 0, || {
        format!("an offset without a register reads {nothing:#x}, expected 0")
    })
}

/// A status bit stays until a one is written to it.
fn write_one_to_clear<B: BarAccess>(sensor: &Sensor<B>) -> Result<(), Failure> {
    let period = sensor.register(PERIOD)?;
    sensor.set_register(PERIOD, 0)?;
    let expect = |what: &str, expected: u32| -> Result<(), Failure> {
        let status = sensor.register(STATUS)? & STATUS_ERROR;
        ensure(status == expected, || {
            format!("the status' error bit {what}: {status:#x}, expected {expected:#x}")
        })
    };
    expect("after a period of 0", STATUS_ERROR)?;
    let (error, unchanged) = (sensor.register(ERROR)?, sensor.register(PERIOD)?);
    ensure(error == ERROR_PERIOD && unchanged == period, || {
        format!(
            "a period of 0 gave error {error} and period {unchanged}, expected {ERROR_PERIOD} and {period}"
        )
    })?;
    sensor.set_register(STATUS, 0)?;
    expect("after a write of 0", STATUS_ERROR)?;
    sensor.set_register(STATUS, !STATUS_ERROR)?;
    expect("after a write of ones to every other bit", STATUS_ERROR)?;
    sensor.write(STATUS + 1, Width::Byte, u64::from(u8::MAX))?;
    expect("after a write of ones to the byte beside it", STATUS_ERROR)?;
    sensor.set_register(STATUS, STATUS_ERROR)?;
    expect("after a one was written to it", 0)
}

/// The value and its sequence number read together belong together.
fn coherent<B: BarAccess>(sensor: &Sensor<B>, settings: &Settings) -> Result<u32, Failure> {
    let before = sensor.read(TIMESTAMP, Width::Qword)?;
    sensor.set_register(PERIOD, READ_PERIOD)?;
    sensor.set_register(CONTROL, CONTROL_ENABLE)?;
    let deadline = Instant::now() + settings.patience;
    let in_time = |different: u32| {
        ensure(Instant::now() < deadline, || {
            format!(
                "only {different} different samples in {} s: {}",
                settings.patience.as_secs(),
                sensor.describe()
            )
        })
    };
    // What is left of an earlier run stays until the first sample.
    while sensor.read(TIMESTAMP, Width::Qword)? == before {
        in_time(0)?;
    }
    let mut different = 0;
    let mut last = None;
    let mut last_time = 0;
    while different < READS {
        let (value, sequence) = sensor.latest()?;
        let time = sensor.read(TIMESTAMP, Width::Qword)?;
        if last != Some(sequence) {
            different += 1;
            ensure(last.is_none_or(|last| last < sequence), || {
                format!("sequence number {sequence} came after {last:?}")
            })?;
        }
        last = Some(sequence);
        ensure(
            settings.source != Source::Sine || value == sine_value(sequence),
            || {
                format!(
                    "value {value} was read with sequence number {sequence}, whose value is {}",
                    sine_value(sequence)
                )
            },
        )?;
        ensure(time >= last_time, || {
            format!("the timestamp went back from {last_time} to {time}")
        })?;
        last_time = time;
        in_time(different)?;
    }
    sensor.stop()?;
    Ok(different)
}
