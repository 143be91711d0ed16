//! The guest lab boots, with everything that documents can ask for: real guests.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;
use hdv_qemu::fetch::fetch;
use hdv_qemu::guest::{RunningGuest, Scratch};
use hdv_qemu::lab::{BUNDLES, Lab};
use hdv_qemu::locate::Qemu;
use hdv_qemu::machine::{Disk, DiskFormat, Machine, ScsiController, Serial, UserNetwork};
use hdv_qemu::{firmware, trial, unplug};
use serde_json::{Value, json};

/// Generous: machines under test are busy.
const LIMIT: Duration = Duration::from_secs(300);

struct Bench {
    cache: Cache,
    qemu: Qemu,
    lab: Lab,
    scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        let cache = Cache::user().unwrap();
        let unpacked = fetch(&cache, &[Bundle::QEMU, Bundle::OVMF], &mut |_| {}).unwrap();
        fetch(&cache, &BUNDLES, &mut |_| {}).unwrap();
        let scratch = Scratch::new().unwrap();
        let lab = Lab::at(scratch.path().join("lab"));
        lab.make(&cache, None).unwrap();
        assert!(lab.is_ready());
        Self {
            qemu: Qemu::unpacked(&unpacked[0]).unwrap(),
            cache,
            lab,
            scratch,
        }
    }

    fn machine(&self, append: &str) -> Machine {
        let choice = trial::choose_for(&self.cache, &self.qemu, Some(&self.lab.kernel()));
        Machine::new(choice.accelerator)
            .kernel(self.lab.kernel())
            .initrd(self.lab.initrd())
            .append(append)
    }
}

fn says(guest: &mut RunningGuest, text: &str) {
    guest
        .expect_line(text, LIMIT, |line| line.contains(text))
        .unwrap();
}

/// Waits for the shell, asks it, and waits for what it should answer. What is asked is echoed, so answers differ from it.
fn ask(guest: &mut RunningGuest, command: &str, answer: &str) {
    guest.send(format!("{command}\n").as_bytes()).unwrap();
    says(guest, answer);
}

fn disk(path: &Path, unit: u8, optical: bool) -> Disk {
    Disk {
        path: path.to_owned(),
        format: DiskFormat::Raw,
        read_only: false,
        optical,
        unit,
    }
}

#[test]
fn a_guest_has_its_ports_disks_and_network_a_shell_on_each_console_and_a_power_button() {
    let bench = Bench::new();
    // A comma in its name: QEMU's options are split there.
    let other = bench.scratch.path().join("other, disk.img");
    std::fs::write(&other, vec![b'x'; 1 << 20]).unwrap();
    let listener = UnixListener::bind(bench.scratch.path().join("a,com4")).unwrap();
    let machine = bench
        .machine("console=ttyS3,115200 console=ttyS0 quiet")
        .serial_port(3, Serial::Client(bench.scratch.path().join("a,com4")))
        .serial_port(1, Serial::Socket(bench.scratch.path().join("com2")))
        .scsi(ScsiController {
            disks: vec![disk(&bench.lab.disk(), 0, false), disk(&other, 1, true)],
        })
        .network(UserNetwork {
            mac: Some("02:00:00:00:00:07".to_owned()),
        })
        .preallocate(true)
        .root_port("port0")
        .root_port("port1");
    let Bench { qemu, scratch, .. } = bench;
    let mut guest = RunningGuest::start(&qemu, machine, scratch).unwrap();
    let (mut com4, _) = listener.accept().unwrap();
    says(&mut guest, "OpenHDV lab");
    ask(&mut guest, "cat /sys/block/sda/size", "131072");
    ask(&mut guest, "head -c 3 /dev/sr0 | sed s/x/y/g; echo", "yyy");
    ask(
        &mut guest,
        "cat /sys/class/net/eth0/address | tr 0 z",
        "z2:zz:zz:zz:zz:z7",
    );
    ask(
        &mut guest,
        "until ip route | sed -n 's/default via/gate/p' | grep gate; do sleep 1; done",
        "gate 10.0.2.2",
    );
    ask(
        &mut guest,
        "lspci | grep -c 1b36:000c | sed 's/^/ports /'",
        "ports 2",
    );
    ask(
        &mut guest,
        "stty -F /dev/ttyS1 >/dev/null && echo com2 is there | tr a-z A-Z",
        "COM2 IS THERE",
    );

    // A device with large registers that is plugged in has room for them.
    let mut qmp = guest.qmp(LIMIT).unwrap();
    let device =
        json!({"driver": "pci-testdev", "id": "dev0", "bus": "port1", "membar": 256 << 20});
    qmp.execute("device_add", device).unwrap();
    ask(
        &mut guest,
        "until [ -e /sys/bus/pci/devices/*:02:00.0/resource2 ]; do usleep 10000; done; \
         stat -c 'size %s' /sys/bus/pci/devices/*:02:00.0/resource2",
        "size 268435456",
    );
    ask(
        &mut guest,
        "dmesg | grep -c '02:00.0: BAR 2.*: assigned' | sed 's/^/assigned BARs: /'",
        "assigned BARs: 1",
    );

    // The other console: what runs there ends with Ctrl-C, and then the shell is there again.
    com4.set_read_timeout(Some(LIMIT)).unwrap();
    let mut seen = String::new();
    let mut until = |com4: &mut std::os::unix::net::UnixStream, text: &str| {
        let mut bytes = [0; 4096];
        while !seen.contains(text) {
            let count = com4.read(&mut bytes).unwrap();
            assert_ne!(count, 0, "QEMU ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        seen.clear();
    };
    com4.write_all(b"echo be''gun; sleep 100000\n").unwrap();
    until(&mut com4, "begun");
    // A signal that comes while the shell starts a program may be nobody's.
    ask(
        &mut guest,
        "until pidof sleep >/dev/null; do usleep 10000; done; echo it sle''eps",
        "it sleeps",
    );
    com4.write_all(b"\x03").unwrap();
    com4.write_all(b"echo en''ded\n").unwrap();
    until(&mut com4, "ended");

    qmp.execute("system_powerdown", Value::Null).unwrap();
    assert!(guest.wait(LIMIT).unwrap().success());
    assert_eq!(guest.errors(), Vec::<String>::new());
}

#[test]
fn firmware_starts_the_kernel_and_keeps_its_variables() {
    let bench = Bench::new();
    let firmware = firmware::prepare(&bench.cache, bench.scratch.path()).unwrap();
    let fresh = std::fs::read(&firmware.variables).unwrap();
    let machine = bench
        .machine("console=ttyS0 quiet")
        .firmware(firmware.clone())
        .root_port("port0");
    let Bench { qemu, scratch, .. } = bench;
    let mut guest = RunningGuest::start(&qemu, machine, scratch).unwrap();
    says(&mut guest, "OpenHDV lab");
    ask(&mut guest, "ls /sys/firmware | tr a-z A-Z", "EFI");
    let used = std::fs::read(&firmware.variables).unwrap();
    assert_ne!(fresh, used, "the firmware wrote them");
    guest.send(b"poweroff\n").unwrap();
    assert!(guest.wait(LIMIT).unwrap().success());
}

#[test]
fn a_device_is_held_by_an_object_of_qemus() {
    let bench = Bench::new();
    let machine = bench
        .machine("")
        .paused(true)
        .root_port("port0")
        .other_device(json!({"driver": "virtio-rng-pci", "id": "dev0", "bus": "port0"}));
    let Bench { qemu, scratch, .. } = bench;
    let mut guest = RunningGuest::start(&qemu, machine, scratch).unwrap();
    let mut qmp = guest.qmp(LIMIT).unwrap();
    for _ in 0..2 {
        unplug::hold("dev0", |command, arguments| qmp.execute(command, arguments)).unwrap();
    }
    let held = json!({"path": "/backend/console[1]", "property": "device"});
    let device = qmp.execute("qom-get", held).unwrap();
    assert_eq!(device, "/machine/peripheral/dev0");
    let mut is_plugged = |id| {
        let plugged = unplug::plugged(|command, arguments| qmp.execute(command, arguments));
        plugged.unwrap().contains(id)
    };
    assert!(is_plugged("dev0") && !is_plugged("dev1"));
    qmp.quit().unwrap();
    assert!(guest.wait(LIMIT).unwrap().success());
}
