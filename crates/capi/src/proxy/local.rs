//! A device host of this process, as its proxy sees it.

use std::ffi::c_void;
use std::sync::Arc;

use hdv::{DeviceIds, System};

use super::{DeviceHostTable, IID_DEVICE_HOST, IID_OURSELVES};
use crate::com::{Class, Object, UnknownTable};
use crate::error::{Failure, codes};
use crate::guard;
use crate::guid::uuid;
use crate::host::Host;
use crate::pointers::out;
use crate::types::{Guid, Hresult};

/// A device host, as its proxy sees it.
pub(super) struct LocalHost {
    host: Arc<Host>,
}

impl LocalHost {
    pub(super) fn new(host: &Arc<Host>) -> Self {
        Self {
            host: Arc::clone(host),
        }
    }

    /// Attaches it to a system.
    pub(super) fn attach(&self, system: Arc<dyn System>, process_id: u32) -> Result<(), Failure> {
        Self::check_process(process_id)?;
        Ok(self.host.host().attach(system)?)
    }

    /// # Errors
    /// It is not this process.
    pub(super) fn check_process(process_id: u32) -> Result<(), Failure> {
        if process_id != std::process::id() {
            return Err(Failure::argument(format!(
                "the device host is in this process, {}, not in {process_id}",
                std::process::id()
            )));
        }
        Ok(())
    }
}

impl Class for LocalHost {
    type Table = DeviceHostTable;
    const TABLE: &'static DeviceHostTable = &HOST_TABLE;
    const INTERFACES: &'static [Guid] = &[IID_DEVICE_HOST, IID_OURSELVES];
}

/// One place, so that its address tells our objects from others.
static HOST_TABLE: DeviceHostTable = DeviceHostTable {
    unknown: Object::<LocalHost>::UNKNOWN,
    get_device_instance,
};

/// A device of such a host. There is nothing to be done with it.
struct DeviceObject;

impl Class for DeviceObject {
    type Table = UnknownTable;
    const TABLE: &'static UnknownTable = &DEVICE_TABLE;
    const INTERFACES: &'static [Guid] = &[];
}

static DEVICE_TABLE: UnknownTable = Object::<DeviceObject>::UNKNOWN;

/// `IVmDeviceHost::GetDeviceInstance`.
unsafe extern "C-unwind" fn get_device_instance(
    this: *mut c_void,
    class_id: *const Guid,
    instance_id: *const Guid,
    place: *mut *mut c_void,
) -> Hresult {
    guard::result(|| {
        // SAFETY: the caller's place, by the contract of COM.
        let place = unsafe { out(place, "DeviceInstance", std::ptr::null_mut()) }?;
        let ids = DeviceIds {
            // SAFETY: as above.
            class_id: unsafe { uuid(class_id, "DeviceClassId") }?,
            // SAFETY: as above.
            instance_id: unsafe { uuid(instance_id, "DeviceInstanceId") }?,
        };
        // SAFETY: an object of the class whose table this function is in; its caller keeps it.
        let object = unsafe { &(*this.cast::<Object<LocalHost>>()).content };
        if !object.host.has(&ids) {
            return Err(Failure::new(
                codes::NOT_FOUND,
                format!(
                    "the device host has no device {} of class {}",
                    ids.instance_id, ids.class_id
                ),
            ));
        }
        let device = Object::create(DeviceObject);
        place.set(device.into_raw());
        Ok(())
    })
}
