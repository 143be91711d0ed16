//! Who the device says it is, in the system's words and in config space.

use hdv_devices::sensor::registers::{BAR0_SIZE, CLASS_CODE, VENDOR_ID};

use super::{Settings, Verdict, ensure};
use crate::platform::{BarAccess, Identity, pci};
use crate::sensor::Sensor;

pub(super) fn check<B: BarAccess>(sensor: &Sensor<B>, settings: &Settings) -> Verdict {
    let expected = Identity {
        vendor: VENDOR_ID,
        device: settings.device_id,
        class: CLASS_CODE,
    };
    let device = sensor.platform();
    for (source, identity) in [
        ("the system", device.identity()?),
        ("config space", pci::identity(device)?),
    ] {
        ensure(identity == expected, || {
            format!(
                "{source} says {}, expected {}",
                show(identity),
                show(expected)
            )
        })?;
    }
    let mut sizes = Vec::new();
    for bar in 0..6 {
        sizes.push(device.bar_size(bar)?);
    }
    let expected_sizes = [BAR0_SIZE, 0, 0, 0, 0, 0];
    ensure(sizes == expected_sizes, || {
        format!("the BARs have {sizes:?} bytes, expected {expected_sizes:?}")
    })?;
    Ok(format!("{}, BAR 0 of {BAR0_SIZE} bytes", show(expected)))
}

fn show(identity: Identity) -> String {
    format!(
        "{:04x}:{:04x} class {:06x}",
        identity.vendor, identity.device, identity.class
    )
}
