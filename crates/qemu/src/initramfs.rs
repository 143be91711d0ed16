//! A guest's first file system: a cpio archive in the "newc" form that Linux unpacks at boot
//! (`Documentation/driver-api/early-userspace/buffer-format.rst` of Linux).
//!
//! The same entries always give the same bytes. What goes into it is the callers' choice.

use std::collections::BTreeMap;

use crate::kernel::Module;
use crate::{Error, Result};

/// The directory that [`Initramfs::modules`] puts modules into.
pub const MODULES: &str = "/modules";

/// The names of the files in [`MODULES`], a line each, in the order in which the guest is to load
/// them.
pub const MODULES_ORDER: &str = "/modules/order";

/// The longest path, with its end, that Linux takes in an archive (its `PATH_MAX`).
const PATH_LIMIT: usize = 4096;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMBOLIC_LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// The mode of directories that nobody named.
const DIRECTORY_MODE: u32 = 0o755;

/// The bits of a mode that are permissions.
const PERMISSIONS: u32 = 0o7777;

/// The name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An initramfs that is being put together. Directories above an entry are made with it; a later
/// entry at a path replaces the earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    content: Vec<u8>,
}

impl Initramfs {
    /// One with `/dev/console` only, which the kernel gives the first process as its input and
    /// output.
    #[must_use]
    pub fn new() -> Self {
        let mut entries = BTreeMap::new();
        entries.insert(
            "dev".to_owned(),
            Entry {
                mode: DIRECTORY | DIRECTORY_MODE,
                device: (0, 0),
                content: Vec::new(),
            },
        );
        let console = Entry {
            mode: CHARACTER_DEVICE | 0o600,
            device: (5, 1),
            content: Vec::new(),
        };
        entries.insert("dev/console".to_owned(), console);
        Self { entries }
    }

    /// Puts a directory in.
    ///
    /// # Errors
    ///
    /// [`Error::Initramfs`] for a path that an archive cannot hold.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<&mut Self> {
        self.insert(path, DIRECTORY, mode, (0, 0), Vec::new())
    }

    /// Puts a file in; programs want a mode of `0o755`.
    ///
    /// # Errors
    ///
    /// [`Error::Initramfs`] for a path that an archive cannot hold or a file of 4 GiB or more.
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        content: impl Into<Vec<u8>>,
    ) -> Result<&mut Self> {
        self.insert(path, REGULAR, mode, (0, 0), content.into())
    }

    /// Puts a symbolic link in.
    ///
    /// # Errors
    ///
    /// [`Error::Initramfs`] for a path or target that an archive cannot hold.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<&mut Self> {
        if target.is_empty() || target.len() >= PATH_LIMIT || target.contains('\0') {
            return Err(Error::Initramfs {
                path: path.to_owned(),
                reason: "a link needs a target of 1 to 4095 bytes",
            });
        }
        self.insert(path, SYMBOLIC_LINK, 0o777, (0, 0), target.into())
    }

    /// Puts a character device in.
    ///
    /// # Errors
    ///
    /// [`Error::Initramfs`] for a path that an archive cannot hold.
    pub fn character_device(
        &mut self,
        path: &str,
        mode: u32,
        major: u32,
        minor: u32,
    ) -> Result<&mut Self> {
        self.insert(path, CHARACTER_DEVICE, mode, (major, minor), Vec::new())
    }

    /// Puts kernel modules in, unpacked, under [`MODULES`], and beside them [`MODULES_ORDER`].
    ///
    /// # Errors
    ///
    /// As [`Module::image`].
    pub fn modules(&mut self, modules: &[Module]) -> Result<&mut Self> {
        let mut order = String::new();
        for module in modules {
            let name = format!("{}.ko", module.name());
            self.file(&format!("{MODULES}/{name}"), 0o644, module.image()?)?;
            order.push_str(&name);
            order.push('\n');
        }
        self.file(MODULES_ORDER, 0o644, order)
    }

    /// The archive. It is not compressed: the kernel takes it as it is.
    #[must_use]
    pub fn archive(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        for ((path, entry), inode) in self.entries.iter().zip(1_u32..) {
            append(&mut archive, inode, path, entry);
        }
        append(
            &mut archive,
            0,
            TRAILER,
            &Entry {
                mode: 0,
                device: (0, 0),
                content: Vec::new(),
            },
        );
        archive
    }

    fn insert(
        &mut self,
        path: &str,
        kind: u32,
        mode: u32,
        device: (u32, u32),
        content: Vec<u8>,
    ) -> Result<&mut Self> {
        let error = |reason| Error::Initramfs {
            path: path.to_owned(),
            reason,
        };
        let name = path.trim_matches('/');
        if name.is_empty() || name.len() >= PATH_LIMIT || name.contains('\0') || name == TRAILER {
            return Err(error("a path has 1 to 4095 bytes, none of them zero"));
        }
        if name
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..")
        {
            return Err(error("a path has no empty parts, no . and no .."));
        }
        if u32::try_from(content.len()).is_err() {
            return Err(error("a file must be smaller than 4 GiB"));
        }
        for (end, _) in name.match_indices('/') {
            let parent = self
                .entries
                .entry(name[..end].to_owned())
                .or_insert_with(|| Entry {
                    mode: DIRECTORY | DIRECTORY_MODE,
                    device: (0, 0),
                    content: Vec::new(),
                });
            if parent.mode & !PERMISSIONS != DIRECTORY {
                return Err(error("something above it is not a directory"));
            }
        }
        let below = format!("{name}/");
        if kind != DIRECTORY
            && self
                .entries
                .range(below.clone()..)
                .next()
                .is_some_and(|(path, _)| path.starts_with(&below))
        {
            return Err(error("it is a directory with something in it"));
        }
        self.entries.insert(
            name.to_owned(),
            Entry {
                mode: kind | (mode & PERMISSIONS),
                device,
                content,
            },
        );
        Ok(self)
    }
}

fn append(archive: &mut Vec<u8>, inode: u32, name: &str, entry: &Entry) {
    // Both lengths were checked when the entry was put in.
    let size = u32::try_from(entry.content.len()).unwrap_or(u32::MAX);
    let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
    let links = if entry.mode & !PERMISSIONS == DIRECTORY {
        2
    } else {
        1
    };
    let (major, minor) = entry.device;
    archive.extend(b"070701");
    // inode, mode, uid, gid, links, mtime, size, device of the file system (2), device (2), size of
    // the name with its end, checksum (not used in this form).
    for field in [
        inode, entry.mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0,
    ] {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    pad(archive);
    archive.extend(&entry.content);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads an archive independently of how it is written: fields by position, as the kernel does.
    fn read(mut archive: &[u8]) -> Vec<(String, Entry)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&archive[..6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&archive[6 + index * 8..14 + index * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, device, name_size) = (
                field(1),
                field(6) as usize,
                (field(9), field(10)),
                field(11) as usize,
            );
            let name_end = 110 + name_size;
            assert_eq!(archive[name_end - 1], 0);
            let name = String::from_utf8(archive[110..name_end - 1].to_vec()).unwrap();
            let start = name_end.next_multiple_of(4);
            let content = archive[start..start + size].to_vec();
            archive = &archive[(start + size).next_multiple_of(4)..];
            if name == TRAILER {
                assert!(archive.is_empty());
                return entries;
            }
            entries.push((
                name,
                Entry {
                    mode,
                    device,
                    content,
                },
            ));
        }
    }

    #[test]
    fn a_new_one_has_the_console() {
        let entries = read(&Initramfs::new().archive());
        assert_eq!(entries.len(), 2);
        assert_eq!(
            (entries[0].0.as_str(), entries[0].1.mode),
            ("dev", 0o040_755)
        );
        assert_eq!(
            (
                entries[1].0.as_str(),
                entries[1].1.mode,
                entries[1].1.device
            ),
            ("dev/console", 0o020_600, (5, 1))
        );
    }

    #[test]
    fn directories_above_come_first_and_stay() {
        let mut initramfs = Initramfs::new();
        initramfs.directory("/lib", 0o700).unwrap();
        initramfs.file("/lib/modules/a.ko", 0o644, "a").unwrap();
        initramfs.symlink("/lib/modules/b.ko", "a.ko").unwrap();
        initramfs.file("/lib-x", 0o644, "x").unwrap();
        let entries = read(&initramfs.archive());
        let seen: Vec<_> = entries
            .iter()
            .map(|(path, entry)| (path.as_str(), entry.mode))
            .collect();
        let expected = [
            ("dev", 0o040_755),
            ("dev/console", 0o020_600),
            ("lib", 0o040_700),
            ("lib-x", 0o100_644),
            ("lib/modules", 0o040_755),
            ("lib/modules/a.ko", 0o100_644),
            ("lib/modules/b.ko", 0o120_777),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_an_archive_cannot_hold_is_refused() {
        let mut initramfs = Initramfs::new();
        for path in [
            "",
            "/",
            "a//b",
            "../a",
            "a/./b",
            "a\0b",
            TRAILER,
            &"x".repeat(PATH_LIMIT),
        ] {
            assert!(initramfs.file(path, 0o644, "").is_err(), "{path:?}");
        }
        assert!(initramfs.file("dev", 0o644, "").is_err());
        assert!(initramfs.file("dev/console/x", 0o644, "").is_err());
        assert!(initramfs.symlink("l", "").is_err());
    }

    proptest! {
        #[test]
        fn every_file_comes_back(files in proptest::collection::btree_map("[a-z]{1,5}(-[a-z]{1,9})?", proptest::collection::vec(any::<u8>(), 0..70), 0..8)) {
            let mut initramfs = Initramfs::new();
            for (path, content) in &files {
                initramfs.file(&format!("top/{path}"), 0o640, content.clone()).unwrap();
            }
            let archive = initramfs.archive();
            prop_assert_eq!(archive.len() % 4, 0);
            let found: BTreeMap<String, Vec<u8>> = read(&archive)
                .into_iter()
                .filter(|(_, entry)| entry.mode == 0o100_640)
                .map(|(path, entry)| (path.strip_prefix("top/").unwrap().to_owned(), entry.content))
                .collect();
            prop_assert_eq!(found, files);
            prop_assert_eq!(archive, initramfs.clone().archive());
        }
    }
}
