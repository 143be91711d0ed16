//! Handles of devices and what they name. How devices are created is in `create`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv::{Aperture, BarIndex, DeviceInstance};

use crate::error::{Failure, codes};
use crate::handles::{Found, Kind, Table};
use crate::types::HdvDevice;

static DEVICES: Table<Device> = Table::new(Kind::Device);

/// What a device's handle names.
pub(crate) struct Device {
    instance: DeviceInstance,
    /// By their address; `None` once the device is gone.
    apertures: Mutex<Option<HashMap<usize, Aperture>>>,
}

impl Device {
    /// Gives a device a handle.
    pub(crate) fn publish(instance: DeviceInstance) -> Result<HdvDevice, Failure> {
        DEVICES.insert(Arc::new(Self {
            instance,
            apertures: Mutex::new(Some(HashMap::new())),
        }))
    }

    /// The device itself.
    pub(crate) fn instance(&self) -> &DeviceInstance {
        &self.instance
    }

    /// The device, if a VM has it.
    pub(crate) fn in_use(&self) -> Result<&DeviceInstance, Failure> {
        if self.instance.has_client() {
            Ok(&self.instance)
        } else {
            Err(Failure::new(
                codes::NOT_READY,
                "no VM has the device: there is no guest memory, and nobody to interrupt",
            ))
        }
    }

    /// Its apertures.
    pub(crate) fn apertures(&self) -> MutexGuard<'_, Option<HashMap<usize, Aperture>>> {
        self.apertures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device that a handle names.
pub(crate) fn device(handle: HdvDevice) -> Result<Found<'static, Device>, Failure> {
    DEVICES.get(handle)
}

/// Ends the handle of a device that was torn down, and releases its apertures, also those that a call
/// on another thread is about to add.
pub(crate) fn release(handle: HdvDevice) {
    if let Ok(device) = DEVICES.share(handle) {
        DEVICES.remove(handle);
        let apertures = device.apertures().take();
        drop(apertures);
    }
}

/// The BAR that a selector names.
pub(crate) fn bar(selector: i32) -> Result<BarIndex, Failure> {
    u32::try_from(selector)
        .ok()
        .and_then(|selector| BarIndex::try_from(selector).ok())
        .ok_or_else(|| Failure::argument(format!("{selector} is no BAR: there are 0 to 5")))
}
