//! What callbacks a guest brings about, and what it sees when they fail or the device goes.

use std::ptr::{null, null_mut};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use computecore::types::HdvHost;
use computecore::{HdvCreateDeviceInstance, HdvTeardownDeviceHost, codes};

use crate::device::{Call, lock, serve};
use crate::guest::{BAR0, CONFIG, enable, read, wait_for, write};

const FAILED: i32 = -1_966_473_216;

#[test]
fn hdv_pci_device_start_and_stop_with_the_client() {
    let served = serve();
    let power_on = [Call::Initialize, Call::SetConfiguration, Call::GetDetails];
    assert_eq!(served.state.calls(), power_on);
    served.state.forget();
    let mut client = served.connect();
    assert_eq!(served.state.calls(), []);
    enable(&mut client);
    assert_eq!(served.state.calls(), [Call::Start]);
    drop(client);
    wait_for("Stop", || served.state.calls().last() == Some(&Call::Stop));
    let mut client = served.connect();
    enable(&mut client);
    assert_eq!(served.state.calls(), [Call::Start, Call::Stop, Call::Start]);
    assert_eq!(HdvTeardownDeviceHost(served.host), codes::S_OK);
    let life = [
        Call::Start,
        Call::Stop,
        Call::Start,
        Call::Stop,
        Call::Teardown,
    ];
    assert_eq!(served.state.calls(), life);
}

#[test]
fn hdv_pci_device_start_fails() {
    let served = serve();
    served.state.fail(Call::Start, FAILED);
    let mut client = served.connect();
    assert!(client.region_read(CONFIG, 0, &mut [0; 4]).is_err());
    drop(client);
    assert_eq!(HdvTeardownDeviceHost(served.host), codes::S_OK);
    assert!(!served.state.calls().contains(&Call::Stop));
    assert_eq!(served.state.calls().last(), Some(&Call::Teardown));
}

#[test]
fn hdv_pci_device_get_details_is_what_the_guest_sees() {
    let served = serve();
    let mut client = served.guest();
    assert_eq!(read(&mut client, CONFIG, 0), [0x48, 0x4f, 0x02, 0x7f]);
    write(&mut client, CONFIG, 0x10, &[0xff; 4]);
    assert_eq!(
        read(&mut client, CONFIG, 0x10),
        0xffff_c000_u32.to_le_bytes()
    );
    assert_eq!(client.region_info(BAR0).expect("told").size, 0x4000);
}

#[test]
fn hdv_pci_read_config_space_fails() {
    let served = serve();
    let mut client = served.guest();
    served.state.fail(Call::ReadConfig, FAILED);
    assert_eq!(read(&mut client, CONFIG, 0x80), [0xff; 4]);
}

#[test]
fn hdv_pci_read_and_write_config_space_reach_the_device() {
    let served = serve();
    let mut client = served.guest();
    read::<4>(&mut client, CONFIG, 0x80);
    write(&mut client, CONFIG, 0x80, &[1; 4]);
    let calls = lock(&served.state.calls).clone();
    assert!(calls.contains(&Call::ReadConfig) && calls.contains(&Call::WriteConfig));
}

#[test]
fn hdv_pci_write_config_space_fails() {
    let served = serve();
    let mut client = served.guest();
    served.state.fail(Call::WriteConfig, FAILED);
    // Dropped, and the guest goes on.
    write(&mut client, CONFIG, 0x80, &[1; 4]);
    assert_eq!(read(&mut client, CONFIG, 0x80), [0; 4]);
}

#[test]
fn hdv_pci_read_and_write_intercepted_memory_sizes() {
    let served = serve();
    let mut client = served.guest();
    let mut expected = Vec::new();
    for size in [1, 2, 4, 8] {
        let data: Vec<u8> = (1..=8).take(size).collect();
        write(&mut client, BAR0, 0x100, &data);
        let mut seen = vec![0; size];
        client.region_read(BAR0, 0x100, &mut seen).expect("read");
        assert_eq!(seen, data);
        let size = size as u64;
        expected.extend([Call::Write(0, 0x100, size), Call::Read(0, 0x100, size)]);
    }
    assert_eq!(served.state.calls(), expected);
}

#[test]
fn hdv_pci_read_intercepted_memory_fails() {
    let served = serve();
    let mut client = served.guest();
    served.state.fail(Call::Read(0, 0, 4), FAILED);
    assert_eq!(read(&mut client, BAR0, 0), [0xff; 4]);
    // Others go on.
    assert_eq!(read(&mut client, BAR0, 4), [0; 4]);
}

#[test]
fn hdv_pci_write_intercepted_memory_fails() {
    let served = serve();
    let mut client = served.guest();
    served.state.fail(Call::Write(0, 0x200, 4), FAILED);
    write(&mut client, BAR0, 0x200, &[1; 4]);
    assert_eq!(read(&mut client, BAR0, 0x204), [0; 4]);
}

#[test]
fn hdv_teardown_device_host_inside_guest_access() {
    let served = serve();
    let mut client = served.guest();
    let result = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&result);
    let host = served.host.expose_provenance();
    served.state.hook(Call::Read(0, 8, 4), move |_| {
        let host = std::ptr::with_exposed_provenance_mut(host);
        *lock(&noted) = Some(HdvTeardownDeviceHost(host));
    });
    read::<4>(&mut client, BAR0, 8);
    assert_eq!(*lock(&result), Some(codes::POSSIBLE_DEADLOCK));
    // It is as it was.
    assert_eq!(read(&mut client, BAR0, 0), [0; 4]);
    assert_eq!(HdvTeardownDeviceHost(served.host), codes::S_OK);
}

/// Whether the host's handle is none any more: looked at before the null pointers are.
fn host_is_gone(host: HdvHost) -> bool {
    let mut device = null_mut();
    // SAFETY: null pointers are refused.
    let result = unsafe {
        HdvCreateDeviceInstance(host, 1, null(), null(), null(), null_mut(), &raw mut device)
    };
    result == codes::E_HANDLE
}

#[test]
fn hdv_teardown_device_host_waits_for_a_callback() {
    let served = serve();
    let mut client = served.guest();
    let (entered, wait_entered) = channel();
    let (leave, wait_leave) = channel::<()>();
    served.state.hook(Call::Read(0, 8, 4), move |_| {
        entered.send(()).expect("waited for");
        wait_leave.recv().expect("told");
    });
    let guest = std::thread::spawn(move || read::<4>(&mut client, BAR0, 8));
    wait_entered.recv().expect("entered");
    let host = served.host.expose_provenance();
    let teardown = std::thread::spawn(move || {
        HdvTeardownDeviceHost(std::ptr::with_exposed_provenance_mut(host))
    });
    // Its handle has ended when it is under way; the device is still inside its call.
    wait_for("the teardown", || host_is_gone(served.host));
    assert!(!served.state.calls().contains(&Call::Teardown));
    leave.send(()).expect("waited for");
    assert_eq!(teardown.join().expect("no panic"), codes::S_OK);
    assert_eq!(served.state.calls().last(), Some(&Call::Teardown));
    guest.join().expect("answered");
}

#[test]
fn hdv_teardown_device_host_leaves_a_stub() {
    let served = serve();
    let mut client = served.guest();
    assert_eq!(HdvTeardownDeviceHost(served.host), codes::S_OK);
    served.state.forget();
    assert_eq!(read(&mut client, BAR0, 0), [0xff; 4]);
    assert_eq!(read(&mut client, CONFIG, 0), [0xff; 4]);
    write(&mut client, BAR0, 0, &[1; 4]);
    client.reset().expect("acknowledged");
    assert_eq!(served.state.calls(), []);
}
