//! Many samples through a ring: none lost, none torn, by interrupt.

use hdv_devices::sensor::registers::{
    OVERFLOWS, SEQUENCE, STATUS, STATUS_OVERFLOW, STATUS_SAMPLES, VECTOR_SAMPLES, sine_value,
};

use super::interrupts::silent;
use super::{Failure, Settings, Verdict, ensure};
use crate::platform::Platform;
use crate::sensor::Sensor;
use crate::sensor::ring::{Ring, Sample};

/// Samples per interrupt.
const COALESCED: u32 = 1024;
/// How often the period is doubled before a driver that cannot keep up is a failure.
const DOUBLINGS: u32 = 6;

/// What a sensor measures, so what can be known of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The `sine` source: each value follows from its sequence number.
    Sine,
    /// Any other: values cannot be known.
    Any,
}

/// Follows samples and finds one that is lost, torn or out of order.
#[derive(Debug)]
pub(super) struct Follower {
    source: Source,
    next: u32,
    last_time: u64,
}

impl Follower {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            next: 0,
            last_time: 0,
        }
    }

    /// Samples lost since the last one, by its sequence number.
    pub(super) fn follow(&mut self, sample: Sample) -> Result<u32, Failure> {
        let Sample {
            timestamp,
            value,
            sequence,
        } = sample;
        let lost = sequence.checked_sub(self.next).ok_or_else(|| {
            Failure(format!(
                "sequence number {sequence} came where {} was next",
                self.next
            ))
        })?;
        ensure(
            self.source != Source::Sine || value == sine_value(sequence),
            || {
                format!(
                    "sample {sequence} is torn: its value is {value}, not {}",
                    sine_value(sequence)
                )
            },
        )?;
        ensure(timestamp >= self.last_time && timestamp != 0, || {
            format!(
                "sample {sequence} has time {timestamp}, the one before it {}",
                self.last_time
            )
        })?;
        self.next = sequence.checked_add(1).ok_or_else(|| {
            Failure(format!(
                "sequence number {sequence} is beyond what was asked for"
            ))
        })?;
        self.last_time = timestamp;
        Ok(lost)
    }

    /// The sequence number after the last sample followed.
    pub(super) fn next(&self) -> u32 {
        self.next
    }
}

/// How an attempt at one period ended without a failure of the device.
enum Attempt {
    Passed {
        interrupts: u64,
        samples: u32,
    },
    /// The driver could not keep up, and the device said so.
    Overflowed,
}

pub(super) fn check<P: Platform>(sensor: &Sensor<P>, settings: &Settings, count: u32) -> Verdict {
    let mut period = settings.period.max(1);
    for _ in 0..=DOUBLINGS {
        match attempt(sensor, settings, count, period)? {
            Attempt::Passed {
                interrupts,
                samples,
            } => {
                return Ok(format!(
                    "{samples} samples, one every {period} us, by {interrupts} interrupts: none \
                     lost, none torn"
                ));
            }
            Attempt::Overflowed => period = period.saturating_mul(2),
        }
    }
    Err(Failure(format!(
        "a ring of {} samples overflowed even with one every {} us",
        settings.ring,
        period / 2
    )))
}

fn attempt<P: Platform>(
    sensor: &Sensor<P>,
    settings: &Settings,
    count: u32,
    period: u32,
) -> Result<Attempt, Failure> {
    let mut ring = Ring::new(sensor, settings.ring)?;
    let coalesced = COALESCED.min(settings.ring / 2).max(1);
    let mut follower = Follower::new(settings.source);
    let (mut samples, mut lost, mut interrupts) = (0_u32, 0_u32, 0_u64);
    ring.start(period, coalesced)?;
    while samples < count && lost == 0 {
        let fired = sensor.platform().wait(VECTOR_SAMPLES, settings.patience)?;
        if fired == 0 {
            let waiting = ring.waiting()?;
            if waiting >= coalesced {
                return Err(Failure(format!(
                    "{waiting} samples wait and vector {VECTOR_SAMPLES} did not fire for them: {}",
                    sensor.describe()
                )));
            }
            return Err(silent(sensor, settings, VECTOR_SAMPLES));
        }
        interrupts += fired;
        sensor.set_register(STATUS, STATUS_SAMPLES)?;
        samples += drain(&mut ring, &mut follower, &mut lost)?;
    }
    sensor.halt()?;
    samples += drain(&mut ring, &mut follower, &mut lost)?;

    let overflows = sensor.register(OVERFLOWS)?;
    let overflowed = sensor.register(STATUS)? & STATUS_OVERFLOW != 0;
    let last = sensor.register(SEQUENCE)?;
    let taken = last.wrapping_add(1);
    ensure(samples.checked_add(overflows) == Some(taken), || {
        format!(
            "{taken} samples were taken, {samples} came through the ring and the device counts \
             {overflows} overflows: some were lost unseen, or taken after sampling had ended"
        )
    })?;
    ensure(overflowed == (overflows != 0), || {
        format!("{overflows} overflows are counted and the overflow status bit is {overflowed}")
    })?;
    if overflows != 0 {
        return Ok(Attempt::Overflowed);
    }
    ensure(lost == 0, || {
        format!(
            "{lost} samples before number {} are lost, and no overflow",
            follower.next()
        )
    })?;
    Ok(Attempt::Passed {
        interrupts,
        samples,
    })
}

fn drain<P: Platform>(
    ring: &mut Ring<'_, P>,
    follower: &mut Follower,
    lost: &mut u32,
) -> Result<u32, Failure> {
    ring.drain(|sample| {
        *lost = lost.saturating_add(follower.follow(sample)?);
        Ok(())
    })
}

/// Both at the same time, each driven by a thread.
pub(super) fn check_two<P: Platform>(
    first: &Sensor<P>,
    second: &Sensor<P>,
    settings: &Settings,
) -> Verdict {
    let count = settings.samples_of_two;
    let verdicts = std::thread::scope(|scope| {
        let threads = [first, second]
            .map(|sensor| (sensor, scope.spawn(move || check(sensor, settings, count))));
        threads.map(|(sensor, thread)| {
            let verdict = thread
                .join()
                .unwrap_or_else(|_| Err(Failure::new("the check panicked")));
            super::left_stopped(sensor, verdict)
                .map_err(|failure| Failure(format!("{}: {failure}", sensor.platform().name())))
        })
    });
    let [first, second] = verdicts;
    Ok(format!("{}; {}", first?, second?))
}
