//! A device behind a proxy: the guest's side of the proxy functions. Their errors are tested in C.

use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::ptr::null_mut;

use computecore::types::{Guid, HcsSystem, Hresult};
use computecore::{
    HcsCloseComputeSystem, HdvInitializeDeviceHostForProxy, HdvInitializeDeviceHostForProxyEx,
    HdvProxyDeviceHost, HdvTeardownDeviceHost, OpenHdvOpenSocketSystem, codes,
};
use hdv::Uuid;

use crate::device::create;
use crate::guest::{BAR0, connect, enable, read, write};

/// `IVmDeviceHostSupport`, as a table of functions.
#[repr(C)]
struct Table {
    query_interface:
        unsafe extern "C-unwind" fn(*mut c_void, *const Guid, *mut *mut c_void) -> Hresult,
    add_ref: unsafe extern "C-unwind" fn(*mut c_void) -> u32,
    release: unsafe extern "C-unwind" fn(*mut c_void) -> u32,
    register: unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, u32, *mut u64) -> Hresult,
}

#[repr(C)]
struct Proxy {
    table: &'static Table,
    system: HcsSystem,
}

unsafe extern "C-unwind" fn query_interface(
    this: *mut c_void,
    _interface: *const Guid,
    place: *mut *mut c_void,
) -> Hresult {
    // SAFETY: the library's place.
    unsafe { place.write(this) };
    codes::S_OK
}

unsafe extern "C-unwind" fn count(_this: *mut c_void) -> u32 {
    1
}

unsafe extern "C-unwind" fn register(
    this: *mut c_void,
    host: *mut c_void,
    process: u32,
    section: *mut u64,
) -> Hresult {
    // SAFETY: this table is that of a `Proxy` only; the rest is passed on.
    unsafe { HdvProxyDeviceHost((*this.cast::<Proxy>()).system, host, process, section) }
}

static TABLE: Table = Table {
    query_interface,
    add_ref: count,
    release: count,
    register,
};

/// Uses a device of a host that reached its system through a proxy.
fn use_device(extended: bool) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = CString::new(directory.path().as_os_str().as_bytes()).expect("a path");
    let mut proxy = Proxy {
        table: &TABLE,
        system: null_mut(),
    };
    let mut host = null_mut();
    let vm_id = Guid::default();
    // SAFETY: everything is valid.
    let made = unsafe {
        let opened = OpenHdvOpenSocketSystem(path.as_ptr(), &raw mut proxy.system);
        assert_eq!(opened, codes::S_OK);
        let interface = (&raw mut proxy).cast();
        if extended {
            HdvInitializeDeviceHostForProxyEx(&raw const vm_id, interface, 0, &raw mut host)
        } else {
            HdvInitializeDeviceHostForProxy(&raw const vm_id, interface, &raw mut host)
        }
    };
    assert_eq!(made, codes::S_OK);
    HcsCloseComputeSystem(proxy.system);
    let id = Uuid::from_u128(0x9047);
    let _state = create(host, id);
    let mut client = connect(&directory.path().join(format!("{id}.sock")));
    enable(&mut client);
    write(&mut client, BAR0, 0x10, b"data");
    assert_eq!(&read::<4>(&mut client, BAR0, 0x10), b"data");
    assert_eq!(HdvTeardownDeviceHost(host), codes::S_OK);
    assert_eq!(read::<4>(&mut client, BAR0, 0x10), [0xff; 4]);
}

#[test]
fn hdv_initialize_device_host_for_proxy_guest_uses_the_device() {
    use_device(false);
}

#[test]
fn hdv_initialize_device_host_for_proxy_ex_guest_uses_the_device() {
    use_device(true);
}
