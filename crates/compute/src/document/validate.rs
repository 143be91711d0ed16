//! What makes no sense in a document although its types are right.
//!
//! Files that it names are not looked at: that is `check`'s.

use std::collections::BTreeMap;
use std::path::Path;

use super::limits::{
    ATTACHMENTS_MAXIMUM, COM_PORTS, COMMAND_LINE_LIMIT, DEVICES_MAXIMUM, MAJOR_VERSION,
    MEMORY_MAXIMUM_MIB, MEMORY_MINIMUM_MIB, NAME_LIMIT, NETWORK_ADAPTERS_MAXIMUM,
    PROCESSORS_MAXIMUM, SCSI_CONTROLLERS_MAXIMUM,
};
use super::shape::join;
use super::{
    Attachment, AttachmentType, ComPort, ComputeSystemDocument, DocumentError, FlexibleIoDevice,
    LinuxKernelDirect, MacAddress, Memory, MemoryBacking, NetworkAdapter, Scsi, instance_id,
};

/// The paths of what is checked here, for all who have something to say about it.
pub(super) const KERNEL: &str = "VirtualMachine/Chipset/LinuxKernelDirect/KernelFilePath";
pub(super) const INITRD: &str = "VirtualMachine/Chipset/LinuxKernelDirect/InitRdPath";
const COMMAND_LINE: &str = "VirtualMachine/Chipset/LinuxKernelDirect/KernelCmdLine";
const MEMORY: &str = "VirtualMachine/ComputeTopology/Memory";
pub(super) const MEMORY_SIZE: &str = "VirtualMachine/ComputeTopology/Memory/SizeInMB";
pub(super) const PROCESSORS: &str = "VirtualMachine/ComputeTopology/Processor/Count";
pub(super) const COM_PORT: &str = "VirtualMachine/Devices/ComPorts";
pub(super) const SCSI: &str = "VirtualMachine/Devices/Scsi";
const NETWORK: &str = "VirtualMachine/Devices/NetworkAdapters";
pub(super) const FLEXIBLE_IOV: &str = "VirtualMachine/Devices/FlexibleIov";

type Checked = Result<(), DocumentError>;

fn wrong(path: impl Into<String>, reason: impl Into<String>) -> Checked {
    Err(DocumentError::new(path, reason))
}

/// Checks a whole document.
pub(super) fn document(document: &ComputeSystemDocument) -> Checked {
    let version = document.schema_version;
    if version.major != MAJOR_VERSION {
        return wrong(
            "SchemaVersion/Major",
            format!(
                "the version is {}.{} and only {MAJOR_VERSION}.x is known; write {{\"Major\": {MAJOR_VERSION}, \"Minor\": 7}}",
                version.major, version.minor
            ),
        );
    }
    text("Owner", &document.owner)?;
    let machine = &document.virtual_machine;
    if let Some(direct) = &machine.chipset.linux_kernel_direct {
        kernel(direct)?;
    }
    memory(&machine.compute_topology.memory)?;
    let count = machine.compute_topology.processor.count;
    if !(1..=PROCESSORS_MAXIMUM).contains(&count) {
        return wrong(
            PROCESSORS,
            format!("it is {count} and can be 1 to {PROCESSORS_MAXIMUM}"),
        );
    }
    let devices = &machine.devices;
    com_ports(&devices.com_ports)?;
    scsi(&devices.scsi)?;
    network(&devices.network_adapters)?;
    flexible_iov(&devices.flexible_iov)
}

fn kernel(direct: &LinuxKernelDirect) -> Checked {
    file(KERNEL, &direct.kernel_file_path)?;
    if let Some(initrd) = &direct.init_rd_path {
        file(INITRD, initrd)?;
    }
    text(COMMAND_LINE, &direct.kernel_cmd_line)?;
    let length = direct.kernel_cmd_line.len();
    if length > COMMAND_LINE_LIMIT {
        return wrong(
            COMMAND_LINE,
            format!(
                "it has {length} bytes, and Linux cuts it off after {COMMAND_LINE_LIMIT}; make it shorter"
            ),
        );
    }
    Ok(())
}

fn memory(memory: &Memory) -> Checked {
    let size = memory.size_in_mb;
    if !(MEMORY_MINIMUM_MIB..=MEMORY_MAXIMUM_MIB).contains(&size) {
        return wrong(
            MEMORY_SIZE,
            format!("it is {size} and can be {MEMORY_MINIMUM_MIB} to {MEMORY_MAXIMUM_MIB}"),
        );
    }
    match (memory.backing, memory.allow_overcommit) {
        (Some(MemoryBacking::Virtual), Some(false))
        | (Some(MemoryBacking::Physical), Some(true)) => wrong(
            join(MEMORY, "AllowOvercommit"),
            "it contradicts Backing: true is Virtual, false is Physical; leave one of them out",
        ),
        _ => Ok(()),
    }
}

fn com_ports(ports: &BTreeMap<String, ComPort>) -> Checked {
    let mut pipes: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, port) in ports {
        let place = join(COM_PORT, key);
        number(&place, key, u16::from(COM_PORTS), "serial ports")?;
        let place = join(&place, "NamedPipe");
        text(&place, &port.named_pipe)?;
        if let Some(problem) = port.problem() {
            return wrong(place, format!("{:?} {problem}", port.named_pipe));
        }
        if let Some(other) = pipes.insert(&port.named_pipe, key) {
            return wrong(
                place,
                format!("port {other} has the same; give each port a socket of its own"),
            );
        }
    }
    Ok(())
}

fn scsi(controllers: &BTreeMap<String, Scsi>) -> Checked {
    at_most(
        SCSI,
        controllers.len(),
        SCSI_CONTROLLERS_MAXIMUM,
        "controllers",
    )?;
    for (name, controller) in controllers {
        let place = join(SCSI, name);
        self::name(&place, name)?;
        for (key, attachment) in &controller.attachments {
            let place = join(&join(&place, "Attachments"), key);
            number(&place, key, ATTACHMENTS_MAXIMUM, "disks of a controller")?;
            disk(&place, attachment)?;
        }
    }
    Ok(())
}

fn disk(place: &str, attachment: &Attachment) -> Checked {
    let path = join(place, "Path");
    file(&path, &attachment.path)?;
    match (attachment.attachment_type, attachment.format()) {
        (AttachmentType::VirtualDisk, None) => wrong(
            path,
            format!(
                "what form the image {} has is told by its name, which ends in .raw, .img, .qcow2 or .vhdx; rename it",
                attachment.path.display()
            ),
        ),
        _ => Ok(()),
    }
}

fn network(adapters: &BTreeMap<String, NetworkAdapter>) -> Checked {
    at_most(
        NETWORK,
        adapters.len(),
        NETWORK_ADAPTERS_MAXIMUM,
        "adapters",
    )?;
    let mut seen: BTreeMap<MacAddress, &str> = BTreeMap::new();
    for (name, adapter) in adapters {
        let place = join(NETWORK, name);
        self::name(&place, name)?;
        let Some(text) = &adapter.mac_address else {
            continue;
        };
        let place = join(&place, "MacAddress");
        let address = text
            .parse::<MacAddress>()
            .map_err(|problem| DocumentError::new(&place, format!("{text:?} {problem}")))?;
        if let Some(other) = seen.insert(address, name) {
            return wrong(place, format!("{other:?} has the same; give each its own"));
        }
    }
    Ok(())
}

fn flexible_iov(devices: &BTreeMap<String, FlexibleIoDevice>) -> Checked {
    at_most(FLEXIBLE_IOV, devices.len(), DEVICES_MAXIMUM, "devices")?;
    let mut seen = BTreeMap::new();
    for (key, device) in devices {
        let place = join(FLEXIBLE_IOV, key);
        self::device(&place, key, device)?;
        if let Some(other) = seen.insert(instance_id(key), key) {
            return wrong(
                place,
                format!("{other:?} is the same instance id; leave one out"),
            );
        }
    }
    Ok(())
}

/// Checks a device of a device host and its key.
pub(super) fn device(place: &str, key: &str, device: &FlexibleIoDevice) -> Checked {
    name(place, key)?;
    if instance_id(key).is_nil() {
        return wrong(place, "the instance id of zeros only is no device's");
    }
    if device.emulator_id.is_nil() {
        return wrong(
            join(place, "EmulatorId"),
            "the class id of zeros only is no emulator's",
        );
    }
    for (index, string) in device.configuration.iter().enumerate() {
        text(
            &join(&join(place, "Configuration"), &index.to_string()),
            string,
        )?;
    }
    Ok(())
}

/// Checks a name by which something is found.
pub(super) fn name(place: &str, name: &str) -> Checked {
    if name.is_empty() || name.len() > NAME_LIMIT {
        return wrong(
            place,
            format!(
                "the name has {} bytes and can have 1 to {NAME_LIMIT}",
                name.len()
            ),
        );
    }
    if name.contains('/') || name.contains(char::is_control) {
        return wrong(
            place,
            format!("the name {name:?} has a slash or a control character; choose another"),
        );
    }
    Ok(())
}

fn number(place: &str, key: &str, limit: u16, what: &str) -> Checked {
    // Written in one way only: "0" and "00" would be two keys for one thing.
    let known = (0..limit).any(|number| number.to_string() == key);
    if known {
        return Ok(());
    }
    let last = limit.saturating_sub(1);
    wrong(
        place,
        format!("{what} have the numbers 0 to {last}, and {key:?} is none of these"),
    )
}

fn at_most(place: &str, count: usize, limit: usize, what: &str) -> Checked {
    if count > limit {
        return wrong(
            place,
            format!("there are {count} {what} and can be {limit}"),
        );
    }
    Ok(())
}

fn text(place: &str, text: &str) -> Checked {
    if text.contains('\0') {
        return wrong(
            place,
            "it has a character of value zero, which ends a string; take it out",
        );
    }
    Ok(())
}

fn file(place: &str, path: &Path) -> Checked {
    let text = path.to_string_lossy();
    if text.is_empty() {
        return wrong(place, "it is empty; write a file's path");
    }
    self::text(place, &text)
}
