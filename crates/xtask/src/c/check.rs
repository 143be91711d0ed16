//! The guest program's checks of a served device, over our own client end.

use hdv_guest::checks::{self, Check, Selection, Settings};
use hdv_guest::families;
use hdv_guest::platform::BarAccess;
use hdv_guest::platform::vfio_user::VfioUser;
use hdv_guest::report::{Line, Outcome};

use super::ServedDevice;

/// Samples of the sensor's ring check: enough that it wraps.
const SAMPLES: u32 = 20_000;

/// Makes every check of a device; what came out of each.
pub(crate) fn check(device: &ServedDevice) -> Result<Vec<Outcome>, String> {
    let platform = VfioUser::connect(&device.socket).map_err(|error| error.to_string())?;
    let identity = platform.identity().map_err(|error| error.to_string())?;
    let settings = Settings {
        samples: SAMPLES,
        ..Settings::default()
    };
    let mut outcomes = Vec::new();
    match families::of(identity) {
        Some(family) => family.check(&platform, &Selection::all(), &settings, &mut |line| {
            if let Line::Check(outcome) = line {
                outcomes.push(outcome);
            }
        }),
        None => {
            let mut selection = Check::ALL.to_vec();
            selection.retain(|check| *check != Check::TwoSensors);
            checks::run(&selection, vec![platform], &settings, &mut |outcome| {
                outcomes.push(outcome);
            });
        }
    }
    if outcomes.is_empty() {
        return Err(format!("there are no checks for {identity:?}"));
    }
    Ok(outcomes)
}
