//! A document as a person gives it: a file, with the guest lab's folder and paths relative to its own; or none, and one is
//! made.

use std::path::Path;

use hdv_compute::document::{
    Chipset, ComPort, ComputeSystemDocument, Devices, LAB_VARIABLE, LinuxKernelDirect, Topology,
    Version, VirtualMachine, expand,
};
use hdv_qemu::cache::Cache;
use hdv_qemu::lab::{Lab, VARIABLE};

use crate::Failure;

/// Largest document, in bytes.
const LIMIT: u64 = 4 << 20;

/// Reads a document.
pub(super) fn read(path: &Path) -> Result<ComputeSystemDocument, Failure> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("cannot read {shown}: {error}");
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > LIMIT {
        return Err(format!("{shown} has {length} bytes; the limit is {LIMIT}").into());
    }
    let mut text = std::fs::read_to_string(path).map_err(failed)?;
    if text.contains(LAB_VARIABLE) {
        text = expand(&text, lab()?.directory());
    }
    let mut document =
        ComputeSystemDocument::parse(&text).map_err(|error| format!("{shown}: {error}"))?;
    let path = std::path::absolute(path).map_err(failed)?;
    document.resolve(path.parent().unwrap_or(Path::new("/")));
    Ok(document)
}

/// A document for who has none: the guest lab's kernel with a console.
pub(super) fn make(id: &str) -> Result<ComputeSystemDocument, Failure> {
    let lab = lab()?;
    let console = ComPort {
        named_pipe: format!(r"\\.\pipe\{id}-com0"),
    };
    Ok(ComputeSystemDocument {
        owner: "hdv run".to_owned(),
        schema_version: Version { major: 2, minor: 7 },
        should_terminate_on_last_handle_closed: false,
        virtual_machine: VirtualMachine {
            stop_on_reset: false,
            chipset: Chipset {
                uefi: None,
                linux_kernel_direct: Some(LinuxKernelDirect {
                    kernel_file_path: lab.kernel(),
                    init_rd_path: Some(lab.initrd()),
                    kernel_cmd_line: "console=ttyS0".to_owned(),
                }),
            },
            compute_topology: Topology::default(),
            devices: Devices {
                com_ports: [("0".to_owned(), console)].into(),
                ..Devices::default()
            },
        },
    })
}

/// The guest lab, which is there.
fn lab() -> Result<Lab, Failure> {
    let lab = Lab::of(&Cache::user()?);
    if lab.is_ready() {
        return Ok(lab);
    }
    let message = format!(
        "there is no guest lab at {}: `cargo xtask lab`, in a checkout of OpenHDV, brings its kernel and initramfs; {VARIABLE} \
         names another folder that has them, as vmlinuz and initrd",
        lab.directory().display()
    );
    Err(message.into())
}
