//! Makes a virtual machine with a device of this program, looks at it through the guest's console, plugs a second device in
//! while it runs, takes the first one out, pauses, resumes and ends it. It boots the guest lab, which `cargo xtask lab` makes.
//!
//! `cargo build -p openhdv-compute` builds the worker that it needs, `cargo run -p openhdv-compute --example vm` runs it.

use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use hdv::{
    Bar, BarAccess, BarIndex, ClassCode, ConfigError, ConfigSpace, DeviceError, DeviceHost,
    DeviceIds, HostOptions, Identity, PciDevice, Uuid, pci_function,
};
use hdv_compute::ComputeSystem;
use serde_json::{Value, json};

const CLASS: Uuid = Uuid::from_u128(0x0c0d_7e55_3b1a_4c6e_9d02_6f1b_50e2_7a33);
const FIRST: Uuid = Uuid::from_u128(0x5f3c_6d1e_0000_4000_8000_0000_0000_0c01);
const SECOND: Uuid = Uuid::from_u128(0x5f3c_6d1e_0000_4000_8000_0000_0000_0c02);

/// A device that says what happens to it; its page reads as zeroes.
struct Told(&'static str);

impl Told {
    fn tell(&self, what: &str) {
        println!("    {}: {what}", self.0);
    }
}

impl PciDevice for Told {
    fn config_space(&self) -> Result<ConfigSpace, ConfigError> {
        let identity = Identity {
            vendor_id: 0x4f48,
            device_id: 0x7f02,
            revision_id: 1,
            class: ClassCode::from_u24(0xff_0000),
            subsystem_vendor_id: 0,
            subsystem_id: 0,
        };
        ConfigSpace::builder(identity)
            .bar(BarIndex::BAR0, Bar::memory32(4096))
            .build()
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.tell("start");
        Ok(())
    }

    fn stop(&mut self) {
        self.tell("stop");
    }

    fn read(&mut self, _: BarAccess) -> u64 {
        0
    }

    fn write(&mut self, _: BarAccess, _: u64) {}

    fn reset(&mut self) {}

    fn teardown(&mut self) {
        self.tell("teardown");
    }
}

fn main() -> ExitCode {
    if let Err(error) = run() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run() -> Result<(), Box<dyn Error>> {
    let id = format!("vm-example-{}", std::process::id());
    let settings = json!({ "EmulatorId": CLASS, "HostingModel": "External" });
    let document = json!({
        "Owner": "vm.rs",
        "SchemaVersion": { "Major": 2, "Minor": 7 },
        "ShouldTerminateOnLastHandleClosed": true,
        "VirtualMachine": {
            "Chipset": { "LinuxKernelDirect": {
                "KernelFilePath": "${OPENHDV_LAB}/vmlinuz",
                "InitRdPath": "${OPENHDV_LAB}/initrd",
                "KernelCmdLine": "console=ttyS0 quiet",
            } },
            "ComputeTopology": { "Memory": { "SizeInMB": 512 }, "Processor": { "Count": 1 } },
            "Devices": {
                "ComPorts": { "0": { "NamedPipe": format!(r"\\.\pipe\{id}") } },
                "FlexibleIov": { FIRST.to_string(): settings },
            },
        },
    });
    let change = |kind: &str, device: Uuid, settings: Value| {
        let path = format!("VirtualMachine/Devices/FlexibleIov/{device}");
        json!({ "ResourcePath": path, "RequestType": kind, "Settings": settings }).to_string()
    };

    let vm = ComputeSystem::create(&id, &document.to_string())?;
    let host = DeviceHost::new(HostOptions::new())?;
    host.attach(vm.system())?;
    for (name, instance_id) in [("first", FIRST), ("second", SECOND)] {
        let ids = DeviceIds {
            class_id: CLASS,
            instance_id,
        };
        let device = host.create_device(ids, pci_function(Box::new(Told(name)))?)?;
        host.announce(device.id())?;
    }
    vm.start()?;
    let mut console = vm.console(0)?;
    expect(&mut console, "# ")?;
    guest_sees(&mut console, 1)?;
    vm.modify(&change("Add", SECOND, settings))?;
    guest_sees(&mut console, 2)?;
    vm.modify(&change("Remove", FIRST, Value::Null))?;
    guest_sees(&mut console, 1)?;
    vm.pause()?;
    println!("paused");
    vm.resume()?;
    println!("resumed");
    guest_sees(&mut console, 1)?;
    vm.terminate()?;
    println!("{:?}", vm.wait_for_exit(Duration::MAX));
    Ok(host.close()?)
}

/// Has the guest count the devices, until it sees as many.
fn guest_sees(console: &mut (impl Read + Write), count: u32) -> Result<(), Box<dyn Error>> {
    writeln!(
        console,
        "until [ $(cat /sys/bus/pci/devices/*/device | grep -c 0x7f02) = {count} ]; \
         do sleep 0.1; done; echo I see $(({count}))"
    )?;
    expect(console, &format!("I see {count}"))
}

/// Reads until the guest says something.
fn expect(console: &mut impl Read, text: &str) -> Result<(), Box<dyn Error>> {
    let (mut said, mut bytes) = (String::new(), [0; 1024]);
    while !said.contains(text) {
        match console.read(&mut bytes)? {
            0 => return Err(format!("the guest did not say {text:?}: {said}").into()),
            count => said.push_str(&String::from_utf8_lossy(&bytes[..count])),
        }
    }
    println!("guest: {text}");
    Ok(())
}
