//! The demonstration: samples are read as they come and printed.

use std::time::{Duration, Instant};

use hdv_devices::sensor::registers::{STATUS, STATUS_SAMPLES, VECTOR_SAMPLES, VECTORS};

use crate::platform::{Error, Platform, Result};
use crate::report::Line;
use crate::sensor::Sensor;
use crate::sensor::ring::Ring;

/// Samples the ring holds.
const RING: u32 = 256;
/// Longest wait for one interrupt, beyond the period itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads samples through the ring for `duration`, one every `period` microseconds, and prints
/// each. Returns how many.
///
/// # Errors
/// When the sensor is none, refuses, or no sample comes.
pub fn show<P: Platform>(
    device: P,
    duration: Duration,
    period: u32,
    sink: &mut dyn FnMut(Line),
) -> Result<u64> {
    let name = device.name().to_owned();
    let sensor = Sensor::new(device)?;
    sensor.platform().enable_vectors(VECTORS)?;
    let mut ring = Ring::new(&sensor, RING)?;
    ring.start(period, 1)?;
    let patience = PATIENCE + Duration::from_micros(u64::from(period));
    let end = Instant::now() + duration;
    let mut count = 0;
    while Instant::now() < end {
        if sensor.platform().wait(VECTOR_SAMPLES, patience)? == 0 {
            return Err(Error::Missing(format!(
                "{name}: no sample within {} s: {}",
                patience.as_secs(),
                sensor.describe()
            )));
        }
        sensor.set_register(STATUS, STATUS_SAMPLES)?;
        count += u64::from(ring.drain(|sample| {
            sink(Line::Sample {
                device: name.clone(),
                sequence: sample.sequence,
                timestamp_ns: sample.timestamp,
                value: sample.value,
            });
            Ok::<(), Error>(())
        })?);
    }
    drop(ring);
    sensor.stop()?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fault, Model};

    #[test]
    fn samples_are_shown_in_order() {
        let mut sequences = Vec::new();
        let count = show(
            Model::new(Fault::None),
            Duration::from_millis(20),
            1000,
            &mut |line| match line {
                Line::Sample { sequence, .. } => sequences.push(sequence),
                other => panic!("{other}"),
            },
        )
        .unwrap();
        assert!(count > 0);
        assert!(sequences.into_iter().eq(0..u32::try_from(count).unwrap()));
    }

    #[test]
    fn a_sensor_that_is_silent_is_an_error() {
        let device = Model::new(Fault::Silent(VECTOR_SAMPLES));
        let error = show(device, Duration::from_secs(1), 1000, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("no sample"), "{error}");
    }
}
