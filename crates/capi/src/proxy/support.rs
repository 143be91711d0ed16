//! Proxies that the library brings: one that registers device hosts with a compute system, and one, for a process that has none,
//! that has the broker at the other end of a socket do so.

use std::ffi::c_void;
use std::os::unix::net::UnixStream;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use hdv_compute::{RestrictedSystem, broker_socket};

use super::{IID_OURSELVES, IID_SUPPORT, SupportTable, local::LocalHost, proxy};
use crate::com::{Class, Object};
use crate::descriptor;
use crate::error::{Failure, codes};
use crate::guard;
use crate::pointers::out;
use crate::system;
use crate::types::{Guid, Handle, HcsSystem, Hresult};

/// The proxy of a process that has nothing but a socket to its broker, and at most one device host.
pub(super) struct BrokerSupport {
    socket: Mutex<Option<UnixStream>>,
}

impl Class for BrokerSupport {
    type Table = SupportTable;
    const TABLE: &'static SupportTable = &BROKER_TABLE;
    const INTERFACES: &'static [Guid] = &[IID_SUPPORT, IID_OURSELVES];
}

static BROKER_TABLE: SupportTable = SupportTable {
    unknown: Object::<BrokerSupport>::UNKNOWN,
    register_device_host: register_with_broker,
};

unsafe extern "C-unwind" fn register_with_broker(
    this: *mut c_void,
    device_host: *mut c_void,
    process_id: u32,
    ipc_section: *mut u64,
) -> Hresult {
    guard::result(|| {
        // SAFETY: the caller's place, by the contract of COM.
        let _ipc_section = unsafe { out(ipc_section, "IpcSectionHandle", 0) }?;
        let device_host = NonNull::new(device_host).ok_or_else(|| Failure::null("DeviceHost"))?;
        // SAFETY: a COM object, by the contract.
        let host = unsafe { Object::<LocalHost>::behind(device_host, &IID_OURSELVES) };
        let host = host.ok_or_else(|| {
            Failure::new(
                codes::E_NOINTERFACE,
                "the device host is not one of this library's in this process",
            )
        })?;
        // Before the socket is taken, which is there once.
        LocalHost::check_process(process_id)?;
        // SAFETY: an object of the class whose table this function is in; its caller keeps it.
        let support = unsafe { &(*this.cast::<Object<BrokerSupport>>()).content };
        let socket = support
            .socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| {
                Failure::new(
                    codes::ALREADY_EXISTS,
                    "a broker speaks for one device host, and has one already",
                )
            })?;
        host.content()
            .attach(RestrictedSystem::over(socket)?, process_id)
    })
}

/// The proxy for device hosts of a compute system. The handle is not kept open.
struct SystemSupport(HcsSystem);

// SAFETY: a handle is a number.
unsafe impl Send for SystemSupport {}
// SAFETY: as above.
unsafe impl Sync for SystemSupport {}

impl Class for SystemSupport {
    type Table = SupportTable;
    const TABLE: &'static SupportTable = &SYSTEM_TABLE;
    const INTERFACES: &'static [Guid] = &[IID_SUPPORT];
}

static SYSTEM_TABLE: SupportTable = SupportTable {
    unknown: Object::<SystemSupport>::UNKNOWN,
    register_device_host: register_with_system,
};

unsafe extern "C-unwind" fn register_with_system(
    this: *mut c_void,
    device_host: *mut c_void,
    process_id: u32,
    ipc_section: *mut u64,
) -> Hresult {
    guard::result(|| {
        // SAFETY: the caller's place, by the contract of COM.
        let _ipc_section = unsafe { out(ipc_section, "IpcSectionHandle", 0) }?;
        // SAFETY: an object of the class whose table this function is in; its caller keeps it.
        let SystemSupport(system) = unsafe { &(*this.cast::<Object<SystemSupport>>()).content };
        // SAFETY: a COM object or null, by the contract.
        unsafe { proxy(*system, device_host, process_id) }
    })
}

/// Gives the proxy of a process whose broker is at the other end of a socket.
///
/// # Safety
/// `support` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvCreateProxySupport(
    socket: Handle,
    support: *mut *mut c_void,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let place = unsafe { out(support, "Support", std::ptr::null_mut()) }?;
        let socket = if socket.is_null() {
            broker_socket()?
        } else {
            descriptor::socket(socket, "BrokerSocket")?
        };
        let object = Object::create(BrokerSupport {
            socket: Mutex::new(Some(socket)),
        });
        place.set(object.into_raw());
        Ok(())
    })
}

/// Gives a proxy that registers device hosts with a compute system.
///
/// # Safety
/// `support` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OpenHdvCreateSystemSupport(
    system: HcsSystem,
    support: *mut *mut c_void,
) -> Hresult {
    guard::result(|| {
        // SAFETY: by the contract.
        let place = unsafe { out(support, "Support", std::ptr::null_mut()) }?;
        system::check(system)?;
        let object = Object::create(SystemSupport(system));
        place.set(object.into_raw());
        Ok(())
    })
}
