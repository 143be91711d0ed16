//! Hosts and devices that come and go ten thousand times cost nothing. Alone in its process, since it looks at all
//! of the process.

#[path = "support/guest.rs"]
mod guest;

use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::ptr::null_mut;

use computecore::types::{Guid, HdvHost, HdvPciDeviceInterface, HdvPciPnpId, Hresult, Pcwstr};
use computecore::{
    HcsCloseComputeSystem, HdvCreateDeviceInstance, HdvInitializeDeviceHost, HdvTeardownDeviceHost,
    OpenHdvOpenSocketSystem, codes,
};

use guest::wait_for;

const CYCLES: u32 = 10_000;
/// What allocator and library keep for good is there after so many.
const WARM_UP: u32 = 1_000;
/// More than the whims of an allocator, less than 128 bytes lost in each cycle.
const MEMORY_LIMIT: u64 = 1 << 20;

unsafe extern "C-unwind" fn succeed(_: *mut c_void) -> Hresult {
    codes::S_OK
}

unsafe extern "C-unwind" fn nothing(_: *mut c_void) {}

unsafe extern "C-unwind" fn configure(_: *mut c_void, _: u32, _: *const Pcwstr) -> Hresult {
    codes::S_OK
}

unsafe extern "C-unwind" fn details(
    _: *mut c_void,
    _: *mut HdvPciPnpId,
    _: u32,
    bars: *mut u32,
) -> Hresult {
    // SAFETY: the library's place.
    unsafe { bars.write(0xffff_f000) };
    codes::S_OK
}

unsafe extern "C-unwind" fn read_config(_: *mut c_void, _: u32, value: *mut u32) -> Hresult {
    // SAFETY: the library's place.
    unsafe { value.write(0) };
    codes::S_OK
}

unsafe extern "C-unwind" fn write_config(_: *mut c_void, _: u32, _: u32) -> Hresult {
    codes::S_OK
}

unsafe extern "C-unwind" fn read(_: *mut c_void, _: i32, _: u64, _: u64, _: *mut u8) -> Hresult {
    codes::S_OK
}

unsafe extern "C-unwind" fn write(_: *mut c_void, _: i32, _: u64, _: u64, _: *const u8) -> Hresult {
    codes::S_OK
}

static TABLE: HdvPciDeviceInterface = HdvPciDeviceInterface {
    version: 1,
    initialize: Some(succeed),
    teardown: Some(nothing),
    set_configuration: Some(configure),
    get_details: Some(details),
    start: Some(succeed),
    stop: Some(nothing),
    read_config_space: Some(read_config),
    write_config_space: Some(write_config),
    read_intercepted_memory: Some(read),
    write_intercepted_memory: Some(write),
};

/// Bytes of anonymous memory, descriptors, threads.
fn cost() -> (u64, usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let memory = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse::<u64>().ok())
        .expect("a number");
    let count = |path| std::fs::read_dir(path).expect("readable").count();
    (
        memory * 1024,
        count("/proc/self/fd"),
        count("/proc/self/task"),
    )
}

fn cycle(system: *mut c_void) {
    let ids = Guid {
        data1: 7,
        ..Guid::default()
    };
    let mut host: HdvHost = null_mut();
    let mut device = null_mut();
    // SAFETY: everything is valid.
    unsafe {
        assert_eq!(HdvInitializeDeviceHost(system, &raw mut host), codes::S_OK);
        let created = HdvCreateDeviceInstance(
            host,
            1,
            &raw const ids,
            &raw const ids,
            (&raw const TABLE).cast(),
            null_mut(),
            &raw mut device,
        );
        assert_eq!(created, codes::S_OK);
    }
    assert_eq!(HdvTeardownDeviceHost(host), codes::S_OK);
}

#[test]
fn ten_thousand_hosts_and_devices_cost_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = CString::new(directory.path().as_os_str().as_bytes()).expect("a path");
    let mut system = null_mut();
    // SAFETY: everything is valid.
    let opened = unsafe { OpenHdvOpenSocketSystem(path.as_ptr(), &raw mut system) };
    assert_eq!(opened, codes::S_OK);
    for _ in 0..WARM_UP {
        cycle(system);
    }
    let (memory, descriptors, threads) = cost();
    for _ in 0..CYCLES {
        cycle(system);
    }
    // A thread that was joined may still be listed for a moment.
    wait_for("the same threads", || cost().2 == threads);
    let (memory_after, descriptors_after, _) = cost();
    assert_eq!(descriptors, descriptors_after);
    let grown = memory_after.saturating_sub(memory);
    assert!(grown < MEMORY_LIMIT, "{grown} bytes more");
    HcsCloseComputeSystem(system);
    assert_eq!(
        std::fs::read_dir(directory.path()).expect("there").count(),
        0
    );
}
