//! The creation of devices: the callback table is checked and copied, the device published and
//! announced.

use std::ffi::c_void;
use std::sync::Arc;

use hdv::{DeviceIds, DeviceInstance, HostError, callback_function};
use hdv_sriov::EmulatedPf;

use crate::callbacks::{CallbackTable, Creation, TableCallbacks};
use crate::device::{self, Device};
use crate::error::Failure;
use crate::guard;
use crate::guid::uuid;
use crate::host::{Host, host};
use crate::pointers::{Out, copied, out};
use crate::types::{
    DEVICE_TYPE_PCI, Guid, HdvDevice, HdvHost, HdvPciDeviceInterface, Hresult,
    PCI_INTERFACE_VERSION_1,
};

/// # Safety
/// Null, or an `HDV_PCI_DEVICE_INTERFACE` whose callbacks keep to their types.
pub(crate) unsafe fn table(interface: *const c_void) -> Result<CallbackTable, Failure> {
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
        // SAFETY: by the contract.
        let ids = unsafe { device_ids(class_id, instance_id) }?;
        // SAFETY: by the contract.
        let table = unsafe { table(interface) }?;
        let creation = Arc::new(Creation::default());
        let callbacks = TableCallbacks::new(table, context, Arc::clone(&creation));
        let function = callback_function(Box::new(callbacks));
        let instance = host.host().create_device(ids, function)?;
        hand_out(&host, &instance, None, &creation, &place)
    })
}

/// # Safety
/// Null, or valid for reads.
pub(crate) unsafe fn device_ids(
    class_id: *const Guid,
    instance_id: *const Guid,
) -> Result<DeviceIds, Failure> {
    Ok(DeviceIds {
        // SAFETY: by the contract.
        class_id: unsafe { uuid(class_id, "DeviceClassId") }?,
        // SAFETY: by the contract.
        instance_id: unsafe { uuid(instance_id, "DeviceInstanceId") }?,
    })
}

/// Gives a device that was created its handle, and announces it.
pub(crate) fn hand_out(
    host: &Host,
    instance: &DeviceInstance,
    pf: Option<EmulatedPf>,
    creation: &Creation,
    place: &Out<HdvDevice>,
) -> Result<(), Failure> {
    let handle = match Device::publish(instance.clone(), pf) {
        Ok(handle) => handle,
        Err(failure) => {
            host.host().remove(instance.id())?;
            return Err(failure);
        }
    };
    if let Some(ids) = instance.ids() {
        host.adopt(ids, handle);
    }
    // Initialize may use it already.
    place.set(handle);
    let announced = announce(host, instance, creation);
    if announced.is_err() {
        place.set(std::ptr::null_mut());
        host.disown(handle);
        device::release(handle);
    }
    announced
}

fn announce(host: &Host, instance: &DeviceInstance, creation: &Creation) -> Result<(), Failure> {
    host.host().announce(instance.id())?;
    if creation.returned() {
        Ok(())
    } else {
        Err(HostError::Closed.into())
    }
}
