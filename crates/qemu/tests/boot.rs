//! A fetched QEMU boots a fetched kernel: the whole of this crate, once, on this machine.

use std::sync::OnceLock;
use std::time::Duration;

use hdv_qemu::accelerator::Accelerator;
use hdv_qemu::bundle::Bundle;
use hdv_qemu::cache::Cache;
use hdv_qemu::fetch::fetch;
use hdv_qemu::guest::{RunningGuest, Scratch};
use hdv_qemu::initramfs::Initramfs;
use hdv_qemu::kernel::{Kernel, Module};
use hdv_qemu::locate::{MINIMUM, Origin, Qemu, locate};
use hdv_qemu::machine::{Machine, VfioUserDevice};
use hdv_qemu::trial::{Choice, choose, trial};
use serde_json::json;

/// Generous: machines under test are busy.
const LIMIT: Duration = Duration::from_secs(180);

struct Lab {
    cache: Cache,
    qemu: Qemu,
    kernel: Kernel,
    choice: Choice,
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let cache = Cache::user().unwrap();
        let unpacked = fetch(
            &cache,
            &[Bundle::QEMU, Bundle::KERNEL_CLOUD, Bundle::PCIUTILS],
            &mut |_| {},
        )
        .unwrap();
        // Not the one that is located: an installed one would hide a fault of the unpacked one.
        let qemu = Qemu::unpacked(&unpacked[0]).unwrap();
        let kernel = Kernel::in_root(unpacked[1].root()).unwrap();
        let choice = choose(&cache, &qemu, &kernel).unwrap();
        Lab {
            cache,
            qemu,
            kernel,
            choice,
        }
    })
}

fn machine(lab: &Lab) -> Machine {
    Machine::new(lab.choice.accelerator)
        .memory_mib(256)
        .kernel(lab.kernel.vmlinuz())
}

#[test]
fn the_unpacked_qemu_suits_and_is_found() {
    let lab = lab();
    assert!(lab.qemu.version() >= MINIMUM);
    assert_eq!(lab.qemu.origin(), Origin::Cache);
    assert!(locate(&lab.cache).unwrap().version() >= MINIMUM);
}

#[test]
fn the_chosen_accelerator_boots_and_is_remembered() {
    let lab = lab();
    let trial = trial(&lab.cache, &lab.qemu, &lab.kernel, lab.choice.accelerator).unwrap();
    assert!(trial.works(), "{trial:?}");
    let again =
        hdv_qemu::trial::trial(&lab.cache, &lab.qemu, &lab.kernel, lab.choice.accelerator).unwrap();
    assert_eq!(trial, again);
    if lab.choice.accelerator == Accelerator::Tcg {
        let rejected: Vec<_> = lab
            .choice
            .rejected
            .iter()
            .map(|trial| trial.accelerator)
            .collect();
        assert_eq!(rejected, [Accelerator::Kvm]);
        assert!(lab.choice.rejected[0].reason.is_some());
    }
}

#[test]
fn the_kernel_says_its_release_unpacks_the_initramfs_and_ends_for_lack_of_a_first_process() {
    let lab = lab();
    let mut initramfs = Initramfs::new();
    initramfs
        .file("/deep/below/file", 0o644, vec![b'x'; 12_345])
        .unwrap();
    initramfs.symlink("/link", "nowhere").unwrap();
    let scratch = Scratch::new().unwrap();
    let initrd = scratch.file("initrd", &initramfs.archive()).unwrap();
    let mut guest = RunningGuest::start(&lab.qemu, machine(lab).initrd(initrd), scratch).unwrap();
    let directory = guest.directory().to_owned();
    let release = |line: &str| line.contains(lab.kernel.release());
    guest
        .expect_line("the kernel's banner", LIMIT, release)
        .unwrap();
    let panic = |line: &str| line.contains("Kernel panic");
    guest.expect_line("the kernel's end", LIMIT, panic).unwrap();
    assert!(guest.wait(LIMIT).unwrap().success());
    assert_eq!(guest.errors(), Vec::<String>::new());
    let lines = guest.serial_lines();
    let said = |text: &str| lines.iter().any(|line| line.contains(text));
    assert!(said("unpack rootfs image as initramfs"), "{lines:#?}");
    assert!(!said("unpacking failed"), "{lines:#?}");
    drop(guest);
    assert!(!directory.exists());
}

#[test]
fn the_control_socket_drives_the_machine() {
    let lab = lab();
    // A comma in the path of the socket: QEMU splits its options there.
    let scratch = Scratch::new().unwrap();
    let machine = machine(lab)
        .qmp(scratch.path().join("a,b.sock"))
        .reboot(true)
        .iommu(true)
        .root_port("rp1")
        .paused(true);
    let mut guest = RunningGuest::start(&lab.qemu, machine, scratch).unwrap();
    let mut qmp = guest.qmp(LIMIT).unwrap();
    assert_eq!(qmp.query_version().unwrap(), lab.qemu.version());
    assert_eq!(
        qmp.execute("query-status", json!(null)).unwrap()["status"],
        "prelaunch"
    );
    qmp.execute("cont", json!(null)).unwrap();
    let banner = |line: &str| line.contains("Linux version");
    guest
        .expect_line("the kernel's banner", LIMIT, banner)
        .unwrap();
    qmp.system_reset().unwrap();
    qmp.expect_event("RESET", LIMIT, |data| data["guest"] == false)
        .unwrap();
    guest
        .expect_line("the kernel's second banner", LIMIT, banner)
        .unwrap();
    let error = qmp
        .execute("device_del", json!({"id": "none"}))
        .unwrap_err();
    assert!(error.to_string().contains("device_del"), "{error}");
    qmp.quit().unwrap();
    assert!(guest.wait(LIMIT).unwrap().success());
    assert_eq!(guest.errors(), Vec::<String>::new());
}

#[test]
fn qemus_own_complaint_is_in_the_error() {
    let lab = lab();
    let machine = machine(lab).other_device(json!({"driver": "no-such-device"}));
    let mut guest = RunningGuest::start(&lab.qemu, machine, Scratch::new().unwrap()).unwrap();
    // The control socket never comes, and nobody waits for it.
    let error = guest.qmp(Duration::MAX).unwrap_err().to_string();
    assert!(error.contains("no-such-device"), "{error}");
    let error = guest
        .expect_line("the kernel's banner", LIMIT, |_| true)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no-such-device"), "{error}");
    assert!(!guest.wait(LIMIT).unwrap().success());
}

#[test]
fn qemu_knows_every_setting_of_a_vfio_user_device() {
    let lab = lab();
    let scratch = Scratch::new().unwrap();
    let socket = scratch.path().join("nobody, listens");
    let device = VfioUserDevice::new(&socket)
        .id("sensor")
        .bus("rp1")
        .address("0.0")
        .message_timeout(Duration::from_secs(1));
    let machine = machine(lab).root_port("rp1").device(device);
    let mut guest = RunningGuest::start(&lab.qemu, machine, scratch).unwrap();
    assert!(!guest.wait(LIMIT).unwrap().success());
    // It came as far as the socket: a setting that it does not know would have stopped it before.
    let errors = guest.errors().join("\n");
    assert!(errors.contains("nobody, listens"), "{errors}");
    assert!(errors.contains("No such file or directory"), "{errors}");
}

#[test]
fn a_killed_qemu_is_gone() {
    let lab = lab();
    let mut guest = RunningGuest::start(&lab.qemu, machine(lab), Scratch::new().unwrap()).unwrap();
    guest
        .expect_line("the kernel's banner", LIMIT, |line| {
            line.contains("Linux version")
        })
        .unwrap();
    assert!(!guest.kill().unwrap().success());
    let _ = guest.kill().unwrap();
    assert!(!guest.is_running());
}

#[test]
fn vfio_modules_come_unpacked_in_the_order_they_need() {
    let lab = lab();
    let modules = lab
        .kernel
        .modules(&["vfio-pci", "uio_pci_generic"])
        .unwrap();
    let names: Vec<_> = modules.iter().map(Module::name).collect();
    let position = |name: &str| {
        names
            .iter()
            .position(|found| *found == name)
            .unwrap_or_else(|| panic!("{name}: {names:?}"))
    };
    assert!(position("vfio") < position("vfio_iommu_type1"));
    assert!(position("vfio_pci_core") < position("vfio_pci"));
    assert!(position("uio") < position("uio_pci_generic"));
    let mut initramfs = Initramfs::new();
    let size: usize = modules
        .iter()
        .map(|module| module.image().unwrap().len())
        .sum();
    assert!(initramfs.modules(&modules).unwrap().archive().len() > size);
    for module in &modules {
        assert!(
            module.image().unwrap().starts_with(b"\x7fELF"),
            "{}",
            module.name()
        );
    }
}

#[test]
fn lspci_of_the_bundle_runs_here() {
    let bundle = lab().cache.require(&Bundle::PCIUTILS).unwrap();
    let output = bundle
        .program("usr/bin/lspci")
        .unwrap()
        .command()
        .arg("--version")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("lspci version"));
    assert!(bundle.path("usr/share/misc/pci.ids").is_file());
}
