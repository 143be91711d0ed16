//! Disks behind SCSI controllers (virtio-scsi).

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::arguments::{Arguments, utf8};
use crate::Result;

/// The form of a disk's image. It is always said and never guessed from the image's content, which a guest can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFormat {
    /// The disk's bytes, one after another.
    Raw,
    /// QEMU's own.
    Qcow2,
    /// Hyper-V's.
    Vhdx,
}

impl DiskFormat {
    /// How many of an image's first bytes [`DiskFormat::of_magic`] wants to see.
    pub const MAGIC_SIZE: u64 = 8;

    /// The form that an image of that name has by its extension, in any case: `raw`, `img`, `qcow2` or `vhdx`.
    #[must_use]
    pub fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "raw" | "img" => Some(Self::Raw),
            "qcow2" => Some(Self::Qcow2),
            "vhdx" => Some(Self::Vhdx),
            _ => None,
        }
    }

    /// The form that an image beginning with these bytes seems to have; to notice mistakes with, never to choose by.
    #[must_use]
    pub fn of_magic(head: &[u8]) -> Self {
        if head.starts_with(b"QFI\xfb") {
            Self::Qcow2
        } else if head.starts_with(b"vhdxfile") {
            Self::Vhdx
        } else {
            Self::Raw
        }
    }

    /// An extension that stands for it.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhdx => "vhdx",
        }
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

/// A disk of a [`ScsiController`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its image.
    pub path: PathBuf,
    /// The image's form.
    pub format: DiskFormat,
    /// The guest cannot write it.
    pub read_only: bool,
    /// An optical disc, which the guest never can write.
    pub optical: bool,
    /// Its logical unit number, at most 255.
    pub unit: u8,
}

/// A SCSI controller with its disks. Disks are booted in the order in which they are put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScsiController {
    /// The disks.
    pub disks: Vec<Disk>,
}

impl ScsiController {
    /// Puts controller `number` in; `order` counts the disks of all controllers.
    pub(super) fn put(
        &self,
        number: u32,
        order: &mut u32,
        arguments: &mut Arguments,
    ) -> Result<()> {
        let controller = format!("scsi{number}");
        arguments.json(
            "-device",
            &json!({"driver": "virtio-scsi-pci", "id": controller}),
        );
        for disk in &self.disks {
            let node = format!("{controller}-disk{}", disk.unit);
            let read_only = disk.read_only || disk.optical;
            let path = utf8("disk", &disk.path)?;
            let image = json!({
                "driver": disk.format.extension(), "node-name": node, "read-only": read_only, "discard": "unmap",
                "file": {"driver": "file", "filename": path},
            });
            arguments.json("-blockdev", &image);
            *order += 1;
            let device = json!({
                "driver": if disk.optical { "scsi-cd" } else { "scsi-hd" }, "id": format!("{node}-device"),
                "bus": format!("{controller}.0"), "lun": disk.unit, "drive": node, "bootindex": *order,
            });
            arguments.json("-device", &device);
        }
        Ok(())
    }
}
