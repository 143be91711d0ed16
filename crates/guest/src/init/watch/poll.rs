//! Sensors that are read as fast as can be, until one answers no more.

use hdv_devices::sensor::registers::{IDENTIFICATION, IDENTIFICATION_VALUE};

use crate::platform::Result;
use crate::platform::sysfs::Sysfs;
use crate::report::Line;
use crate::sensor::Sensor;

/// Reads of each sensor before it is said that they are being read.
const FIRST_READS: u64 = 100;

/// Reads registers of the sensors at these addresses in turn until one of them holds something else. That one is not read
/// again: it may go at any time, and its registers with it.
///
/// # Errors
/// When a sensor cannot be opened.
pub(super) fn poll<'a>(
    addresses: impl Iterator<Item = &'a String>,
    sink: &mut dyn FnMut(Line),
) -> Result<()> {
    let sensors = addresses
        .map(|address| Ok((address, Sensor::new(Sysfs::open(address)?)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut rounds = 0;
    while !sensors.is_empty() {
        rounds += 1;
        for (address, sensor) in &sensors {
            let value = sensor.register(IDENTIFICATION)?;
            if value != IDENTIFICATION_VALUE {
                sink(Line::Polled {
                    address: (*address).clone(),
                    value,
                    reads: rounds * sensors.len() as u64,
                });
                return Ok(());
            }
        }
        if rounds == FIRST_READS {
            sink(Line::Polling {
                devices: sensors.len(),
            });
        }
    }
    Ok(())
}
