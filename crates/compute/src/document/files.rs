//! What a document names on this machine: files by relative paths, the guest lab's folder, the sockets of serial ports.
//!
//! Whether they are there is `check`'s.

use std::path::{Path, PathBuf};

use hdv_qemu::machine::DiskFormat;

use super::{Attachment, ComPort, ComputeSystemDocument};

/// What stands for the guest lab's folder in a document.
pub const LAB_VARIABLE: &str = "${OPENHDV_LAB}";

/// How the names of Windows' pipes begin.
const PIPE_PREFIX: &str = r"\\.\pipe\";
/// Where the sockets are that stand for them, in the runtime directory: no name of a pipe is one of ours.
pub(crate) const PIPES: &str = "pipes";

/// A document's text with the guest lab's folder in place of every [`LAB_VARIABLE`], written as the inside of a JSON string.
#[must_use]
pub fn expand(text: &str, lab: &Path) -> String {
    let quoted = serde_json::Value::from(lab.to_string_lossy()).to_string();
    let inside = quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(&quoted);
    text.replace(LAB_VARIABLE, inside)
}

impl ComputeSystemDocument {
    /// Makes relative paths absolute: they are relative to a directory of the document's reader, and the process that uses
    /// them has another. Pipe names stay.
    pub fn resolve(&mut self, directory: &Path) {
        let resolve = |path: &mut PathBuf| *path = directory.join(&*path);
        let machine = &mut self.virtual_machine;
        if let Some(direct) = &mut machine.chipset.linux_kernel_direct {
            resolve(&mut direct.kernel_file_path);
            direct.init_rd_path.as_mut().map(resolve);
        }
        for controller in machine.devices.scsi.values_mut() {
            for attachment in controller.attachments.values_mut() {
                resolve(&mut attachment.path);
            }
        }
        for port in machine.devices.com_ports.values_mut() {
            if !port.is_pipe() {
                let path = directory.join(&port.named_pipe);
                port.named_pipe = path.to_string_lossy().into_owned();
            }
        }
    }
}

impl ComPort {
    /// Its socket: the path itself, or for `\\.\pipe\x` the socket `pipes/x` in the runtime directory.
    #[must_use]
    pub fn socket(&self, runtime_directory: &Path) -> PathBuf {
        match self.named_pipe.strip_prefix(PIPE_PREFIX) {
            Some(name) => runtime_directory.join(PIPES).join(name),
            None => PathBuf::from(&self.named_pipe),
        }
    }

    /// Whether its name is a pipe's.
    pub(crate) fn is_pipe(&self) -> bool {
        self.named_pipe.starts_with(PIPE_PREFIX)
    }

    /// What is wrong with its name, as the end of a sentence that begins with it.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let Some(name) = self.named_pipe.strip_prefix(PIPE_PREFIX) else {
            let windows = self.named_pipe.starts_with(r"\\");
            return if windows {
                Some(r"is a pipe of another machine; write \\.\pipe\<name>, or a socket's path")
            } else if self.named_pipe.is_empty() {
                Some(r"is empty; write a socket's path, or \\.\pipe\<name>")
            } else {
                None
            };
        };
        // It becomes a file's name in a directory of ours.
        let bad = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\']);
        bad.then_some(
            r"is no pipe's name: \\.\pipe\ is followed by a name without slashes and backslashes",
        )
    }
}

impl Attachment {
    /// The form of its image: an optical disc's is raw, a disk's is told by the extension of its name alone. It is never
    /// looked for in the image: a guest can write whatever it likes there, and so could turn a raw disk into a form that
    /// names other files of the host.
    #[must_use]
    pub fn format(&self) -> Option<DiskFormat> {
        match self.attachment_type {
            super::AttachmentType::Iso => Some(DiskFormat::Raw),
            super::AttachmentType::VirtualDisk => DiskFormat::of_name(&self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labs_folder_is_written_as_json_wants_it() {
        let text = r#"{"a": "${OPENHDV_LAB}/vmlinuz", "b": "$OPENHDV_LAB"}"#;
        let expanded = expand(text, Path::new("/a \"b\"\\c"));
        let value: serde_json::Value = serde_json::from_str(&expanded).unwrap();
        assert_eq!(value["a"], "/a \"b\"\\c/vmlinuz");
        assert_eq!(value["b"], "$OPENHDV_LAB");
    }

    #[test]
    fn a_pipe_is_a_socket_in_a_directory_of_its_own_and_nowhere_else() {
        let port = |name: &str| ComPort {
            named_pipe: name.to_owned(),
        };
        let runtime = Path::new("/run/openhdv");
        assert_eq!(
            port(r"\\.\pipe\com1").socket(runtime),
            Path::new("/run/openhdv/pipes/com1")
        );
        assert!(port(r"\\.\pipe\hosts").is_pipe());
        assert!(!port("/run/openhdv/hosts").is_pipe());
        assert_eq!(port("/tmp/com1").socket(runtime), Path::new("/tmp/com1"));
        for bad in [
            "",
            r"\\.\pipe\",
            r"\\.\pipe\..",
            r"\\.\pipe\../x",
            r"\\.\pipe\a\b",
            r"\\server\pipe\x",
        ] {
            assert!(port(bad).problem().is_some(), "{bad}");
        }
        assert_eq!(port(r"\\.\pipe\com1").problem(), None);
        assert_eq!(port("com1").problem(), None);
    }
}
