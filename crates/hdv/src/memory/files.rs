//! The files that a client's memory is in: one descriptor each, however many ranges of it are mapped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::pages;

/// How many files of one client are kept at a time. Memory of further ones can be copied from and to, but
/// apertures cannot be made of it.
pub(super) const MAX_FILES: usize = 16;

/// Which file, among those that exist at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

/// A descriptor of a client's file. While it is kept no other file has the same id.
#[derive(Debug)]
pub(super) struct KeptFile {
    id: FileId,
    access: OFlags,
    of_huge_pages: bool,
    descriptor: OwnedFd,
}

impl AsFd for KeptFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl KeptFile {
    /// Whether both are the same file, whatever may be done with them.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// Whether it is of huge pages, no part of which can be mapped into an aperture.
    pub(super) fn is_of_huge_pages(&self) -> bool {
        self.of_huge_pages
    }
}

/// Where in a file a range begins.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: Arc<KeptFile>,
    /// In bytes.
    pub(super) offset: u64,
}

/// The files of one client.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<Weak<KeptFile>>);

impl Files {
    /// A kept descriptor of `file`, the one there is or a new one; `None` when there are too many files, or
    /// no descriptor can be had.
    pub(super) fn keep(&mut self, file: BorrowedFd<'_>) -> Option<Arc<KeptFile>> {
        let (id, access) = identify(file).ok()?;
        let mut found = None;
        self.0.retain(|kept| {
            let Some(kept) = kept.upgrade() else {
                return false;
            };
            if kept.id == id && kept.access == access {
                found = Some(kept);
            }
            true
        });
        if found.is_some() || self.0.len() >= MAX_FILES {
            return found;
        }
        let kept = Arc::new(KeptFile {
            id,
            access,
            of_huge_pages: pages::is_of_huge_pages(file).ok()?,
            descriptor: file.try_clone_to_owned().ok()?,
        });
        self.0.push(Arc::downgrade(&kept));
        Some(kept)
    }
}

fn identify(file: BorrowedFd<'_>) -> Result<(FileId, OFlags), Errno> {
    let status = rustix::fs::fstat(file)?;
    let id = FileId {
        device: status.st_dev,
        inode: status.st_ino,
    };
    Ok((id, rustix::fs::fcntl_getfl(file)? & OFlags::ACCMODE))
}

#[cfg(test)]
mod tests {
    use rustix::fs::MemfdFlags;

    use super::*;

    fn file() -> OwnedFd {
        rustix::fs::memfd_create("files", MemfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn each_file_is_kept_once_for_each_kind_of_access() {
        let mut files = Files::default();
        let (one, other) = (file(), file());
        let kept = files.keep(one.as_fd()).unwrap();
        let again = files.keep(one.try_clone().unwrap().as_fd()).unwrap();
        assert!(Arc::ptr_eq(&kept, &again));
        assert!(!files.keep(other.as_fd()).unwrap().is_same_file(&kept));
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&one));
        let read_only = std::fs::File::open(path).unwrap();
        let read_only = files.keep(read_only.as_fd()).unwrap();
        assert!(!Arc::ptr_eq(&kept, &read_only));
        assert!(read_only.is_same_file(&kept));
    }

    #[test]
    fn there_is_a_bound_and_what_is_not_used_does_not_count() {
        let mut files = Files::default();
        let all: Vec<_> = (0..=MAX_FILES).map(|_| file()).collect();
        let mut kept: Vec<_> = all.iter().map(|file| files.keep(file.as_fd())).collect();
        assert!(kept[..MAX_FILES].iter().all(Option::is_some));
        assert!(kept[MAX_FILES].is_none());
        assert!(files.keep(all[0].as_fd()).is_some());
        kept[3] = None;
        assert!(files.keep(all[MAX_FILES].as_fd()).is_some());
    }
}
