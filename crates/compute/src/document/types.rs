//! The types of the document. Names are HCS's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{DocumentError, FlexibleIoDevice, hcs, read, validate};

/// The whole document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ComputeSystemDocument {
    /// Who made it; free text.
    #[serde(default)]
    pub owner: String,
    /// The version of the schema that it follows: 2.x.
    pub schema_version: Version,
    /// End the VM when no handle to it is open any more.
    #[serde(default)]
    pub should_terminate_on_last_handle_closed: bool,
    /// The VM.
    pub virtual_machine: VirtualMachine,
}

impl ComputeSystemDocument {
    /// Reads a document. Files that it names are not looked at ([`Self::check`] does).
    ///
    /// A property that is null counts as absent, as in HCS.
    ///
    /// # Errors
    /// What is unknown, unsupported, missing or makes no sense, with its place.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let document = read::read(text, &hcs::COMPUTE_SYSTEM)?;
        validate::document(&document)?;
        Ok(document)
    }
}

/// A version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Version {
    /// 2.
    pub major: u32,
    /// Any.
    pub minor: u32,
}

/// The VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct VirtualMachine {
    /// A guest that resets ends its VM.
    #[serde(default)]
    pub stop_on_reset: bool,
    /// What it boots.
    #[serde(default)]
    pub chipset: Chipset,
    /// Its memory and processors.
    #[serde(default)]
    pub compute_topology: Topology,
    /// Its devices.
    #[serde(default)]
    pub devices: Devices,
}

/// What a VM boots. Neither: the disk, by the BIOS. Both: the firmware starts the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Chipset {
    /// UEFI firmware in place of a BIOS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uefi: Option<Uefi>,
    /// A kernel of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux_kernel_direct: Option<LinuxKernelDirect>,
}

/// UEFI firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Uefi {}

/// A kernel that is booted directly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct LinuxKernelDirect {
    /// The kernel image.
    pub kernel_file_path: PathBuf,
    /// The initramfs.
    #[serde(rename = "InitRdPath", skip_serializing_if = "Option::is_none")]
    pub init_rd_path: Option<PathBuf>,
    /// The kernel's command line.
    #[serde(default)]
    pub kernel_cmd_line: String,
}

/// Memory and processors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Topology {
    /// Guest memory.
    #[serde(default)]
    pub memory: Memory,
    /// Virtual processors.
    #[serde(default)]
    pub processor: Processor,
}

/// Guest memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Memory {
    /// Its size in MiB.
    #[serde(rename = "SizeInMB")]
    pub size_in_mb: u32,
    /// When the host gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing: Option<MemoryBacking>,
    /// The older way to say that: `true` is [`MemoryBacking::Virtual`], `false` [`MemoryBacking::Physical`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_overcommit: Option<bool>,
}

impl Memory {
    /// When the host gives it; [`MemoryBacking::Virtual`] where the document does not say.
    #[must_use]
    pub fn backing(&self) -> MemoryBacking {
        match (self.backing, self.allow_overcommit) {
            (Some(backing), _) => backing,
            (None, Some(false)) => MemoryBacking::Physical,
            (None, _) => MemoryBacking::Virtual,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            size_in_mb: 512,
            backing: None,
            allow_overcommit: None,
        }
    }
}

/// When the host gives a VM its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryBacking {
    /// Page by page, as the VM touches it.
    Virtual,
    /// All of it, before the VM starts.
    Physical,
}

/// Virtual processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Processor {
    /// How many.
    pub count: u16,
}

impl Default for Processor {
    fn default() -> Self {
        Self { count: 1 }
    }
}

/// The VM's devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Devices {
    /// Serial ports, by number from 0 to 3.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub com_ports: BTreeMap<String, ComPort>,
    /// SCSI controllers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scsi: BTreeMap<String, Scsi>,
    /// Network adapters, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub network_adapters: BTreeMap<String, NetworkAdapter>,
    /// Devices of device hosts, by instance id, or by a name that becomes one ([`super::instance_id`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flexible_iov: BTreeMap<String, FlexibleIoDevice>,
}

/// A serial port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ComPort {
    /// A Unix socket's path; `\\.\pipe\x` is the socket `pipes/x` in the runtime directory. When a program listens there
    /// already the VM connects to it, else it listens there; each VM needs one of its own.
    pub named_pipe: String,
}

/// A SCSI controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Scsi {
    /// Disks, by logical unit number from 0.
    #[serde(default)]
    pub attachments: BTreeMap<String, Attachment>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Attachment {
    /// What kind.
    #[serde(rename = "Type")]
    pub attachment_type: AttachmentType,
    /// Its file.
    pub path: PathBuf,
    /// The guest cannot write it.
    #[serde(default)]
    pub read_only: bool,
}

/// A kind of disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachmentType {
    /// A file with the image of a disk: raw, qcow2 or vhdx, by its name's extension.
    VirtualDisk,
    /// A file with the image of an optical disc.
    Iso,
}

/// A network adapter, on a user-mode network of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct NetworkAdapter {
    /// Its MAC address; without one it gets one by its place among the adapters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
}
