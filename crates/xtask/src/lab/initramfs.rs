//! The guest's initramfs: our program as its first process, the kernel modules it loads and the programs
//! it runs.

use hdv_qemu::Result;
use hdv_qemu::initramfs::Initramfs;
use hdv_qemu::kernel::Kernel;

use super::Contents;

/// Where the programs are that the first process runs.
const PROGRAMS: &str = "/bin";

pub(super) fn build(kernel: &Kernel, program: &[u8], contents: &Contents) -> Result<Vec<u8>> {
    let mut initramfs = Initramfs::new();
    initramfs.file("init", 0o755, program)?;
    // Programs look for a place for what lasts as long as they run.
    initramfs.directory("tmp", 0o1777)?;
    for (name, program) in &contents.programs {
        let path = if name.starts_with('/') {
            name.clone()
        } else {
            format!("{PROGRAMS}/{name}")
        };
        initramfs.file(&path, 0o755, program.as_slice())?;
    }
    initramfs.modules(&kernel.modules(&contents.modules)?)?;
    Ok(initramfs.archive())
}
