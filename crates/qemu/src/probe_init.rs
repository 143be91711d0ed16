//! The smallest first process there is: it writes one line to the console and then waits.
//!
//! It tells whether an accelerator takes a kernel all the way to user mode. The real guest
//! program is the `guest` crate's.

/// What it writes.
pub(crate) const LINE: &str = "openhdv: user mode reached";

/// Where the program is loaded.
const ADDRESS: u64 = 0x40_0000;

/// The sizes of the ELF header and of one program header (System V ABI, chapters 4 and 5).
const HEADER_SIZE: u16 = 0x40;
const PROGRAM_HEADER_SIZE: u16 = 0x38;

/// The program: a static x86-64 ELF file with one segment, which is the whole file.
pub(crate) fn image() -> Vec<u8> {
    let line = format!("\n{LINE}\n");
    let code = code(u32::try_from(line.len()).unwrap_or(u32::MAX));
    let start = u64::from(HEADER_SIZE) + u64::from(PROGRAM_HEADER_SIZE);
    let size = start + code.len() as u64 + line.len() as u64;

    let mut image = Vec::new();
    image.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64-bit, little-endian, version 1
    image.extend(2_u16.to_le_bytes()); // executable
    image.extend(62_u16.to_le_bytes()); // x86-64
    image.extend(1_u32.to_le_bytes()); // version
    image.extend((ADDRESS + start).to_le_bytes()); // entry
    image.extend(u64::from(HEADER_SIZE).to_le_bytes()); // program headers' offset
    image.extend(0_u64.to_le_bytes()); // no section headers
    image.extend(0_u32.to_le_bytes()); // flags
    for field in [HEADER_SIZE, PROGRAM_HEADER_SIZE, 1, 0, 0, 0] {
        image.extend(field.to_le_bytes());
    }

    image.extend(1_u32.to_le_bytes()); // a segment to load
    image.extend(5_u32.to_le_bytes()); // readable and executable
    for field in [0, ADDRESS, ADDRESS, size, size, 0x1000] {
        image.extend(field.to_le_bytes());
    }
    image.extend(code);
    image.extend(line.bytes());
    image
}

/// `write(1, line, length)`, then `pause()` for ever; the line stands right behind the code.
fn code(length: u32) -> Vec<u8> {
    let pause: &[u8] = &[
        0xb8, 34, 0, 0, 0, // mov eax, pause
        0x0f, 0x05, // syscall
        0xeb, 0xf7, // jmp to the mov
    ];
    let [l0, l1, l2, l3] = length.to_le_bytes();
    let behind_lea = 5 + 2 + u8::try_from(pause.len()).unwrap_or(u8::MAX) + 5;
    let write: &[u8] = &[
        0xbf, 1, 0, 0, 0, // mov edi, 1
        0x48, 0x8d, 0x35, behind_lea, 0, 0, 0, // lea rsi, [rip + behind_lea]
        0xba, l0, l1, l2, l3, // mov edx, length
        0xb8, 1, 0, 0, 0, // mov eax, write
        0x0f, 0x05, // syscall
    ];
    [write, pause].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn it_runs_on_this_machine_too() {
        let directory = tempfile::tempdir().unwrap();
        let (text, program) = (directory.path().join("text"), directory.path().join("init"));
        fs::write(&text, image()).unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
        // Written by another process: a file open for writing here, even in a child that is just
        // being started by another test, cannot be run.
        assert!(
            Command::new("cp")
                .args([&text, &program])
                .status()
                .unwrap()
                .success()
        );
        let mut command = Command::new(&program);
        command.stdout(Stdio::piped());
        let mut child = crate::child::spawn(command).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "");
        assert_eq!(lines.next().unwrap().unwrap(), LINE);
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
