//! Device hosts that reach their compute system through a proxy: the handshake. Both sides may be in this process, or the device
//! host in another one, for which a broker in this one speaks.
//!
//! A device host of this process is `local`, one of another `remote`; `support` has the proxies that the library brings, `spawn`
//! how a restricted process begins.

mod local;
mod refusal;
mod remote;
mod spawn;
mod support;

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use hdv::HostOptions;

use crate::com::{Object, Reference, UnknownTable};
use crate::error::{Failure, codes, last, remember};
use crate::guard::{self, call_out};
use crate::host::{Host, check_flags};
use crate::pointers::{copied, out};
use crate::types::{Guid, HcsSystem, HdvHost, Hresult};

pub use remote::OpenHdvServeProxy;
pub use spawn::{OpenHdvLockIn, OpenHdvSpawnRestricted};
pub use support::{OpenHdvCreateProxySupport, OpenHdvCreateSystemSupport};

use local::LocalHost;
use remote::RemoteHost;
use support::BrokerSupport;

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

/// `IVmDeviceHost`.
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

/// `IVmDeviceHostSupport`.
#[repr(C)]
struct SupportTable {
    unknown: UnknownTable,
    register_device_host:
        unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, u32, *mut u64) -> Hresult,
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
    let host = Host::new(options(&support))?;
    let registered = register(&support, &host).and_then(|()| host.publish(&place));
    if registered.is_err() {
        // Its failure is the one to be told of; no device is there that could refuse.
        let _ = host.close();
    }
    registered
}

/// What a host behind a proxy may do: without the control socket, where its process has nothing but its broker's.
fn options(support: &Reference) -> HostOptions {
    let interface = NonNull::new(support.as_ptr());
    let across = interface.is_some_and(|interface| {
        // SAFETY: a COM object.
        unsafe { Object::<BrokerSupport>::behind(interface, &IID_OURSELVES) }.is_some()
    });
    HostOptions::restricted().control(!across)
}

/// Has a proxy register a host of this process.
fn register(support: &Reference, host: &Arc<Host>) -> Result<(), Failure> {
    let object = Object::create(LocalHost::new(host));
    call_register(support, &object, std::process::id())
}

/// Calls `IVmDeviceHostSupport::RegisterDeviceHost`.
fn call_register(support: &Reference, host: &Reference, process_id: u32) -> Result<(), Failure> {
    let mut ipc_section = 0;
    // Whatever text is there afterwards is of a function that the proxy called, most likely the one that failed.
    remember("".into());
    // SAFETY: an IVmDeviceHostSupport, since it was asked for; the places live until after the call.
    let result = call_out("IVmDeviceHostSupport::RegisterDeviceHost", || unsafe {
        let table = support.table::<SupportTable>();
        ((*table).register_device_host)(
            support.as_ptr(),
            host.as_ptr(),
            process_id,
            &raw mut ipc_section,
        )
    });
    if result >= 0 {
        return Ok(());
    }
    let mut text = format!("the proxy did not register the device host: {result:#010x}");
    last(|said| {
        if !said.is_empty() {
            text.push_str(", ");
            text.push_str(said);
        }
    });
    Err(Failure::new(result, text))
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
        // SAFETY: by the contract.
        unsafe { proxy(of, device_host, target_process_id) }
    })
}

/// Registers a device host, of this process or another, with a compute system.
///
/// # Safety
/// `device_host` is null or a COM object.
unsafe fn proxy(of: HcsSystem, device_host: *mut c_void, process_id: u32) -> Result<(), Failure> {
    let system = crate::system::restricted(of)?;
    let device_host = NonNull::new(device_host).ok_or_else(|| Failure::null("DeviceHost"))?;
    // SAFETY: a COM object, by the contract.
    let device_host = unsafe { Reference::query(device_host, &IID_DEVICE_HOST, "IVmDeviceHost") }?;
    let interface =
        NonNull::new(device_host.as_ptr()).ok_or_else(|| Failure::null("IVmDeviceHost"))?;
    // SAFETY: a COM object.
    if let Some(local) = unsafe { Object::<LocalHost>::behind(interface, &IID_OURSELVES) } {
        return local.content().attach(system, process_id);
    }
    // SAFETY: as above.
    if let Some(remote) = unsafe { Object::<RemoteHost>::behind(interface, &IID_OURSELVES) } {
        return remote.content().broker(of, process_id);
    }
    Err(Failure::new(
        codes::E_NOINTERFACE,
        "the device host is not one of this library's",
    ))
}
