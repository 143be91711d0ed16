//! Whether what a document names is there and can be used, looked at when its VM starts.
//!
//! QEMU would find most of it too, and say it without the place in the document.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use hdv_qemu::machine::{DiskFormat, SOCKET_PATH_LIMIT};

use super::shape::join;
use super::validate::{COM_PORT, INITRD, KERNEL, MEMORY_SIZE, SCSI};
use super::{Attachment, AttachmentType, ComPort, ComputeSystemDocument, DocumentError};

type Checked = Result<(), DocumentError>;

impl ComputeSystemDocument {
    /// Looks at where sockets are to be made: the runtime directory's other names are for the library's own.
    ///
    /// # Errors
    /// The first one that is in the runtime directory by its path, with its place.
    pub(crate) fn check_sockets(&self, runtime_directory: &Path) -> Checked {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let ours = real(runtime_directory);
        let by_path = |(_, port): &(&String, &ComPort)| !port.is_pipe();
        for (number, port) in self
            .virtual_machine
            .devices
            .com_ports
            .iter()
            .filter(by_path)
        {
            let socket = port.socket(runtime_directory);
            if socket
                .parent()
                .is_some_and(|parent| real(parent).starts_with(&ours))
            {
                return wrong(
                    &join(&join(COM_PORT, number), "NamedPipe"),
                    format!(
                        r"the socket {} would be among OpenHDV's own; write \\.\pipe\<name>, or choose another directory",
                        socket.display()
                    ),
                );
            }
        }
        Ok(())
    }

    /// Looks at the files, sockets' places and memory that a VM of this document would use, now.
    ///
    /// # Errors
    /// The first thing that is not there, cannot be used, or is more than this machine has, with its place.
    pub fn check(&self, runtime_directory: &Path) -> Checked {
        let machine = &self.virtual_machine;
        if let Some(direct) = &machine.chipset.linux_kernel_direct {
            readable(KERNEL, "the kernel", &direct.kernel_file_path)?;
            if let Some(initrd) = &direct.init_rd_path {
                readable(INITRD, "the initramfs", initrd)?;
            }
        }
        memory(
            machine.compute_topology.memory.size_in_mb,
            total_memory_mib(),
        )?;
        for (name, controller) in &machine.devices.scsi {
            let place = join(&join(SCSI, name), "Attachments");
            for (number, attachment) in &controller.attachments {
                disk(&join(&join(&place, number), "Path"), attachment)?;
            }
        }
        for (number, port) in &machine.devices.com_ports {
            let place = join(&join(COM_PORT, number), "NamedPipe");
            socket(&place, &port.socket(runtime_directory), port.is_pipe())?;
        }
        Ok(())
    }
}

fn wrong(place: &str, reason: String) -> Checked {
    Err(DocumentError::new(place, reason))
}

fn status(place: &str, what: &str, path: &Path) -> Result<Metadata, DocumentError> {
    path.metadata().map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => format!(
                "{what} {} does not exist; correct the path, or bring the file there",
                path.display()
            ),
            _ => format!("{what} {} cannot be looked at: {error}", path.display()),
        };
        DocumentError::new(place, reason)
    })
}

fn readable(place: &str, what: &str, path: &Path) -> Checked {
    let metadata = status(place, what, path)?;
    if !metadata.is_file() {
        return wrong(place, format!("{what} {} is not a file", path.display()));
    }
    if metadata.len() == 0 {
        return wrong(place, format!("{what} {} is empty", path.display()));
    }
    open(place, what, path, false).map(|_| ())
}

fn open(place: &str, what: &str, path: &Path, write: bool) -> Result<File, DocumentError> {
    OpenOptions::new()
        .read(true)
        .write(write)
        .open(path)
        .map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem if write => {
                    "; give this user the right, or say \"ReadOnly\": true"
                }
                io::ErrorKind::PermissionDenied => "; give this user the right",
                _ => "",
            };
            let access = if write { "written" } else { "read" };
            let reason = format!(
                "{what} {} cannot be {access}: {error}{remedy}",
                path.display()
            );
            DocumentError::new(place, reason)
        })
}

fn disk(place: &str, attachment: &Attachment) -> Checked {
    let path = &attachment.path;
    let (what, write) = match attachment.attachment_type {
        AttachmentType::VirtualDisk => ("the disk", !attachment.read_only),
        AttachmentType::Iso => ("the optical disc", false),
    };
    if !status(place, what, path)?.is_file() {
        return wrong(place, format!("{what} {} is not a file", path.display()));
    }
    let file = open(place, what, path, write)?;
    // A form that nobody could name was refused when the document was read.
    let Some(format) = attachment.format() else {
        return Ok(());
    };
    let mut head = Vec::new();
    file.take(DiskFormat::MAGIC_SIZE)
        .read_to_end(&mut head)
        .map_err(|error| {
            let reason = format!("{what} {} cannot be read: {error}", path.display());
            DocumentError::new(place, reason)
        })?;
    let seen = DiskFormat::of_magic(&head);
    if seen == format {
        return Ok(());
    }
    let remedy = match attachment.attachment_type {
        AttachmentType::Iso => "an optical disc's image is raw; give another file".to_owned(),
        AttachmentType::VirtualDisk => format!(
            "rename it so that its name ends in .{}, or give another file",
            seen.extension()
        ),
    };
    let reason = format!(
        "{what} {} would be used as {format} and begins like {seen}; {remedy}",
        path.display()
    );
    wrong(place, reason)
}

fn memory(wanted: u32, total: u64) -> Checked {
    if u64::from(wanted) > total {
        return wrong(
            MEMORY_SIZE,
            format!("it is {wanted}, and this machine has {total} MiB of memory; ask for less"),
        );
    }
    Ok(())
}

/// This machine's memory in MiB.
fn total_memory_mib() -> u64 {
    let information = rustix::system::sysinfo();
    let unit = u64::from(information.mem_unit).max(1);
    // An unsigned long: of 64 bits where it is not already.
    #[expect(
        clippy::useless_conversion,
        reason = "its width depends on the architecture"
    )]
    let total = u64::from(information.totalram);
    total.saturating_mul(unit) >> 20
}

fn socket(place: &str, path: &Path, is_pipe: bool) -> Checked {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_LIMIT {
        return wrong(
            place,
            format!(
                "the socket's path {} has {length} bytes and can have {SOCKET_PATH_LIMIT}; choose a shorter directory",
                path.display()
            ),
        );
    }
    match path.parent() {
        // Pipes have theirs made.
        Some(parent) if is_pipe || parent.is_dir() => Ok(()),
        _ => wrong(
            place,
            format!(
                "there is no directory for the socket {}; make it",
                path.display()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn checked(text: &str, lab: &Path) -> Result<(), DocumentError> {
        let text = super::super::expand(text, lab);
        ComputeSystemDocument::parse(&text).unwrap().check(lab)
    }

    fn machine(inside: &str) -> String {
        format!(
            r#"{{"SchemaVersion": {{"Major": 2, "Minor": 7}}, "VirtualMachine": {{{inside}}}}}"#
        )
    }

    fn kernel(path: &str) -> String {
        machine(&format!(
            r#""Chipset": {{"LinuxKernelDirect": {{"KernelFilePath": "{path}"}}}}"#
        ))
    }

    fn disk(kind: &str, path: &str, read_only: bool) -> String {
        machine(&format!(
            r#""Devices": {{"Scsi": {{"primary": {{"Attachments": {{"0": {{"Type": "{kind}", "Path": "{path}", "ReadOnly": {read_only}}}}}}}}}}}"#
        ))
    }

    #[test]
    fn a_kernel_must_be_a_file_with_something_in_it() {
        let lab = tempfile::tempdir().unwrap();
        fs::write(lab.path().join("empty"), "").unwrap();
        fs::write(lab.path().join("kernel"), "x").unwrap();
        checked(&kernel("${OPENHDV_LAB}/kernel"), lab.path()).unwrap();
        for bad in ["missing", "empty", "."] {
            let error =
                checked(&kernel(&format!("${{OPENHDV_LAB}}/{bad}")), lab.path()).unwrap_err();
            assert_eq!(error.path, KERNEL);
            assert!(
                error.reason.contains(lab.path().to_str().unwrap()),
                "{error}"
            );
        }
    }

    #[test]
    fn memory_that_no_machine_has_is_refused_here_and_not_by_qemu() {
        assert!(total_memory_mib() > 64);
        assert_eq!(memory(1024, 1024), Ok(()));
        let error = memory(1025, 1024).unwrap_err();
        assert_eq!(error.path, MEMORY_SIZE);
        assert!(error.reason.contains("1024 MiB"), "{error}");
    }

    #[test]
    fn a_disk_is_what_its_name_says() {
        let lab = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("raw.img", b"anything".as_slice()),
            ("short.raw", b""),
            ("q.qcow2", b"QFI\xfb\0\0\0\x03"),
            ("v.vhdx", b"vhdxfile"),
            ("q.img", b"QFI\xfb\0\0\0\x03"),
            ("r.qcow2", b"anything"),
        ] {
            fs::write(lab.path().join(name), content).unwrap();
        }
        for good in ["raw.img", "short.raw", "q.qcow2", "v.vhdx"] {
            let text = disk("VirtualDisk", &format!("${{OPENHDV_LAB}}/{good}"), false);
            checked(&text, lab.path()).unwrap();
        }
        for (bad, said) in [
            ("q.img", ".qcow2"),
            ("r.qcow2", ".raw"),
            ("no.img", "does not exist"),
        ] {
            let text = disk("VirtualDisk", &format!("${{OPENHDV_LAB}}/{bad}"), true);
            let error = checked(&text, lab.path()).unwrap_err();
            assert_eq!(
                error.path,
                "VirtualMachine/Devices/Scsi/primary/Attachments/0/Path"
            );
            assert!(error.reason.contains(said), "{error}");
        }
        let text = disk("Iso", "${OPENHDV_LAB}/q.img", true);
        assert!(checked(&text, lab.path()).is_err());
    }

    #[test]
    fn a_consoles_socket_needs_a_short_path_in_a_directory() {
        let lab = tempfile::tempdir().unwrap();
        let port = |path: &str| {
            machine(&format!(
                r#""Devices": {{"ComPorts": {{"0": {{"NamedPipe": "{path}"}}}}}}"#
            ))
        };
        checked(&port("${OPENHDV_LAB}/com1"), lab.path()).unwrap();
        checked(&port(r"\\\\.\\pipe\\com1"), lab.path()).unwrap();
        for bad in [
            "${OPENHDV_LAB}/none/com1".to_owned(),
            format!("/{}", "x".repeat(107)),
        ] {
            let error = checked(&port(&bad), lab.path()).unwrap_err();
            assert_eq!(error.path, "VirtualMachine/Devices/ComPorts/0/NamedPipe");
        }
    }

    #[test]
    fn a_consoles_socket_is_not_put_among_our_own() {
        let lab = tempfile::tempdir().unwrap();
        let runtime = lab.path().join("openhdv");
        fs::create_dir(&runtime).unwrap();
        std::os::unix::fs::symlink(&runtime, lab.path().join("link")).unwrap();
        let checked = |path: &str| {
            let text = machine(&format!(
                r#""Devices": {{"ComPorts": {{"2": {{"NamedPipe": "{path}"}}}}}}"#
            ));
            let text = super::super::expand(&text, lab.path());
            ComputeSystemDocument::parse(&text)
                .unwrap()
                .check_sockets(&runtime)
        };
        checked("${OPENHDV_LAB}/com3").unwrap();
        checked(r"\\\\.\\pipe\\hosts").unwrap();
        for bad in ["openhdv/hosts", "openhdv/../link/x", "link/x"] {
            let error = checked(&format!("${{OPENHDV_LAB}}/{bad}")).unwrap_err();
            assert_eq!(error.path, "VirtualMachine/Devices/ComPorts/2/NamedPipe");
            assert!(error.reason.contains(r"\\.\pipe\<name>"), "{error}");
        }
    }
}
