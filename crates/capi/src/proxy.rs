//! Device hosts that reach their compute system through a proxy: the two sides of the handshake, where
//! both are in this process.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use hdv::DeviceIds;

use crate::com::{Class, Object, Reference, UnknownTable};
use crate::error::{Failure, codes};
use crate::guard::{self, call_out};
use crate::guid::uuid;
use crate::host::{Host, check_flags};
use crate::pointers::{copied, out};
use crate::system::system;
use crate::types::{Guid, HcsSystem, HdvHost, Hresult};

/// `IID_IVmDeviceHost`.
const IID_DEVICE_HOST: Guid = Guid {
    data1: 0x7852_3d62,
    data2: 0xd919,
    data3: 0x47ca,
    data4: [0x9c, 0xd7, 0x08, 0x13, 0x91, 0x72, 0xd6, 0x85],
};

/// `IID_IVmDeviceHostSupport`.
const IID_SUPPORT: Guid = Guid {
    data1: 0xe31a_a49b,
    data2: 0x0914,
    data3: 0x465e,
    data4: [0xb1, 0x45, 0x1b, 0x9b, 0xa1, 0x3e, 0xfb, 0x10],
};

/// Gives the object itself, also through somebody else's that passes questions on: it is ours alone.
const IID_OURSELVES: Guid = Guid {
    data1: 0x1c3d_7a52,
    data2: 0x8be4,
    data3: 0x4f0e,
    data4: [0xa6, 0x17, 0x5d, 0x90, 0x2b, 0xc8, 0x44, 0xe1],
};

#[repr(C)]
struct DeviceHostTable {
    unknown: UnknownTable,
    get_device_instance: unsafe extern "C-unwind" fn(
        *mut c_void,
        *const Guid,
        *const Guid,
        *mut *mut c_void,
    ) -> Hresult,
}

#[repr(C)]
struct SupportTable {
    unknown: UnknownTable,
    register_device_host:
        unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, u32, *mut u64) -> Hresult,
}

/// A device host, as its proxy sees it.
struct DeviceHostObject {
    host: Arc<Host>,
}

impl Class for DeviceHostObject {
    type Table = DeviceHostTable;
    const TABLE: &'static DeviceHostTable = &HOST_TABLE;
    const INTERFACES: &'static [Guid] = &[IID_DEVICE_HOST, IID_OURSELVES];
}

/// One place, so that its address tells our objects from others.
static HOST_TABLE: DeviceHostTable = DeviceHostTable {
    unknown: Object::<DeviceHostObject>::UNKNOWN,
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
        let object = unsafe { &(*this.cast::<Object<DeviceHostObject>>()).content };
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
        place.set(device.as_ptr());
        // The reference is the caller's now.
        std::mem::forget(device);
        Ok(())
    })
}

/// # Safety
/// Pointers are null or valid, `proxy` a COM object.
unsafe fn initialize(
    vm_id: *const Guid,
    proxy: *mut c_void,
    flags: u32,
    place: *mut HdvHost,
) -> Result<(), Failure> {
    // SAFETY: by the contract.
    let place = unsafe { out(place, "DeviceHostHandle", std::ptr::null_mut()) }?;
    // The proxy decides which compute system it is for: the id need only be one.
    // SAFETY: by the contract.
    unsafe { copied(vm_id, "VmId") }?;
    let proxy = NonNull::new(proxy).ok_or_else(|| Failure::null("ProxyInterface"))?;
    check_flags(flags)?;
    // SAFETY: a COM object, by the contract.
    let support = unsafe { Reference::query(proxy, &IID_SUPPORT, "IVmDeviceHostSupport") }?;
    let host = Host::new()?;
    let registered = register(&support, &host).and_then(|()| host.publish(&place));
    if registered.is_err() {
        // Its failure is the one to be told of; no device is there that could refuse.
        let _ = host.close();
    }
    registered
}

fn register(support: &Reference, host: &Arc<Host>) -> Result<(), Failure> {
    let object = Object::create(DeviceHostObject {
        host: Arc::clone(host),
    });
    let mut ipc_section = 0;
    // SAFETY: an IVmDeviceHostSupport, since it was asked for; the places live until after the call.
    let result = call_out("IVmDeviceHostSupport::RegisterDeviceHost", || unsafe {
        let table = support.table::<SupportTable>();
        ((*table).register_device_host)(
            support.as_ptr(),
            object.as_ptr(),
            std::process::id(),
            &raw mut ipc_section,
        )
    });
    if result < 0 {
        return Err(Failure::new(
            result,
            format!("the proxy did not register the device host: {result:#010x}"),
        ));
    }
    Ok(())
}

/// Makes this process a device host behind a proxy.
///
/// # Safety
/// Pointers are null or valid, `proxy` a COM object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HdvInitializeDeviceHostForProxy(
    vm_id: *const Guid,
    proxy: *mut c_void,
    host: *mut HdvHost,
) -> Hresult {
    // SAFETY: by the contract.
    guard::result(|| unsafe { initialize(vm_id, proxy, 0, host) })
}

/// Makes this process a device host behind a proxy, with flags.
///
/// # Safety
/// Pointers are null or valid, `proxy` a COM object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HdvInitializeDeviceHostForProxyEx(
    vm_id: *const Guid,
    proxy: *mut c_void,
    flags: u32,
    host: *mut HdvHost,
) -> Hresult {
    // SAFETY: by the contract.
    guard::result(|| unsafe { initialize(vm_id, proxy, flags, host) })
}

/// Registers a device host with a compute system.
///
/// # Safety
/// Pointers are null or valid, `device_host` a COM object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn HdvProxyDeviceHost(
    of: HcsSystem,
    device_host: *mut c_void,
    target_process_id: u32,
    ipc_section: *mut u64,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let _ipc_section = unsafe { out(ipc_section, "IpcSectionHandle", 0) }?;
        let system = system(of)?;
        let device_host = NonNull::new(device_host).ok_or_else(|| Failure::null("DeviceHost"))?;
        // SAFETY: a COM object, by the contract.
        let device_host =
            unsafe { Reference::query(device_host, &IID_DEVICE_HOST, "IVmDeviceHost") }?;
        let interface =
            NonNull::new(device_host.as_ptr()).ok_or_else(|| Failure::null("IVmDeviceHost"))?;
        // SAFETY: a COM object too.
        let ours = unsafe { Reference::query(interface, &IID_OURSELVES, "of this library") }?;
        // SAFETY: as above.
        let object = unsafe { Object::<DeviceHostObject>::recognise(&ours) }.ok_or_else(|| {
            Failure::new(
                codes::E_NOINTERFACE,
                "the device host is not one of this library's",
            )
        })?;
        if target_process_id != std::process::id() {
            return Err(Failure::argument(format!(
                "the device host is in this process, {}, not in {target_process_id}",
                std::process::id()
            )));
        }
        object.host.host().attach(system)?;
        Ok(())
    })
}
