//! Handles of devices, and their creation.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdv::{Aperture, BarIndex, DeviceIds, DeviceInstance, HostError, callback_function};

use crate::callbacks::{CallbackTable, Creation, TableCallbacks};
use crate::error::{Failure, codes};
use crate::guard;
use crate::guid::uuid;
use crate::handles::{Found, Kind, Table};
use crate::host::{Host, host};
use crate::pointers::{copied, out};
use crate::types::{
    DEVICE_TYPE_PCI, Guid, HdvDevice, HdvHost, HdvPciDeviceInterface, Hresult,
    PCI_INTERFACE_VERSION_1,
};

static DEVICES: Table<Device> = Table::new(Kind::Device);

/// What a device's handle names.
pub(crate) struct Device {
    instance: DeviceInstance,
    /// By their address; `None` once the device is gone.
    apertures: Mutex<Option<HashMap<usize, Aperture>>>,
}

impl Device {
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

/// # Safety
/// Null, or an `HDV_PCI_DEVICE_INTERFACE` whose callbacks keep to their types.
unsafe fn table(interface: *const c_void) -> Result<CallbackTable, Failure> {
    // The version says what follows it.
    // SAFETY: every version begins with it.
    let version: i32 = unsafe { copied(interface.cast(), "DeviceInterface") }?;
    if version != PCI_INTERFACE_VERSION_1 {
        return Err(Failure::argument(format!(
            "version {version} of HDV_PCI_DEVICE_INTERFACE is not known: set Version to \
             HdvPciDeviceInterfaceVersion1"
        )));
    }
    // SAFETY: by the contract, for this version.
    let interface: HdvPciDeviceInterface = unsafe { copied(interface.cast(), "DeviceInterface") }?;
    CallbackTable::new(&interface)
}

/// Creates a device.
///
/// # Safety
/// Pointers are null or valid; `interface` is an `HDV_PCI_DEVICE_INTERFACE` whose callbacks keep to
/// their types and may be called with `context` on any thread, one at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HdvCreateDeviceInstance(
    host_handle: HdvHost,
    device_type: i32,
    class_id: *const Guid,
    instance_id: *const Guid,
    interface: *const c_void,
    context: *mut c_void,
    place: *mut HdvDevice,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let place = unsafe { out(place, "DeviceHandle", std::ptr::null_mut()) }?;
        let host = host(host_handle)?;
        if device_type != DEVICE_TYPE_PCI {
            return Err(Failure::argument(format!(
                "{device_type} is no type of device: there is HdvDeviceTypePCI"
            )));
        }
        let ids = DeviceIds {
            // SAFETY: by the contract.
            class_id: unsafe { uuid(class_id, "DeviceClassId") }?,
            // SAFETY: by the contract.
            instance_id: unsafe { uuid(instance_id, "DeviceInstanceId") }?,
        };
        // SAFETY: by the contract.
        let table = unsafe { table(interface) }?;
        let creation = Arc::new(Creation::default());
        let callbacks = TableCallbacks::new(table, context, Arc::clone(&creation));
        let function = callback_function(Box::new(callbacks));
        let instance = host.host().create_device(ids, function)?;
        let device = Arc::new(Device {
            instance: instance.clone(),
            apertures: Mutex::new(Some(HashMap::new())),
        });
        let handle = match DEVICES.insert(device) {
            Ok(handle) => handle,
            Err(failure) => {
                host.host().remove(instance.id())?;
                return Err(failure);
            }
        };
        host.adopt(ids, handle);
        // Initialize may use it already.
        place.set(handle);
        let announced = announce(&host, &instance, &creation);
        if announced.is_err() {
            place.set(std::ptr::null_mut());
            host.disown(handle);
            release(handle);
        }
        announced
    })
}

fn announce(host: &Host, instance: &DeviceInstance, creation: &Creation) -> Result<(), Failure> {
    host.host().announce(instance.id())?;
    if creation.returned() {
        Ok(())
    } else {
        Err(HostError::Closed.into())
    }
}
