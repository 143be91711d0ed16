//! A restricted device host of a real worker, whose QEMU connects to its broker. The guest stays in the firmware.

use std::process::Child;

use hdv_compute::document::{DeviceStatus, State};
use hdv_compute::{Broker, BrokerLimits, ComputeSystem};
use serde_json::json;

use crate::played::{alone, id, process, wait_for};

struct Host {
    child: Child,
    broker: Broker,
}

fn host(system: &ComputeSystem, devices: &[u128]) -> Host {
    let (child, socket) = process(devices);
    let broker = Broker::start(socket, child.id(), system, BrokerLimits::default()).unwrap();
    Host { child, broker }
}

fn settings() -> serde_json::Value {
    json!({ "EmulatorId": id(0xc1a5), "HostingModel": "ExternalRestricted", "Configuration": ["a"] })
}

fn create() -> ComputeSystem {
    let document = json!({
        "Owner": "test", "SchemaVersion": { "Major": 2, "Minor": 4 },
        "ShouldTerminateOnLastHandleClosed": true,
        "VirtualMachine": {
            "ComputeTopology": { "Memory": { "SizeInMB": 64 }, "Processor": { "Count": 1 } },
            "Devices": { "FlexibleIov": { id(1).to_string(): settings() } },
        },
    });
    ComputeSystem::create("restricted", &document.to_string()).unwrap()
}

fn addition(device: u128) -> String {
    let request = json!({
        "ResourcePath": format!("VirtualMachine/Devices/FlexibleIov/{}", id(device)),
        "RequestType": "Add",
        "Settings": settings(),
    });
    request.to_string()
}

fn status(system: &ComputeSystem, device: u128) -> Option<DeviceStatus> {
    let devices = system.properties().unwrap().devices;
    Some(devices.get(&id(device).to_string())?.status)
}

#[test]
fn it_lives_as_others_do() {
    alone("vm::it_lives_as_others_do", || {
        let system = create();
        let mut host = host(&system, &[1, 2]);
        // It announces in its own time.
        wait_for("the start", || match system.start() {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.code(), hdv_compute::codes::NOT_FOUND, "{error}");
                false
            }
        });
        assert_eq!(status(&system, 1), Some(DeviceStatus::Attached));
        let devices = system.properties().unwrap().devices;
        let process = devices[&id(1).to_string()].process_id;
        assert_eq!(process, Some(host.child.id()));
        system.pause().unwrap();
        system.modify(&addition(2)).unwrap();
        system.resume().unwrap();
        assert_eq!(status(&system, 2), Some(DeviceStatus::Attached));
        assert!(!host.broker.is_over());
        system.terminate().unwrap();
        // With the last device goes the process.
        assert!(host.child.wait().unwrap().success());
        wait_for("the broker's end", || host.broker.is_over());
    });
}

#[test]
fn one_that_is_killed_costs_its_devices_only() {
    alone("vm::one_that_is_killed_costs_its_devices_only", || {
        let system = create();
        let mut host = host(&system, &[1]);
        wait_for("the start", || system.start().is_ok());
        host.child.kill().unwrap();
        host.child.wait().unwrap();
        wait_for("the loss", || {
            matches!(status(&system, 1), None | Some(DeviceStatus::Lost))
        });
        assert_eq!(system.properties().unwrap().state, State::Running);
        system.terminate().unwrap();
    });
}
