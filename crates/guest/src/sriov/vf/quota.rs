//! A VF's quota holds, whatever its driver does: by the times of the samples in its ring.

use std::num::NonZeroU32;

use hdv_devices::sensor::registers::{PERIOD, STATUS, STATUS_SAMPLES, VECTOR_SAMPLES, VECTORS};

use crate::checks::{Failure, Settings, Verdict, ensure};
use crate::platform::Platform;
use crate::sensor::Sensor;
use crate::sensor::ring::Ring;

/// The name in reports.
pub const NAME: &str = "vf-quota";

/// Samples of the ring.
const RING: u32 = 1 << 15;
/// Samples per interrupt.
const COALESCED: u32 = 64;
/// Samples that are looked at in each round.
const SAMPLES: u32 = 2000;
/// Microseconds between samples that are asked for: more than any quota gives.
const GREEDY: u32 = 1;

/// What a driver can do between two rounds to make the device forget when the last sample was.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    Restart,
    Reset,
}

/// Asks for more than `quota` samples per second and sees that no two are closer together.
///
/// # Errors
/// Two are, or samples do not come.
pub fn check<P: Platform>(device: P, settings: &Settings, quota: NonZeroU32) -> Verdict {
    const NANOSECONDS: u64 = 1_000_000_000;
    let interval = NANOSECONDS / u64::from(quota.get());
    let sensor = Sensor::new(device)?;
    sensor.platform().enable_vectors(VECTORS)?;
    let mut last = 0;
    let mut shortest = u64::MAX;
    for between in [Between::Nothing, Between::Restart, Between::Reset] {
        match between {
            Between::Nothing => {}
            Between::Restart => sensor.stop()?,
            Between::Reset => sensor.platform().reset()?,
        }
        let mut ring = Ring::new(&sensor, RING)?;
        ring.start(GREEDY, COALESCED)?;
        let mut samples = 0;
        let mut after_start = true;
        while samples < SAMPLES {
            if sensor.platform().wait(VECTOR_SAMPLES, settings.patience)? == 0 {
                return Err(Failure::new(format!("no samples: {}", sensor.describe())));
            }
            sensor.set_register(STATUS, STATUS_SAMPLES)?;
            samples += drain(
                &mut ring,
                &mut last,
                &mut shortest,
                interval,
                &mut after_start,
                between,
            )?;
        }
        let period = sensor.register(PERIOD)?;
        ensure(period == GREEDY, || {
            format!(
                "the period register reads {period} after {GREEDY} was written: a quota is not to show there"
            )
        })?;
        sensor.halt()?;
        drain(
            &mut ring,
            &mut last,
            &mut shortest,
            interval,
            &mut after_start,
            between,
        )?;
    }
    Ok(format!(
        "one sample every {GREEDY} us asked for, and none came less than {} us after the one before, at {quota} a \
         second allowed; also after a new start and a reset",
        shortest / 1000
    ))
}

fn drain<P: Platform>(
    ring: &mut Ring<'_, P>,
    last: &mut u64,
    shortest: &mut u64,
    interval: u64,
    after_start: &mut bool,
    between: Between,
) -> Result<u32, Failure> {
    ring.drain(|sample| {
        let apart = sample.timestamp.saturating_sub(*last);
        ensure(apart >= interval, || {
            let when = if *after_start { "first" } else { "running" };
            format!(
                "sample {} came {apart} ns after the one before ({when}, {between:?}): the quota is one in {interval} ns",
                sample.sequence
            )
        })?;
        *shortest = (*shortest).min(apart);
        *last = sample.timestamp;
        *after_start = false;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fault, Model};

    #[test]
    fn a_sensor_that_keeps_to_no_quota_is_found_out() {
        let quota = NonZeroU32::new(10).unwrap();
        let device = Model::new(Fault::None);
        let error = check(device, &Settings::default(), quota).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("the quota is one in 100000000 ns"),
            "{error}"
        );
    }
}
