//! The PFs of a host over its control socket. In a process of its own, since the runtime directory is named by the
//! environment.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, mpsc};

use hdv::domain::{Domain, DomainOptions, Position};
use hdv::{DeviceHost, DeviceStatus, HostOptions};
use hdv_control::{CallError, Client, ErrorKind, RuntimeDirectory};
use hdv_sriov::control::{
    ConfigBytes, DISABLE, ENABLE, EnableArguments, LIST, PF_CONFIG, PfArguments, PfStatus,
    VF_CONFIG, VfArguments,
};
use hdv_sriov::{EmulatedPf, PciVirtualization, PfPublisher};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use support::*;

/// Set in the process of its own.
const INSIDE: &str = "HDV_TEST_SRIOV_CONTROL";

#[test]
fn other_programs_reach_pfs() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--nocapture"])
        .env(INSIDE, "1")
        .env("XDG_RUNTIME_DIR", directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("all was asked"), "{text}");
}

fn call<R: DeserializeOwned>(
    client: &mut Client,
    command: &str,
    arguments: impl Serialize,
) -> Result<R, ErrorKind> {
    let arguments = serde_json::to_value(arguments).unwrap();
    match client.call(command, &arguments) {
        Ok(answer) => Ok(serde_json::from_value(answer).unwrap()),
        Err(CallError::Command(error)) => {
            assert!(!error.message.is_empty());
            Err(error.kind)
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let host = DeviceHost::new(HostOptions::new()).unwrap();
    let serve = |name: &str| {
        let lab = Lab::default();
        let socket = directory.path().join(format!("{name}.sock"));
        let pf = EmulatedPf::serve(&host, socket, name, Box::new(Author::new(&lab)), options());
        (pf.unwrap(), lab)
    };
    let plain = Device::new(Vf(0), &Lab::default());
    let plain = host.serve(directory.path().join("plain.sock"), "plain", plain);
    let plain = plain.unwrap().get();
    let (first, lab) = serve("first");
    let (second, lab_of_second) = serve("second");
    let (one, two) = (first.instance().id().get(), second.instance().id().get());
    // Nobody needs the handle.
    drop(first);

    let hosts = RuntimeDirectory::locate().unwrap().hosts().unwrap();
    assert_eq!(hosts.len(), 1);
    let mut client = Client::connect(&hosts[0].path).unwrap();
    let client = &mut client;
    let list: Vec<PfStatus> = call(client, LIST, Value::Null).unwrap();
    assert_eq!(
        list.iter().map(|pf| pf.device).collect::<Vec<_>>(),
        [one, two]
    );
    let expected = PfStatus {
        device: one,
        label: None,
        address: "0002:05:00.0".into(),
        total_vfs: TOTAL,
        num_vfs: 0,
        vf_enable: false,
        captured_buses: 1,
        probed_bars: [0xffff_c00c, u32::MAX, 0, 0, 0, 0],
        guest_controls_sriov: false,
        vfs: Vec::new(),
    };
    assert_eq!(list[0], expected);

    let enable = |device, num_vfs| EnableArguments { device, num_vfs };
    let pf = |device| PfArguments { device };
    let vf = |device, vf| VfArguments { device, vf };
    let status = |result: Result<PfStatus, ErrorKind>| result;
    // What is refused, and how.
    for device in [plain, 999] {
        let all = [
            call::<Value>(client, ENABLE, enable(device, 1)),
            call(client, DISABLE, pf(device)),
            call(client, PF_CONFIG, pf(device)),
            call(client, VF_CONFIG, vf(device, 0)),
        ];
        for result in all {
            assert_eq!(result, Err(ErrorKind::NotFound));
        }
    }
    let bad = Err(ErrorKind::BadArguments);
    assert_eq!(status(call(client, ENABLE, enable(one, 0))), bad);
    assert_eq!(status(call(client, ENABLE, enable(one, TOTAL + 1))), bad);
    assert_eq!(status(call(client, ENABLE, Value::Null)), bad);
    assert_eq!(status(call(client, DISABLE, "one")), bad);
    assert_eq!(status(call(client, DISABLE, pf(one))), Err(ErrorKind::Busy));
    let raw = call::<ConfigBytes>(client, VF_CONFIG, vf(one, 0));
    assert_eq!(raw, Err(ErrorKind::NotFound));

    let now = status(call(client, ENABLE, enable(one, 2))).unwrap();
    assert!(now.vf_enable && now.num_vfs == 2);
    let places: Vec<_> = now.vfs.iter().map(|vf| vf.address.as_str()).collect();
    assert_eq!(places, ["0002:05:00.1", "0002:05:00.2"]);
    let busy = Err(ErrorKind::Busy);
    assert_eq!(status(call(client, ENABLE, enable(one, 2))), busy);
    // Which VF is which of the host's devices.
    let devices: Vec<DeviceStatus> = call(client, "list", Value::Null).unwrap();
    let device = devices.iter().find(|one| one.id == now.vfs[1].device);
    assert!(device.unwrap().socket.ends_with("first-vf1.sock"));

    let ConfigBytes { bytes } = call(client, PF_CONFIG, pf(one)).unwrap();
    assert_eq!(bytes.len(), 4096);
    assert_eq!(dword(&bytes, sriov_at(&bytes) + 0x10), 2);
    let ConfigBytes { bytes } = call(client, VF_CONFIG, vf(one, 1)).unwrap();
    assert_eq!((bytes.len(), dword(&bytes, 0)), (4096, u32::MAX));
    assert_eq!(lab.count((Vf(0), Initialize)), 0);
    for number in [2, TOTAL] {
        let raw = call::<ConfigBytes>(client, VF_CONFIG, vf(one, number));
        assert_eq!(raw, Err(ErrorKind::NotFound));
    }
    // Where the BARs are.
    second
        .config_write(0x124, &0x8000_0000_u64.to_le_bytes())
        .unwrap();
    let now = status(call(client, ENABLE, enable(two, 3))).unwrap();
    let bars: Vec<_> = now.vfs.iter().map(|vf| vf.bars[0]).collect();
    assert_eq!(bars, [0x8000_0000, 0x8000_4000, 0x8000_8000].map(Some));
    assert!(now.vfs.iter().all(|vf| vf.bars[1..] == [None; 5]));
    second.renumber(0x70, 0x70).unwrap();
    let list: Vec<PfStatus> = call(client, LIST, Value::Null).unwrap();
    assert_eq!(list[1].vfs[2].address, "0002:70:00.3");
    assert_eq!(second.location(2).unwrap().routing_id.bus(), 0x70);

    let now = status(call(client, DISABLE, pf(one))).unwrap();
    assert!(!now.vf_enable && now.vfs.is_empty());
    // PFs that are removed are not listed any more.
    let id = host.device_ids().into_iter().find(|id| id.get() == one);
    host.remove(id.unwrap()).unwrap();
    let list: Vec<PfStatus> = call(client, LIST, Value::Null).unwrap();
    assert_eq!(list.iter().map(|pf| pf.device).collect::<Vec<_>>(), [two]);
    let gone = Err(ErrorKind::NotFound);
    assert_eq!(status(call(client, ENABLE, enable(one, 1))), gone);
    pfs_of_a_domain_are_reached_once_published(&host, client);
    a_stuck_vf_keeps_nobody_from_being_answered(&second, &lab_of_second, client, &hosts[0].path);
    // What publishes does not keep the host.
    let publisher = PfPublisher::of(&host);
    drop((host, second));
    assert!(
        RuntimeDirectory::locate()
            .unwrap()
            .hosts()
            .unwrap()
            .is_empty()
    );
    drop(publisher);
    println!("\nall was asked");
}

fn pfs_of_a_domain_are_reached_once_published(host: &DeviceHost, client: &mut Client) {
    let labels = |client: &mut Client| {
        let list: Vec<PfStatus> = call(client, LIST, Value::Null).unwrap();
        list.into_iter().map(|pf| pf.label).collect::<Vec<_>>()
    };
    let (domain, endpoint) = Domain::new(DomainOptions::new()).unwrap();
    let port = domain.add_root_port(1, 0, None).unwrap();
    let author = Box::new(Author::new(&Lab::default()));
    let (_, pf) =
        EmulatedPf::inside(&domain, Position::below(port), "pf", author, options()).unwrap();
    assert_eq!(labels(client), [None]);
    pf.publish(host, "first");
    assert_eq!(labels(client), [None, Some("first".to_owned())]);
    pf.publish(host, "lab/pf");
    assert_eq!(labels(client), [None, Some("lab/pf".to_owned())]);

    let device = pf.instance().id().get();
    let enable = EnableArguments { device, num_vfs: 2 };
    let status: PfStatus = call(client, ENABLE, enable).unwrap();
    // No guest has numbered the bus; the segment is none of a host's.
    assert_eq!(status.address, "00:00.0");
    assert_eq!(status.label.as_deref(), Some("lab/pf"));
    let places: Vec<_> = status.vfs.iter().map(|vf| vf.address.as_str()).collect();
    assert_eq!(places, ["00:00.1", "00:00.2"]);
    assert_eq!(pf.virtual_functions().count(), 2);
    let devices: Vec<DeviceStatus> = call(client, "list", Value::Null).unwrap();
    assert!(devices.iter().all(|one| one.id != device));

    let mut of_old_hosts = serde_json::to_value(&status).unwrap();
    of_old_hosts.as_object_mut().unwrap().remove("label");
    let of_old_hosts: PfStatus = serde_json::from_value(of_old_hosts).unwrap();
    assert_eq!(of_old_hosts.label, None);

    domain.pull(port).unwrap();
    assert_eq!(labels(client), [None]);
    drop(endpoint);
}

/// `pf` has VFs.
fn a_stuck_vf_keeps_nobody_from_being_answered(
    pf: &EmulatedPf,
    lab: &Lab,
    client: &mut Client,
    control: &Path,
) {
    let (begin, begun) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    lab.hook(move |who, event| {
        if (who, event) == (Vf(1), Initialize) {
            begin.send(()).unwrap();
            let _ = lock(&released).recv();
        }
        Ok(())
    });
    let device = pf.instance().id().get();
    let stuck = std::thread::spawn({
        let mut client = Client::connect(control).unwrap();
        let arguments = serde_json::to_value(VfArguments { device, vf: 1 }).unwrap();
        move || client.call_within(VF_CONFIG, &arguments, PATIENCE)
    });
    begun.recv_timeout(PATIENCE).unwrap();
    let devices: Vec<DeviceStatus> = call(client, "list", Value::Null).unwrap();
    assert!(devices.iter().any(|one| one.id == device));
    let pfs: Vec<PfStatus> = call(client, LIST, Value::Null).unwrap();
    assert_eq!(pfs[0].vfs.len(), 3);
    let other = VfArguments { device, vf: 2 };
    let ConfigBytes { bytes } = call(client, VF_CONFIG, other).unwrap();
    assert_eq!(bytes.len(), 4096);
    drop(release);
    assert!(stuck.join().unwrap().is_ok());
}
