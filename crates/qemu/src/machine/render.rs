//! The arguments of the machine itself: board, memory, what boots, control socket; then its parts.

use std::ffi::OsString;

use serde_json::json;

use super::arguments::{Arguments, socket_path, with_path};
use super::root_port::root_port;
use super::{Device, Machine};
use crate::accelerator::Accelerator;
use crate::{Error, Result};

impl Machine {
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
        let mut machine = "q35,memory-backend=memory".to_owned();
        // Interrupt remapping needs the interrupt controllers' routing half in QEMU.
        if self.iommu {
            machine.push_str(",kernel-irqchip=split");
        }
        if let Some(firmware) = &self.firmware {
            machine.push_str(&firmware.put(arguments)?);
        }
        arguments.option("-machine", machine);
        arguments.option("-accel", self.accelerator.name());
        arguments.option("-cpu", self.processor());
        arguments.option("-smp", processors.to_string());
        arguments.option("-m", format!("{memory}M"));
        let memory = json!({
            "qom-type": "memory-backend-memfd", "id": "memory", "size": u64::from(memory) << 20, "share": true,
            "prealloc": self.preallocate,
        });
        arguments.json("-object", &memory);
        arguments.push("-nodefaults");
        arguments.push("-no-user-config");
        arguments.option("-display", "none");
        Ok(())
    }

    fn processor(&self) -> &'static str {
        // TCG's is an AMD one otherwise, with 40 bits of address space of which the last 12 GiB are reserved (for
        // HyperTransport). The firmware puts the 64-bit windows of root ports exactly there, and then Linux gives nothing in
        // them to devices that are plugged in.
        if self.accelerator == Accelerator::Tcg && !self.root_ports.is_empty() {
            "max,vendor=GenuineIntel"
        } else {
            "max"
        }
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
        for (index, serial) in &self.serials {
            serial.put(*index, arguments)?;
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
        let count = self.root_ports.len();
        for (index, id) in self.root_ports.iter().enumerate() {
            arguments.json("-device", &root_port(id, index, count)?);
        }
        let mut order = 0;
        for (controller, number) in self.scsi.iter().zip(0..) {
            controller.put(number, &mut order, arguments)?;
        }
        for (adapter, number) in self.networks.iter().zip(0..) {
            adapter.put(number, arguments);
        }
        for device in &self.devices {
            match device {
                Device::VfioUser(device) => arguments.json("-device", &device.to_json()?),
                Device::Other(device) => arguments.json("-device", device),
            }
        }
        Ok(())
    }
}
