//! QEMU's command line for a guest that uses vfio-user devices.
//!
//! Values in, arguments out: no file is touched, nothing is started, no state of a VM is kept.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::accelerator::Accelerator;
use crate::locate::{DEVICE, Qemu};
use crate::{Error, Result};

/// The longest path of a Unix socket, without its end (`sun_path` of `unix(7)`).
const SOCKET_PATH_LIMIT: usize = 107;

/// Where a guest's first serial port goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Serial {
    /// QEMU's standard input and output; a [`crate::guest::RunningGuest`] reads its lines.
    Stdio,
    /// A file that QEMU writes.
    File(PathBuf),
    /// A Unix socket that QEMU listens on; output without a client is lost.
    Socket(PathBuf),
    /// Nowhere: the guest has no serial port.
    None,
}

/// A device that a vfio-user server offers on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfioUserDevice {
    socket: PathBuf,
    id: Option<String>,
    bus: Option<String>,
    address: Option<String>,
    message_timeout: Option<Duration>,
}

impl VfioUserDevice {
    /// The device on that socket, on the root bus, at an address of QEMU's choice.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            id: None,
            bus: None,
            address: None,
            message_timeout: None,
        }
    }

    /// The name that QMP knows it by.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The bus it is put on: `pcie.0` or the name of a [`Machine::root_port`].
    #[must_use]
    pub fn bus(mut self, bus: impl Into<String>) -> Self {
        self.bus = Some(bus.into());
        self
    }

    /// Its place on the bus, in QEMU's form `<device>.<function>` in hexadecimal.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// How long QEMU waits for a reply before it gives the connection up; 5 s otherwise.
    /// Whole milliseconds.
    #[must_use]
    pub fn message_timeout(mut self, timeout: Duration) -> Self {
        self.message_timeout = Some(timeout);
        self
    }

    /// The arguments of QMP's `device_add`, and of `-device` in its JSON form.
    ///
    /// # Errors
    ///
    /// [`Error::Machine`] when the socket's path is not UTF-8 or too long for a socket.
    pub fn to_json(&self) -> Result<Value> {
        let path = socket_path("device socket", &self.socket)?;
        let path = path.to_str().ok_or_else(|| Error::Machine {
            what: "device socket",
            value: path.to_string_lossy().into_owned(),
            reason: "QEMU's JSON takes paths in UTF-8 only",
        })?;
        let mut device = json!({"driver": DEVICE, "socket": {"type": "unix", "path": path}});
        for (name, value) in [
            ("id", &self.id),
            ("bus", &self.bus),
            ("addr", &self.address),
        ] {
            if let Some(value) = value {
                device[name] = json!(value);
            }
        }
        if let Some(timeout) = self.message_timeout {
            let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
            device["x-msg-timeout"] = json!(milliseconds);
        }
        Ok(device)
    }
}

/// The description of a guest's machine: q35, with guest memory that devices can map.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    accelerator: Accelerator,
    memory_mib: u32,
    processors: u16,
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    append: String,
    iommu: bool,
    root_ports: Vec<String>,
    devices: Vec<Device>,
    serial: Serial,
    qmp: Option<PathBuf>,
    reboot: bool,
    paused: bool,
    extra: Vec<OsString>,
}

#[derive(Clone, Debug, PartialEq)]
enum Device {
    VfioUser(VfioUserDevice),
    Other(Value),
}

impl Machine {
    /// A machine with 512 MiB of memory, one processor, its serial port on standard output, no
    /// devices, that ends when the guest reboots.
    #[must_use]
    pub fn new(accelerator: Accelerator) -> Self {
        Self {
            accelerator,
            memory_mib: 512,
            processors: 1,
            kernel: None,
            initrd: None,
            append: "console=ttyS0 panic=-1".to_owned(),
            iommu: false,
            root_ports: Vec::new(),
            devices: Vec::new(),
            serial: Serial::Stdio,
            qmp: None,
            reboot: false,
            paused: false,
            extra: Vec::new(),
        }
    }

    /// Guest memory in MiB, at least 1.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// The number of processors, at least 1.
    #[must_use]
    pub fn processors(mut self, processors: u16) -> Self {
        self.processors = processors;
        self
    }

    /// The kernel image to boot.
    #[must_use]
    pub fn kernel(mut self, vmlinuz: impl Into<PathBuf>) -> Self {
        self.kernel = Some(vmlinuz.into());
        self
    }

    /// The initramfs to boot with.
    #[must_use]
    pub fn initrd(mut self, path: impl Into<PathBuf>) -> Self {
        self.initrd = Some(path.into());
        self
    }

    /// The kernel's command line, in place of `console=ttyS0 panic=-1`.
    #[must_use]
    pub fn append(mut self, append: impl Into<String>) -> Self {
        self.append = append.into();
        self
    }

    /// A virtual IOMMU (intel-iommu with interrupt remapping), which a guest's vfio-pci needs.
    /// The kernel's command line gets `intel_iommu=on` with it.
    #[must_use]
    pub fn iommu(mut self, iommu: bool) -> Self {
        self.iommu = iommu;
        self
    }

    /// Adds a PCI Express root port, a bus of that name that a device can be plugged into while
    /// the guest runs.
    #[must_use]
    pub fn root_port(mut self, id: impl Into<String>) -> Self {
        self.root_ports.push(id.into());
        self
    }

    /// Adds a vfio-user device.
    #[must_use]
    pub fn device(mut self, device: VfioUserDevice) -> Self {
        self.devices.push(Device::VfioUser(device));
        self
    }

    /// Adds a device of any other kind, in the JSON form of `-device`.
    #[must_use]
    pub fn other_device(mut self, device: Value) -> Self {
        self.devices.push(Device::Other(device));
        self
    }

    /// Where the first serial port goes.
    #[must_use]
    pub fn serial(mut self, serial: Serial) -> Self {
        self.serial = serial;
        self
    }

    /// The Unix socket on which QEMU listens for QMP.
    #[must_use]
    pub fn qmp(mut self, socket: impl Into<PathBuf>) -> Self {
        self.qmp = Some(socket.into());
        self
    }

    /// Where QEMU listens for QMP, if anywhere.
    #[must_use]
    pub fn qmp_socket(&self) -> Option<&Path> {
        self.qmp.as_deref()
    }

    /// Whether a guest that reboots does so; otherwise its reboot ends QEMU.
    #[must_use]
    pub fn reboot(mut self, reboot: bool) -> Self {
        self.reboot = reboot;
        self
    }

    /// Whether the processors wait for QMP's `cont`.
    #[must_use]
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// An argument that this type does not know, as it is, after all others.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.extra.push(argument.into());
        self
    }

    /// Where the first serial port goes.
    pub(crate) fn serial_port(&self) -> &Serial {
        &self.serial
    }

    /// QEMU's arguments.
    ///
    /// # Errors
    ///
    /// [`Error::Machine`] for a value that QEMU cannot take.
    pub fn arguments(&self) -> Result<Vec<OsString>> {
        let mut arguments = Arguments(Vec::new());
        self.board(&mut arguments)?;
        self.boot(&mut arguments);
        self.ports(&mut arguments)?;
        self.pci(&mut arguments)?;
        if !self.reboot {
            arguments.push("-no-reboot");
        }
        if self.paused {
            arguments.push("-S");
        }
        arguments.0.extend(self.extra.iter().cloned());
        Ok(arguments.0)
    }

    /// The command that runs this machine on a QEMU.
    ///
    /// # Errors
    ///
    /// As [`Machine::arguments`].
    pub fn command(&self, qemu: &Qemu) -> Result<Command> {
        let mut command = qemu.command();
        command.args(self.arguments()?);
        Ok(command)
    }

    fn board(&self, arguments: &mut Arguments) -> Result<()> {
        let at_least_one = |what, value: u32| {
            let error = Error::Machine {
                what,
                value: value.to_string(),
                reason: "it must be at least 1",
            };
            if value == 0 { Err(error) } else { Ok(value) }
        };
        let memory = at_least_one("memory in MiB", self.memory_mib)?;
        let processors = at_least_one("number of processors", u32::from(self.processors))?;
        // Interrupt remapping needs the interrupt controllers' routing half in QEMU.
        let irqchip = if self.iommu {
            ",kernel-irqchip=split"
        } else {
            ""
        };
        arguments.option("-machine", format!("q35,memory-backend=memory{irqchip}"));
        arguments.option("-accel", self.accelerator.name());
        arguments.option("-cpu", "max");
        arguments.option("-smp", processors.to_string());
        arguments.option("-m", format!("{memory}M"));
        arguments.option(
            "-object",
            format!("memory-backend-memfd,id=memory,size={memory}M,share=on"),
        );
        arguments.push("-nodefaults");
        arguments.push("-no-user-config");
        arguments.option("-display", "none");
        Ok(())
    }

    fn boot(&self, arguments: &mut Arguments) {
        let Some(kernel) = &self.kernel else { return };
        arguments.option("-kernel", kernel);
        if let Some(initrd) = &self.initrd {
            arguments.option("-initrd", initrd);
        }
        let iommu = if self.iommu { " intel_iommu=on" } else { "" };
        arguments.option("-append", format!("{}{iommu}", self.append).trim());
    }

    fn ports(&self, arguments: &mut Arguments) -> Result<()> {
        let serial = match &self.serial {
            Serial::Stdio => Some(OsString::from("stdio,id=serial,signal=off")),
            Serial::File(path) => Some(with_path("file,id=serial,path=", path)),
            Serial::Socket(path) => {
                let path = socket_path("serial socket", path)?;
                let mut option = with_path("socket,id=serial,path=", path);
                option.push(",server=on,wait=off");
                Some(option)
            }
            Serial::None => None,
        };
        match serial {
            Some(option) => {
                arguments.option("-chardev", option);
                arguments.option("-serial", "chardev:serial");
            }
            None => arguments.option("-serial", "none"),
        }
        if let Some(path) = &self.qmp {
            let mut option = with_path("socket,id=qmp,path=", socket_path("QMP socket", path)?);
            option.push(",server=on,wait=off");
            arguments.option("-chardev", option);
            arguments.option("-qmp", "chardev:qmp");
        }
        Ok(())
    }

    fn pci(&self, arguments: &mut Arguments) -> Result<()> {
        if self.iommu {
            // Before all devices: those that come first would not be behind it. VFIO in the guest
            // needs caching mode, or QEMU never learns of new mappings.
            arguments.option("-device", "intel-iommu,intremap=on,caching-mode=on");
        }
        for (id, number) in self.root_ports.iter().zip(1_u32..) {
            let port =
                json!({"driver": "pcie-root-port", "id": id, "chassis": number, "slot": number});
            arguments.option("-device", port.to_string());
        }
        for device in &self.devices {
            let device = match device {
                Device::VfioUser(device) => device.to_json()?,
                Device::Other(device) => device.clone(),
            };
            arguments.option("-device", device.to_string());
        }
        Ok(())
    }
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn push(&mut self, argument: impl Into<OsString>) {
        self.0.push(argument.into());
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.push(name);
        self.push(value);
    }
}

/// An option that ends in a path; QEMU reads a doubled comma as one that belongs to the value.
fn with_path(option: &str, path: &Path) -> OsString {
    let mut bytes = option.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

fn socket_path<'a>(what: &'static str, path: &'a Path) -> Result<&'a Path> {
    let error = |reason| Error::Machine {
        what,
        value: path.to_string_lossy().into_owned(),
        reason,
    };
    if path.as_os_str().is_empty() {
        return Err(error("a socket needs a path"));
    }
    if path.as_os_str().len() > SOCKET_PATH_LIMIT {
        return Err(error(
            "the path of a Unix socket has at most 107 bytes; choose a shorter directory",
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            values(&arguments, "-object"),
            ["memory-backend-memfd,id=memory,size=300M,share=on"]
        );
        assert_eq!(
            values(&arguments, "-machine"),
            ["q35,memory-backend=memory"]
        );
        assert_eq!(values(&arguments, "-accel"), ["tcg"]);
        assert_eq!(values(&arguments, "-smp"), ["2"]);
        assert!(
            arguments.contains(&"-no-reboot".to_owned()) && !arguments.contains(&"-S".to_owned())
        );
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
        let devices = values(&arguments, "-device");
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
        let devices = values(&arguments, "-device");
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
                "file,id=serial,path=/a,,b/log",
                "socket,id=qmp,path=/c,,d/q,server=on,wait=off"
            ]
        );
        assert_eq!(values(&arguments, "-qmp"), ["chardev:qmp"]);
        assert_eq!(values(&arguments, "-serial"), ["chardev:serial"]);
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
}
