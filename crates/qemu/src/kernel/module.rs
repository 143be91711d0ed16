//! One kernel module's file: unpacked, and what it says of itself in its `.modinfo` section.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use lzma_rust2::XzReader;

use super::normal;
use crate::error::at;
use crate::{Error, Result};

/// The largest module that is read, unpacked.
const SIZE_LIMIT: u64 = 64 << 20;

/// A loadable module of a guest kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    name: String,
    path: PathBuf,
}

/// What a module says of itself; names are in the kernel's own spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Information {
    pub(super) depends: Vec<String>,
    pub(super) before: Vec<String>,
    pub(super) after: Vec<String>,
}

impl Module {
    pub(super) fn new(name: String, path: PathBuf) -> Self {
        Self { name, path }
    }

    /// Its name, with `_` for `-`, as the guest's `/proc/modules` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, packed or not.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The module as `finit_module` takes it without flags: an ELF file.
    ///
    /// # Errors
    ///
    /// [`Error::BadModule`] when the file is damaged, larger than 64 MiB or packed otherwise than
    /// with xz, [`Error::Io`] when it cannot be read.
    pub fn image(&self) -> Result<Vec<u8>> {
        let file = File::open(&self.path).map_err(at("opening", &self.path))?;
        let mut image = Vec::new();
        match self
            .path
            .extension()
            .and_then(|extension| extension.to_str())
        {
            Some("ko") => {
                file.take(SIZE_LIMIT + 1)
                    .read_to_end(&mut image)
                    .map_err(at("reading", &self.path))?;
            }
            Some("xz") => {
                XzReader::new(std::io::BufReader::new(file), true)
                    .take(SIZE_LIMIT + 1)
                    .read_to_end(&mut image)
                    .map_err(|error| self.bad(format!("it cannot be unpacked: {error}")))?;
            }
            other => {
                let packing = other.unwrap_or_default();
                return Err(self.bad(format!(
                    "modules packed as .{packing} are not known here, only .ko and .ko.xz"
                )));
            }
        }
        if image.len() as u64 > SIZE_LIMIT {
            return Err(self.bad(format!("it is larger than {SIZE_LIMIT} bytes")));
        }
        Ok(image)
    }

    pub(super) fn information(&self) -> Result<Information> {
        let image = self.image()?;
        let section = modinfo(&image)
            .ok_or_else(|| self.bad("it is not an ELF file with a .modinfo section".to_owned()))?;
        let mut information = Information::default();
        for field in section
            .split(|byte| *byte == 0)
            .filter_map(|field| std::str::from_utf8(field).ok())
        {
            match field.split_once('=') {
                Some(("depends", names)) => {
                    information
                        .depends
                        .extend(names.split(',').filter(|name| !name.is_empty()).map(normal));
                }
                Some(("softdep", wishes)) => read_wishes(wishes, &mut information),
                _ => {}
            }
        }
        Ok(information)
    }

    fn bad(&self, reason: String) -> Error {
        Error::BadModule {
            path: self.path.clone(),
            reason,
        }
    }
}

/// Reads `pre: a b post: c`.
fn read_wishes(wishes: &str, information: &mut Information) {
    let mut after = false;
    for word in wishes.split_whitespace() {
        match word {
            "pre:" => after = false,
            "post:" => after = true,
            name if after => information.after.push(normal(name)),
            name => information.before.push(normal(name)),
        }
    }
}

/// The `.modinfo` section of a little-endian 64-bit ELF file (System V ABI, chapter 4).
fn modinfo(image: &[u8]) -> Option<&[u8]> {
    const CLASS_64_LITTLE_ENDIAN: &[u8] = b"\x7fELF\x02\x01";
    if !image.starts_with(CLASS_64_LITTLE_ENDIAN) {
        return None;
    }
    let table = number(image, 0x28, 8)?;
    let entry_size = number(image, 0x3a, 2)?;
    let count = number(image, 0x3c, 2)?;
    let names = number(image, 0x3e, 2)?;
    let header = |index: usize| table.checked_add(index.checked_mul(entry_size)?);
    let content = |header: usize| {
        let offset = number(image, header.checked_add(0x18)?, 8)?;
        let size = number(image, header.checked_add(0x20)?, 8)?;
        image.get(offset..offset.checked_add(size)?)
    };
    let names = content(header(names)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let name = names.get(number(image, header, 4)?..)?;
        if name.starts_with(b".modinfo\0") {
            content(header)
        } else {
            None
        }
    })
}

/// A little-endian number of up to 8 bytes.
fn number(image: &[u8], offset: usize, size: usize) -> Option<usize> {
    let bytes = image.get(offset..offset.checked_add(size)?)?;
    let mut whole = [0; 8];
    whole.get_mut(..size)?.copy_from_slice(bytes);
    usize::try_from(u64::from_le_bytes(whole)).ok()
}

#[cfg(test)]
pub(super) mod testing {
    /// An ELF file with nothing but a `.modinfo` section of these fields.
    pub(in crate::kernel) fn elf_module(fields: &[&str]) -> Vec<u8> {
        let names = b"\0.modinfo\0";
        let content: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.bytes().chain([0]))
            .collect();
        let mut image = vec![0; 0x40];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let names_at = image.len();
        image.extend(names);
        let content_at = image.len();
        image.extend(&content);
        let table = image.len();
        for (name, offset, size) in [
            (0_u32, names_at, names.len()),
            (1, content_at, content.len()),
        ] {
            let mut header = [0; 0x40];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(offset as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            image.extend(header);
        }
        image[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        image[0x3a] = 0x40;
        image[0x3c] = 2;
        image
    }
}

#[cfg(test)]
mod tests {
    use super::testing::elf_module;
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn module(file: &str, image: &[u8]) -> (tempfile::TempDir, Module) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file);
        fs::write(&path, image).unwrap();
        (directory, Module::new("m".to_owned(), path))
    }

    #[test]
    fn fields_are_read_in_the_kernels_spelling() {
        let image = elf_module(&[
            "license=GPL",
            "depends=vfio-pci-core,vfio",
            "softdep=pre: a-b post: c d",
        ]);
        let (_directory, module) = module("m.ko", &image);
        let information = module.information().unwrap();
        assert_eq!(information.depends, ["vfio_pci_core", "vfio"]);
        assert_eq!(information.before, ["a_b"]);
        assert_eq!(information.after, ["c", "d"]);
    }

    #[test]
    fn damaged_and_unknown_files_are_named() {
        for (file, content) in [
            ("m.ko", &b"text"[..]),
            ("m.ko.xz", b"\xfd7zXZ\0damaged"),
            ("m.ko.zst", b""),
        ] {
            let (_directory, module) = module(file, content);
            let error = module.information().unwrap_err();
            assert!(
                matches!(error, Error::BadModule { .. }) && error.to_string().contains(file),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_the_reader_fail_otherwise(position in 0_usize..256, value: u8, length in 0_usize..256) {
            let mut image = elf_module(&["depends=vfio"]);
            if let Some(byte) = image.get_mut(position) {
                *byte = value;
            }
            image.truncate(length);
            let _ = modinfo(&image);
        }
    }
}
