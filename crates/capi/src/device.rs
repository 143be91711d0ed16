//! Handles of devices and what they name. How devices are created is in `create` and `physical_function`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hdv::{
    Aperture, BarIndex, DeviceInstance, DeviceState, Function, GuestMemory, Interrupts, Mmio,
};
use hdv_sriov::EmulatedPf;

use crate::error::{Failure, codes};
use crate::handles::{Found, Kind, Table};
use crate::process::Process;
use crate::types::HdvDevice;

static DEVICES: Table<Device> = Table::new(Kind::Device);

/// What a device's handle names.
pub(crate) struct Device {
    /// Empty while a VF is being supplied.
    parts: OnceLock<Parts>,
    /// Empty until a VF is carried: its first client may be there a moment before.
    instance: OnceLock<DeviceInstance>,
    pf: Option<EmulatedPf>,
    process: Process,
    /// By their address; `None` once the device is gone.
    apertures: Mutex<Option<HashMap<usize, Aperture>>>,
}

/// What a device has from its creation on.
struct Parts {
    memory: GuestMemory,
    interrupts: Interrupts,
    mmio: Mmio,
}

impl Device {
    fn new(pf: Option<EmulatedPf>) -> Self {
        Self {
            parts: OnceLock::new(),
            instance: OnceLock::new(),
            pf,
            process: Process::this(),
            apertures: Mutex::new(Some(HashMap::new())),
        }
    }

    /// Gives a device a handle.
    pub(crate) fn publish(
        instance: DeviceInstance,
        pf: Option<EmulatedPf>,
    ) -> Result<HdvDevice, Failure> {
        let device = Self::new(pf);
        device.parts.get_or_init(|| Parts {
            memory: instance.memory().clone(),
            interrupts: instance.interrupts().clone(),
            mmio: instance.mmio().clone(),
        });
        device.instance.get_or_init(|| instance);
        DEVICES.insert(Arc::new(device))
    }

    /// A VF has been supplied: its handle is good from now on.
    pub(crate) fn supplied(&self, function: &dyn Function) {
        self.parts.get_or_init(|| Parts {
            memory: function.memory().clone(),
            interrupts: function.interrupts().clone(),
            mmio: function.mmio().clone(),
        });
    }

    /// A VF is carried.
    pub(crate) fn carried(&self, instance: &DeviceInstance) {
        self.instance.get_or_init(|| instance.clone());
    }

    fn parts(&self) -> Result<&Parts, Failure> {
        self.parts.get().ok_or_else(|| {
            Failure::new(
                codes::NOT_READY,
                "the VF is being supplied: its handle is good once SupplyVirtualFunction has returned",
            )
        })
    }

    /// Whether a VM has it; `None` while that is not known.
    pub(crate) fn has_client(&self) -> Option<bool> {
        self.instance.get().map(DeviceInstance::has_client)
    }

    fn check_in_use(&self) -> Result<(), Failure> {
        if self.has_client() == Some(false) {
            return Err(unused());
        }
        Ok(())
    }

    /// Guest memory, if a VM has the device.
    pub(crate) fn memory(&self) -> Result<&GuestMemory, Failure> {
        let parts = self.parts()?;
        self.check_in_use()?;
        Ok(&parts.memory)
    }

    /// Its interrupts, if a VM has the device.
    pub(crate) fn interrupts(&self) -> Result<&Interrupts, Failure> {
        let parts = self.parts()?;
        self.check_in_use()?;
        Ok(&parts.interrupts)
    }

    /// Its doorbells and sections.
    pub(crate) fn mmio(&self) -> Result<&Mmio, Failure> {
        Ok(&self.parts()?.mmio)
    }

    /// The PF that it is, if it is one.
    pub(crate) fn physical_function(&self) -> Option<&EmulatedPf> {
        self.pf.as_ref()
    }

    /// Whose it is.
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// It was torn down.
    pub(crate) fn is_gone(&self) -> bool {
        let gone = |instance: &DeviceInstance| instance.state() == DeviceState::Gone;
        self.apertures().is_none() || self.instance.get().is_some_and(gone)
    }

    /// Its apertures.
    pub(crate) fn apertures(&self) -> MutexGuard<'_, Option<HashMap<usize, Aperture>>> {
        self.apertures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// No VM has the device.
pub(crate) fn unused() -> Failure {
    Failure::new(
        codes::NOT_READY,
        "no VM has the device: there is no guest memory, and nobody to interrupt",
    )
}

/// The handle of a device that is to be. It ends when this is dropped.
pub(crate) struct Reservation {
    handle: HdvDevice,
    device: Arc<Device>,
}

// SAFETY: nothing is ever read through the handle, a number.
unsafe impl Send for Reservation {}

impl Reservation {
    pub(crate) fn new() -> Result<Self, Failure> {
        let device = Arc::new(Device::new(None));
        let handle = DEVICES.insert(Arc::clone(&device))?;
        Ok(Self { handle, device })
    }

    pub(crate) fn handle(&self) -> HdvDevice {
        self.handle
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        release(self.handle);
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
