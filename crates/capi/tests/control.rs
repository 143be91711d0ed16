//! Several hosts of one process: each answers for its devices, so that all of them are listed.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::ptr::null_mut;

use computecore::{
    HcsCloseComputeSystem, HdvInitializeDeviceHost, HdvTeardownDeviceHost, OpenHdvOpenSocketSystem,
    codes,
};
use hdv::{DeviceStatus, Uuid};
use hdv_control::Client;
use serde_json::Value;

#[path = "guests/device.rs"]
#[allow(dead_code, reason = "each test file uses its own part of this")]
mod device;
#[path = "support/guest.rs"]
mod guest;

/// The devices of this process, as `hdv ls` finds them.
fn listed() -> BTreeSet<Uuid> {
    let mut found = BTreeSet::new();
    for host in hdv_control::hosts().expect("a runtime directory") {
        if host.pid != std::process::id() {
            continue;
        }
        let mut client = Client::connect(&host.path).expect("it answers");
        let answer = client.call("list", &Value::Null).expect("a list");
        let devices: Vec<DeviceStatus> = serde_json::from_value(answer).expect("devices");
        found.extend(devices.iter().filter_map(|device| device.instance_id));
    }
    found
}

#[test]
fn devices_of_all_hosts_are_listed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = CString::new(directory.path().as_os_str().as_bytes()).expect("a path");
    let mut system = null_mut();
    // SAFETY: everything is valid.
    let opened = unsafe { OpenHdvOpenSocketSystem(path.as_ptr(), &raw mut system) };
    assert_eq!(opened, codes::S_OK);
    let ids = [Uuid::from_u128(0xa), Uuid::from_u128(0xb)];
    let served = ids.map(|id| {
        let mut host = null_mut();
        // SAFETY: everything is valid.
        let made = unsafe { HdvInitializeDeviceHost(system, &raw mut host) };
        assert_eq!(made, codes::S_OK);
        (host, device::create(host, id))
    });
    HcsCloseComputeSystem(system);
    assert_eq!(listed(), BTreeSet::from(ids));
    assert_eq!(HdvTeardownDeviceHost(served[0].0), codes::S_OK);
    assert_eq!(listed(), BTreeSet::from([ids[1]]));
    assert_eq!(HdvTeardownDeviceHost(served[1].0), codes::S_OK);
    assert_eq!(listed(), BTreeSet::new());
}
