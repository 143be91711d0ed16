//! The machine that a document asks for: values in, a description for QEMU out. No file is touched here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdv_qemu::accelerator::Accelerator;
use hdv_qemu::machine::{
    Disk, Firmware, Machine, ROOT_PORTS_MAXIMUM, ScsiController, Serial, UserNetwork,
    VfioUserDevice,
};

use crate::document::{AttachmentType, ComputeSystemDocument, MacAddress, MemoryBacking, Scsi};

/// Root ports beyond those of the document's devices, for devices that are plugged in later.
pub(crate) const SPARE_PORTS: usize = 8;

/// What the worker brings to the machine.
#[derive(Clone, Debug)]
pub(crate) struct Parts<'a> {
    /// How processors run.
    pub(crate) accelerator: Accelerator,
    /// The socket on which QEMU listens for QMP.
    pub(crate) qmp: &'a Path,
    /// The sockets that QEMU connects its serial ports to, by number; ports of the document without one go nowhere.
    pub(crate) consoles: &'a BTreeMap<u8, PathBuf>,
    /// The devices that are there when the guest boots.
    pub(crate) devices: &'a [FirstDevice],
    /// The firmware, if the document asks for UEFI.
    pub(crate) firmware: Option<Firmware>,
    /// How long QEMU waits for a device's answer.
    pub(crate) message_timeout: Duration,
}

/// A device that is there when the guest boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FirstDevice {
    /// Its id for QMP.
    pub(crate) id: String,
    /// Its socket.
    pub(crate) socket: PathBuf,
    /// The root port that it is behind, one of [`ports`].
    pub(crate) port: String,
}

/// The names of a document's root ports.
pub(crate) fn ports(document: &ComputeSystemDocument) -> Vec<String> {
    let devices = document.virtual_machine.devices.flexible_iov.len();
    let count = (devices + SPARE_PORTS).min(ROOT_PORTS_MAXIMUM);
    (0..count).map(|number| format!("port{number}")).collect()
}

/// The machine, with its processors stopped.
pub(crate) fn machine(document: &ComputeSystemDocument, parts: &Parts<'_>) -> Machine {
    let asked = &document.virtual_machine;
    let memory = &asked.compute_topology.memory;
    let mut machine = Machine::new(parts.accelerator)
        .memory_mib(memory.size_in_mb)
        .preallocate(memory.backing() == MemoryBacking::Physical)
        .processors(asked.compute_topology.processor.count)
        .qmp(parts.qmp)
        .paused(true)
        .reboot(!asked.stop_on_reset)
        .serial(Serial::None);
    if let Some(direct) = &asked.chipset.linux_kernel_direct {
        machine = machine
            .kernel(&direct.kernel_file_path)
            .append(&direct.kernel_cmd_line);
        if let Some(initrd) = &direct.init_rd_path {
            machine = machine.initrd(initrd);
        }
    }
    if let Some(firmware) = &parts.firmware {
        machine = machine.firmware(firmware.clone());
    }
    for (port, socket) in parts.consoles {
        machine = machine.serial_port(*port, Serial::Client(socket.clone()));
    }
    for port in ports(document) {
        machine = machine.root_port(port);
    }
    for controller in asked.devices.scsi.values() {
        machine = machine.scsi(scsi(controller));
    }
    for adapter in asked.devices.network_adapters.values() {
        let mac = adapter.mac_address.as_ref();
        let mac = mac.and_then(|text| text.parse::<MacAddress>().ok());
        machine = machine.network(UserNetwork {
            mac: mac.map(|mac| mac.to_string()),
        });
    }
    for device in parts.devices {
        machine = machine.device(vfio_user(device, parts.message_timeout));
    }
    machine
}

/// A device of a device host, for the command line and for `device_add`.
pub(crate) fn vfio_user(device: &FirstDevice, message_timeout: Duration) -> VfioUserDevice {
    VfioUserDevice::new(&device.socket)
        .id(&device.id)
        .bus(&device.port)
        .message_timeout(message_timeout)
}

fn scsi(controller: &Scsi) -> ScsiController {
    // Keys are numbers, checked when the document was read; "10" comes before "2" among strings.
    let disks: BTreeMap<u8, _> = controller
        .attachments
        .iter()
        .filter_map(|(key, attachment)| Some((key.parse().ok()?, attachment)))
        .collect();
    let disk = |(unit, attachment): (u8, &crate::document::Attachment)| {
        Some(Disk {
            path: attachment.path.clone(),
            format: attachment.format()?,
            read_only: attachment.read_only,
            optical: attachment.attachment_type == AttachmentType::Iso,
            unit,
        })
    };
    ScsiController {
        disks: disks.into_iter().filter_map(disk).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn arguments(document: &Value, devices: &[FirstDevice]) -> Vec<String> {
        let document = ComputeSystemDocument::parse(&document.to_string()).unwrap();
        let parts = Parts {
            accelerator: Accelerator::Tcg,
            qmp: Path::new("/run/qmp"),
            consoles: &BTreeMap::from([(1, PathBuf::from("/run/com2"))]),
            devices,
            firmware: None,
            message_timeout: Duration::from_secs(7),
        };
        let arguments = machine(&document, &parts).arguments().unwrap();
        arguments
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect()
    }

    fn devices(arguments: &[String], driver: &str) -> Vec<Value> {
        arguments
            .iter()
            .filter_map(|argument| serde_json::from_str::<Value>(argument).ok())
            .filter(|device| device["driver"] == driver)
            .collect()
    }

    fn document(machine: &Value) -> Value {
        json!({"SchemaVersion": {"Major": 2, "Minor": 7}, "VirtualMachine": machine})
    }

    #[test]
    fn processors_wait_and_a_reset_ends_it_only_if_asked_for() {
        let plain = arguments(&document(&json!({})), &[]);
        assert!(plain.contains(&"-S".to_owned()) && !plain.contains(&"-no-reboot".to_owned()));
        let stopping = arguments(&document(&json!({"StopOnReset": true})), &[]);
        assert!(stopping.contains(&"-no-reboot".to_owned()));
        // Its input and output are the worker's.
        assert!(!plain.iter().any(|argument| argument.contains("stdio")));
        assert_eq!(devices(&plain, "isa-serial")[0]["index"], 1);
    }

    #[test]
    fn devices_are_behind_ports_and_others_stay_free() {
        let asked = json!({"Devices": {"FlexibleIov": {
            "a": {"EmulatorId": "11111111-2222-3333-4444-555555555555"},
            "b": {"EmulatorId": "11111111-2222-3333-4444-555555555555"}}}});
        let first = FirstDevice {
            id: "device-a".to_owned(),
            socket: "/run/a.sock".into(),
            port: "port1".to_owned(),
        };
        let arguments = arguments(&document(&asked), std::slice::from_ref(&first));
        assert_eq!(devices(&arguments, "pcie-root-port").len(), 2 + SPARE_PORTS);
        let device = &devices(&arguments, "vfio-user-pci")[0];
        assert_eq!(
            (&device["id"], &device["bus"]),
            (&json!("device-a"), &json!("port1"))
        );
        assert_eq!(device["x-msg-timeout"], 7000);
        let added = vfio_user(&first, Duration::from_secs(7)).to_json().unwrap();
        assert_eq!(*device, added);
    }

    #[test]
    fn disks_come_by_number_and_adapters_with_their_address() {
        let disk = |path: &str| json!({"Type": "VirtualDisk", "Path": path});
        let asked = json!({"Devices": {
            "Scsi": {"primary": {"Attachments": {
                "2": disk("/two.qcow2"), "10": disk("/ten.raw"), "0": {"Type": "Iso", "Path": "/zero"}}}},
            "NetworkAdapters": {"net": {"MacAddress": "02-00-00-00-00-0A"}}}});
        let arguments = arguments(&document(&asked), &[]);
        let units: Vec<_> = devices(&arguments, "scsi-hd")
            .iter()
            .map(|disk| {
                (
                    disk["lun"].as_u64().unwrap(),
                    disk["bootindex"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(units, [(2, 2), (10, 3)]);
        assert_eq!(devices(&arguments, "scsi-cd")[0]["lun"], 0);
        assert_eq!(devices(&arguments, "qcow2").len(), 1);
        assert_eq!(
            devices(&arguments, "virtio-net-pci")[0]["mac"],
            "02:00:00:00:00:0a"
        );
    }

    #[test]
    fn a_reserved_vm_gets_its_memory_at_once() {
        let memory = |backing: &str| {
            let asked =
                json!({"ComputeTopology": {"Memory": {"SizeInMB": 64, "Backing": backing}}});
            arguments(&document(&asked), &[])
                .iter()
                .any(|argument| argument.contains("\"prealloc\":true"))
        };
        assert!(memory("Physical") && !memory("Virtual"));
    }
}
