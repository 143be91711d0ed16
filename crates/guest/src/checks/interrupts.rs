//! Thresholds: no interrupt without one, one for each that is crossed, status bits that clear.

use hdv_devices::sensor::registers::{
    COALESCE, CONTROL, CONTROL_ENABLE, PERIOD, SINE_AMPLITUDE, SINE_SAMPLES, STATUS, STATUS_HIGH,
    STATUS_LOW, STATUS_SAMPLES, THRESHOLD_HIGH, THRESHOLD_LOW, VECTOR_SAMPLES, VECTOR_THRESHOLD,
};

use super::{Failure, Settings, Source, Verdict, ensure};
use crate::platform::Platform;
use crate::sensor::Sensor;

/// Microseconds between samples.
const SAMPLE_PERIOD: u32 = 200;
/// The sine crosses it once up and once down in each half.
const SINE_THRESHOLD: i32 = SINE_AMPLITUDE / 10 * 9;

pub(super) fn check<P: Platform>(sensor: &Sensor<P>, settings: &Settings) -> Verdict {
    sensor.set_register(PERIOD, SAMPLE_PERIOD)?;
    none_without_threshold(sensor, settings)?;
    let (high, low) = match settings.source {
        Source::Sine => (SINE_THRESHOLD, -SINE_THRESHOLD),
        // Every value but the extremes themselves is beyond these.
        Source::Any => (i32::MIN, i32::MAX),
    };
    sensor.set_signed(THRESHOLD_HIGH, high)?;
    crossed(sensor, settings, "high", STATUS_HIGH, STATUS_LOW)?;
    sensor.set_signed(THRESHOLD_HIGH, i32::MAX)?;
    sensor.set_signed(THRESHOLD_LOW, low)?;
    crossed(sensor, settings, "low", STATUS_LOW, STATUS_HIGH)?;
    Ok(format!(
        "vector {VECTOR_THRESHOLD} fired above {high} and below {low}, both status bits cleared"
    ))
}

/// A whole sine, seen by vector 0, crosses nothing.
fn none_without_threshold<P: Platform>(
    sensor: &Sensor<P>,
    settings: &Settings,
) -> Result<(), Failure> {
    sensor.set_register(COALESCE, SINE_SAMPLES)?;
    sensor.set_register(CONTROL, CONTROL_ENABLE)?;
    let status = sensor
        .wait_for_status(VECTOR_SAMPLES, STATUS_SAMPLES, settings.patience)?
        .ok_or_else(|| silent(sensor, settings, VECTOR_SAMPLES))?;
    ensure(status & (STATUS_HIGH | STATUS_LOW) == 0, || {
        format!("status {status:#x} says a threshold was crossed when there was none")
    })?;
    Ok(sensor.stop()?)
}

fn crossed<P: Platform>(
    sensor: &Sensor<P>,
    settings: &Settings,
    name: &str,
    bit: u32,
    other: u32,
) -> Result<(), Failure> {
    sensor.set_register(CONTROL, CONTROL_ENABLE)?;
    let status = sensor
        .wait_for_status(VECTOR_THRESHOLD, bit, settings.patience)?
        .ok_or_else(|| silent(sensor, settings, VECTOR_THRESHOLD))?;
    ensure(status & other == 0, || {
        format!("the {name} threshold was crossed and the status is {status:#x}")
    })?;
    // Stopped first, so that no new sample sets the bit again.
    sensor.halt()?;
    sensor.set_register(STATUS, bit)?;
    let status = sensor.register(STATUS)?;
    ensure(status & bit == 0, || {
        format!("the {name} status bit was cleared and the status still is {status:#x}")
    })
}

/// The failure of an interrupt that did not come.
pub(super) fn silent<P: Platform>(sensor: &Sensor<P>, settings: &Settings, vector: u16) -> Failure {
    Failure(format!(
        "vector {vector} did not fire within {} s: {}",
        settings.patience.as_secs(),
        sensor.describe()
    ))
}
