//! The guest's initramfs: our program as its first process and the kernel modules it loads.

use hdv_qemu::Result;
use hdv_qemu::initramfs::Initramfs;
use hdv_qemu::kernel::Kernel;

/// What a program needs to drive a PCI device from user space.
const MODULES: [&str; 2] = ["vfio_iommu_type1", "vfio-pci"];

pub(super) fn build(kernel: &Kernel, program: &[u8]) -> Result<Vec<u8>> {
    let mut initramfs = Initramfs::new();
    initramfs.file("init", 0o755, program)?;
    initramfs.modules(&kernel.modules(&MODULES)?)?;
    Ok(initramfs.archive())
}
