//! Command lines of whole machines.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::Error;
use crate::locate::DEVICE;

fn arguments(machine: &Machine) -> Vec<String> {
    machine
        .arguments()
        .unwrap()
        .into_iter()
        .map(|argument| argument.into_string().unwrap())
        .collect()
}

fn values<'a>(arguments: &'a [String], option: &str) -> Vec<&'a str> {
    arguments
        .windows(2)
        .filter(|pair| pair[0] == option)
        .map(|pair| pair[1].as_str())
        .collect()
}

#[test]
fn guest_memory_is_shared_and_as_large_as_the_machines() {
    let arguments = arguments(&Machine::new(Accelerator::Tcg).memory_mib(300).processors(2));
    assert_eq!(values(&arguments, "-m"), ["300M"]);
    let memory: Value = serde_json::from_str(values(&arguments, "-object")[0]).unwrap();
    assert_eq!(memory["share"], true);
    assert_eq!(memory["size"], 300 << 20);
    assert_eq!(memory["prealloc"], false);
    assert_eq!(
        values(&arguments, "-machine"),
        ["q35,memory-backend=memory"]
    );
    assert_eq!(values(&arguments, "-accel"), ["tcg"]);
    assert_eq!(values(&arguments, "-smp"), ["2"]);
    assert!(arguments.contains(&"-no-reboot".to_owned()) && !arguments.contains(&"-S".to_owned()));
}

#[test]
fn the_iommu_comes_before_the_devices_and_tells_the_kernel() {
    let machine = Machine::new(Accelerator::Kvm)
        .kernel("/k")
        .append("quiet")
        .device(VfioUserDevice::new("/s"))
        .root_port("rp1")
        .iommu(true);
    let arguments = arguments(&machine);
    let mut devices = values(&arguments, "-device");
    devices.retain(|device| !device.contains("isa-serial"));
    assert_eq!(devices[0], "intel-iommu,intremap=on,caching-mode=on");
    assert!(
        devices[1].contains("pcie-root-port") && devices[2].contains(DEVICE),
        "{devices:?}"
    );
    assert_eq!(
        values(&arguments, "-machine"),
        ["q35,memory-backend=memory,kernel-irqchip=split"]
    );
    assert_eq!(values(&arguments, "-append"), ["quiet intel_iommu=on"]);
}

#[test]
fn a_device_carries_every_setting_whatever_its_path() {
    let device = VfioUserDevice::new("/tmp/a,b \"c\".sock")
        .id("sensor")
        .bus("rp1")
        .address("0.0")
        .message_timeout(Duration::from_millis(1500));
    let arguments = arguments(
        &Machine::new(Accelerator::Tcg)
            .device(device)
            .other_device(json!({"driver": "x"})),
    );
    let mut devices = values(&arguments, "-device");
    devices.retain(|device| !device.contains("isa-serial"));
    let value: Value = serde_json::from_str(devices[0]).unwrap();
    let expected = json!({
        "driver": "vfio-user-pci", "socket": {"type": "unix", "path": "/tmp/a,b \"c\".sock"},
        "id": "sensor", "bus": "rp1", "addr": "0.0", "x-msg-timeout": 1500,
    });
    assert_eq!(value, expected);
    assert_eq!(devices[1], "{\"driver\":\"x\"}");
}

#[test]
fn commas_in_paths_are_doubled_where_qemu_splits_at_them() {
    let machine = Machine::new(Accelerator::Tcg)
        .serial(Serial::File("/a,b/log".into()))
        .qmp("/c,d/q");
    let arguments = arguments(&machine);
    assert_eq!(
        values(&arguments, "-chardev"),
        [
            "file,id=serial0,path=/a,,b/log",
            "socket,id=qmp,path=/c,,d/q,server=on,wait=off"
        ]
    );
    assert_eq!(values(&arguments, "-qmp"), ["chardev:qmp"]);
}

#[test]
fn values_that_qemu_cannot_take_are_refused_before_it_starts() {
    let machine = || Machine::new(Accelerator::Tcg);
    let long = format!("/{}", "x".repeat(SOCKET_PATH_LIMIT));
    for bad in [
        machine().memory_mib(0),
        machine().processors(0),
        machine().qmp(&long),
        machine().serial(Serial::Socket(PathBuf::new())),
        machine().device(VfioUserDevice::new(&long)),
        machine().device(VfioUserDevice::new(OsString::from_vec(vec![b'/', 0xff]))),
    ] {
        let error = bad.arguments().unwrap_err();
        assert!(matches!(error, Error::Machine { .. }), "{error}");
    }
}

#[test]
fn serial_ports_have_their_numbers_whichever_of_them_there_are() {
    let machine = Machine::new(Accelerator::Tcg)
        .serial(Serial::None)
        .serial_port(2, Serial::Client("/a,b".into()));
    let arguments = arguments(&machine);
    assert_eq!(
        values(&arguments, "-chardev"),
        ["socket,id=serial2,path=/a,,b"]
    );
    let port: Value = serde_json::from_str(values(&arguments, "-device")[0]).unwrap();
    let expected = json!({"driver": "isa-serial", "chardev": "serial2", "index": 2, "irq": 5});
    assert_eq!(port, expected);
}

#[test]
fn disks_say_their_form_and_are_booted_in_order() {
    let disk = |path: &str, format, unit| Disk {
        path: path.into(),
        format,
        read_only: false,
        optical: format == DiskFormat::Raw,
        unit,
    };
    let machine = Machine::new(Accelerator::Tcg)
        .scsi(ScsiController {
            disks: vec![disk("/a,b.qcow2", DiskFormat::Qcow2, 3)],
        })
        .scsi(ScsiController {
            disks: vec![disk("/c.iso", DiskFormat::Raw, 0)],
        });
    let arguments = arguments(&machine);
    let json = |option: &str| -> Vec<Value> {
        values(&arguments, option)
            .into_iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect()
    };
    let images = json("-blockdev");
    assert_eq!(images[0]["driver"], "qcow2");
    assert_eq!(images[0]["file"]["filename"], "/a,b.qcow2");
    assert_eq!(
        (&images[0]["read-only"], &images[1]["read-only"]),
        (&json!(false), &json!(true)),
        "an optical disc is never written"
    );
    let devices = json("-device");
    let disks: Vec<_> = devices
        .iter()
        .filter(|device| device["driver"].as_str().unwrap().starts_with("scsi-"))
        .map(|device| {
            (
                device["driver"].as_str().unwrap(),
                device["bus"].as_str().unwrap(),
                device["lun"].as_u64().unwrap(),
                device["bootindex"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        disks,
        [("scsi-hd", "scsi0.0", 3, 1), ("scsi-cd", "scsi1.0", 0, 2)]
    );
}

#[test]
fn firmware_comes_with_variables_that_only_this_machine_writes() {
    let machine = Machine::new(Accelerator::Tcg).firmware(Firmware {
        code: "/code".into(),
        variables: "/variables".into(),
    });
    let arguments = arguments(&machine);
    assert_eq!(
        values(&arguments, "-machine"),
        ["q35,memory-backend=memory,pflash0=firmware-code,pflash1=firmware-variables"]
    );
    let written: Vec<_> = values(&arguments, "-blockdev")
        .into_iter()
        .filter(|text| text.contains("\"read-only\":false"))
        .collect();
    assert_eq!(written.len(), 1);
    assert!(written[0].contains("/variables"));
}

#[test]
fn windows_of_ports_are_where_a_guest_uses_them() {
    let processor = |machine: &Machine| values(&arguments(machine), "-cpu")[0].to_owned();
    let tcg = Machine::new(Accelerator::Tcg);
    assert_eq!(processor(&tcg), "max");
    assert_eq!(processor(&tcg.root_port("p")), "max,vendor=GenuineIntel");
    assert_eq!(
        processor(&Machine::new(Accelerator::Kvm).root_port("p")),
        "max"
    );
}
