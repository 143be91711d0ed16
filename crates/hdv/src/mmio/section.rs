//! Sections: ranges of a BAR that are backed by a file, and this process's own mapping of one.
//! Where they lie is in `table`, which of them a client may map in `offer`.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hdv_pci::BarIndex;
use rustix::fs::OFlags;
use rustix::io::Errno;
use vm_memory::{AtomicAccess, Bytes, VolatileSlice};

use crate::memory::Mapping;

bitflags::bitflags! {
    /// What a guest may do with a section, and what this process does with it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SectionFlags: u32 {
        /// The guest may write; without it writes are ignored.
        const WRITEABLE = 1 << 0;
        /// The guest may execute. Recorded only: no VMM lets code run from a BAR.
        const EXECUTABLE = 1 << 1;
        /// Never offered to a client to map: the device will take it back while the client is there.
        const NEVER_OFFERED = 1 << 31;
    }
}

/// A range of a BAR and the range of a file behind it. All three numbers are multiples of 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Which BAR.
    pub bar: BarIndex,
    /// Offset in the BAR, in bytes.
    pub offset: u64,
    /// Length in bytes, not 0.
    pub length: u64,
    /// Offset in the file, in bytes.
    pub file_offset: u64,
    /// What may be done with it.
    pub flags: SectionFlags,
}

impl Section {
    /// Whether a client may map it at all.
    pub(super) fn may_be_offered(&self) -> bool {
        self.flags.contains(SectionFlags::WRITEABLE)
            && !self.flags.contains(SectionFlags::NEVER_OFFERED)
    }
}

/// Which file it is, whatever descriptor it is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// A section's file range in this process.
#[derive(Debug)]
pub(super) struct Backing {
    mapping: Mapping,
    /// The mapping can be written, whatever the guest may do.
    writeable: bool,
    /// Kept for a client, where it may map the section: descriptors are scarce.
    pub(super) file: Option<Arc<OwnedFd>>,
}

impl Backing {
    /// Maps a section's range of `file`.
    ///
    /// # Errors
    /// `EINVAL` when the range does not lie in the file, `EACCES` when the section is writeable and the
    /// file is not, otherwise what the kernel says.
    pub(super) fn new(section: &Section, file: BorrowedFd<'_>) -> Result<(FileId, Self), Errno> {
        let status = rustix::fs::fstat(file)?;
        let id = FileId {
            device: status.st_dev,
            inode: status.st_ino,
        };
        let guest_writes = section.flags.contains(SectionFlags::WRITEABLE);
        let mode = rustix::fs::fcntl_getfl(file)? & OFlags::ACCMODE;
        let mut writeable = mode == OFlags::RDWR;
        if guest_writes && !writeable {
            return Err(Errno::ACCESS);
        }
        let map = |writeable| Mapping::new(file, section.file_offset, section.length, writeable);
        let mapping = match map(writeable) {
            // A file that is sealed against writes.
            Err(Errno::PERM) if writeable && !guest_writes => {
                writeable = false;
                map(false)?
            }
            mapped => mapped?,
        };
        let file = section
            .may_be_offered()
            .then(|| rustix::io::fcntl_dupfd_cloexec(file, 0).map(Arc::new))
            .transpose()?;
        let backing = Self {
            mapping,
            writeable,
            file,
        };
        Ok((id, backing))
    }

    /// Reads 1, 2, 4 or 8 bytes at natural alignment, as one access; false if they do not lie in it.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) -> bool {
        let Some(slice) = self.mapping.slice(offset, data.len()) else {
            return false;
        };
        match data.len() {
            1 => load::<u8>(&slice).is_some_and(|value| put(data, &value.to_ne_bytes())),
            2 => load::<u16>(&slice).is_some_and(|value| put(data, &value.to_ne_bytes())),
            4 => load::<u32>(&slice).is_some_and(|value| put(data, &value.to_ne_bytes())),
            8 => load::<u64>(&slice).is_some_and(|value| put(data, &value.to_ne_bytes())),
            _ => false,
        }
    }

    /// Writes as [`Backing::read`] reads; false also where the file cannot be written.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> bool {
        if !self.writeable {
            return false;
        }
        let Some(slice) = self.mapping.slice(offset, data.len()) else {
            return false;
        };
        match *data {
            [value] => store(&slice, value),
            [a, b] => store(&slice, u16::from_ne_bytes([a, b])),
            [a, b, c, d] => store(&slice, u32::from_ne_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => store(&slice, u64::from_ne_bytes([a, b, c, d, e, f, g, h])),
            _ => false,
        }
    }
}

/// In one access; `None` where that is not aligned.
fn load<T: AtomicAccess>(slice: &VolatileSlice<'_>) -> Option<T> {
    slice.load(0, Ordering::Acquire).ok()
}

fn put(data: &mut [u8], bytes: &[u8]) -> bool {
    data.copy_from_slice(bytes);
    true
}

fn store<T: AtomicAccess>(slice: &VolatileSlice<'_>, value: T) -> bool {
    slice.store(value, 0, Ordering::Release).is_ok()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{MemfdFlags, SealFlags};

    use super::*;

    fn memfd(size: u64) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("section", flags).unwrap();
        rustix::fs::ftruncate(&file, size).unwrap();
        file
    }

    fn section(flags: SectionFlags) -> Section {
        Section {
            bar: BarIndex::BAR0,
            offset: 0,
            length: 0x2000,
            file_offset: 0x1000,
            flags,
        }
    }

    fn backing(flags: SectionFlags, file: &OwnedFd) -> Result<Backing, Errno> {
        Backing::new(&section(flags), file.as_fd()).map(|(_, backing)| backing)
    }

    #[test]
    fn every_width_at_natural_alignment_is_served_and_nothing_else() {
        let file = memfd(0x3000);
        let backing = backing(SectionFlags::WRITEABLE, &file).unwrap();
        for size in [1, 2, 4, 8] {
            let data: Vec<u8> = (0x10..0x10 + size).collect();
            let offset = 0x1000 - u64::from(size);
            assert!(backing.write(offset, &data));
            let mut read = vec![0; data.len()];
            assert!(backing.read(offset, &mut read));
            assert_eq!(read, data);
            rustix::io::pread(&file, &mut read, 0x1000 + offset).unwrap();
            assert_eq!(read, data);
        }
        for (offset, length) in [(0, 3), (0, 16), (1, 4), (0x2000, 1), (u64::MAX, 1), (0, 0)] {
            assert!(!backing.write(offset, &vec![0; length]), "{offset:#x}");
            assert!(!backing.read(offset, &mut vec![0; length]), "{offset:#x}");
        }
    }

    #[test]
    fn the_range_must_lie_in_the_file() {
        assert_eq!(
            backing(SectionFlags::WRITEABLE, &memfd(0x2fff)).unwrap_err(),
            Errno::INVAL
        );
        assert!(backing(SectionFlags::WRITEABLE, &memfd(0x3000)).is_ok());
    }

    #[test]
    fn the_file_must_allow_what_the_guest_may_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [7; 0x3000]).unwrap();
        let file = OwnedFd::from(std::fs::File::open(&path).unwrap());
        let refused = backing(SectionFlags::WRITEABLE, &file).unwrap_err();
        assert_eq!(refused, Errno::ACCESS);
        let readable = backing(SectionFlags::empty(), &file).unwrap();
        let mut byte = [0];
        assert!(readable.read(0, &mut byte));
        assert_eq!(byte, [7]);
        assert!(!readable.write(0, &byte));

        let sealed = memfd(0x3000);
        rustix::fs::fcntl_add_seals(&sealed, SealFlags::WRITE).unwrap();
        assert!(backing(SectionFlags::empty(), &sealed).is_ok());
        assert_eq!(
            backing(SectionFlags::WRITEABLE, &sealed).unwrap_err(),
            Errno::PERM
        );
    }

    #[test]
    fn a_section_that_no_client_gets_holds_no_descriptor() {
        let file = memfd(0x3000);
        let keeps = |flags| backing(flags, &file).unwrap().file.is_some();
        assert!(keeps(SectionFlags::WRITEABLE));
        assert!(!keeps(SectionFlags::empty()));
        assert!(!keeps(
            SectionFlags::WRITEABLE | SectionFlags::NEVER_OFFERED
        ));
        // The host itself writes where the guest may not.
        assert!(
            backing(SectionFlags::empty(), &file)
                .unwrap()
                .write(8, &[1; 8])
        );
    }
}
